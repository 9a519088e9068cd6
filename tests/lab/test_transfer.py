"""Bulk data through natlb arrives byte for byte, also over a network that loses packets; many connections at once."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from netns.build import Lab
from netns.web import pattern
from tests.lab.loss import loss
from tests.lab.support import Client, clients, download, upload

pytestmark = [pytest.mark.root, pytest.mark.busy]

_SIZE = 200_000_000


@pytest.fixture(scope="module")
def big_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("transfer") / "pattern"
    with file.open("wb") as out:
        out.writelines(pattern(_SIZE))
    return file


@pytest.fixture(params=["no loss", "1 % loss"])
def network(balanced: Lab, request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "no loss":
        yield
        return
    with loss(balanced):
        yield


@pytest.mark.usefixtures("network")
def test_200_megabytes_come_from_the_server_byte_for_byte(balanced: Lab, vip: str) -> None:
    download(balanced, "client", vip, _SIZE)


@pytest.mark.usefixtures("network")
def test_200_megabytes_reach_the_server_byte_for_byte(balanced: Lab, vip: str, big_file: Path) -> None:
    upload(balanced, "client", vip, big_file)


def test_500_connections_at_once_are_shared_evenly_and_each_keeps_its_server(balanced: Lab, vip: str) -> None:
    with clients(balanced, "client", vip, 500) as opened:
        first = [client.ask() for client in opened]
        assert Counter(first) == {"server1": 250, "server2": 250}
        assert [client.ask() for client in opened] == first


def test_a_connection_that_stays_open_across_50_others_keeps_its_server(balanced: Lab, vip: str) -> None:
    staying = Client(balanced, "client", vip)
    server = staying.ask()
    others = []
    for _ in range(50):
        with clients(balanced, "client", vip, 1) as (other,):
            others.append(other.ask())
        assert staying.ask() == server
    staying.close()
    assert set(others) == {"server1", "server2"}
