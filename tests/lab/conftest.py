"""A lab of its own for each test module.

Every test here runs real TCP stacks, a real NFQUEUE and a real natlb process in network namespaces made for it.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import count

import pytest

from netns.balancer import OPTIONS
from netns.build import Lab
from netns.topology import SEED

_numbers = count()

VIPS = {"ipv4": SEED.balancer.ipv4, "ipv6": SEED.balancer.ipv6}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """An empty lab: hosts and links, nothing running."""
    with Lab(prefix=f"t{os.getpid()}-{next(_numbers)}-") as made:
        yield made


@pytest.fixture(scope="module")
def served(lab: Lab) -> Lab:
    """The lab with its servers and no natlb."""
    for server in lab.topology.servers:
        lab.start_web(server.name)
    return lab


@pytest.fixture(scope="module")
def balanced(lab: Lab) -> Lab:
    """A lab with both servers and natlb running, as the lessons have it."""
    lab.start_all()
    return lab


@contextmanager
def _offload(wish: str) -> Iterator[bool]:
    """Start every natlb with or without its fast path, whatever the environment says about that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(OPTIONS, f"{os.environ.get(OPTIONS, '')} --offload {wish}")
        yield True


@pytest.fixture(scope="module")
def offloaded() -> Iterator[None]:
    """Have the kernel carry what it can, in all labs of a module: its tests have to hold whichever way packets take."""
    with _offload("on"):
        yield


def _in_userspace(marked: pytest.Item | pytest.Module) -> AbstractContextManager[bool]:
    """Do what the marker `in_userspace` asks for where it stands; say whether it stands there."""
    for marker in marked.iter_markers("in_userspace"):
        [why] = marker.args
        assert why, "a reader wants to know what would be different"
        return _offload("off")
    return nullcontext(False)


@pytest.fixture(scope="module", autouse=True)
def _module_in_userspace(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have a module that is marked, and its fixtures, see every packet."""
    with _in_userspace(request.node):
        yield


@pytest.fixture(autouse=True)
def _test_in_userspace(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have a test that is marked, and its own fixtures, see every packet; a `natlb` that runs already is switched."""
    with _in_userspace(request.node) as marked:
        natlb = request.getfixturevalue("natlb") if marked and "natlb" in request.fixturenames else None
        carries = natlb is not None and natlb.ask("show offload").startswith("state: on\n")
        if carries:
            assert natlb.ask("set offload off") == "\n"
        yield
        if carries:
            assert natlb.ask("set offload on") == "\n"


@pytest.fixture(params=["ipv4", "ipv6"])
def vip(request: pytest.FixtureRequest) -> str:
    """The virtual address, in each family."""
    return VIPS[request.param]
