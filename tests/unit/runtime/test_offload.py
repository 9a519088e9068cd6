"""The commands about the fast path."""

from dataclasses import dataclass, field

import pytest

from natlb.errors import OffloadError
from natlb.runtime.language import Level
from natlb.runtime.running import Running

from .consoles import answer


@dataclass
class Switch:
    """A fast path that does as it is told, or says what it lacks."""

    lacking: str = "it was not asked for"
    missing: str = ""
    interfaces: int = 3
    offloaded: int = 2
    capacity: int = 100
    refused: int = 1
    translated: int = 4
    packets: int = 70
    audited: int = 9
    differences: int = 0
    switched: list[bool] = field(default_factory=list)

    @property
    def is_on(self) -> bool:
        return not self.lacking

    async def switch(self, *, on: bool) -> None:
        if self.missing:
            raise OffloadError(self.missing)
        self.switched.append(on)
        self.lacking = "" if on else "it was switched off"


@pytest.fixture
def switch(running: Running) -> Switch:
    running.offloader = made = Switch()
    return made


def test_it_says_whether_it_is_on_and_what_it_has_done(running: Running, switch: Switch) -> None:
    counts = (
        "interfaces: 3\nconnections: 2\nconnections_limit: 100\nno_room: 1\ntranslated: 4\npackets: 70\naudited: 9\n"
        "differences: 0\n"
    )
    assert answer(running, "show offload", Level.USER) == f"state: off\nreason: it was not asked for\n{counts}"
    switch.lacking = ""
    assert answer(running, "show offload", Level.USER) == f"state: on\n{counts}"


def test_it_is_switched_on_and_off(running: Running, switch: Switch) -> None:
    assert answer(running, "set offload on") == ""
    assert switch.is_on
    assert answer(running, "set offload off") == ""
    assert not switch.is_on
    assert switch.switched == [True, False]


def test_it_says_what_is_lacking(running: Running, switch: Switch) -> None:
    switch.missing = "libbpf is not installed: 'apt install libbpf1'"
    assert answer(running, "set offload on") == f"The kernel carries no packets: {switch.missing}\n"


@pytest.mark.parametrize("line", ["set offload", "set offload maybe", "set offload on off"])
def test_it_wants_to_know_what_to_do(running: Running, switch: Switch, line: str) -> None:
    assert answer(running, line) == "'set offload' expects 'on' or 'off'.\n"
    assert not switch.switched


def test_only_an_admin_may_switch_it(running: Running, switch: Switch) -> None:
    assert answer(running, "set offload on", Level.OPERATOR) == "Permission denied\n"
    assert not switch.switched
