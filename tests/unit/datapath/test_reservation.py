"""Holding ports, on loopback addresses."""

import errno
import os
import socket
from ipaddress import ip_address

import pytest

from natlb.datapath import reservation
from natlb.datapath.host import Endpoint
from natlb.datapath.reservation import Reservation, check_sources
from natlb.errors import DatapathError
from tests.ports import free_port

LOOPBACK = {"ipv4": "127.0.0.1", "ipv6": "::1"}

_TCP_CLOSE = 7
"""linux/tcp_states.h: both ends know that a connection is over."""


@pytest.fixture(params=LOOPBACK.values(), ids=LOOPBACK)
def host(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def tcp(address: str, *, reuse: bool = False) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    if ":" in address:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if reuse:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made


def port_in_time_wait(address: str) -> int:
    """The port of a server that has just ended, having closed a connection first."""
    port = free_port()
    with tcp(address, reuse=True) as listening:
        listening.bind((address, port))
        listening.listen()
        with tcp(address) as client:
            client.connect((address, port))
            listening.accept()[0].close()
            assert client.recv(1) == b""
            client.shutdown(socket.SHUT_WR)
            while client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _TCP_CLOSE:
                pass  # the server's end has not heard of it yet
    return port


def reserve(address: str, port: int) -> Reservation:
    return Reservation([("www", Endpoint(ip_address(address), port))])


def test_the_ports_of_one_frontend_are_given_back_and_no_others(host: str) -> None:
    ports = [free_port(), free_port()]
    wanted = [(f"f{port}", Endpoint(ip_address(host), port)) for port in ports]
    with Reservation(wanted) as held, tcp(host) as server, tcp(host) as other:
        assert len(held) == 2
        held.release(f"f{ports[0]}")
        assert len(held) == 1
        server.bind((host, ports[0]))
        with pytest.raises(OSError, match="Address already in use"):
            other.bind((host, ports[1]))


def test_a_reserved_port_cannot_be_taken_by_a_server(host: str) -> None:
    port = free_port()
    with reserve(host, port), tcp(host, reuse=True) as server, pytest.raises(OSError, match="Address already in use"):
        server.bind((host, port))


def test_a_reserved_port_cannot_be_reserved_twice(host: str) -> None:
    port = free_port()
    with reserve(host, port), pytest.raises(DatapathError, match="Address already in use"):
        reserve(host, port)


def test_a_client_of_a_reserved_port_is_refused_by_the_kernel(host: str) -> None:
    port = free_port()
    with reserve(host, port), tcp(host) as client, pytest.raises(ConnectionRefusedError):
        client.connect((host, port))


def test_the_port_of_a_server_that_runs_is_refused_with_the_remedy(host: str) -> None:
    with tcp(host, reuse=True) as server:
        server.bind((host, 0))
        server.listen()
        port = server.getsockname()[1]
        place = f"[::1]:{port}" if ":" in host else f"127.0.0.1:{port}"
        with pytest.raises(DatapathError) as refused:
            reserve(host, port)
    assert str(refused.value) == (
        f"Starting frontend www: cannot bind socket (Address already in use) [{place}]: "
        "a local process has that port, which 'ss -tanp' shows, or another natlb, which 'pgrep -af natlb' shows"
    )


def test_finished_connections_of_a_server_that_has_ended_do_not_hold_the_port(host: str) -> None:
    port = port_in_time_wait(host)
    with tcp(host) as plain, pytest.raises(OSError, match="Address already in use"):
        plain.bind((host, port))
    with reserve(host, port):
        pass


def test_a_port_that_was_in_time_wait_is_held_as_firmly_as_any(host: str) -> None:
    port = port_in_time_wait(host)
    with reserve(host, port):
        with pytest.raises(DatapathError, match="Address already in use"):
            reserve(host, port)
        with tcp(host, reuse=True) as server, pytest.raises(OSError, match="Address already in use"):
            server.bind((host, port))


def test_a_server_with_finished_connections_that_still_runs_keeps_its_port(host: str) -> None:
    with tcp(host, reuse=True) as server:
        server.bind((host, port_in_time_wait(host)))
        server.listen()
        with pytest.raises(DatapathError, match="Address already in use"):
            reserve(host, server.getsockname()[1])


def test_closing_gives_the_port_back(host: str) -> None:
    port = free_port()
    held = reserve(host, port)
    held.close()
    held.close()
    with tcp(host) as server:
        server.bind((host, port))


def test_all_or_none_are_reserved() -> None:
    free = free_port()
    with tcp("127.0.0.1") as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        taken = server.getsockname()[1]
        wanted = [("www", Endpoint(ip_address("127.0.0.1"), port)) for port in (free, taken)]
        with pytest.raises(DatapathError):
            Reservation(wanted)
    with tcp("127.0.0.1") as server:
        server.bind(("127.0.0.1", free))


def test_both_families_can_have_the_same_port() -> None:
    port = free_port()
    with reserve("127.0.0.1", port), reserve("::1", port):
        pass


def test_an_address_that_the_machine_does_not_have_is_refused_with_the_remedy() -> None:
    with pytest.raises(
        DatapathError, match=r"Cannot assign.*\[192\.0\.2\.1:80\]: no interface of this machine has that"
    ):
        reserve("192.0.2.1", 80)


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_a_transparent_bind_may_have_an_address_of_others(address: str) -> None:
    with Reservation([("www", Endpoint(ip_address(address), free_port(), foreign=True))]):
        pass


# -- UDP


def udp(address: str, *, reuse: bool = False) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    if ":" in address:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if reuse:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made


def reserve_udp(address: str, port: int) -> Reservation:
    return Reservation([("dns", Endpoint(ip_address(address), port, protocol=17))])


_PLACES = {
    "ipv4": ("127.0.0.1", "127.0.0.1"),
    "ipv6": ("::1", "::1"),
    "ipv4 wildcard": ("0.0.0.0", "127.0.0.1"),
    "ipv6 wildcard": ("::", "::1"),
}


@pytest.mark.parametrize(("bound", "asked"), _PLACES.values(), ids=_PLACES)
def test_a_reserved_udp_port_cannot_be_taken_by_a_server_or_reserved_twice(bound: str, asked: str) -> None:
    port = free_port()
    with reserve_udp(bound, port), udp(asked, reuse=True) as server:
        with pytest.raises(OSError, match="Address already in use"):
            server.bind((asked, port))
        with pytest.raises(DatapathError, match="Address already in use"):
            reserve_udp(bound, port)
    with udp(asked) as server:
        server.bind((asked, port))


@pytest.mark.parametrize(("bound", "asked"), _PLACES.values(), ids=_PLACES)
def test_datagrams_to_a_reserved_port_do_not_pile_up(bound: str, asked: str) -> None:
    port = free_port()
    with reserve_udp(bound, port) as held, udp(asked) as client:
        client.connect((asked, port))
        for _ in range(100):
            client.send(bytes(1000))
        with pytest.raises(BlockingIOError):
            held._sockets[0][2].recv(1, socket.MSG_DONTWAIT)


def test_the_udp_port_of_a_server_that_runs_is_refused_with_the_remedy(host: str) -> None:
    with udp(host, reuse=True) as server:
        server.bind((host, 0))
        port = server.getsockname()[1]
        place = f"[::1]:{port}" if ":" in host else f"127.0.0.1:{port}"
        with pytest.raises(DatapathError) as refused:
            reserve_udp(host, port)
    assert str(refused.value) == (
        f"Starting frontend dns: cannot bind socket (Address already in use) [{place}]: "
        "a local process, or another natlb, has that port; 'ss -uanp' shows which"
    )


def test_tcp_and_udp_can_have_the_same_port(host: str) -> None:
    port = free_port()
    with reserve(host, port), reserve_udp(host, port):
        pass


# -- the addresses of full NAT


def test_full_nat_may_speak_from_the_addresses_of_this_machine() -> None:
    check_sources([(ip_address("127.0.0.1"), "server a/b"), (ip_address("::1"), "server a/c")])


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_full_nat_may_not_speak_from_the_address_of_another(address: str) -> None:
    with pytest.raises(DatapathError) as refused:
        check_sources([(ip_address("127.0.0.1"), "server a/b"), (ip_address(address), "server a/c")])
    assert str(refused.value) == (
        f"server a/c: cannot bind to source address {address} (Cannot assign requested address): full NAT speaks "
        "from addresses of this machine alone; add it to an interface, or remove that source"
    )


def test_a_kernel_without_ipv6_is_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_ipv6(*_: object) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))

    with monkeypatch.context() as patched:
        patched.setattr(reservation.socket, "socket", no_ipv6)
        with pytest.raises(DatapathError, match=r"\(Address family not .*\) \[\[::1\]:80\]: this kernel runs without"):
            reserve("::1", 80)


