"""The wrong balancer chooses by the connection: downloads are complete, and both servers get some."""

from netns import programs, wrong
from netns.build import Lab
from netns.claims import Claim, Findings
from netns.experiments.segments import SIZE, download
from netns.lessons.looks import answers

_DOWNLOADS = 4
_CONNECTIONS = 24
"""All of them at one server by chance: once in eight million times."""


def check(lab: Lab) -> Findings:
    """Download several times, and open many connections."""
    yield Claim(
        "natlb is out of the way",
        saw=bool(programs.running(lab, "natlb")),
        expected=False,
        remedy=lab.advice("stop natlb"),
    )
    yield Claim(
        "the mended rules are loaded", saw=wrong.is_running(lab), expected=True, remedy=lab.advice("restart wrong")
    )
    for number in range(1, _DOWNLOADS + 1):
        received, why = download(lab)
        yield Claim(
            f"download {number} of {_DOWNLOADS} is complete",
            saw=f"{received} bytes{f', then {why}' if why else ''}",
            expected=f"{SIZE} bytes",
            remedy="which packets of a connection may choose differently from the others?",
        )
    yield Claim(
        f"{_CONNECTIONS} connections: both servers get some, and none fails",
        saw=set(answers(lab, _CONNECTIONS)),
        expected={server.name for server in lab.topology.servers},
    )
