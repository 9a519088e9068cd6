"""Whatever the lab shows of packets is true whether the servers see the client or, with `source`, the balancer."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from netns import balancer, experiments, programs
from netns.build import Lab
from netns.claims import report
from netns.demo import Tour
from netns.draw import WIDTH, Pen
from netns.errors import LabError
from netns.experiments.tls import PASSED
from netns.observe import Visitor
from netns.seeing.feed import feed, places_of
from netns.seeing.pcapng import Writer
from netns.seeing.picture import draw
from netns.seeing.record import names
from netns.seeing.trace import KINDS, trace
from netns.topology import SEED

pytestmark = pytest.mark.root

DESTINATION_ALONE, FULL_NAT = SEED.client.ipv4, SEED.balancer.ipv4
"""Each kind by whom the servers see."""


def configure(lab: Lab, sees: str, timeouts: str = "") -> None:
    """Have natlb run with the lessons' configuration, and their door for TLS."""
    defaults = f"defaults\n{timeouts}\n" if timeouts else ""
    text = balancer.configuration(lab.topology, lab.stats_socket)
    servers = "\n".join(f"    server {host.name} {host.ipv4}:{programs.TLS_PORT}" for host in lab.topology.servers)
    text += f"\nlisten https\n    bind *:{PASSED}\n{servers}\n"
    if sees == FULL_NAT:
        text = re.sub(r"(?m)^(backend nodes|listen https)$", rf"\1\n    source {FULL_NAT}", text)
    (lab.directory / "natlb.cfg").write_text(defaults + text)
    programs.stop(lab, "natlb")
    programs.start(lab, "natlb")


@pytest.fixture(scope="module")
def doors(lab: Lab) -> Lab:
    """The lab with all that experiments need, but for natlb."""
    for server in lab.topology.servers:
        lab.start_web(server.name)
    programs.start(lab, "tls")
    programs.start(lab, "haproxy")
    return lab


@pytest.fixture(scope="module", params=[DESTINATION_ALONE, FULL_NAT], ids=["destination alone", "full NAT"])
def sees(doors: Lab, request: pytest.FixtureRequest) -> Iterator[str]:
    """Whom the servers see; natlb runs."""
    configure(doors, request.param)
    yield request.param
    programs.stop(doors, "natlb")


SHOWN = {
    "opening": r"→ SYN 44\.2\.2\.2:8888 +→ SYN 44\.[34].*\n.*← SYN-ACK 44\.2\.2\.2:8888 +← SYN-ACK 44\.[34](.*\n)+"
    r".*It asked 44\.2\.2\.2:8888, and\s+44\.2\.2\.2:8888 answered\.",
    "walk": r"\nsource +(44\.1\.1\.1:\d+) +\1 +{sees}:\d+(.*\n)+✓ the destination was the VIP",
    "entry": r" INIT (.*\n)reply +44\.[34]\S+ +{sees}:\d+ (.*\n)+✓ the SYN has reached server[12]\n",
    "numbers": r"\nfrom +44\.1\.1\.1:\d+ +{sees}:\d+ ",
    "known": r"\nnatlb +8888 +{sees}:\d+ +nothing\n",
    "paths": r"\nnatlb ",
    "cache": r"\nnatlb ",
    "certificates": r"\nthrough natlb +server[12] ",
    "segments": r"→ SYN +→ SYN\n(.*\n)+server\d: ([1-9]\d+|\d) segments? from the client; it sent 0 RST\n",
    "restart": r"✓ the same connection goes on once more",
    "cost": r"natlb, layer 4 +\d+\.\d s ",
}
"""What an experiment prints in both kinds of NAT, besides claims; `silence` has a test of its own."""


def test_no_experiment_is_left_out() -> None:
    assert {*SHOWN, "silence"} == set(experiments.TABLE)


