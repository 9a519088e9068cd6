"""Of eight connections server1 gets six."""

from collections import Counter

from netns.build import Lab
from netns.claims import Claim, Findings
from netns.lessons.looks import answers, natlb_runs


def check(lab: Lab) -> Findings:
    """Open eight connections, and eight again."""
    yield natlb_runs(lab)
    for _ in range(2):
        yield Claim(
            "of eight connections server1 gets six, and server2 two",
            saw=dict(sorted(Counter(answers(lab, 8)).items())),
            expected={"server1": 6, "server2": 2},
            remedy=f"the weights in {lab.directory / 'natlb.cfg'}; then {lab.advice('restart natlb')}",
        )
