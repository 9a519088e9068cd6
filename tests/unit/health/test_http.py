"""Responses of HTTP checks, whole and in part. What HAProxy makes of them `test_haproxy` knows."""

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natlb.health import http
from natlb.health.http import Malformed, Reading, Response, read

HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("data", "status", "reason", "body", "complete"),
    [
        (b"HTTP/1.0 204 No Content\r\n\r\n", 204, "No Content", b"", True),
        (b"HTTP/1.0 503\r\n\r\n", 503, "", b"", False),
        (HEAD + b"\r\nhello", 200, "OK", b"hello", False),
        (HEAD + b"Content-Length: 3\r\n\r\nhello", 200, "OK", b"hel", True),
        (HEAD + b"Content-Length: 3, 3\r\nContent-Length: 3\r\n\r\nhe", 200, "OK", b"he", False),
        (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n3\r\nhel\r\n2\nlo\n0\r\n", 200, "OK", b"hello", True),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r", 200, "OK", b"hel", False),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhe", 200, "OK", b"he", False),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", 200, "OK", b"", False),
        (HEAD + b"A: b\r\n c\r\n\r\nx", 200, "OK", b"x", False),
    ],
)
def test_a_response_is_read(data: bytes, status: int, reason: str, body: bytes, complete: bool) -> None:
    response = read(data)
    assert isinstance(response, Response)
    assert (response.status, response.reason, response.body, response.complete) == (status, reason, body, complete)


def test_the_response_to_head_has_no_body() -> None:
    response = read(HEAD + b"Content-Length: 3\r\n\r\n", of_head=True)
    assert response is not None
    assert response.complete


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0\r\n",
        b"+PONG\r\n",
        b"HTTP/1.0 \r\n",
        b"HTTP/1.0 2x\r\n",
        HEAD + b"no colon\r\n",
        HEAD + b": none\r\n",
        HEAD + b" folded: first\r\n",
        HEAD + b"A: b\r\rc\r\n",
        HEAD + b"Content-Length: x\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        b"HTTP/1.0 9999999999 Much\r\n\r\n",
    ],
)
def test_what_is_no_response_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        read(data)


@pytest.mark.parametrize("data", [HEAD + b"A: b\r\n\r\n", b"\r\nHTTP/1.0 200 Fine\nA: b\n c\n\n"])
def test_a_part_of_a_response_is_none_yet(data: bytes) -> None:
    for size in range(len(data)):
        assert read(data[:size]) is None
    assert read(data) is not None


@pytest.mark.parametrize("end", [b"", b"\r\n", b"\r\nhello"])
def test_a_header_has_haproxy_s_bound_whole_or_not(end: bytes) -> None:
    lines = [b"a%d: b\r\n" % number for number in range(100)]
    response = read(HEAD + b"".join(lines) + b" folded\r\n" + end)
    assert (response is None) == (end == b"")
    with pytest.raises(Malformed):
        read(HEAD + b"".join(lines) + b"one: more\r\n" + end)


def test_a_header_cannot_be_folded_without_end() -> None:
    assert read(HEAD + b"a: b\r\n" + b" c\r\n" * 900 + b"\r\n") is not None
    with pytest.raises(Malformed):
        read(HEAD + b"a: b\r\n" + b" c\r\n" * 1000)


_CHUNKS = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"3\r\nabc\r\n" * 5 + b"1;x=y\nd\n" * 5 + b"0\r\n\r\n"


@given(st.lists(st.integers(1, len(_CHUNKS))), st.integers(0, len(_CHUNKS)), st.binary(max_size=3))
def test_what_is_read_in_pieces_is_what_is_read_at_once(sizes: list[int], spoilt: int, damage: bytes) -> None:
    data = _CHUNKS[:spoilt] + damage + _CHUNKS[spoilt + len(damage) :]
    reading = Reading()
    for size in [*sorted(sizes), len(data)]:
        try:
            expected = read(data[:size])
        except Malformed:
            with pytest.raises(Malformed):
                reading.read(data[:size])
            return
        assert reading.read(data[:size]) == expected


def test_chunks_that_have_been_read_are_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at, chunk = [], http._CHUNK

    class Chunk:
        def match(self, data: bytes, at: int) -> re.Match[bytes] | None:
            looked_at.append(at)
            return chunk.match(data, at)

    monkeypatch.setattr(http, "_CHUNK", Chunk())
    reading = Reading()
    for size in range(len(_CHUNKS) + 1):
        reading.read(_CHUNKS[:size])
    assert looked_at == sorted(looked_at), "it went back"
    assert len(set(looked_at)) == 11


@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda rest: HEAD + rest))
def test_any_bytes_are_read_or_are_malformed(data: bytes) -> None:
    with contextlib.suppress(Malformed):
        read(data)
