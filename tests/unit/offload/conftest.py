"""A program to talk to, beside an engine, over IPv4 and over IPv6: it takes root."""

import os
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.unit.offload import kernel
from tests.unit.offload.lockstep import Lockstep


@pytest.fixture(scope="module")
def arena() -> Iterator[kernel.Arena]:
    """A network namespace, in which the tests of a module run. CI must not pass over what takes it."""
    done = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = f"cannot make a network namespace: {done.stderr.strip()}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with kernel.arena() as made:
        Lockstep.arena = made
        yield made


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def start(request: pytest.FixtureRequest, arena: kernel.Arena) -> Iterator[Callable[..., Lockstep]]:
    """Start a conversation with an engine that has the given settings, and with the program beside it."""
    started = []

    def begin(**settings: object) -> Lockstep:
        started.append(Lockstep(request.param, **settings))
        return started[-1]

    yield begin
    for each in started:
        each.close()


@pytest.fixture
def talk(start: Callable[..., Lockstep]) -> Lockstep:
    """A conversation with an engine as it is by default."""
    return start()
