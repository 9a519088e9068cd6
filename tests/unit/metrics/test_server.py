"""Scrapes over real sockets: what is asked in vain is told so, and nobody holds up the others."""

import asyncio
import gzip
import http.client
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from ipaddress import ip_address

import pytest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from prometheus_client.registry import Collector

from natlb.errors import MetricsError
from natlb.metrics.address import Address
from natlb.metrics.registry import registry
from natlb.metrics.server import MOST_CLIENTS, MetricsServer, listen
from tests.garbage import collected_as_in_natlb
from tests.unit.metrics.balancer import many

LOOPBACK = ip_address("127.0.0.1")
GET = b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n"


class Values(Collector):
    """One family of so many values."""

    def __init__(self, size: int = 3) -> None:
        self.size = size

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily("family", "Help.", labels=["server"])
        for value in range(self.size):
            family.add_metric([f"s{value}"], value)
        yield family


class Broken(Collector):
    def collect(self) -> Iterator[Metric]:
        raise KeyError("a number that is not there")


@asynccontextmanager
async def served(read: Collector, timeout: float = 10.0) -> AsyncIterator[tuple[MetricsServer, int]]:
    listening = listen(Address(LOOPBACK, 0))
    server = MetricsServer(listening, read, timeout=timeout)
    await server.start()
    try:
        yield server, listening.getsockname()[1]
    finally:
        server.close()
        listening.close()


@contextmanager
def running(read: Collector, timeout: float = 10.0) -> Iterator[int]:
    """Serve from a thread's event loop, for clients that block; yield the port."""
    ready, port = threading.Event(), 0
    stop: Callable[[], object] = lambda: None  # noqa: E731

    async def serve() -> None:
        nonlocal port, stop
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
        async with served(read, timeout) as (_, port):
            stop = lambda: loop.call_soon_threadsafe(stopping.set)  # noqa: E731
            ready.set()
            await stopping.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(60)
    try:
        yield port
    finally:
        stop()
        thread.join(60)


Reply = tuple[int, dict[str, str], bytes]


def ask(port: int, method: str = "GET", path: str = "/metrics", **headers: str) -> Reply:
    # Closed whatever comes: a connection that breaks off in an answer is closed neither by itself nor by its response.
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        with connection.getresponse() as response:
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


def send(port: int, sent: bytes) -> bytes:
    """Send bytes as they are and read all that comes."""
    with socket.create_connection(("127.0.0.1", port), 60) as client:
        client.sendall(sent)
        received = b""
        while piece := client.recv(65536):
            received += piece
        return received


def test_metrics_can_be_got_and_the_connection_is_closed() -> None:
    with running(Values()) as port:
        status, headers, body = ask(port)
    assert (status, headers["connection"]) == (200, "close")
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    (family,) = read_text(body.decode())
    assert [sample.value for sample in family.samples] == [0, 1, 2]


@pytest.mark.parametrize(("path", "status"), [("/metrics", 200), ("/", 404)])
def test_who_asks_for_the_head_alone_gets_that(caplog: pytest.LogCaptureFixture, path: str, status: int) -> None:
    with running(Values()) as port, caplog.at_level(logging.ERROR):
        head, _, body = send(port, f"HEAD {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode()).partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"content-type: text/plain" in head.lower()
    assert body == b""
    assert not caplog.records


def test_a_query_in_the_path_is_no_other_path() -> None:
    with running(Values()) as port:
        assert ask(port, path="/metrics?name[]=family")[0] == 200


def test_openmetrics_is_given_to_who_asks_for_it() -> None:
    with running(Values(1000)) as port:
        _, headers, body = ask(port, accept="application/openmetrics-text;version=1.0.0;q=0.9,text/plain;q=0.5")
    assert headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    (family,) = read_openmetrics(body.decode())
    assert len(family.samples) == 1000


def test_it_is_packed_for_who_can_unpack_it() -> None:
    with running(Values(1000)) as port:
        _, plain, body = ask(port)
        _, packed, less = ask(port, accept_encoding="deflate, gzip;q=0.8")
    assert "content-encoding" not in plain
    assert packed["content-encoding"] == "gzip"
    assert gzip.decompress(less) == body
    assert len(less) < len(body) / 4


def test_a_client_of_http_1_0_reads_up_to_the_end() -> None:
    with running(Values()) as port:
        head, _, body = send(port, b"GET /metrics HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    assert body.startswith(b"# HELP family")


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/", 404, b"natlb's metrics are at /metrics"),
        ("GET", "/metrics/", 404, b"/metrics"),
        ("POST", "/metrics", 405, b"only be read"),
        ("DELETE", "/metrics", 405, b"only be read"),
    ],
)
def test_what_is_asked_in_vain_is_told_so(method: str, path: str, status: int, said: bytes) -> None:
    with running(Values()) as port:
        answered, headers, body = ask(port, method, path)
    assert (answered, said in body) == (status, True)
    assert headers.get("allow") == ("GET, HEAD" if status == 405 else None)


