"""`lab.sh trace`: one packet's life in natlb, from parse to verdict, byte by byte, and whether it was really so.

The client makes a request. What passed the balancer is captured at all of its sides, and `natlb explain` says of one
packet of it what natlb's engine makes of it: the bind, the servers and why the others lost, the two tuples, the bytes
before and after, and how each checksum follows from the old one. The engine that explains is the one that balances, but
it is told the scene (which servers are down) and not the past: whose turn it is, for one. So the client asks until it
was the turn that an explanation from the beginning expects, and at the end the wire is asked: what left the balancer
has to be, byte for byte, what was explained.
"""

import csv
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from netns import balancer
from netns.build import Lab
from netns.claims import Claim, Findings, report
from netns.dissect import read
from netns.draw import Pen
from netns.errors import LabError
from netns.observe import Visitor
from netns.processes import PYTHON
from netns.seeing.feed import Packet, feed, places_of
from netns.seeing.pcapng import Writer
from netns.seeing.record import names
from netns.seeing.words import Words, need
from netns.walk import Sighting, of_connection

_SENT_ON = 0
_DIFFERENT = 2
"""What `natlb explain` and `natlb replay` end with."""

_SERVER = "2"
"""The type of a server's row in `show stat`."""

_SCENE = {"DOWN": "--down", "MAINT": "--maint", "DRAIN": "--drain"}
"""What natlb says of a server -> how an explanation is told so."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Which packet is traced."""

    about: str
    from_client: bool
    flags: str
    beginning: bytes = b""

    def fits(self, seen: Sighting) -> bool:
        """Whether a segment is one of these."""
        return self.flags in seen.flags and seen.payload.startswith(self.beginning)


KINDS: Mapping[str, Kind] = {
    "syn": Kind("the client's first packet", True, "S"),
    "syn-ack": Kind("the server's answer to it", False, "SA"),
    "request": Kind("the packet with the request", True, "P", b"GET "),
    "answer": Kind("the packet with the answer", False, "", b"HTTP/"),
    "fin": Kind("the client's last word", True, "F"),
}


def trace(lab: Lab, pen: Pen, words: Sequence[str]) -> int:
    """Trace a packet; 1 when natlb on the wire did something else."""
    options = _words().parse_args(words)
    need(lab)
    path = Path(options.file) if options.file else lab.new_file("trace", "pcapng")
    try:
        return 0 if report(pen, _traced(lab, KINDS[options.packet], path)) else 1
    finally:
        if not options.file:
            path.unlink(missing_ok=True)


def _words() -> Words:
    words = Words("trace", "Let the client make a request, and trace one packet of it through natlb.")
    about = ", ".join(f"{name} ({kind.about})" for name, kind in KINDS.items())
    words.add_argument(
        "packet", metavar="PACKET", nargs="?", default="syn", choices=KINDS, help=f"{about}; %(default)s"
    )
    words.add_argument("-w", dest="file", metavar="FILE", help="keep the capture, a pcapng that Wireshark opens")
    return words


def _traced(lab: Lab, kind: Kind, path: Path) -> Findings:
    scene = ["-f", str(lab.directory / "natlb.cfg"), *_scene(lab)]
    replayed = subprocess.CompletedProcess[str]([], _DIFFERENT, "", "")
    for _ in range(len(lab.topology.servers) + 1):
        packets, client = _captured(lab, path)
        replayed = _natlb("replay", [*scene, "-q", str(path)])
        if replayed.returncode != _DIFFERENT:
            break
    at, number, came = _find(lab, packets, client, kind)
    chosen = [str(path), str(number)]
    sys.stdout.flush()
    _natlb("explain", [*scene, *chosen], stdout=None)  # it finds out by itself whether there is a terminal
    told = json.loads(_natlb("explain", ["--json", *scene, *chosen]).stdout)
    yield f"\nAnd on the wire, at {lab.topology.balancer.name}, where it came in by {at}:\n"
    yield Claim(
        "natlb sent this packet on, as was explained",
        saw=told["fate"],
        expected="rewritten",
        remedy="read the explanation: it says why not",
    )
    explained = bytes.fromhex("".join(after for _, _, after in told["rows"]))
    left = _left(packets, at, came, explained)
    yield Claim(
        "what left is what was explained, byte for byte, but for the TTL, which a router lowers"
        " (and the IP checksum with it)",
        saw="nothing" if left is None else _masked(left).hex(),
        expected=_masked(explained).hex(),
        remedy=f"does natlb run with the configuration that was explained? {lab.advice('restart natlb')}",
    )
    yield Claim(
        "all that natlb sent in this connection is what its engine makes of what came",
        saw=(replayed.returncode, replayed.stderr.strip()),
        expected=(_SENT_ON, ""),
        remedy="natlb replay tells the first packet that differs",
    )


