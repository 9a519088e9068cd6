"""The connections of a file, in an engine: made of its records, and made again of those that have changed since.

To go on with a connection takes some 50 microseconds, and packets wait meanwhile. So a successor takes what is on
record while the one before is still at work, and once more when that stands still and its file is complete. Most
records are the same by then, to the byte, and have come to the same. What was made of the others is unmade first, as if
it had not been.

That holds for a file that was completed. What is believed of a record after a crash is another matter, with the time of
the start in it, and everything is made anew.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from natlb.core.engine import NatEngine
from natlb.core.flow import Connection
from natlb.core.pool import Pool
from natlb.core.record import after_a_crash, after_a_handover
from natlb.core.service import Service
from natlb.handover.layout import Contents, Place, Refused, is_of_one_file, read
from natlb.handover.retired import Owners


class Draft:
    """What has come of one file so far."""

    def __init__(self, engine: NatEngine, services: Iterable[Service], pools: Mapping[str, Pool]) -> None:
        """Begin with nothing, in an engine that has decided about no packet yet."""
        self._engine = engine
        self._owners = Owners(services, pools)
        self._contents: Contents | None = None
        self.connections: Final[dict[int, Connection]] = {}
        """Those that go on, by the rows that they had."""
        self.retired: Final[dict[int, Connection]] = {}
        """Those of them whose frontend or server is not in the configuration any more."""
        self.no_place: Final[set[int]] = set()
        """The rows of those for which there is no room, or whose tuple is taken."""

    def take_early(self, data: bytes, here: Place, now: float) -> list[Connection]:
        """Go on with what a natlb has on record that has not completed it yet; return the connections.

        Raises Refused as `read` does.
        """
        self._contents = read(data, here)
        early = self._take(self._contents, now, in_order=True)
        self._contents.useless |= self.no_place  # others may have made room for them by then
        return early

    def read(self, data: bytes, here: Place, now: float) -> Contents:
        """Return what the file holds now, for `take`. Raises Refused as `read` does; then there are no connections."""
        earlier, self._contents = self._contents, None
        try:
            contents = read(data, here, earlier)
        except Refused:
            self.unmake(now)
            raise
        if earlier is None or (contents.is_complete and is_of_one_file(contents, earlier)):
            return contents
        self.unmake(now)
        return read(data, here)

    def take(self, contents: Contents, now: float) -> list[Connection]:
        """Go on with what was read; return the connections that have come now."""
        return self._take(contents, now, in_order=contents.is_complete)

    def unmake(self, now: float) -> None:
        """Have nothing come of it."""
        for row in [*self.connections, *self.no_place]:
            self._drop(row, now)

    def _take(self, contents: Contents, now: float, *, in_order: bool) -> list[Connection]:
        for row in contents.changed:
            self._drop(row, now)
        believed = after_a_handover if in_order else after_a_crash
        records = [(row, believed(record, now)) for row, record in contents.records]
        self._owners.expect(record for _, record in records)
        come = []
        for row, record in sorted(records, key=lambda each: each[1].seen):
            service, server, is_retired = self._owners.of(record)
            connection = self._engine.resumption.resume(record, service, server)
            if connection is None:
                self.no_place.add(row)
                continue
            self.connections[row] = connection
            come.append(connection)
            if is_retired:
                self.retired[row] = connection
        return come

    def _drop(self, row: int, now: float) -> None:
        self.no_place.discard(row)
        self.retired.pop(row, None)
        connection = self.connections.pop(row, None)
        if connection is not None:
            self._engine.resumption.unresume(connection, now)