# -- in the place of another natlb


@pytest.mark.parametrize("protocol", [6, 17], ids=["tcp", "udp"])
def test_what_another_has_held_is_kept_and_the_rest_given_back(host: str, protocol: int) -> None:
    ports = [free_port(), free_port()]
    kept, given_up = (Endpoint(ip_address(host), port, protocol=protocol) for port in ports)
    with Reservation([("a", kept), ("b", given_up)]) as before:
        copies = {endpoint: held.dup() for endpoint, held in before.holdings.items()}
        with Reservation([("c", kept)], copies) as after:
            before.close()
            assert after.holdings == {kept: copies[kept]}
            with pytest.raises(DatapathError, match="Address already in use"):
                Reservation([("d", kept)])
            Reservation([("d", given_up)]).close()


@pytest.mark.parametrize("protocol", [6, 17], ids=["tcp", "udp"])
@pytest.mark.parametrize("wider", [True, False])
def test_a_place_that_contains_the_one_before_or_lies_in_it_can_be_taken(host: str, protocol: int, wider: bool) -> None:
    port, anywhere = free_port(), "::" if ":" in host else "0.0.0.0"
    old, new = (Endpoint(ip_address(address), port, protocol=protocol) for address in (host, anywhere))
    if not wider:
        old, new = new, old
    with Reservation([("a", old)]) as before:
        copies = {endpoint: held.dup() for endpoint, held in before.holdings.items()}
        with Reservation([("a", new)], copies) as after:
            for held in (*before.holdings.values(), *after.holdings.values()):
                assert held.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 0
            before.close()
            with pytest.raises(DatapathError, match="Address already in use"):
                Reservation([("b", new)])


