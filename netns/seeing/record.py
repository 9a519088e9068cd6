"""`lab.sh capture HOST`: what passes at some hosts, in a file that Wireshark opens.

It ends when there are enough packets, when the time is over, or with Ctrl-C, which is a good end as well. The file is
whole at any moment, so Wireshark can open it while it grows.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from netns.build import Lab, uninterrupted
from netns.draw import Pen
from netns.errors import LabError
from netns.numbers import counted
from netns.seeing.feed import Feed, Packet, feed, places_of
from netns.seeing.pcapng import Writer
from netns.seeing.words import Words, need, number, seconds
from netns.topology import Topology

ALL = "all"
_LOOK = 0.05
"""Seconds between two looks at what came."""


def capture(lab: Lab, _: Pen, words: Sequence[str]) -> int:
    """Capture packets into a file."""
    parser = _words()
    options = parser.parse_args(words)
    wanted = [host.name for host in lab.topology.hosts] if ALL in options.host else options.host
    try:
        places = list(dict.fromkeys(place for host in wanted for place in places_of(lab, host)))
    except LabError as error:
        parser.error(f"{error}, and {ALL}")
    need(lab)
    path = Path(options.file) if options.file else _free("-".join(dict.fromkeys(options.host)))
    try:
        with feed(lab, places, options.filter) as source, path.open("wb") as file:
            writer = Writer(file, source.places, names(lab.topology))
            print(f"Capturing at {', '.join(source.places)} into {path}; Ctrl-C ends it.", flush=True)
            written = _run(source, writer, options.packets, options.seconds)
    except OSError as error:
        raise LabError(f"{path}: {error.strerror}; -w names another file") from error
    print(f"{path}: {counted(written, 'packet')}.")
    return 0


def _words() -> Words:
    words = Words("capture", "Capture what passes at hosts, into a pcapng file with the hosts' names in it.")
    words.add_argument("host", metavar="HOST", nargs="+", help=f"client, lb, server1, server2, or {ALL} of them")
    words.add_argument("-w", dest="file", metavar="FILE", help="to write; it is replaced (HOST.pcapng, HOST-2.pcapng)")
    words.add_argument("--filter", metavar="EXPRESSION", default="", help="tcpdump's, such as 'tcp port 8888'")
    words.add_argument("--packets", type=number, default=10_000, metavar="N", help="end after so many (%(default)s)")
    words.add_argument("--seconds", type=seconds, default=3600.0, metavar="N", help="or after so long (%(default)g)")
    return words


def names(topology: Topology) -> Mapping[str, Sequence[str]]:
    """Return who has an address. One name each, as Wireshark shows one: the balancer's is `lb`."""
    return {address: [host.name] for host in topology.hosts for address in (host.ipv4, host.ipv6)}


def _run(source: Feed, writer: Writer, packets: int, seconds: float) -> int:
    """Write what comes until it is enough; return how many packets it was."""
    written = 0
    until = time.monotonic() + seconds

    def write(found: list[Packet]) -> None:
        nonlocal written
        for at, place, frame in found[: packets - written]:
            writer.write(place, at, frame)
            written += 1
        writer.flush()

    try:
        while written < packets and time.monotonic() < until:
            time.sleep(_LOOK)
            with uninterrupted():  # what was taken is written and counted
                write(source.in_order())
    except KeyboardInterrupt:
        print()
    write(source.rest())
    return written


def _free(stem: str) -> Path:
    """Name a file of the current directory that is not there yet."""
    number, path = 1, Path(f"{stem}.pcapng")
    while path.exists():
        number += 1
        path = Path(f"{stem}-{number}.pcapng")
    return path
