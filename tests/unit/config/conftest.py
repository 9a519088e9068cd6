"""What the tests of the configuration share: a way to read a text, and HAProxy itself as the oracle."""

import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from natlb.config.model import Address, Config
from natlb.config.parser import Parsed, parse
from tests.haproxy import program

HOSTS = {
    "four.test": ["192.0.2.4"],
    "six.test": ["2001:db8::6"],
    "both.test": ["2001:db8::46", "192.0.2.46"],
    "none.test": [],
    "localhost": ["127.0.0.1"],
}


def resolve(host: str) -> Sequence[Address]:
    """A resolver that asks nobody."""
    if host not in HOSTS:
        raise OSError(-2, "Name or service not known")
    return [ip_address(address) for address in HOSTS[host]]


@dataclass(frozen=True)
class Read:
    """A configuration text, read."""

    parsed: Parsed

    @property
    def config(self) -> Config:
        assert self.parsed.config is not None, self.lines
        return self.parsed.config

    @property
    def lines(self) -> list[str]:
        """All that was said, as printed by process 1."""
        return [diagnostic.render(1) for diagnostic in self.parsed.diagnostics]

    def said(self, severity: str) -> list[str]:
        """The texts of that severity with their locations, less the two summaries."""
        start = f"[{severity}]"
        texts = [line.partition(" : config : ")[2] for line in self.lines if line.startswith(start)]
        return [text for text in texts if not text.startswith(("Error(s) found", "Fatal errors found"))]

    @property
    def alerts(self) -> list[str]:
        return self.said("ALERT")

    @property
    def warnings(self) -> list[str]:
        """All warnings but those of missing timeouts, which most short examples have."""
        return [text for text in self.said("WARNING") if "missing timeouts" not in text]


Reader = Callable[..., Read]


@pytest.fixture(scope="session")
def read() -> Reader:
    def reader(text: str | bytes, environ: Mapping[str, str] | None = None) -> Read:
        data = text.encode() if isinstance(text, str) else text
        return Read(parse([("t.cfg", data)], environ or {}, resolve))

    return reader


@dataclass(frozen=True)
class Verdict:
    """What HAProxy says of a configuration."""

    status: int
    output: str

    @property
    def accepted(self) -> bool:
        return self.status in (0, 2)  # 2: valid, with nothing to listen on


HAProxy = Callable[..., Verdict]
"""Called with a configuration and further arguments for the command line."""


UNVERIFIED = "global\n    httpclient.ssl.verify none\n"
"""A second file for HAProxy, with which it does not read all certificates that the machine trusts, for an HTTP client
of its own that nobody uses here: that takes it 50 ms, and everything else 5."""


@pytest.fixture(scope="session")
def haproxy(tmp_path_factory: pytest.TempPathFactory) -> HAProxy:
    found = program()
    directory = tmp_path_factory.mktemp("haproxy")
    unverified = directory / "unverified.cfg"
    unverified.write_text(UNVERIFIED)

    def check(text: str | bytes, *arguments: str) -> Verdict:
        path = directory / str(threading.get_ident()) / "t.cfg"  # several threads may ask at a time
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        done = subprocess.run(
            [found, "-c", *arguments, "-f", path.name, "-f", unverified],
            cwd=path.parent,
            capture_output=True,
            timeout=30,
            check=False,
        )
        return Verdict(done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace"))

    return check