def test_a_stranger_is_still_in_the_way(host: str) -> None:
    port = free_port()
    with tcp(host, reuse=True) as server:
        server.bind((host, port))
        server.listen()
        with Reservation([("a", Endpoint(ip_address(host), free_port()))]) as before:
            copies = {endpoint: held.dup() for endpoint, held in before.holdings.items()}
            with pytest.raises(DatapathError, match="Address already in use"):
                Reservation([("b", Endpoint(ip_address(host), port))], copies)
            assert all(copy.fileno() == -1 for copy in copies.values())


# -- several of one natlb's own at one port


@pytest.mark.parametrize("protocol", [6, 17], ids=["tcp", "udp"])
@pytest.mark.parametrize("wildcard_first", [True, False])
def test_a_wildcard_and_an_address_that_lies_in_it_can_both_be_had(
    host: str, protocol: int, wildcard_first: bool
) -> None:
    port = free_port()
    wanted = [(name, Endpoint(ip_address(name), port, protocol=protocol)) for name in (anywhere(host), host)]
    if not wildcard_first:
        wanted.reverse()
    with Reservation(wanted) as held:
        assert len(held) == 2
        for each in held.holdings.values():
            assert each.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 0
        for _, endpoint in wanted:
            with pytest.raises(DatapathError, match="Address already in use"):
                Reservation([("other", endpoint)])
        held.release(host)
        with pytest.raises(DatapathError, match="Address already in use"):
            Reservation([("other", wanted[0][1])])


@pytest.mark.parametrize("protocol", [6, 17], ids=["tcp", "udp"])
def test_both_are_handed_on_and_a_third_can_be_added(host: str, protocol: int) -> None:
    port = free_port()
    wide, narrow = (Endpoint(ip_address(name), port, protocol=protocol) for name in (anywhere(host), host))
    with Reservation([("a", narrow)]) as before:
        copies = {endpoint: held.dup() for endpoint, held in before.holdings.items()}
        with Reservation([("a", narrow), ("b", wide)], copies) as after:
            assert after.holdings[narrow] is copies[narrow]
            before.close()
            for endpoint in (wide, narrow):
                with pytest.raises(DatapathError, match="Address already in use"):
                    Reservation([("other", endpoint)])


@pytest.mark.parametrize("stranger", ["there", "elsewhere"])
def test_a_stranger_who_lets_his_port_be_shared_is_found_all_the_same(stranger: str) -> None:
    """It is bound, and no more, or for UDP, with SO_REUSEADDR: whoever sets that too, overlooks it."""
    port = free_port()
    wanted = [("a", Endpoint(ip_address(name), port, protocol=17)) for name in ("127.0.0.1", "0.0.0.0")]
    place = "127.0.0.1" if stranger == "there" else "127.0.0.2"
    with udp("127.0.0.1", reuse=True) as server:
        server.bind((place, port))
        with pytest.raises(DatapathError, match="Address already in use"):
            Reservation(wanted)


def test_the_same_place_is_not_to_be_had_twice(host: str) -> None:
    endpoint = Endpoint(ip_address(host), free_port())
    with pytest.raises(DatapathError, match="Address already in use"):
        Reservation([("a", endpoint), ("b", endpoint)])


def anywhere(host: str) -> str:
    return "::" if ":" in host else "0.0.0.0"
