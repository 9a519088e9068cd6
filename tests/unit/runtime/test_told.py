"""What operators do is told in the log: HAProxy, told to do it, says the same, to syslog and on standard error."""

import logging
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from natlb import log as natlbs
from natlb.log import NOTICE, log

from .daemons import Ask, haproxy, natlb

_CONFIG = """\
global
    nbthread 1
    log 127.0.0.1:{syslog} local0
{{sockets}}
defaults
    log global
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h
frontend www
    bind 127.0.0.1:{{port}}
    default_backend nodes
listen both
    bind 127.0.0.1:{{another}}
backend nodes
    balance roundrobin
    server server1 127.0.0.1:14444 weight 10
    server server2 127.0.0.1:14445
backend spare
    balance roundrobin
    server s1 127.0.0.1:14446 weight 2
    server s2 127.0.0.1:14446 backup
backend followed
    balance roundrobin
    server s1 127.0.0.1:{healthy} check inter 1h
    server t 127.0.0.1:14447 track s1
    server b 127.0.0.1:14448 backup track t
backend end
    server s1 127.0.0.1:14446
"""

_CONVERSATIONS = {
    "drained": """
        set server nodes/server1 state drain
        set server nodes/server1 state drain
        set server nodes/server2 state drain
        set server nodes/server2 state ready
        set server nodes/server2 state ready
        set server nodes/server1 state ready
    """,
    "drained, and in maintenance": """
        set server nodes/server1 state drain
        set server nodes/server1 state maint
        set server nodes/server1 state drain
        set server nodes/server1 state maint
        set server nodes/server1 state ready
        set server nodes/server2 state drain
        disable server nodes/server1
        set server nodes/server1 state drain
        enable server nodes/server1
        enable server nodes/server2
    """,
    "drained with another": """
        set server followed/s1 state drain
        set server followed/t state drain
        set server followed/s1 state ready
        set server followed/t state ready
        set server followed/t state drain
        set server followed/s1 state drain
        set server followed/s1 state ready
        set server followed/t state ready
        set server followed/b state drain
        set server followed/s1 state drain
        set server followed/s1 state ready
        set server followed/b state ready
        set server followed/s1 state drain
        set server followed/t state drain
        set server followed/t state ready
        set server followed/s1 state ready
    """,
    "drained with another, and down": """
        set server followed/s1 state drain
        set server followed/s1 health down
        set server followed/s1 health up
        set server followed/s1 health stopping
        set server followed/s1 state ready
        set server followed/t state drain
        set server followed/s1 health down
        set server followed/s1 health up
        set server followed/t state ready
    """,
    "drained with another, and in maintenance": """
        set server followed/s1 state drain
        set server followed/s1 state maint
        set server followed/s1 state ready
        set server followed/s1 state drain
        set server followed/t state maint
        set server followed/s1 state ready
        set server followed/t state ready
    """,
    "in maintenance": """
        disable server nodes/server1
        disable server nodes/server1
        disable server nodes/server2
        enable server nodes/server1
        enable server nodes/server1
        enable server nodes/server2
    """,
    "drained, and down": """
        set server nodes/server1 state drain
        set server nodes/server1 health down
        set server nodes/server1 health up
        set server nodes/server1 health stopping
        set server nodes/server1 health down
        set server nodes/server1 state ready
        set server nodes/server1 state drain
        set server nodes/server1 state ready
        set server nodes/server1 state maint
        set server nodes/server1 state ready
    """,
    "stopping": """
        set server nodes/server1 health stopping
        set server nodes/server1 health down
        set server nodes/server1 health up
        set server nodes/server2 health down
        set server nodes/server1 health stopping
        set server nodes/server1 health down
        set server nodes/server1 health up
    """,
    "weights": """
        set weight nodes/server1 0
        set weight nodes/server2 0
        set weight nodes/server2 0
        set weight nodes/server2 3
        set server nodes/server2 weight 0%
        set server nodes/server1 health down
        set server nodes/server2 state maint
        set server nodes/server2 state ready
        set server nodes/server2 state drain
        set server nodes/server2 state ready
        set server nodes/server2 weight 5
        set server nodes/server1 state maint
    """,
    "backups": """
        set server spare/s1 state drain
        set server spare/s2 state drain
        set server spare/s1 state ready
        set server spare/s2 state ready
        set weight spare/s1 0
        set weight spare/s2 0
        set weight spare/s1 1
        disable server spare/s2
    """,
    "frontends": """
        disable frontend www
        disable frontend www
        enable frontend www
        enable frontend www
        disable frontend both
        enable frontend both
        shutdown frontend www
        enable frontend www
    """,
    "servers that come and go": """
        add server nodes/new 127.0.0.1:9999
        enable server nodes/new
        set server nodes/new state drain
        disable server nodes/new
        del server nodes/server2
        del server nodes/new
    """,
    "what is no news": """
        set maxconn frontend www 5
        set maxconn server nodes/server1 7
        set weight nodes/server1 20
        set server nodes/server1 addr 127.0.0.2 port 9998
        clear counters all
    """,
}
_LAST = "set weight end/s1 0"
_TOLD_LAST = re.compile("backend '?end'? has no server available!")


