import re
import subprocess
from pathlib import Path

import pytest

from netns import balancer
from netns.bench import candidates, hosts
from netns.bench.candidates import MOST_CONNECTIONS, TABLE
from netns.bench.hosts import Room
from netns.topology import SEED

PAGE = Path(__file__).parents[4] / "docs" / "performance.md"
SOCKET = Path("/tmp/it.sock")
FULL, SMALL = Room(2, 300_000), Room(2, 20_000)


def test_names_are_unique_and_the_page_has_a_line_for_each_in_their_order():
    names = [candidate.name for candidate in TABLE]
    assert len(set(names)) == len(names)
    assert set(names) >= {"routing", "nft", "haproxy", "nginx", "natlb"}
    assert re.findall(r"^\| `([\w-]+)` \|", PAGE.read_text(), re.M) == names


@pytest.mark.parametrize("candidate", TABLE, ids=lambda candidate: candidate.name)
def test_all_are_asked_at_the_virtual_address_but_plain_routing_which_has_none(candidate):
    host = SEED.servers[0] if candidate.direct else SEED.balancer
    assert candidate.direct == (candidate.name == "routing")
    assert {candidate.web(SEED).address, candidate.bulk(SEED).address} == {host.ipv4}
    assert candidate.bulk(SEED).port == hosts.BULK_PORT


@pytest.mark.parametrize("candidate", TABLE, ids=lambda candidate: candidate.name)
def test_a_hundred_thousand_connections_can_be_open_where_files_are_not_scarce(candidate):
    assert 100_000 <= candidate.most(FULL) <= MOST_CONNECTIONS


@pytest.mark.parametrize(("name", "most"), [("haproxy", 9_900), ("nginx", 15_840), ("natlb", MOST_CONNECTIONS)])
def test_where_files_are_scarce_proxies_need_two_for_each_connection_and_natlb_none(name, most):
    [candidate] = [candidate for candidate in TABLE if candidate.name == name]
    assert candidate.most(SMALL) == most


def test_haproxy_and_natlb_are_given_the_same_and_both_accept_it(tmp_path):
    text = candidates.configuration(SEED, SOCKET, MOST_CONNECTIONS)
    assert candidates.natlb_configuration(SEED, SOCKET).startswith(text)
    for file, content, command in (
        ("h.cfg", text, ["haproxy"]),
        ("n.cfg", candidates.natlb_configuration(SEED, SOCKET), balancer.COMMAND),
    ):
        path = tmp_path / file
        path.write_text(content)
        done = subprocess.run([*command, "-c", "-f", path], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "Configuration file is valid\n"), done.stderr


def test_every_server_gets_its_turn_with_each():
    rules = candidates.nft_ruleset(SEED)
    streams = candidates.nginx_configuration(SEED, SOCKET, FULL)
    text = candidates.configuration(SEED, SOCKET, 10)
    for number, server in enumerate(SEED.servers):
        assert f"{number} : {server.ipv4}" in rules
        assert f"server {server.ipv4}:{hosts.WEB_PORT};" in streams
        assert f"server {server.name} {server.ipv4}:{hosts.WEB_PORT}" in text


def test_nginx_is_not_told_to_open_more_files_than_it_may():
    assert "worker_connections 19900;" in candidates.nginx_configuration(SEED, SOCKET, SMALL)
