"""The connection that the lesson left open was ended at the balancer."""

from netns.build import Lab
from netns.claims import Claim, Findings
from netns.lessons.looks import curl, natlb_runs, table, vip


def check(lab: Lab) -> Findings:
    """Look at the table, and at who has noticed."""
    yield natlb_runs(lab)
    entries = [entry for entry in table(lab) if entry.client.startswith(f"{lab.topology.client.ipv4}:")]
    yield Claim(
        "no connection of the client's is open",
        saw=[f"{entry.client} is {entry.state}" for entry in entries if entry.state == "ESTABLISHED"],
        expected=[],
        remedy=lab.advice("ask show sess"),
    )
    yield Claim(
        "it was ended at the balancer: by nobody who sent a FIN or a RST",
        saw={entry.state for entry in entries} - {"BOTH_FIN", "TRANS"} or {"nothing of the kind"},
        expected={"SHUT"},
        remedy=f"begin anew: {lab.advice('lesson 4')}",
    )
    holding = [resident for resident in lab.residents() if "/dev/tcp/" in resident.command]
    yield Claim("the client's program has noticed, and has ended", saw=[each.command for each in holding], expected=[])
    yield Claim(
        "a new connection is as good as ever",
        saw=curl(lab, vip(lab)) in {server.name for server in lab.topology.servers},
        expected=True,
    )
