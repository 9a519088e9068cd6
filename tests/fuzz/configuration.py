"""Configuration text: any bytes are answered, soon, by diagnostics with a place; and what is accepted can be run.

An input is a file. Whatever is said about it names a line that the file has, in characters that a terminal shows. What
is left of it without the lines that are refused is accepted, after a few rounds, and is put together as the daemon does
it: engine, rules, checks, and log lines. Then a client comes to each virtual address and has a short conversation with
its server. Nothing is sent anywhere: log lines are made and held against what a line is, and host names are looked up
in a small book.
"""

import re
import time
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from random import Random

from natlb.assembly import Assembly, assemble, check_settings, written
from natlb.config.keywords import TABLE
from natlb.config.model import Address, Config
from natlb.config.parser import Parsed, parse
from natlb.config.samples import CONVERTERS, FACTS
from natlb.core.packet import TCP, UDP
from natlb.core.verdict import Rewrite
from natlb.datapath.host import Endpoint
from natlb.journals import journal_for
from natlb.logs.journal import Journal
from natlb.logs.syslog import Origin, Target, render
from tests.fuzz.balancer import MACHINE
from tests.unit.config.grammar import ODD_WORDS
from tests.unit.config.test_mutations import damaged
from tests.unit.core import invariants
from tests.unit.core import packets as p

SLOWEST = 3.0
"""Seconds of the processor for reading a file, instrumented: ten times what the slowest took that was ever found."""

_FILE = "fuzzed.cfg"
_HOSTS = {"four.test": ["192.0.2.4"], "six.test": ["2001:db8::6"], "both.test": ["2001:db8::46", "192.0.2.46"]}
_SUMMARIES = ("Error(s) found in configuration file", "Fatal errors found in configuration")
"""What is said of no single line."""
_MOST_ROUNDS = 4
_MOST_ADDRESSES = 64
"""A range of ports is a virtual address for each: tens of thousands are put together in the time that they take."""
_CLIENTS = {4: ("198.51.100.7", 40000), 6: ("2001:db8:1::7", 40000)}
_ANY = {"0.0.0.0": "192.0.2.80", "::": "2001:db8::80"}
_LONG = 1e10


def check(data: bytes) -> None:
    """Read a file, and run what it says. Raises if anything about it is not right."""
    for _ in range(_MOST_ROUNDS):
        read = _read(data)
        if read.config is not None:
            if sum(len(each.binds) for each in read.config.frontends) <= _MOST_ADDRESSES:
                _run(read.config)
            return
        blamed = {each.location.line for each in read.diagnostics if each.severity == "ALERT" and each.location}
        lines = data.split(b"\n")
        data = b"\n".join(line for number, line in enumerate(lines, 1) if number not in blamed)


def _read(data: bytes) -> Parsed:
    """Read a file, and judge what is said about it."""
    began = time.process_time()
    read = parse([(_FILE, data)], {"HOME": "/root"}, _resolve)
    took = time.process_time() - began
    assert took < SLOWEST, f"reading took {took:.1f} s"
    lines = data.count(b"\n") + 1
    for each in read.diagnostics:
        if each.location is None:
            assert each.text.startswith(_SUMMARIES), f"no line is named: {each}"
        else:
            assert each.location.file == _FILE, each
            assert 1 <= each.location.line <= lines, each
        assert all(line.isprintable() for line in each.render(1).split("\n")), each
    is_refused = any(each.severity == "ALERT" for each in read.diagnostics)
    assert is_refused == (read.config is None), "what is refused has its reason, and what has none is not refused"
    return read


def words() -> list[str]:
    """Return words that mean something in a configuration."""
    syntax = " ".join(f"{section} {each.name} {each.syntax}" for (section, _), each in TABLE.items())
    return sorted({*re.findall(r"[\w.-]+", syntax), *ODD_WORDS, *CONVERTERS, *FACTS})


def mutate(data: bytes, most: int, seed: int) -> bytes:
    """Return a file with one damage more: to its bytes, words or lines."""
    random = Random(seed)
    if random.random() < 0.2:
        lines = data.split(b"\n")
        words = random.choice(lines).split()
        words[random.randrange(len(words) + 1) :] = [random.choice(ODD_WORDS).encode("utf-8", "surrogateescape")]
        lines.insert(random.randrange(len(lines) + 1), b"    " + b" ".join(words))
        return b"\n".join(lines)[:most]
    return damaged(data, random)[:most]


def _resolve(host: str) -> Sequence[Address]:
    if host not in _HOSTS:
        raise OSError(-2, "Name or service not known")
    return [ip_address(address) for address in _HOSTS[host]]


class _Unsent:
    """A sender of log lines that sends none."""

    def send(
        self, targets: Iterable[Target], origin: Origin, level: int, text: str, now: float, data: str = "-"
    ) -> None:
        for target in targets:
            line = render(target, origin, level, text, now, data)
            if line is not None:
                assert line.endswith(b"\n"), line
                assert b"\n" not in line[:-1], line
                assert len(line) <= target.length + 1, line

    def close(self) -> None:
        pass


def _run(config: Config) -> None:
    made = assemble(config, MACHINE, choose=Random(0).randrange)
    assert written(config).keys() == {f"{pool.name}/{name}" for pool in made.pools.values() for name in pool.servers}
    for backend in config.backends:
        for server in backend.servers:
            if server.check is not None:
                check_settings(backend, server, server.check)
    journal = journal_for(config, made.services)
    if journal is not None:
        journal.sender.close()
        journal.sender = _Unsent()  # type: ignore[assignment]
    for pool in made.pools.values():
        pool.begin(1000.0)
    for _, endpoint in made.addresses:
        _converse(made, journal, endpoint)
        _note(made, journal)
    invariants.check(made.engine)
    now = 1000.0
    for _ in range(1000):
        due = made.engine.next_timeout()
        if due is None:
            break
        assert due < now + _LONG, "something is due in centuries"
        now = max(now, due)
        made.engine.handle_timeout(now)
        _note(made, journal)
    assert len(made.engine) == 0, "time does not end everything"


def _converse(made: Assembly, journal: Journal | None, endpoint: Endpoint) -> None:
    """Let a client speak to a virtual address, and the server answer that it is led to, if it is."""
    address = _ANY.get(str(endpoint.address), str(endpoint.address))
    client, vip = _CLIENTS[endpoint.address.version], (address, endpoint.port)
    if endpoint.protocol == UDP:
        opening = p.datagram(client, vip, b"?")
    else:
        opening = p.segment(client, vip, p.SYN, seq=1000, options=b"\x02\x04\x05\xb4")
    if not isinstance(made.engine.handle_packet(opening, 1000.0), Rewrite):
        return
    _note(made, journal)
    seen, server = p.places(bytes(opening))
    if endpoint.protocol == UDP:
        made.engine.handle_packet(p.datagram(server, seen, b"!"), 1000.0)
        return
    assert endpoint.protocol == TCP
    for packet in (
        p.segment(server, seen, p.SYN | p.ACK, seq=5000, ack=1001),
        p.segment(client, vip, p.ACK, seq=1001, ack=5001),
        p.segment(client, vip, p.PSH | p.ACK, seq=1001, ack=5001, payload=b"hello"),
        p.segment(server, seen, p.FIN | p.ACK, seq=5001, ack=1006),
    ):
        made.engine.handle_packet(packet, 1000.5)
        _note(made, journal)


def _note(made: Assembly, journal: Journal | None) -> None:
    for event in iter(made.engine.next_event, None):
        if journal is not None:
            journal.record(event)
