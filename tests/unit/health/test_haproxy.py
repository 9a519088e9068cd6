"""HAProxy is the oracle: both check the same servers, some of them odd, and say the same of each.

One HAProxy and one `Checks` read the same configuration. For every kind of question and every kind of server the
columns of `show stat` are compared that health fills, once the server has been checked a few times.
"""

import asyncio
import csv
import io
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from natlb.assembly import check_settings
from natlb.config.parser import parse
from natlb.health import report
from natlb.health.checks import Checks
from natlb.health.report import Surroundings
from natlb.health.server import Cause, Operation, ServerHealth
from netns.balancer import ask
from tests.haproxy import running

from .servers import Behaviour, closed_port, saying, serving, silent_port

# Two programs, each with its own clock, have to be in time for the same servers.
pytestmark = pytest.mark.busy

HTTP = b"HTTP/1.1 200 OK\r\n"
BEHAVIOURS: dict[str, Behaviour] = {
    "ok": saying(b"HTTP/1.0 200 OK\r\n\r\n"),
    "ok_with_body": saying(HTTP + b"Content-Length: 5\r\n\r\nhello", then="hang"),
    "ok_in_pieces": saying(b"HTTP/1.0 2", 0.05, b"00 OK\r\n\r\nhel", 0.05, b"lo"),
    "redirect": saying(b"HTTP/1.0 302 Found\r\nLocation: /\r\n\r\n"),
    "not_found": saying(b"HTTP/1.0 404 Not Found\r\n\r\n"),
    "wrong": saying(b'HTTP/1.1 500 Internal, "Server" Error\r\nContent-Length: 2\r\n\r\nhi'),
    "no_reason": saying(b"HTTP/1.0 503\r\n\r\n"),
    "continue": saying(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
    "chunked": saying(HTTP + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n", then="hang"),
    "chunked_badly": saying(HTTP + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n", then="hang"),
    "truncated_line": saying(b"HTTP/1.0 200"),
    "truncated_header": saying(b"HTTP/1.0 200 OK\r\nFoo: b"),
    "truncated_body": saying(HTTP + b"Content-Length: 50\r\n\r\nhel"),
    "lonely_newlines": saying(b"\r\nHTTP/1.0 200 OK\nA: b\n\nhello"),
    "bad_length": saying(HTTP + b"Content-Length: x\r\n\r\nhello"),
    "bad_header": saying(HTTP + b"Foo bar: x\r\n\r\nhello"),
    "folded_header": saying(HTTP + b"Foo: x\r\n y\r\n\r\nhello"),
    "many_headers": saying(HTTP + b"".join(b"a%d: b\r\n" % number for number in range(100)) + b"\r\nhello"),
    "too_many_headers": saying(HTTP + b"".join(b"a%d: b\r\n" % number for number in range(101)) + b"\r\nhello"),
    "odd_status": saying(b"HTTP/1.0 99 Low\r\n\r\n"),
    "icap": saying(b"ICAP/1.0 200 OK\r\n\r\n"),
    "ssh": saying(b"SSH-2.0-foo\r\n", then="hang"),
    "html": saying(b"<html>hello"),
    "then_reset": saying(b"HTTP/1.0 200 OK\r\n\r\nhello", then="reset"),
    "header_only": saying(HTTP, then="hang"),
    "silent": saying(then="hang"),
    "closing": saying(),
    "resetting": saying(then="reset"),
    "resetting_unasked": saying(0.05, then="reset", first="talk"),
    "pong": saying(b"+PONG\r\n", first="talk"),
    "pong_in_pieces": saying(b"+PO", 0.05, b"NG\r\n", then="hang", first="talk"),
    "error": saying(b"-ERR odd\r\n", first="talk"),
    "error_waiting": saying(b"-ERR\r\n", then="hang", first="talk"),
}
QUESTIONS = {
    "connect": "",
    "tcp_check": "option tcp-check",
    "http": "option httpchk",
    "get": "option httpchk GET /x HTTP/1.1\nhttp-check send hdr Host a.test body {}\nhttp-check expect status 200",
    "body": "option httpchk GET /\nhttp-check expect string hello",
    "no_body": "option httpchk GET /\nhttp-check expect ! rstring hel+o",
    "logged": "option httpchk\noption log-health-checks",
    "logged_script": "option log-health-checks\noption tcp-check\ntcp-check expect string +PONG",
    "head": "option httpchk HEAD /\nhttp-check expect rstatus ^[23]",
    "disabled_by_404": "option httpchk\nhttp-check disable-on-404\nhttp-check expect ! rstatus ^5",
    "http_words": "option httpchk\nhttp-check expect status 200 on-error 'not so good' "
    "on-success fine comment 'the page'",
    "send": "option tcp-check\ntcp-check send PING\\r\\n",
    "ping": "option tcp-check\ntcp-check send PING\\r\\n comment asking\ntcp-check expect string +PONG",
    "listen": "option tcp-check\ntcp-check connect\ntcp-check comment 'a b'\ntcp-check expect ! string ERR",
    "regex": "option tcp-check\ntcp-check expect rstring ^\\+PO on-error bad on-success good ok-status L4OK "
    "error-status L7STS tout-status L4TOUT",
    "binary": "option tcp-check\ntcp-check expect min-recv 4 binary 2b504f\ntcp-check expect rbinary ^2B50.*0D0A$",
    "several": "option tcp-check\ntcp-check expect ! rstring ^.ERR\ntcp-check expect string PO\n"
    "tcp-check send QUIT\\r\\n",
    "impatient": "timeout check 500ms\noption tcp-check\ntcp-check expect string PONG comment 'come on'",
    "again": "option tcp-check\ntcp-check connect\ntcp-check connect linger\ntcp-check send x",
}
COMPARED = (
    "status",
    "check_status",
    "check_code",
    "check_desc",
    "last_chk",
    "check_rise",
    "check_fall",
    "check_health",
)
TIMED = "check_duration"
ROUNDS = 3.0
"""Seconds in which both have checked each server often enough to have made up their minds."""


def configuration(question: str, ports: Mapping[str, int], stats: Path) -> str:
    lines = [
        "global",
        f"    stats socket {stats}",
        "defaults",
        "    timeout connect 1s",
        "    timeout server 1s",
        "backend b",
    ]
    lines += [f"    {line}" for line in question.splitlines()]
    lines += [f"    server {name} 127.0.0.1:{port} check inter 300ms" for name, port in ports.items()]
    return "\n".join([*lines, ""])


class Watched:
    """What was seen of each server when no check of it was going on."""

    def __init__(self) -> None:
        self.rows: dict[str, Mapping[str, object]] = {}
        self.shortest: dict[str, int] = {}
        """Milliseconds of the shortest check that came to the same."""
        self.lines: set[str] = set()
        """The log, without what depends on the moment: process, times and how many others are up."""

    def hear(self, line: str) -> None:
        said = re.sub(r"^\[\w+\] +\(\d+\) : ", "", line)
        if " server b/" in said or "Server b/" in said:
            self.lines.add(re.sub(r"\d+ active|\d+ms", "some", said))

    def see(self, name: str, row: Mapping[str, object]) -> None:
        if not str(row.get("check_status", "")).startswith(("* ", "INI")):
            before = self.rows.get(name)
            took = int(str(row.get(TIMED) or 0))
            if before is not None and before["check_status"] == row["check_status"]:
                took = min(took, self.shortest[name])  # others keep the machine busy at times
            self.shortest[name] = took
            self.rows[name] = row

    def of(self, name: str) -> dict[str, str]:
        return {column: str(self.rows[name].get(column, "")) for column in COMPARED}


async def watch_haproxy(text: str, directory: Path) -> Watched:
    seen = Watched()
    with ExitStack() as stack:
        # In a thread: the servers, which it checks as soon as it is up, are in this one.
        await asyncio.to_thread(stack.enter_context, running(text, directory / "s", log=directory / "log"))
        for _ in range(int(ROUNDS / 0.05)):
            await asyncio.sleep(0.05)
            table = await asyncio.to_thread(ask, directory / "s", "show stat", 60)
            for row in csv.DictReader(io.StringIO(table.removeprefix("# "))):
                seen.see(row["svname"], row)
    for line in (directory / "log").read_text().splitlines():
        seen.hear(line)
    return seen


async def watch_natlb(text: str) -> Watched:
    config = parse([("c", text.encode())], {}).config
    assert config is not None
    seen = Watched()
    (backend,) = config.backends
    told = backend.log_health_checks

    def on_change(health: ServerHealth, cause: Cause, before: Operation) -> None:
        around = Surroundings(backup=False, active=0, backups=0, live=0)
        seen.hear(report.of_change(health, cause, before, around, told_of_check=told))

    def on_report(health: ServerHealth) -> None:
        if told:
            seen.hear(report.of_check(health, backup=False))

    checks = Checks(on_change, on_report)
    for server in backend.servers:
        assert server.check is not None
        checks.add(f"b/{server.name}", check_settings(backend, server, server.check))
    for _ in range(int(ROUNDS / 0.05)):
        await asyncio.sleep(0.05)
        for health in checks:
            seen.see(health.name.removeprefix("b/"), {"status": health.status(), **health.columns(0.0)})
    await checks.close()
    return seen


async def compare(question: str, directory: Path) -> None:
    with closed_port() as closed, silent_port() as mute:
        async with serving(BEHAVIOURS) as ports:
            ports |= {"nobody": closed, "mute": mute}
            text = configuration(question, ports, directory / "s")
            theirs, ours = await asyncio.gather(watch_haproxy(text, directory), watch_natlb(text))
    differences = {name: (ours.of(name), theirs.of(name)) for name in ports if ours.of(name) != theirs.of(name)}
    assert not differences, "\n".join(f"{name}: {both}" for name, both in differences.items())
    assert ours.lines == theirs.lines
    for name in ports:
        assert abs(ours.shortest[name] - theirs.shortest[name]) < 100, name


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_both_say_the_same_of_every_server(question: str, tmp_path: Path) -> None:
    asyncio.run(compare(question, tmp_path))
