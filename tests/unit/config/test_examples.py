"""HAProxy's own example configurations: what natlb accepts HAProxy accepts, and the rest is explained by name."""

import re
from pathlib import Path

import pytest

from .conftest import HAProxy, Reader

EXAMPLES = sorted(Path("/usr/share/doc/haproxy/examples").glob("*.cfg"))
"""As Debian's package of HAProxy brings them."""

_WHERE = re.compile(r"\[t\.cfg:(\d+)\]")
_NAMED = re.compile(r"'([^']+)'")


def test_the_examples_are_there() -> None:
    assert len(EXAMPLES) >= 5, "HAProxy's examples are not installed: scripts/setup.sh test"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_natlb_accepts_it_only_if_haproxy_does_and_names_what_it_refuses(
    read: Reader, haproxy: HAProxy, example: Path
) -> None:
    text = example.read_text()
    got = read(text)
    if got.parsed.config is not None:
        assert haproxy(text).accepted
        return
    lines = text.splitlines()
    for alert in got.alerts:
        number = int(_WHERE.search(alert)[1])  # type: ignore[index]
        words = [word for named in _NAMED.findall(alert) for word in re.split(r"[\s/]", named)]
        assert any(word in lines[number - 1] for word in words), f"{alert}\nsays nothing of: {lines[number - 1]}"
