"""The client sees a new certificate of server1's, and natlb was left alone."""

import os
from pathlib import Path

from netns import certificates, programs
from netns.build import Lab
from netns.claims import Claim, Findings
from netns.experiments.tls import PASSED
from netns.lessons.looks import natlb_runs
from netns.observe import Visitor


def check(lab: Lab) -> Findings:
    """Look at the certificates that the client is shown."""
    yield natlb_runs(lab)
    before = lab.directory / "server1-before.pem"
    yield Claim(
        "the lesson has kept the old certificate",
        saw=before.exists(),
        expected=True,
        remedy=f"begin anew: {lab.advice('lesson 7')}",
    )
    shown = {}
    for _ in lab.topology.servers:
        with Visitor(lab, PASSED, tls=True) as visitor:
            shown[visitor.ask()[0]] = certificates.fingerprint(visitor.certificate())
    yield Claim(
        "both servers answer with TLS",
        saw=set(shown),
        expected={server.name for server in lab.topology.servers},
        remedy=lab.advice("restart tls"),
    )
    yield Claim(
        "server1 shows another certificate than before",
        saw=shown["server1"] != certificates.fingerprint(certificates.of(before)),
        expected=True,
        remedy=lab.advice("hint 7"),
    )
    [natlb] = programs.running(lab, "natlb")
    new = (lab.directory / "server1.pem").stat().st_mtime
    yield Claim(
        "natlb was started before the new certificate was made, and runs since then",
        saw=_started(natlb.pid) < new,
        expected=True,
    )


def _started(pid: int) -> float:
    """When a process was started, in seconds since 1970 (proc(5): starttime, counted from the machine's own start)."""
    ticks = int(Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(") ")[2].split()[19])
    [booted] = [line for line in Path("/proc/stat").read_text("ascii").splitlines() if line.startswith("btime ")]
    return int(booted.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")
