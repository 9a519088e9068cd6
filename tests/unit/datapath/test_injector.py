"""Where a packet of the engine's own goes, and what becomes of one that cannot go."""

import errno
import os
import socket
from ipaddress import ip_address

import pytest

from natlb.datapath import injector
from natlb.datapath.injector import Injector

_V4 = b"\x45" + bytes(11) + ip_address("44.2.2.2").packed + ip_address("44.1.1.1").packed
_V6 = b"\x60" + bytes(7) + ip_address("fd44::2").packed + ip_address("fd44::1").packed


class RawSocket:
    """What a raw socket would have sent."""

    sent: list[tuple[int, bytes, tuple[str, int]]] = []  # noqa: RUF012 - one list for all, emptied by the fixture
    lacking: int | None = None
    refuses: int | None = None
    open = 0

    def __init__(self, family: int, kind: int, protocol: int) -> None:
        assert (kind, protocol) == (socket.SOCK_RAW, socket.IPPROTO_RAW)
        if family == RawSocket.lacking:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        self.family = family
        RawSocket.open += 1

    def setblocking(self, flag: bool) -> None:
        assert not flag

    def sendto(self, packet: bytes, address: tuple[str, int]) -> None:
        if RawSocket.refuses is not None:
            raise OSError(RawSocket.refuses, os.strerror(RawSocket.refuses))
        RawSocket.sent.append((self.family, packet, address))

    def close(self) -> None:
        RawSocket.open -= 1


@pytest.fixture(autouse=True)
def raw(monkeypatch: pytest.MonkeyPatch) -> type[RawSocket]:
    monkeypatch.setattr(injector.socket, "socket", RawSocket)
    for name, value in (("sent", []), ("lacking", None), ("refuses", None), ("open", 0)):
        monkeypatch.setattr(RawSocket, name, value)
    return RawSocket


def test_a_packet_goes_whole_to_the_destination_in_its_header(raw: type[RawSocket]) -> None:
    sender = Injector()
    sender.send(_V4)
    sender.send(_V6)
    assert raw.sent == [(socket.AF_INET, _V4, ("44.1.1.1", 0)), (socket.AF_INET6, _V6, ("fd44::1", 0))]
    assert sender.failures == 0


@pytest.mark.parametrize("reason", [errno.ENETUNREACH, errno.EAGAIN, errno.EPERM])
def test_what_the_kernel_will_not_send_is_counted(raw: type[RawSocket], reason: int) -> None:
    raw.refuses = reason
    sender = Injector()
    sender.send(_V4)
    assert sender.failures == 1


def test_a_kernel_without_ipv6_still_sends_ipv4(raw: type[RawSocket]) -> None:
    raw.lacking = socket.AF_INET6
    sender = Injector()
    sender.send(_V4)
    sender.send(_V6)
    assert [family for family, *_ in raw.sent] == [socket.AF_INET]
    assert sender.failures == 1


def test_closing_closes_both_sockets(raw: type[RawSocket]) -> None:
    sender = Injector()
    assert raw.open == 2
    sender.close()
    assert raw.open == 0
