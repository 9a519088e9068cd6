"""The response of an HTTP check, read as HAProxy's parser reads it: as much as a check needs to know, no more.

Strict where that is (a byte in a header's name that has no business there ends it), generous where that is (a lone LF
ends a line). A response that is not whole yet is no error, until the connection is closed.

A server may send it byte by byte, and it is looked at whenever more has come. So the header has a bound, HAProxy's,
and what has been read of a body is not read again: packets wait for whatever takes long here.
"""

import re
from dataclasses import dataclass
from typing import Final

_BEFORE: Final = re.compile(rb"(?:\r?\n)*")
_LINE: Final = re.compile(rb"[A-Z0-9.][A-Z0-9/.]*[ \t]+([0-9]+)(?:[ \t]+([^\r\n]*))?\r?")
_LINE_SO_FAR: Final = re.compile(rb"(?:[A-Z0-9.][A-Z0-9/.]*(?:[ \t]+(?:[0-9]+(?:[ \t]+[^\r\n]*)?)?)?)?\r?")
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\r\n]*)\r?")
_HEADER_SO_FAR: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]*(?::[^\r\n]*)?\r?")
_FOLDED: Final = re.compile(rb"[ \t][^\r\n]*\r?")
_CHUNK: Final = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")
_CHUNK_SO_FAR: Final = re.compile(rb"[0-9a-fA-F]{0,15}[ \t]*(?:;[^\r\n]*)?\r?")
_MOST_DIGITS: Final = 9
_MOST_HEADERS: Final = 100
"""HAProxy's (`tune.http.maxhdr`, less the line that it counts besides): one more is no response to it."""
_MOST_LINES: Final = 1000
"""Of a header, when it is folded: nobody's, and still looked at in a millisecond."""


class Malformed(Exception):  # noqa: N818 - a server's fault, and an outcome of its check
    """What was received is no HTTP response."""


@dataclass(frozen=True, slots=True)
class Response:
    """A response whose header is whole."""

    status: int
    status_text: bytes
    """The status as it was written."""
    reason: str
    body: bytes
    """As much as there is of it."""
    complete: bool
    """Whether that is all."""


def read(data: bytes, *, of_head: bool = False) -> Response | None:
    """Read a response as `Reading` does, at once."""
    return Reading(of_head=of_head).read(data)


class Reading:
    """A response being read. `of_head` is of a HEAD request, so there is no body."""

    def __init__(self, *, of_head: bool = False) -> None:
        self._of_head = of_head
        self._head: _Head | None = None
        self._content = bytearray()
        """Of the chunks that are whole."""
        self._at = 0
        """Where the first chunk begins that is not."""

    def read(self, data: bytes) -> Response | None:
        """Read all that has come: what had come before, and perhaps more. None while its header is not whole.

        Raises Malformed as soon as it cannot become a response any more.
        """
        head = self._head = self._head or _read_head(data)
        if head is None:
            return None
        if self._of_head or head.status < 200 or head.status in (204, 304):
            content, complete = b"", True
        elif head.chunked:
            self._at = self._at or head.end
            content, complete = self._dechunk(data)
        elif head.length is not None:
            content = data[head.end : head.end + head.length]
            complete = len(content) >= head.length
        else:
            content, complete = data[head.end :], False
        return Response(head.status, head.status_text, head.reason, content, complete)

    def _dechunk(self, data: bytes) -> tuple[bytes, bool]:
        """Return the content of the chunks as far as they go, and whether the last one is among them."""
        while True:
            match = _CHUNK.match(data, self._at)
            if match is None:
                if _CHUNK_SO_FAR.fullmatch(data, self._at) is None:
                    raise Malformed
                return bytes(self._content), False
            size, start = int(match[1], 16), match.end()
            if not size:
                return bytes(self._content), True
            end = start + size
            ending = data[end : end + 2]
            if ending[:1] not in (b"", b"\r", b"\n") or (ending[:1] == b"\r" and ending not in (b"\r", b"\r\n")):
                raise Malformed
            if ending in (b"", b"\r"):
                return bytes(self._content + data[start:end]), False
            self._content += data[start:end]
            self._at = end + (2 if ending == b"\r\n" else 1)


@dataclass(frozen=True, slots=True)
class _Head:
    """What the header of a response says."""

    status: int
    status_text: bytes
    reason: str
    length: int | None
    chunked: bool
    end: int
    """Where the body begins."""


def _read_head(data: bytes) -> _Head | None:
    """Read the header; return None while it is not whole."""
    at = _match(_BEFORE, data, 0).end()
    lines, end = _header(data, at)
    if end is None:
        _check_so_far(lines)
        return None
    match = _LINE.fullmatch(lines[0])
    if match is None or len(match[1]) > _MOST_DIGITS:
        raise Malformed
    length, chunked = _framing(lines[1:])
    return _Head(int(match[1]), match[1], (match[2] or b"").decode("latin-1"), length, chunked, end)


def _match(pattern: re.Pattern[bytes], data: bytes, at: int) -> re.Match[bytes]:
    match = pattern.match(data, at)
    if match is None:
        raise Malformed
    return match


def _header(data: bytes, at: int) -> tuple[list[bytes], int | None]:
    """The lines from `at` to the empty one, and where the body begins; None when the last line is not whole."""
    lines: list[bytes] = []
    headers = 0
    while (end := data.find(b"\n", at)) >= 0:
        line = data[at:end]
        at = end + 1
        if lines and line in (b"", b"\r"):
            return lines, at
        headers += bool(lines) and not line.startswith((b" ", b"\t"))
        lines.append(line)
        if headers > _MOST_HEADERS or len(lines) > _MOST_LINES:
            raise Malformed
    return [*lines, data[at:]], None


def _check_so_far(lines: list[bytes]) -> None:
    *whole, last = lines
    for number, line in enumerate(whole):
        pattern = _LINE if number == 0 else _HEADER
        if pattern.fullmatch(line) is None and not (number > 1 and _FOLDED.fullmatch(line)):
            raise Malformed
    pattern = _HEADER_SO_FAR if whole else _LINE_SO_FAR
    if pattern.fullmatch(last) is None and not (len(whole) > 1 and _FOLDED.fullmatch(last)):
        raise Malformed


def _framing(lines: list[bytes]) -> tuple[int | None, bool]:
    """What the headers say about the body: its length, and whether it comes in chunks."""
    headers: list[tuple[bytes, bytes]] = []
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is not None:
            headers.append((match[1].lower(), match[2].strip()))
        elif headers and _FOLDED.fullmatch(line):
            headers[-1] = headers[-1][0], headers[-1][1] + b" " + line.strip()
        else:
            raise Malformed
    lengths = [word.strip() for name, value in headers if name == b"content-length" for word in value.split(b",")]
    if not all(word.isdigit() and len(word) <= _MOST_DIGITS for word in lengths) or len(set(map(int, lengths))) > 1:
        raise Malformed
    codings = [
        word.strip().lower() for name, value in headers if name == b"transfer-encoding" for word in value.split(b",")
    ]
    if codings.count(b"chunked") > 1:
        raise Malformed
    return (int(lengths[0]) if lengths and not codings else None), codings[-1:] == [b"chunked"]