def _captured(lab: Lab, path: Path) -> tuple[list[Packet], str]:
    """Let the client make one request; return its connection's packets, as they passed the balancer, and its endpoint.

    They are written to a file, too. What else passes stays out: the balancer's own health checks, for one.
    """
    with feed(lab, places_of(lab, lab.topology.balancer.name), "ip and tcp") as source:
        with Visitor(lab, lab.topology.balancer.port) as visitor:
            visitor.get("/")
        passed = source.rest()
        places = source.places
    seen = [read(place, [(at, frame)], checksums=False) for at, place, frame in passed]
    mine = {each for _, each in of_connection(itertools.chain.from_iterable(seen), visitor.endpoint)}
    packets = [packet for packet, found in zip(passed, seen, strict=True) if mine.intersection(found)]
    try:
        with path.open("wb") as file:
            writer = Writer(file, places, names(lab.topology))
            for at, place, frame in packets:
                writer.write(place, at, frame)
    except OSError as error:
        raise LabError(f"{path}: {error.strerror}; -w names another file") from error
    return packets, visitor.endpoint


def _find(lab: Lab, packets: Sequence[Packet], client: str, kind: Kind) -> tuple[str, int, Sighting]:
    """Find the packet where it came in: the place, its number from 1, and how it looked; else LabError."""
    inner = f"{lab.topology.balancer.name}:{lab.topology.client.name}"
    seen = [read(place, [(at, frame)], checksums=False) for at, place, frame in packets]
    towards_server = {each: way for way, each in of_connection(itertools.chain.from_iterable(seen), client)}
    for number, found in enumerate(seen, 1):
        for each in found:
            if (each.place == inner) == kind.from_client == towards_server[each] and kind.fits(each):
                return each.place, number, each
    raise LabError(f"{kind.about} did not come to the balancer; {lab.advice('draw')} shows what did")


def _left(packets: Sequence[Packet], came_in_at: str, came: Sighting, explained: bytes) -> bytes | None:
    """Return the packet that left the balancer, from its IP header on; of several the one that was explained."""
    copies = []
    for at, place, frame in packets:
        if place != came_in_at and any(seen.identity == came.identity for seen in read(place, [(at, frame)])):
            parsed = Ether(frame)
            network = parsed.getlayer(IP) or parsed.getlayer(IPv6)
            length = network.len if IP in parsed else network.plen + 40
            copies.append(bytes(network)[:length])
    return next((copy for copy in copies if _masked(copy) == _masked(explained)), next(iter(copies), None))


def _masked(packet: bytes) -> bytes:
    """Zero the IPv4 packet's TTL and header checksum (RFC 791, section 3.1)."""
    return packet[:8] + b"\0" + packet[9:10] + b"\0\0" + packet[12:]


def _natlb(
    command: str, words: Sequence[str], *, stdout: int | None = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*PYTHON, "natlb", command, *words], stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, timeout=60
    )
    if done.returncode == 1:
        raise LabError(done.stderr.strip())
    return done


def _scene(lab: Lab) -> Iterator[str]:
    """Yield the options that say how natlb sees its servers now."""
    try:
        answer = balancer.ask(lab.stats_socket, "show stat")
    except OSError as error:
        raise LabError(f"natlb does not answer at {lab.stats_socket}: {error.strerror or error}") from error
    for row in csv.DictReader(answer.removeprefix("# ").splitlines()):
        how = _SCENE.get(row["status"].partition(" ")[0])
        if how and row["type"] == _SERVER:
            yield from (how, f"{row['pxname']}/{row['svname']}")