@pytest.mark.parametrize("name", SHOWN)
def test_an_experiment_shows_what_is_so(doors: Lab, sees: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    holds = report(Pen(), experiments.find(name).run(doors, Pen()))
    printed = capsys.readouterr().out
    assert holds, printed
    assert re.search(SHOWN[name].replace("{sees}", re.escape(sees)), printed), printed
    assert max(map(len, printed.splitlines())) <= WIDTH


def test_silence_is_ended_on_both_wires(doors: Lab, sees: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure(doors, sees, "    timeout client 1s\n    timeout server 1s")
    try:
        holds = report(Pen(), experiments.find("silence").run(doors, Pen()))
    finally:
        configure(doors, sees)
    printed = capsys.readouterr().out
    assert holds, printed
    assert re.search(r"→ SYN 44\.2\.2\.2:8888 +→ SYN 44\.[34]", printed), printed
    assert re.search(r"← RST 44\.2\.2\.2:8888\n", printed), printed
    assert re.search(r" {30}→ RST 44\.[34]", printed), printed


def test_whoever_has_no_door_for_tls_yet_is_told_what_opens_it(doors: Lab, sees: str) -> None:
    path = doors.directory / "natlb.cfg"
    path.write_text(path.read_text().replace(f"*:{PASSED}", f"*:{PASSED + 1}"))
    programs.stop(doors, "natlb")
    programs.start(doors, "natlb")
    try:
        with pytest.raises(LabError, match=rf"^\S.* {PASSED} is told by sudo scripts/lab\.sh .*lesson 7$"):
            list(experiments.find("certificates").run(doors, Pen()))
    finally:
        configure(doors, sees)


def test_of_a_walk_both_ends_are_claimed_that_were_rewritten(
    doors: Lab, sees: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(Pen(), experiments.find("walk").run(doors, Pen()))
    printed = " ".join(capsys.readouterr().out.split())
    of_full_nat = (
        "changes the source and the destination, the TTL",
        f"✓ the source was the client and is {FULL_NAT}:",
        "✓ the destination is the client again",
    )
    assert [words in printed for words in of_full_nat] == [sees == FULL_NAT] * 3


@pytest.mark.parametrize("packet", KINDS)
def test_what_is_explained_is_what_was_on_the_wire(
    doors: Lab, sees: str, packet: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert trace(doors, Pen(), [packet]) == 0, capfd.readouterr()
    printed = capfd.readouterr().out
    assert printed.count("✓") == 3
    assert re.search(rf"  reply +44\.[34]\S+ > {re.escape(sees)}:\d+ ", printed)


def seen_at(path: Path) -> list[str]:
    """At how many places each packet of a picture was seen."""
    told = next(iter(ElementTree.parse(path).getroot().iter("{http://www.w3.org/2000/svg}desc"))).text or ""
    return re.findall(r"seen at (\d)", told)


def test_a_picture_has_both_halves(doors: Lab, sees: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "connection.svg"
    assert draw(doors, Pen(), [str(path)]) == 0
    assert re.search(
        r": \d+ packets of 44\.1\.1\.1:\d+ > 44\.2\.2\.2:8888, served by server[12]\.", capsys.readouterr().out
    )
    assert set(seen_at(path)) == {"4"}
    assert f"{sees}:" in path.read_text()


def test_a_picture_of_a_file_is_of_one_that_was_captured_everywhere(doors: Lab, sees: str, tmp_path: Path) -> None:
    everywhere = [place for host in doors.topology.hosts for place in places_of(doors, host.name)]
    with feed(doors, everywhere, "tcp") as source:
        with Visitor(doors, doors.topology.balancer.port) as visitor:
            visitor.get()
        packets = source.rest()
        of_all = source.places
    of_balancer = [place for place in of_all if place.startswith("lb:")]
    files = {name: tmp_path / f"{name}.pcapng" for name in ("all", "lb")}
    for path, places in zip(files.values(), (of_all, of_balancer), strict=True):
        with path.open("wb") as file:
            writer = Writer(file, places, names(doors.topology))
            for at, place, frame in packets:
                if place in places:
                    writer.write(place, at, frame)
    picture = tmp_path / "from.svg"
    with pytest.raises(LabError, match=r"not captured at client:eth0, .* as in a file of `lab\.sh capture all`$"):
        draw(doors, Pen(), ["--from", str(files["lb"]), str(picture)])
    assert not picture.exists()
    assert draw(doors, Pen(), ["--from", str(files["all"]), str(picture)]) == 0
    assert set(seen_at(picture)) == {"4"}
    assert f"{sees}:" in picture.read_text()


def test_the_tour_can_be_made(doors: Lab, sees: str, capsys: pytest.CaptureFixture[str]) -> None:
    Tour(doors, Pen()).run()
    printed = " ".join(capsys.readouterr().out.split())
    assert f"{sees}|Data|44." in printed
    assert ("✓ they see the balancer's address, not the client's" in printed) == (sees == FULL_NAT)
    assert "all of them hold" in printed


def test_a_tour_of_its_own_lab_takes_full_nat_for_a_fault(
    doors: Lab, sees: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tour = Tour(doors, Pen())
    monkeypatch.setattr(tour, "_own", True)
    fault = pytest.raises(LabError, match="this does not hold: they see the client's own address")
    with fault if sees == FULL_NAT else contextlib.nullcontext():
        tour._requests()
