"""A lab of its own for each test module.

Every test here runs real TCP stacks, a real NFQUEUE and a real natlb process in network namespaces made for it.
"""

import os
from collections.abc import Iterator
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


@pytest.fixture(scope="module")
def offloaded() -> Iterator[None]:
    """Have the kernel carry what it can, in all labs of a module: its tests have to hold whichever way packets take."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(OPTIONS, "--offload on")
        yield


@pytest.fixture(params=["ipv4", "ipv6"])
def vip(request: pytest.FixtureRequest) -> str:
    """The virtual address, in each family."""
    return VIPS[request.param]
