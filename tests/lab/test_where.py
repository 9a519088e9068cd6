"""Where a packet's time goes, asked of a natlb at work: it tells of all stages, and works on as it did."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from netns.balancer import Natlb
from netns.bench import readings
from netns.build import Lab
from netns.topology import SEED
from tests.lab.support import shell, until

pytestmark = [
    pytest.mark.root,
    pytest.mark.in_userspace("it looks at what Python does with the packets of open connections"),
]

_WAY = ("receive", "parse", "lookup", "state", "rewrite", "verdict")
_TICKS = os.sysconf("SC_CLK_TCK")

_CONFIG = """\
global
    stats socket {socket} level admin
frontend www
    bind *:8888
    default_backend nodes
backend nodes
    server server1 44.3.3.3:4444
"""


@pytest.fixture
def natlb(lab: Lab) -> Iterator[Natlb]:
    """natlb at work, which ends well whatever was asked of it."""
    server = lab.start_web("server1")
    running = lab.start_natlb(_CONFIG.format(socket=lab.stats_socket))
    try:
        yield running
    finally:
        status = running.stop()
        server.stop()
    assert status == 0
    assert "internal error" not in running.log()
    assert "Traceback" not in running.log()


def load(lab: Lab, requests: int = 1500) -> None:
    """Ask for so many pages over one connection."""
    shell(lab, "client", f"curl -sSf 'http://{SEED.balancer.ipv4}:8888/[1-{requests}]' > /dev/null")


def spent(natlb: Natlb) -> float:
    """Seconds that natlb has worked."""
    return readings.process_ticks(Path(f"/proc/{natlb.process.pid}/stat").read_text()) / _TICKS


def carried(natlb: Natlb) -> int:
    found = re.search(r"^packets: (\d+)$", natlb.ask("show activity"), re.M)
    assert found
    return int(found[1])


@pytest.mark.busy
def test_under_load_every_stage_of_the_way_is_seen(lab: Lab, natlb: Natlb) -> None:
    packets, seconds = carried(natlb), spent(natlb)
    assert natlb.ask("set profiling packets on") == "\n"

    def all_seen() -> bool:
        load(lab)
        found = natlb.ask("show profiling packets")
        # On a fast machine, the kernel's ticks are too coarse for less.
        return spent(natlb) - seconds > 0.4 and all(re.search(rf"^  {stage} +[1-9]", found, re.M) for stage in _WAY)

    until(all_seen, "every stage is seen", 60)
    assert natlb.ask("set profiling packets off") == "\n"
    packets, seconds = carried(natlb) - packets, spent(natlb) - seconds
    found = readings.profiling(natlb.ask("show profiling"))
    assert found.packets == packets
    total = sum(stage.us for stage in found.stages.values())
    assert total * packets / 1e6 == pytest.approx(seconds, rel=0.2)
    # The kernel carries packets on within the call that gives the verdict, and fetches them in the one that receives.
    assert found.stages["verdict"].kernel_us > 0.1 * total
    # natlb's own work is taken together: of one stage alone there may be two samples, and a page fault be one of them.
    own = [found.stages[stage] for stage in ("parse", "lookup", "state", "rewrite")]
    assert sum(stage.kernel_us for stage in own) < 0.5 * sum(stage.us for stage in own)


def test_what_is_off_stays_as_it_was_and_natlb_goes_on(lab: Lab, natlb: Natlb) -> None:
    for _ in range(20):
        assert natlb.ask("set profiling packets on") == "\n"
        assert "    : on " in natlb.ask("show profiling status")
        load(lab, 20)
        assert natlb.ask("set profiling packets off") == "\n"
    assert "    : off " in natlb.ask("show profiling status")
    before = natlb.ask("show profiling packets")
    load(lab, 200)
    assert natlb.ask("show profiling packets") == before


def test_natlb_ends_well_while_it_looks(lab: Lab, natlb: Natlb) -> None:
    assert natlb.ask("set profiling packets on") == "\n"
    load(lab, 100)
    assert natlb.stop() == 0


def test_in_the_background_and_as_another_user_it_looks_as_well(lab: Lab, tmp_path: Path) -> None:
    server = lab.start_web("server1")
    config, pidfile = tmp_path / "natlb.cfg", tmp_path / "pid"
    config.write_text(_CONFIG.format(socket=lab.stats_socket) + "global\n    user nobody\n")
    started = lab.start_natlb(config, ["-D", "-p", str(pidfile)], wait=False)
    assert started.process.wait(20) == 0
    pid = int(pidfile.read_text())
    try:
        assert started.ask("set profiling packets on") == "\n"

        def seen() -> bool:
            load(lab, 300)
            return re.search(r"^  verdict +[1-9]", started.ask("show profiling"), re.M) is not None

        until(seen, "it has seen verdicts", 30)
    finally:
        os.kill(pid, 15)
        until(lambda: not Path(f"/proc/{pid}").exists(), "it has ended")
        server.stop()
