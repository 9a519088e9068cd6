"""natlb with a mistake, to see that a soak finds it: `wrong_natlb.py forget|alter [what natlb takes]...`.

forget    one in some hundred packets of established connections is the last one that natlb remembers them by
alter     one in some hundred segments has two words of its data exchanged, which no checksum shows
"""

import itertools
import sys
from typing import Any

from natlb import cli
from natlb.core.engine import NatEngine
from natlb.core.events import EndReason
from natlb.core.packet import TCP
from natlb.core.states import State
from natlb.core.verdict import Rewrite

EVERY = 300

_rightly = NatEngine.handle_packet
_packets = itertools.count(1)


def forget(engine: NatEngine, packet: bytearray, now: float, unfinished: bool = False) -> Any:
    verdict = _rightly(engine, packet, now, unfinished)
    if next(_packets) % EVERY == 0:
        established = (each for each in engine.connections() if each.state is State.ESTABLISHED)
        if (connection := next(established, None)) is not None:
            engine.lifecycle.end(connection, EndReason.FINISHED, now)
    return verdict


def alter(engine: NatEngine, packet: bytearray, now: float, unfinished: bool = False) -> Any:
    verdict = _rightly(engine, packet, now, unfinished)
    ip = 20 if packet[0] >> 4 == 4 else 40
    protocol = packet[9] if ip == 20 else packet[6]
    if isinstance(verdict, Rewrite) and protocol == TCP and len(packet) > ip + 20:
        data = ip + (packet[ip + 12] >> 4) * 4
        words = packet[data : data + 2], packet[data + 2 : data + 4]
        if len(packet) >= data + 4 and words[0] != words[1] and next(_packets) % EVERY == 0:
            packet[data : data + 4] = words[1] + words[0]
    return verdict


if __name__ == "__main__":
    NatEngine.handle_packet = {"forget": forget, "alter": alter}[sys.argv.pop(1)]  # type: ignore[method-assign]
    cli.run()
