"""server1 gets no new connections, and keeps the one that it has."""

from netns.build import Lab
from netns.claims import Claim, Findings
from netns.lessons.looks import curl, natlb_runs, table, vip


def check(lab: Lab) -> Findings:
    """Look at the table and ask for pages."""
    yield natlb_runs(lab)
    yield Claim(
        "new connections all go to server2",
        saw={curl(lab, vip(lab)) for _ in range(4)},
        expected={"server2"},
        remedy=lab.advice("ask show stat") + " shows the states",
    )
    held = [entry for entry in table(lab) if entry.state == "ESTABLISHED"]
    yield Claim(
        "the connection with server1 is open and was not hurt",
        saw=sum(entry.server == "server1" for entry in held),
        expected=1,
        remedy=f"begin anew: {lab.advice('lesson 11')}",
    )
    holding = sum("/dev/tcp/" in resident.command for resident in lab.residents())
    yield Claim("the client still holds both connections", saw=holding, expected=2)
