"""The two command lines, `natlb replay` and `natlb explain`: their words, and what a wrong one is answered with."""

import argparse
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from typing import Final

from natlb.arguments import Arguments, number
from natlb.core.flow import Endpoint
from natlb.core.packet import TCP, UDP
from natlb.digits import whole_number
from natlb.replay.scene import Interface, Scene

_PROTOCOLS: Final = {"tcp": TCP, "udp": UDP}

REPLAY: Final = "natlb replay"
EXPLAIN: Final = "natlb explain"

_SCENE: Final = """\
A live natlb looks at its machine. Here these words say how things stood
when the capture began; without them all servers are up, and nothing is
going on.
"""

_REPLAY: Final = """\
Let natlb's engine decide about every packet of a capture: no root, nothing of
the machine touched, and the same result each time. Tells what became of every
connection, and of every packet that was not simply sent on.
"""

_REPLAY_MORE: Final = """\
what is replayed:
  What came in. A capture at the balancer has most packets twice; what went out
  is told by the capture (tcpdump -i any, pcapng), or by being what natlb has
  just sent. Where there is both, the two are compared: a packet that looks like
  natlb's work and is not what was made here is told of as `different`.
  pcap and pcapng of Ethernet, raw IP, cooked (SLL, SLL2) and loopback can be
  read. FILE may be -, standard input.

exit status:
  0  done
  1  an error, told in one line
  2  done, and the capture has something of natlb's that was not made here

examples:
  tcpdump -i any -w cap.pcap          on the balancer, and then anywhere:
  natlb replay cap.pcap -f web.cfg
  natlb replay cap.pcap -f web.cfg -w sent.pcap --json
  natlb replay cap.pcap -f web.cfg --own 44.2.2.2/24 --down nodes/server1
"""

_EXPLAIN: Final = """\
Say what natlb does with one packet, and why: the `bind` that it came to, the
rules that were asked, the backend, the servers that were candidates and why the
others lost, the two tuples, and the bytes that are rewritten.
"""

_EXPLAIN_MORE: Final = """\
the packet:
  [tcp|udp] SOURCE DESTINATION   the first of a connection, made up
  FILE N                         number N of a capture, as Wireshark counts;
                                 those before it are replayed first

  SOURCE and DESTINATION are address and port: 44.1.1.1:40000, [fd44::1]:40000.

exit status:
  0  it is sent on, rewritten
  1  an error, told in one line
  2  it is dropped or refused, or answered by natlb itself
  3  it is none of natlb's, or one that is not decided about

examples:
  natlb explain -f web.cfg 44.1.1.1:40000 44.2.2.2:8888
  natlb explain -f web.cfg --down nodes/server1 44.1.1.1:40000 44.2.2.2:8888
  natlb explain -f web.cfg cap.pcap 17
"""


def replay() -> argparse.ArgumentParser:
    """Return the parser of `natlb replay`."""
    parser = _parser(REPLAY, _REPLAY, _REPLAY_MORE)
    parser.add_argument("capture", metavar="FILE", help="the capture")
    _configuration(parser)
    parser.add_argument("-w", dest="output", metavar="FILE", help="write what natlb sends to this pcap, as raw IP")
    parser.add_argument("--json", action="store_true", help="tell it as JSON, an object a line")
    parser.add_argument("-q", dest="quiet", action="store_true", help="tell the end alone, what it came to")
    _scene(parser)
    return parser


def explain() -> argparse.ArgumentParser:
    """Return the parser of `natlb explain`."""
    parser = _parser(EXPLAIN, _EXPLAIN, _EXPLAIN_MORE)
    parser.add_argument("packet", metavar="WORD", nargs="+", help="the packet, see below")
    _configuration(parser)
    parser.add_argument("--json", action="store_true", help="tell it as one JSON object")
    _scene(parser)
    return parser


@dataclass(frozen=True, slots=True)
class Made:
    """A packet to be made up."""

    source: Endpoint
    destination: Endpoint
    protocol: int


