"""What the table is worth: an open connection while natlb is stopped, replaced and killed.

Stopped, natlb takes the table with it. The connection's next packet reaches the balancer's own TCP, which knows no such
connection and says so. Another natlb that takes its place (`-sf`) gets the table, and one that is started after it was
killed goes on with what is on record.
"""

import os
import signal

from netns import programs
from netns.build import Lab
from netns.claims import Claim, Findings
from netns.draw import Pen
from netns.errors import LabError
from netns.observe import Visitor
from netns.processes import every


def restart(lab: Lab, pen: Pen) -> Findings:
    """Restart natlb three times under an open connection: with a stop, handed over, and after a kill."""
    port = lab.topology.balancer.port
    programs.needed(lab, "natlb")
    yield pen.bold("Stopped and started (SIGTERM): the table is gone")
    with Visitor(lab, port, seconds=3) as visitor:
        before = _asked(visitor)
        programs.stop(lab, "natlb")
        programs.start(lab, "natlb")
        after = _asked(visitor)
        yield f"  before: {before}\n  after:  {after}"
    yield Claim(
        "the connection does not survive: the new natlb knows nothing of it", saw="reset" in after, expected=True
    )
    with Visitor(lab, port, seconds=3) as fresh:
        yield Claim("a new connection is as good as ever", saw=_asked(fresh).startswith("server"), expected=True)
    yield ""
    yield pen.bold("Replaced by another one (-sf, as at a reload): the table is handed over")
    with Visitor(lab, port, seconds=10) as visitor:
        before, old = _asked(visitor), programs.needed(lab, "natlb").pid
        programs.replace_natlb(lab)
        during = _asked(visitor)
        yield f"  before: {before}, by natlb {old}\n  after:  {during}, by natlb {programs.needed(lab, 'natlb').pid}"
        yield Claim("the open connection goes on, with the same server", saw=during, expected=before)
        yield Claim("by another natlb", saw=programs.needed(lab, "natlb").pid != old, expected=True)
        yield ""
        yield pen.bold("Killed and started (SIGKILL): the table is on record")
        os.kill(programs.needed(lab, "natlb").pid, signal.SIGKILL)
        _until_gone(lab)
        programs.start(lab, "natlb")
        after = _asked(visitor)
        yield f"  before: {during}\n  after:  {after}"
        yield Claim("the same connection goes on once more", saw=after, expected=before)


def _asked(visitor: Visitor) -> str:
    try:
        return f"{visitor.ask()[0]} answers"
    except LabError as error:
        return str(error).rpartition(": ")[2].rpartition("] ")[2].lower()


def _until_gone(lab: Lab) -> None:
    for _ in every(0.05, 10.0):
        if not programs.running(lab, "natlb"):
            return
    raise LabError("natlb goes on though it was killed")
