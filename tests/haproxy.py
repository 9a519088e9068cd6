"""A real HAProxy, the oracle of many tests."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from netns.balancer import ask
from netns.build import Lab
from netns.processes import PATIENCE, Service, every


def program() -> str:
    """Return HAProxy's path. Where there is none the test is skipped; in CI it fails."""
    found = shutil.which("haproxy")
    if found is None:
        reason = "haproxy, the oracle, is not installed: scripts/setup.sh test"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@contextmanager
def running(text: str, stats: Path, *, log: Path | None = None, lab: Lab | None = None) -> Iterator[None]:
    """Have HAProxy up inside the block, with a configuration that has a stats socket at `stats`.

    What it says goes to `log`. It runs on the balancer of a lab, if there is one.
    """
    file = stats.with_name("haproxy.cfg")
    file.write_text(text)
    argv = [program(), "-db", "-f", str(file)]
    haproxy = Service(
        "haproxy", lab.command("lb", argv, names=False) if lab else argv, log or stats.with_name("haproxy.log")
    )
    try:
        _wait_for(haproxy, stats)
        yield
    finally:
        haproxy.kill()


def _wait_for(haproxy: Service, stats: Path) -> None:
    """Wait until HAProxy answers at its stats socket. That is there before; it answers once it listens everywhere."""
    for _ in every(0.02, PATIENCE):
        alive = haproxy.alive
        with suppress(OSError):
            if "\nUptime" in ask(stats, "show info", PATIENCE):
                return
        if not alive:
            break
    raise haproxy.failure("does not answer")
