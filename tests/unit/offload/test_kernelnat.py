"""What connection tracking says of connections, in a namespace in which it knows some."""

import socket
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address
from types import SimpleNamespace

import pytest

from natlb.core.flow import flow_key
from natlb.errors import OffloadError
from natlb.offload import kernelnat
from natlb.offload.kernelnat import KernelNat

pytestmark = pytest.mark.root

CLIENTS = {4: ("44.1.1.1", "44.1.1.2", "44.1.1.3"), 6: ("fd44::1", "fd44::2", "fd44::3")}
SERVER = {4: "44.3.3.3", 6: "fd44::33"}
BALANCER = {4: "44.2.2.2", 6: "fd44::22"}
PROTOCOLS = {"tcp": 6, "udp": 17}


@pytest.fixture(scope="module", autouse=True)
def _known(arena: object) -> Iterator[None]:
    """Have one client's connections known as they are, another's with SNAT, and those of the third not at all."""
    for family, (plain, translated, _) in CLIENTS.items():
        for protocol, state in ("tcp", ["--state", "ESTABLISHED"]), ("udp", []):
            for client, nat in (plain, []), (translated, ["--src-nat", BALANCER[family]]):
                ends = ["-s", client, "-d", SERVER[family], "--sport", "5000", "--dport", "4444"]
                argv = ["conntrack", "-I", "-p", protocol, *ends, "-t", "600", *state, *nat]
                subprocess.run(argv, check=True, capture_output=True)
    yield
    subprocess.run(["conntrack", "-F"], check=True, capture_output=True)


@pytest.fixture
def kernel_nat() -> Iterator[KernelNat]:
    made = KernelNat()
    yield made
    made.close()


def connection(client: str, server: str, protocol: str, port: int = 5000) -> object:
    there, back = ((ip_address(at).packed, number.to_bytes(2)) for at, number in ((client, port), (server, 4444)))
    return SimpleNamespace(reply=flow_key(back, there, PROTOCOLS[protocol]))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("family", CLIENTS)
def test_it_knows_whom_nat_has_a_hand_in(kernel_nat: KernelNat, family: int, protocol: str) -> None:
    said = [kernel_nat.translates(connection(client, SERVER[family], protocol)) for client in CLIENTS[family]]
    assert said == [False, True, False]


@pytest.mark.parametrize("family", CLIENTS)
def test_another_port_protocol_or_way_is_another_connection(kernel_nat: KernelNat, family: int) -> None:
    client, server = CLIENTS[family][1], SERVER[family]
    assert kernel_nat.translates(connection(client, server, "tcp"))
    assert not kernel_nat.translates(connection(client, server, "tcp", port=5001))
    assert not kernel_nat.translates(connection(server, client, "tcp"))


@pytest.mark.parametrize("knows", [None, "0\n"], ids=["not loaded", "not at work"])
def test_where_connection_tracking_knows_nobody_it_is_not_asked(tmp_path, monkeypatch, knows: str | None) -> None:
    now = [100.0]
    count = tmp_path / "nf_conntrack_count"
    asked = KernelNat(lambda: now[0], count)
    translated = connection(CLIENTS[4][1], SERVER[4], "tcp")
    if knows is not None:
        count.write_text(knows)
    with monkeypatch.context() as unasked:
        unasked.setattr(KernelNat, "_ask", lambda *_: pytest.fail("that would load it"))
        assert not asked.translates(translated)
        count.write_text("1\n")
        assert not asked.translates(translated), "it was looked at just now"
    now[0] += 1.0
    assert asked.translates(translated)
    count.write_text("what?")
    now[0] += 1.0
    assert asked.translates(translated), "who cannot tell may know some"
    asked.close()


@pytest.mark.parametrize("error", [-22, -1])
def test_where_it_cannot_be_asked_there_is_no_fast_path_and_a_remedy(tmp_path, monkeypatch, error: int) -> None:
    count = tmp_path / "nf_conntrack_count"
    answer = kernelnat._KIND.pack(kernelnat._NLMSG_ERROR, error) + bytes(20)

    class Refusing(socket.socket):
        def recv(self, size: int) -> bytes:  # type: ignore[override]
            super().recv(size)
            return answer

    monkeypatch.setattr(kernelnat.socket, "socket", Refusing)
    refusing = KernelNat(count=count)
    count.write_text("1\n")
    with pytest.raises(OffloadError, match="modprobe nf_conntrack_netlink"):
        KernelNat(count=count)
    assert refusing.translates(connection(CLIENTS[4][0], SERVER[4], "tcp")), "it may be"
    refusing.close()
