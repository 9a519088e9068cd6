"""HAProxy splits pictures and comments, on one connection."""

from netns import haproxy, programs
from netns.build import Lab
from netns.claims import Claim, Findings
from netns.errors import LabError
from netns.observe import Visitor

_WANTED = {"/pictures/1": "server1", "/comments/1": "server2", "/pictures/2": "server1", "/comments/2": "server2"}


def check(lab: Lab) -> Findings:
    """Ask for both, in turn, and for what the notes had before."""
    yield Claim(
        "HAProxy runs",
        saw=bool(programs.running(lab, "haproxy")),
        expected=True,
        remedy=lab.advice("start haproxy"),
    )
    with Visitor(lab, haproxy.PATHS) as visitor:
        for path, server in _WANTED.items():
            yield Claim(
                f"{path} is answered by {server}",
                saw=_answer(visitor, path),
                expected=server,
                remedy=f"look at {lab.directory / 'haproxy.cfg'}, then {lab.advice('restart haproxy')}",
            )
    with Visitor(lab, haproxy.PATHS) as visitor:
        yield Claim("/app2 works as before", saw="app2" in _answer(visitor, "/app2"), expected=True)


def _answer(visitor: Visitor, path: str) -> str:
    try:
        return visitor.ask(path)[0]
    except LabError as error:
        return str(error)
