"""tcpdump at one place of the lab: from "it listens" to "every packet is in the file", nothing lost at either end.

The two ends are where home-made captures go wrong. A capture has begun when tcpdump says so, not when it was started;
and a packet that the kernel has queued for tcpdump is lost when tcpdump is stopped before it read it. So starting waits
for the words `listening on`, packets are handed over at once (`--immediate-mode`) and written at once (`-U`), and
stopping waits until the file has ceased to grow while tcpdump had nothing to do. On a busy machine it may not grow
because tcpdump has to wait for a processor.
"""

import re
import signal
import struct
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from netns.errors import LabError
from netns.numbers import counted
from netns.processes import Service, every

_GLOBAL_HEADER = 24
_RECORD_HEADER = struct.Struct("=IIII")
_MAGIC = 0xA1B2C3D4


LONGEST = 66_000
"""Bytes of the longest packet that there is, with its link's header: up to 64 KB of a stream stay in one piece."""

LONGEST_ON_A_WIRE = 10_000
"""The same where none comes in one piece that the link would not take: with room for jumbo frames."""


class Capture:
    """A capture that runs from its making to `stop`; also a context manager."""

    def __init__(
        self,
        enter: Sequence[str],
        place: str,
        interface: str,
        expression: str,
        path: Path,
        *,
        wait: bool = True,
        longest: int = LONGEST,
    ) -> None:
        """`enter` is the command that enters the namespace; `expression` is tcpdump's filter ("" for everything).

        Whoever does not `wait` calls `begin` before the first packet: so several captures can start at the same time.
        The kernel's buffer has room for 32 MB of packets that are all as long as the `longest`, in bytes, however short
        they are: 500, or as many more as that is shorter. With a longer one the capture cannot be read.
        """
        self.place = place
        self.path = path
        sizes = ["-s", str(longest), "-B", "32768"]
        # -Z root: on some systems tcpdump changes to a user of its own, who could not write here.
        options = ["-i", interface, "-n", "-U", "--immediate-mode", *sizes, "-Z", "root", "-w", str(path)]
        argv = [*enter, "tcpdump", *options, *([expression] if expression else [])]
        # Its messages go to a pipe: on Ubuntu, AppArmor lets tcpdump write to no file but its pcap.
        self._tcpdump = Service(f"tcpdump at {place}", argv)
        if wait:
            self.begin()

    def begin(self) -> None:
        """Return once it captures."""
        try:
            self._tcpdump.wait_for("listening on")
        except BaseException:
            self._tcpdump.kill()
            raise

    @property
    def size(self) -> int:
        """Bytes that its file has so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def behind(self) -> bool:
        """Whether tcpdump has something to write."""
        return self._tcpdump.busy

    def settle(self, quiet: float = 0.15, seconds: float = 10.0) -> None:
        """Return once nothing has come for `quiet` seconds."""
        settle([self], quiet, seconds)

    def stop(self, *, settled: bool = False) -> None:
        """Stop it; LabError when the kernel had to drop packets, since then the capture proves nothing.

        With `settled` the caller has waited already for what it wants to see.
        """
        if not self._tcpdump.alive:
            return
        if not settled:
            self.settle()
        self._tcpdump.stop(signum=signal.SIGINT)
        lost = re.search(r"(\d+) packets? dropped by kernel", self._tcpdump.log())
        if lost and int(lost[1]):
            missing = counted(int(lost[1]), "packet")
            raise LabError(f"the capture at {self.place} is not complete: the kernel dropped {missing}")

    def kill(self) -> None:
        """End it at once, whatever it has not written yet."""
        self._tcpdump.kill()

    def remove(self) -> None:
        """Remove its file."""
        self.path.unlink(missing_ok=True)

    def packets(self) -> list[tuple[float, bytes]]:
        """Time and bytes (from the Ethernet header on) of every packet so far."""
        return read_pcap(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.stop()
        else:
            self._tcpdump.kill()


def settle(captures: Sequence[Capture], quiet: float = 0.15, seconds: float = 10.0) -> None:
    """Return once nothing has come to any of them for `quiet` seconds."""
    size, still = -1, 0
    for _ in every(0.03, seconds):
        behind = any(capture.behind for capture in captures)
        before, size = size, sum(capture.size for capture in captures)
        still = still + 1 if size == before and not behind else 0
        if still * 0.03 >= quiet:
            return


def read_pcap(path: Path) -> list[tuple[float, bytes]]:
    """Read a pcap as tcpdump writes it on this machine; a record that is not complete yet is left out.

    LabError when it is another kind of file, or has a packet that was cut short.
    """
    data = path.read_bytes()
    if len(data) < _GLOBAL_HEADER:
        return []
    if struct.unpack_from("=I", data)[0] != _MAGIC:
        raise LabError(f"{path} is not a pcap file of this machine")
    packets = []
    at = _GLOBAL_HEADER
    while at + _RECORD_HEADER.size <= len(data):
        seconds, micros, length, whole = _RECORD_HEADER.unpack_from(data, at)
        if length < whole:
            raise LabError(f"{path} has no more than {length} of {whole} bytes of a packet")
        at += _RECORD_HEADER.size
        if at + length > len(data):
            break
        packets.append((seconds + micros / 1e6, data[at : at + length]))
        at += length
    return packets
