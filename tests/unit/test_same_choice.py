"""HAProxy is the oracle: with the same configuration, the same clients get the same servers from natlb.

A real HAProxy balances real connections on the loopback interface, from clients with addresses of their own in
127.0.0.0/8. natlb's pool, made of the same text, is asked about the same flows.
"""

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from natlb.assembly import assemble
from natlb.config.parser import parse
from natlb.core.flow import flow_key
from natlb.core.packet import TCP
from natlb.core.pool import Pool
from tests.haproxy import running
from tests.ports import free_port

NAMES = ("a", "b", "c", "d")


class Servers:
    """Four servers, each of which says its name to whoever connects."""

    def __init__(self, stack: ExitStack) -> None:
        self._kept: list[socket.socket] = []
        stack.callback(self.let_go)
        self.ports = [self._start(stack, name) for name in NAMES]

    def let_go(self) -> None:
        """Close all connections; to be called when nobody opens one."""
        while self._kept:
            self._kept.pop().close()

    def _start(self, stack: ExitStack, name: str) -> int:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=50))
        stack.callback(listener.shutdown, socket.SHUT_RDWR)  # whoever waits in accept() is told
        threading.Thread(target=self._serve, args=(listener, name), daemon=True).start()
        port: int = listener.getsockname()[1]
        return port

    def _serve(self, listener: socket.socket, name: str) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.sendall(name.encode())
            self._kept.append(connection)


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(stack)


class Both:
    """One configuration, in natlb and in HAProxy."""

    def __init__(self, pool: Pool, port: int, stack: ExitStack) -> None:
        self.pool = pool
        self.port = port
        self.stack = stack

    def ask(self, client: str, port: int = 0, *, vip: str = "127.0.0.1", keep: bool = False) -> tuple[str, str]:
        """Connect to HAProxy; return the names of its server and of natlb's for the same flow."""
        connection = socket.socket()
        if keep:
            self.stack.enter_context(connection)
        try:
            connection.settimeout(10)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            connection.bind((client, port))
            source = connection.getsockname()
            connection.connect((vip, self.port))
            theirs = connection.recv(1).decode()
        finally:
            if not keep:
                connection.close()
        flow = flow_key(_end(source), _end((vip, self.port)), TCP)
        picked = self.pool.pick(flow, 0.0)
        assert picked is not None
        if keep:
            picked.count(1)
        return theirs, picked.name


def _end(place: tuple[str, int]) -> tuple[bytes, bytes]:
    return ip_address(place[0]).packed, place[1].to_bytes(2, "big")


@contextmanager
def both(directory: Path, servers: Servers, lines: str, parameters: tuple[str, str, str, str]) -> Iterator[Both]:
    """Run HAProxy with four servers, and make natlb's pool of the same configuration."""
    port, stats = free_port(), directory / "h.sock"
    listed = "".join(
        f"    server {name} 127.0.0.1:{at} {words}\n"
        for name, at, words in zip(NAMES, servers.ports, parameters, strict=True)
    )
    text = (
        f"global\n    stats socket {stats}\n"
        "defaults\n    timeout client 60s\n    timeout server 60s\n    timeout connect 60s\n"
        f"listen l\n    bind *:{port}\n{lines}{listed}"
    )
    config = parse([("same.cfg", text.encode())], {}).config
    assert config is not None
    with ExitStack() as stack:
        stack.callback(servers.let_go)
        stack.enter_context(running(text, stats))
        yield Both(assemble(config).pools["l"], port, stack)


WEIGHTS = ("weight 3", "weight 1", "weight 5", "weight 2")
HASHED = [
    "balance source",
    "balance source\n    hash-type map-based sdbm avalanche",
    *(
        f"balance hash {fetch}\n    hash-type map-based {function}{stirred}"
        for fetch, function, stirred in (
            ("src", "sdbm", ""),
            ("src", "djb2", " avalanche"),
            ("dst", "crc32", ""),
            ("src_port", "sdbm", " avalanche"),
            ("src_port", "wt6", ""),
            ("dst_port", "djb2", ""),
        )
    ),
]


@pytest.mark.parametrize("lines", HASHED, ids=lambda lines: lines.replace("\n    ", ", "))
def test_whoever_hashes_to_a_server_of_haproxys_hashes_to_the_same_here(
    tmp_path: Path, servers: Servers, lines: str
) -> None:
    with both(tmp_path, servers, f"    {lines}\n", WEIGHTS) as asked:
        seen: Counter[str] = Counter()
        for number in range(60):
            client, vip = f"127.{number % 7 + 1}.{number * 37 % 256}.{number + 1}", f"127.0.{number % 9}.1"
            theirs, ours = asked.ask(client, vip=vip)
            assert theirs == ours, (client, vip)
            seen[ours] += 1
    assert len(seen) > 2 or "dst_port" in lines, "so many clients belong to more than two servers"


@pytest.mark.parametrize("kind", ["roundrobin", "static-rr", "leastconn", "first"])
def test_servers_of_one_weight_are_picked_in_haproxys_order(tmp_path: Path, servers: Servers, kind: str) -> None:
    limits = ("maxconn 3", "maxconn 2", "maxconn 9", "maxconn 9")
    with both(tmp_path, servers, f"    balance {kind}\n", limits) as asked:
        told = [asked.ask("127.0.0.1", keep=True) for _ in range(15)]
    assert [ours for _, ours in told] == [theirs for theirs, _ in told]


@pytest.mark.parametrize("kind", ["static-rr", "leastconn"])
def test_weights_make_haproxys_order_too(tmp_path: Path, servers: Servers, kind: str) -> None:
    with both(tmp_path, servers, f"    balance {kind}\n", WEIGHTS) as asked:
        told = [asked.ask("127.0.0.1", keep=True) for _ in range(44)]
    assert [ours for _, ours in told] == [theirs for theirs, _ in told]


def test_roundrobin_gives_each_weight_as_many_turns_as_haproxy_does(tmp_path: Path, servers: Servers) -> None:
    with both(tmp_path, servers, "    balance roundrobin\n", WEIGHTS) as asked:
        told = [asked.ask("127.0.0.1", keep=True) for _ in range(44)]
    assert Counter(ours for _, ours in told) == Counter(theirs for theirs, _ in told)
