import dataclasses
import ipaddress

import pytest

from netns.errors import LabError
from netns.names import hosts_file
from netns.topology import SEED


def test_addresses_are_those_of_the_notes():
    assert [host.ipv4 for host in SEED.hosts] == ["44.1.1.1", "44.2.2.2", "44.3.3.3", "44.4.4.4"]


def test_ports_are_those_of_the_notes_configuration():
    assert (SEED.balancer.port, [server.port for server in SEED.servers]) == (8888, [4444, 5555])


def test_ipv6_addresses_are_private():
    assert all(ipaddress.ip_address(host.ipv6).is_private for host in SEED.hosts)


def test_every_host_but_the_balancer_is_its_neighbour():
    assert [host.name for host in SEED.neighbours] == ["client", "server1", "server2"]


@pytest.mark.parametrize("name", ["lb", "balancer", "vip"])
def test_balancer_answers_to_each_of_its_names(name):
    assert SEED.host(name) is SEED.balancer


def test_unknown_host_is_refused_with_the_choices():
    with pytest.raises(LabError, match=r"no host 'server9'.*client, lb, balancer, vip, server1, server2"):
        SEED.host("server9")


def test_topology_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SEED.client.ipv4 = "44.9.9.9"


def test_hosts_file_gives_every_name_in_both_families():
    found = {}
    for line in hosts_file(SEED).splitlines():
        address, *names = line.split()
        for name in names:
            found.setdefault(name, set()).add(address)
    assert found["localhost"] == {"127.0.0.1", "::1"}
    for host in SEED.hosts:
        for name in host.names:
            assert found[name] == {host.ipv4, host.ipv6}
