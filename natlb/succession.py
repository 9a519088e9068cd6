"""What the next natlb takes over from this one, and this one from the one before: told, and made to work.

`natlb.handover` is the file, `natlb.core` what a connection is. Here stands what else follows from it: what is said in
the log, and which packets have to be diverted for connections that the configuration has no more.
"""

import time
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from natlb.assembly import Assembly
from natlb.core.flow import Connection, ends
from natlb.core.wording import counted
from natlb.datapath.host import Address, Endpoint
from natlb.errors import HandoverError
from natlb.handover.statefile import DEFAULT_DIRECTORY, Restored, StateFile
from natlb.log import log, notice

OFF: Final = "off"
"""The word for no state."""


class Succession:
    """The state of one engine, in a file if there is one."""

    def __init__(self, made: Assembly, queue: int, directory: str = DEFAULT_DIRECTORY) -> None:
        """Find a place for the file of a queue in a directory; "off" is none. One warning says so if there is none."""
        self._made = made
        self._file: StateFile | None = None
        self.addresses: list[Endpoint] = []
        """Virtual addresses of retired connections, that the configuration has no more."""
        self.origins: dict[Endpoint, set[Address]] = {}
        """Where the answers to retired connections come from, and what full NAT speaks to there."""
        if directory != OFF:
            try:
                self._file = StateFile.open(directory, queue)
            except HandoverError as error:
                log.warning("%s", error)

    def prepare(self) -> None:
        """Go on with what the natlb before has on record so far, which is still at work: see `StateFile.prepare`."""
        if self._file is not None:
            made = self._made
            early = self._file.prepare(made.engine, made.services, made.pools, time.monotonic(), log.warning)
            self._divert(early)

    def restore(self) -> Restored | None:
        """Go on with what the natlb before has left, if it has left anything; the queue must be held."""
        if self._file is None:
            return None
        made = self._made
        restored = self._file.restore(
            made.engine, made.services, made.pools, list(made.tables.values()), time.monotonic(), log.warning
        )
        self._tell(restored, self._file.path)
        self._divert(restored.late)
        return restored

    def settle(self) -> None:
        """Record what has changed with the last packets."""
        if self._file is not None:
            self._file.settle()

    def refresh(self) -> Iterator[float]:
        """Bring what is recorded up to date, a little at a time: see `Recorder.refresh`."""
        return self._file.refresh() if self._file is not None else iter(())

    def hand_over(self) -> None:
        """Complete the record for a successor that is about to read it. The engine stands still from here on."""
        if self._file is not None:
            self._file.hand_over(time.monotonic())

    def take_back(self) -> None:
        """Go on recording: the successor has failed, whatever it has made of the file before."""
        if self._file is not None and (failure := self._file.take_back()):
            log.warning("%s", failure)

    def close(self, *, keep: bool) -> None:
        """Record nothing any more. What is kept is for the next natlb, else it is not there any more."""
        file, self._file = self._file, None
        if file is not None:
            file.close(keep=keep, now=time.monotonic())

    def _tell(self, restored: Restored, file: Path) -> None:
        if restored.failure:
            log.warning("%s", restored.failure)
        becomes = "is removed" if restored.failure else "is replaced"
        if restored.aside is not None:
            becomes = f"is kept as {restored.aside}"
        if restored.is_from_elsewhere:
            notice(f"{file} is of no use any more, and {becomes}: {restored.complaint}")
        elif restored.complaint:
            log.warning(
                "the connections of the natlb before are lost: %s cannot be used, %s; it %s",
                file,
                restored.complaint,
                becomes,
            )
        if restored.refused:
            log.warning(
                "%s lost, damaged in %s; it %s",
                counted(restored.refused, "connection of the natlb before is", "connections of the natlb before are"),
                file,
                becomes,
            )
        if restored.connections or restored.no_place:
            how = "in order" if restored.was_complete else "without warning"
            go, lost, retired = restored.connections, restored.no_place, len(restored.retired)
            notice(
                f"{counted(go, 'connection goes', 'connections go')} on that the natlb before has left, which ended "
                f"{how}; {counted(lost, 'has', 'have')} no place any more; {counted(retired, 'is', 'are')} of "
                "frontends or servers that the configuration has no more"
            )
        if restored.entries:
            notice(f"{counted(restored.entries, 'entry of stick tables goes', 'entries of stick tables go')} on")

    def _divert(self, connections: Iterable[Connection]) -> None:
        """Note what is to be diverted for connections that the configuration does not tell of."""
        made, asked, answered = self._made, set(), set()
        for connection in connections:
            protocol = connection.original[-1]
            origin, (seen, _) = ends(connection.reply)
            asked.add((ends(connection.original)[1], protocol))
            answered.add((origin, protocol, seen if connection.has_own_port else None))
        servers, sources = set(made.servers), set(made.sources)
        for vip, protocol in asked:
            endpoint = _endpoint(*vip, protocol)
            if made.engine.addresses.find(*vip, protocol) is None and endpoint not in self.addresses:
                self.addresses.append(endpoint)
        for origin, protocol, lent in answered:
            endpoint, source = _endpoint(*origin, protocol), None if lent is None else ip_address(lent)
            if endpoint not in servers or (source is not None and source not in sources):
                self.origins.setdefault(endpoint, set()).update([source] if source is not None else [])


def _endpoint(address: bytes, port: bytes, protocol: int) -> Endpoint:
    return Endpoint(ip_address(address), int.from_bytes(port, "big"), protocol=protocol)
