"""A connection survives two seconds of silence, and does not last for ever."""

import time

from netns.build import Lab
from netns.claims import Claim, Findings
from netns.errors import LabError
from netns.lessons.looks import natlb_runs
from netns.observe import Visitor

_SURVIVES, _ENDS = 2.0, 6.0
"""Seconds."""


def check(lab: Lab) -> Findings:
    """Open two connections: one goes on after a while, the other never speaks again."""
    yield natlb_runs(lab)
    port = lab.topology.balancer.port
    with Visitor(lab, port) as talker, Visitor(lab, port) as silent:
        first = talker.ask()[0]
        silent.ask()
        began = time.monotonic()
        time.sleep(_SURVIVES)
        try:
            again = talker.ask()[0]
        except LabError as error:
            again = str(error)
        yield Claim(
            f"after {_SURVIVES:g} s of silence the connection goes on, with the same server",
            saw=again,
            expected=first,
            remedy=f"the timeouts in {lab.directory / 'natlb.cfg'}; then {lab.advice('restart natlb')}",
        )
        how = silent.closed_by_peer(_ENDS + 0.5 - (time.monotonic() - began))
        yield Claim(
            f"one that stays silent is ended within {_ENDS:g} s",
            saw={"RST": "ended by a RST", "FIN": "ended by a FIN", "": "still open"}[how],
            expected="ended by a RST",
        )