class _Told(logging.Handler):
    """What natlb writes on standard error."""

    def __init__(self) -> None:
        super().__init__(NOTICE)
        self.setFormatter(natlbs._Layout())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@contextmanager
def _heard() -> Iterator[list[str]]:
    told, level = _Told(), log.level
    log.addHandler(told)
    log.setLevel(NOTICE)
    try:
        yield told.lines
    finally:
        log.removeHandler(told)
        log.setLevel(level)


@pytest.fixture
def syslog() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind(("127.0.0.1", 0))
        opened.settimeout(60)
        yield opened


@pytest.fixture
def healthy() -> Iterator[int]:
    """The port of a server that passes its checks."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def _lines(syslog: socket.socket) -> list[str]:
    """Return what has come about servers and proxies, up to the last, without dates and whose it is."""
    lines: list[str] = []
    while not lines or not _TOLD_LAST.search(lines[-1]):
        line = syslog.recv(9999).decode()
        lines.append(re.sub(r"^(<\d+>).* (?:natlb|haproxy)\[\d+\]: ", r"\1 ", line))
    return lines


def _on_standard_error(lines: list[str]) -> list[str]:
    """Return them without processes, without what HAProxy remembers of the last command, and up to the last one."""
    lines = [re.sub(r"\(\d+\) : (CLI : )?('server [^']*' : )?", ": ", line.rstrip("\n")) for line in lines]
    return lines[: next(number for number, line in enumerate(lines, 1) if _TOLD_LAST.search(line))]


@pytest.mark.parametrize("conversation", _CONVERSATIONS.values(), ids=_CONVERSATIONS)
def test_what_operators_do_is_told_as_haproxy_tells_it(
    conversation: str, syslog: socket.socket, healthy: int, tmp_path: Path
) -> None:
    commands = [line.strip() for line in conversation.strip().splitlines()]
    config = _CONFIG.format(syslog=syslog.getsockname()[1], healthy=healthy)

    def hold(ask: Ask) -> list[bytes]:
        return [ask("admin", f"{each}\n".encode()) for each in [*commands, _LAST]]

    errors = tmp_path / "errors"
    with haproxy(config, errors) as ask:
        replies, theirs = hold(ask), _lines(syslog)
        until = time.monotonic() + 60
        while not _TOLD_LAST.search(errors.read_text()) and time.monotonic() < until:
            time.sleep(0.01)
    with _heard() as heard:
        assert natlb(config, hold) == replies
        assert _lines(syslog) == theirs
    there = _on_standard_error(errors.read_text().splitlines())
    here = _on_standard_error([line for line in heard if "natlb is ready" not in line])
    assert here == there
