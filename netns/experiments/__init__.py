"""Experiments: something is done in the lab, watched on the wires, and drawn. `lab.sh see NAME` makes one.

Each is a generator of findings: pictures, sentences, and claims. None knows in advance what it will see: a number that
is shown was measured just then, and a sentence is chosen by what the captures hold. Where an experiment can be made
with different balancers, it is the same code for all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass

from netns.build import Lab
from netns.claims import Findings
from netns.draw import Pen
from netns.errors import LabError
from netns.experiments import connections, cost, entry, opening, segments, silence, state, tls, walk


@dataclass(frozen=True, slots=True)
class Experiment:
    """Something to see."""

    run: Callable[[Lab, Pen], Findings]
    about: str


TABLE = {
    "opening": Experiment(opening.opening, "a connection's first packets, at the client and at the servers"),
    "walk": Experiment(walk.walk, "one packet at the four places that it passes, and its answer"),
    "entry": Experiment(entry.entry, "the life of an entry in the NAT table"),
    "numbers": Experiment(connections.numbers, "sequence numbers at both ends: natlb, and a proxy"),
    "known": Experiment(connections.known, "what a server knows of its client"),
    "paths": Experiment(connections.paths, "two paths on one kept-alive connection"),
    "cache": Experiment(connections.cache, "how many of three equal requests reach a server"),
    "certificates": Experiment(tls.certificates, "whose certificate the client sees, and what the wire shows"),
    "segments": Experiment(segments.segments, "who gets which segment of a download"),
    "silence": Experiment(silence.silence, "how an idle connection ends"),
    "restart": Experiment(state.restart, "an open connection while natlb is stopped, replaced and killed"),
    "cost": Experiment(cost.cost, "CPU for a gigabyte and latency: layer 4 beside layer 7"),
}


def find(name: str) -> Experiment:
    """Find an experiment by its name; LabError names the choices."""
    if name not in TABLE:
        raise LabError(f"there is no experiment '{name}'; there are {', '.join(TABLE)}")
    return TABLE[name]