@pytest.mark.parametrize(
    "sent",
    [
        b"\r\n\x00\x01\r\n\r\n",
        b"metrics please\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n\r\n",  # HTTP/1.1 asks for a Host
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),  # TLS
        b"GET /metrics HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 2000,
    ],
)
def test_what_is_no_request_is_answered_400_or_431(sent: bytes) -> None:
    with running(Values()) as port:
        answered = send(port, sent) if len(sent) < 4000 else send_too_much(port, sent)
        assert answered.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))
        assert ask(port)[0] == 200, "and the next one is served"


def send_too_much(port: int, sent: bytes) -> bytes:
    """What is not read any more may come back as a RST, before or after the answer: both are right."""
    try:
        return send(port, sent)
    except ConnectionResetError:
        return b"HTTP/1.1 431 "


def test_a_client_that_goes_away_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    with running(Values(10_000)) as port, caplog.at_level(logging.ERROR):
        for sent in (b"", b"GET /met", GET):
            with socket.create_connection(("127.0.0.1", port), 5) as client:
                client.sendall(sent)
        assert ask(port)[0] == 200
    assert not caplog.records


def test_clients_that_never_read_lose_their_places_and_do_not_hold_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    async def starve() -> float:
        # Servers for ten megabytes of text: more than all buffers on the way hold.
        async with served(registry(many(20_000).sources), timeout=0.5) as (_, port):
            loop = asyncio.get_running_loop()
            deaf = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(MOST_CLIENTS)]
            for client in deaf:
                client.sendall(GET)
            longest, until = 0.0, loop.time() + 2.0
            while loop.time() < until:
                began = time.thread_time()  # of the processor: what else runs here is not natlb's
                await asyncio.sleep(0)
                longest = max(longest, time.thread_time() - began)
            status, _, _ = await asyncio.to_thread(ask, port, path="/")
            for client in deaf:
                client.close()
            assert status == 404, "there is room again"
            return longest

    with collected_as_in_natlb():
        assert asyncio.run(starve()) < 0.1, "seconds, for a piece to each of the clients"
    assert not caplog.records


def test_a_client_that_sends_half_a_request_is_cut_off() -> None:
    with running(Values(), timeout=0.3) as port:
        assert send(port, b"GET /metrics HT") == b""


def test_one_client_too_many_is_told_to_come_again_and_the_others_are_served() -> None:
    with running(Values(), timeout=30) as port:
        held = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(MOST_CLIENTS)]
        try:
            assert send(port, b"").startswith(b"HTTP/1.1 503 ")
            held[0].sendall(GET)
            assert held[0].recv(65536).startswith(b"HTTP/1.1 200 ")
        finally:
            for client in held:
                client.close()


def test_what_cannot_be_read_is_reported_and_ends_one_scrape(caplog: pytest.LogCaptureFixture) -> None:
    with running(Broken()) as port, caplog.at_level(logging.ERROR, "natlb"):
        with pytest.raises((http.client.HTTPException, OSError)):
            ask(port)
        assert ask(port, path="/")[0] == 404
    assert "please report it: KeyError('a number that is not there')" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_port_that_is_taken_is_named_with_the_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(MetricsError) as error:
            listen(Address(LOOPBACK, port))
    assert str(error.value) == (
        f"--metrics 127.0.0.1:{port}: Address already in use; another program has this port ('ss -ltnp' shows which); "
        "choose another port"
    )


def test_an_address_that_the_machine_does_not_have_is_named() -> None:
    with pytest.raises(
        MetricsError, match=r"192\.0\.2\.1:9101: Cannot assign requested address; this machine has no such"
    ):
        listen(Address(ip_address("192.0.2.1"), 9101))


def test_ipv6_is_for_ipv6_alone() -> None:
    with listen(Address(ip_address("::"), 0)) as opened:
        assert opened.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