@dataclass(frozen=True, slots=True)
class Numbered:
    """A packet of a capture."""

    capture: str
    number: int


def packet(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Made | Numbered:
    """Return the packet that a command line means; end with a message where it means none."""
    given: list[str] = options.packet
    if len(given) == 2 and given[1].isascii() and given[1].isdigit():
        found = whole_number(given[1])
        if not found:
            parser.error(f"'{given[1]}' is not the number of a packet, 1 or more")
        return Numbered(given[0], found)
    protocol = "tcp"
    if given[0] in _PROTOCOLS:
        protocol, *given = given
    if len(given) != 2:
        parser.error("a packet is [tcp|udp] SOURCE DESTINATION, or FILE N")
    try:
        source, destination = map(_endpoint, given)
    except ValueError as error:
        parser.error(str(error))
    if len(source[0]) != len(destination[0]):
        parser.error(f"'{given[0]}' and '{given[1]}' are of different IP versions")
    return Made(source, destination, _PROTOCOLS[protocol])


def _endpoint(text: str) -> Endpoint:
    """Return the endpoint that a word is. Raises ValueError, with a message for its reader, if it is none."""
    address, colon, port = text.rpartition(":")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    elif ":" in address:
        colon = ""
    if not colon or not port.isascii() or not port.isdigit() or len(port) > 5 or not 0 < int(port) < 65536:
        raise ValueError(f"'{text}' is no address and port such as 44.1.1.1:40000 or [fd44::1]:40000")
    try:
        return ip_address(address).packed, int(port).to_bytes(2, "big")
    except ValueError as error:
        raise ValueError(f"'{address}' is no IP address") from error


def scene(options: argparse.Namespace) -> Scene:
    """Return what a command line says of the scene."""
    return Scene(
        tuple(options.own),
        tuple(options.down),
        tuple(options.drain),
        tuple(options.maint),
        tuple(options.weight),
        tuple(options.load),
        options.seed,
    )


def _parser(prog: str, description: str, epilog: str) -> argparse.ArgumentParser:
    return Arguments(
        prog=prog,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _configuration(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-f", dest="files", metavar="FILE|DIR", action="append", required=True, help="configuration; may be repeated"
    )


def _scene(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the scene", _SCENE)
    group.add_argument(
        "--own",
        metavar="ADDRESS[/LENGTH]",
        type=_interface,
        action="append",
        default=[],
        help="an address of the balancer, with the network that it has there; may be repeated. "
        "Without it, what is bound to * answers at any address",
    )
    for name, what in (("down", "has been found down"), ("drain", "is drained"), ("maint", "is in maintenance")):
        group.add_argument(
            f"--{name}", metavar="BACKEND/SERVER", type=_server, action="append", default=[], help=f"it {what}"
        )
    for name, read, what in (
        ("weight", _server_weight, "it has this weight"),
        ("load", _server_load, "it has so many connections already"),
    ):
        group.add_argument(f"--{name}", metavar="BACKEND/SERVER=N", type=read, action="append", default=[], help=what)
    group.add_argument(
        "--seed",
        metavar="N",
        type=_number,
        default=0,
        help="draw other numbers, where chance decides: `balance random`, and ports for full NAT",
    )


def _interface(text: str) -> Interface:
    try:
        return ip_interface(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is no address such as 44.2.2.2 or 44.2.2.2/24") from error


def _server(text: str) -> str:
    if text.count("/") != 1 or not all(text.split("/")):
        raise argparse.ArgumentTypeError(f"'{text}' is no server such as nodes/server1")
    return text


def _server_weight(text: str) -> tuple[str, int]:
    return _server_number(text, 256)


def _server_load(text: str) -> tuple[str, int]:
    return _server_number(text, 1_000_000)


def _server_number(text: str, most: int) -> tuple[str, int]:
    name, equals, written = text.rpartition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"'{text}' lacks a number: nodes/server1=5")
    found = number(written, f"a number from 0 to {most}", 0, most)
    return _server(name), found


def _number(text: str) -> int:
    return number(text, "a number, 0 or more")
