"""An engine to talk to, over IPv4 and over IPv6."""

from collections.abc import Callable
from functools import partial

import pytest

from tests.unit.core.conversation import Conversation


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def start(request: pytest.FixtureRequest) -> Callable[..., Conversation]:
    """Start a conversation with an engine that has the given settings."""
    return partial(Conversation, request.param)


@pytest.fixture
def talk(start: Callable[..., Conversation]) -> Conversation:
    """A conversation with an engine as it is by default."""
    return start()
