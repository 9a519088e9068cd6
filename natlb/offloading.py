"""Whether the kernel carries the packets of established connections, and what follows from that.

`natlb.offload` is the fast path, `natlb.core.offloading` what the engine has to do with it. Here stands when it is
looked for and switched on and off, what is said when it cannot be had, what is taken over of a run that was killed, and
what goes on beside the packets while it runs:

    at once              connections that have ended are learned of, and samples are done again (`natlb.offload.audit`)
    once a second        counts and times of all others are learned, a few at a time, so that no packet waits for it
    when links change    the program is put on those that came, and where somebody has taken it off
    when a server goes   its flows of UDP are taken back: their next datagrams belong to others

Nothing of it is needed: without a fast path all packets come to the engine, as they do when it is switched off.
"""

import asyncio
import time
from binascii import crc32
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Final, Literal

from natlb.assembly import Assembly
from natlb.core.flow import Connection
from natlb.core.offloading import Survivor
from natlb.core.pool import Server
from natlb.core.service import Service
from natlb.core.wording import counted
from natlb.errors import OffloadError
from natlb.lasting import lasting
from natlb.log import log, notice
from natlb.offload.audit import Sample, expected
from natlb.offload.fastpath import FastPath

MOST_CONNECTIONS: Final = 131_072
"""Connections that there is room for, or as many as the table has entries: some 40 MB of the kernel's memory. Others
stay in userspace."""

AUDITED: Final = 1 / 4096
"""The share of packets that is done again: enough to find a flow that goes wrong within its first megabytes, and less
than a thousandth of the work that the packets were before."""

_SHOWN: Final = 256
"""Bytes of a packet in the log."""

_AT_ONCE: Final = 0.002
"""Seconds for which what is to be done at once may keep packets waiting. What is left then is done between them."""

_GATHERED: Final = 0.5
"""Seconds in which further changes of the interfaces are gathered before they are looked at."""

_TAKEN_BACK_AT_ONCE: Final = 64
"""Entries of the table that are looked at, and perhaps taken back, before packets have their turn: a millisecond."""


Wish = Literal["auto", "on", "off"]
"""What `--offload` says: `on` is as `auto`, but that what is lacking is worth a warning."""


class Offloader:
    """The fast path of one engine."""

    def __init__(self, made: Assembly, queue: int) -> None:
        """Begin without one; `queue` is the number of the engine's netfilter queue."""
        self._made = made
        self._engine = made.engine
        self._offloading = made.engine.offloading
        self._queue = queue
        self._path: FastPath | None = None
        self._prepared: FastPath | None = None
        self._parked: FastPath | None = None
        """The path while it is switched off. It goes on holding what could not come and go without losing packets."""
        self._wish: Wish = "off"
        self._start: Callable[[Coroutine[None, None, None]], None]
        self._settle: Callable[[], None]
        self._one_at_a_time = asyncio.Lock()
        self._refused = self._translated = 0
        self._has_told_of_nat = False
        self.lacking = "it was not asked for"
        """Why the kernel carries no packets; empty while it does."""
        self.audited = 0
        """Packets that were done again."""
        self.inherited = False
        """Whether there was a fast path already, of a natlb before."""
        self.differences = 0
        """Those of which something else came out."""

    @property
    def is_on(self) -> bool:
        """Whether the kernel carries packets."""
        return not self.lacking

    @property
    def offloaded(self) -> int:
        """Connections whose packets it carries."""
        return self._offloading.offloaded

    @property
    def packets(self) -> int:
        """Packets that it has carried, as far as is known yet."""
        return self._offloading.packets

    @property
    def interfaces(self) -> int:
        """Interfaces on which it does."""
        return self._path.interfaces if self._path is not None else 0

    @property
    def capacity(self) -> int:
        """Connections that there is room for."""
        return self._path.capacity if self._path is not None else 0

    @property
    def refused(self) -> int:
        """How often a connection found no room, and stayed in userspace."""
        return self._refused + sum(path.refused for path in (self._path, self._parked) if path is not None)

    @property
    def translated(self) -> int:
        """Connections that stayed in userspace because the kernel's own NAT translates them as well."""
        return self._translated + sum(path.translated for path in (self._path, self._parked) if path is not None)

    @property
    def maps(self) -> Mapping[str, int]:
        """Descriptors of the kernel's maps, for a successor: with these it goes on with what is in them."""
        return self._path.maps if self._path is not None else {}

    # Before there is a loop, and after

    def prepare(self, wish: Wish, handed_over: Mapping[str, int] | None = None) -> None:
        """Have everything ready for `begin`, as far as that changes nothing: loading the program takes its time.

        Another natlb may still be at work meanwhile. What of its `maps` was handed over stays its giver's to close.
        """
        self._wish = wish
        try:
            FastPath.read_file()
            self.inherited = FastPath.has_left(self._queue)
            if wish != "off" or self.inherited:
                self._prepared = self._open(handed_over)
        except OffloadError as error:
            self.lacking = str(error)

    def begin(self) -> None:
        """Take over what the natlb before has left, and let the kernel carry packets if that was the wish.

        What is lacking for that is said in the log, and is no error.
        """
        path, self._prepared = self._prepared, None
        try:
            if path is not None:
                self._take_over(path)
                if self._wish != "off":
                    # Where packets are carried already, by the program of the natlb before, this one's can come later.
                    self._use(path, [] if path.carries else path.attach())
                    return
        except OffloadError as error:
            self.lacking = str(error)
        if self._wish != "off":
            tell = log.warning if self._wish == "on" else notice
            tell(f"all packets are handled in userspace, which is slower: {self.lacking}")
        if path is not None:
            path.detach()
            self._offloading.retreat(list(self._engine.connections()), time.monotonic())
            self._drop(path)

    def close(self, *, keep: bool = False) -> None:
        """Take everything away; or keep it, for a successor to find."""
        if self._prepared is not None:
            self._prepared.close(keep=True)  # what is attached is another's
        if self._parked is not None:
            self._parked.close()  # of which no successor would know
        if self._path is not None:
            self._path.close(keep=keep)

    def undisturbed(self) -> asyncio.Lock:
        """Return what is to be held by whoever wants nothing to change meanwhile."""
        return self._one_at_a_time

    # While the loop runs

    def serve(self, start: Callable[[Coroutine[None, None, None]], None], settle: Callable[[], None]) -> None:
        """Begin to follow what happens, in a running loop.

        `start` runs what goes on in the background, `settle` does what the engine has to say.
        """
        self._start, self._settle = start, settle
        for pool in self._made.pools.values():
            pool.on_away = self._on_away
        if self._path is not None:
            self._listen(self._path)
            if self._path.carries:
                start(self._renew(self._path))
        start(lasting(self._learn))

    def after_packets(self) -> None:
        """Tell the kernel which packets are on their way, and let it have what was offered."""
        self._offloading.tell_handled()
        self._offloading.enter()

    def stop(self) -> None:
        """Follow nothing any more."""
        if self._path is not None:
            self._ignore(self._path)

    async def switch(self, *, on: bool) -> None:
        """Let the kernel carry packets from now on, or no longer. OffloadError, with the remedy, if it cannot."""
        async with self._one_at_a_time:
            if on is self.is_on:
                return
            if on:
                parked, self._parked = self._parked, None
                path = await asyncio.to_thread(self._open) if parked is None else parked
                try:
                    refused = await asyncio.to_thread(path.attach)
                except OffloadError as error:
                    self.lacking = str(error)
                    self._count(path)
                    await asyncio.to_thread(path.close)
                    raise
                self._use(path, refused)
                self._listen(path)
            elif self._path is not None:
                path = self._path
                self._offloading.is_open = False
                self._ignore(path)
                await asyncio.to_thread(path.detach)
                for piece in self._engine.pieces(_TAKEN_BACK_AT_ONCE):
                    self._offloading.retreat(piece, time.monotonic())
                    self._settle()
                    await asyncio.sleep(0)
                self._parked, self._path, self._offloading.cache = path, None, None
                self.lacking = "it was switched off"
                notice("all packets are handled in userspace from now on")

    def _open(self, handed_over: Mapping[str, int] | None = None) -> FastPath:
        capacity = min(MOST_CONNECTIONS, self._engine.capacity)
        return FastPath(self._engine.ledger, self._queue, capacity, _identity_of, handed_over)

    def _take_over(self, path: FastPath) -> None:
        """Enter in the table what the natlb before has left, which was killed or has handed over."""
        self._offloading.cache = path
        known = {
            _identity(service, server): (service, server)
            for service in self._made.services
            for pool in self._made.pools.values()
            for server in pool.servers.values()
        }
        survivors = sorted(path.survivors(), key=lambda each: each.report.seen)
        adopted = 0
        for survivor in survivors:
            connection = self._engine.table.find(survivor.original)
            if connection is not None and connection.reply == survivor.reply:
                # It was on record, and what the kernel has seen of it is newer.
                path.take_back(survivor, connection)
                self._offloading.reconcile(connection, survivor.report, time.monotonic())
                adopted += 1
                continue
            owners = known.get(survivor.identity)
            left = Survivor(survivor.original, survivor.reply, survivor.opened, survivor.report)
            connection = None if owners is None else self._engine.resumption.adopt(left, *owners)
            if connection is None:
                path.discard(survivor)
            else:
                path.take_back(survivor, connection)
                self._offloading.keep(connection)
                adopted += 1
        if survivors:
            notice(
                f"the kernel has gone on with {counted(adopted)} of the natlb before; "
                f"{counted(len(survivors) - adopted, 'has', 'have')} no place any more"
            )

    def _use(self, path: FastPath, refused: list[str]) -> None:
        """Offer connections to a path from now on; `refused` says why some interfaces have none."""
        self._path = self._offloading.cache = path
        self._offloading.is_open = True
        self.lacking = ""
        path.sample(AUDITED)
        notice(f"the kernel carries packets of established connections, on {counted(path.interfaces, 'interface')}")
        for reason in refused:
            notice(f"packets that come in there are handled in userspace: {reason}")

    def _drop(self, path: FastPath) -> None:
        """Do without a path that no connection is left on."""
        self._count(path)
        self._path = self._offloading.cache = None
        path.close()

    def _count(self, path: FastPath) -> None:
        """Keep the counts of a path that goes."""
        self._refused += path.refused
        self._translated += path.translated

    def _listen(self, path: FastPath) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(path.fileno(), self._on_news)
        loop.add_reader(path.links_fileno(), self._on_links)

    def _ignore(self, path: FastPath) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(path.fileno())
        loop.remove_reader(path.links_fileno())

    # What happens

    def _on_news(self) -> None:
        """Connections have ended, or samples are there."""
        self._offloading.hear(time.monotonic())
        if self._path is not None:
            for sample in self._path.samples():
                self._audit(sample)
        self._settle()

    def _audit(self, sample: Sample) -> None:
        """Do a packet again, and take its connection off the fast path if something else comes out."""
        self.audited += 1
        right = expected(sample)
        if sample.after in right:
            return
        self.differences += 1
        self._offloading.bar(sample.connection, time.monotonic())
        log.error(
            "the kernel's program has made of packet %s the packet %s, and not %s: its connection is handled in "
            "userspace from now on. Please report it.",
            sample.before[:_SHOWN].hex(),
            sample.after[:_SHOWN].hex(),
            " or ".join(each[:_SHOWN].hex() for each in right) or "nothing",
        )

    def _on_links(self) -> None:
        """Interfaces have changed: look what there is, and no second time until that is done."""
        if self._path is not None:
            asyncio.get_running_loop().remove_reader(self._path.links_fileno())
            self._start(self._follow(self._path))

    async def _renew(self, path: FastPath) -> None:
        """Put this run's program in the place of the one before, which carries the packets meanwhile."""
        async with self._one_at_a_time:
            if path is self._path:
                try:
                    refused = await asyncio.to_thread(path.attach)
                except OffloadError as error:
                    refused = [str(error)]
                for reason in refused:
                    log.warning(
                        "there the program of the natlb before carries packets until the next start: %s", reason
                    )

    async def _follow(self, path: FastPath) -> None:
        await asyncio.sleep(_GATHERED)
        async with self._one_at_a_time:
            if path is self._path:
                try:
                    changes = await asyncio.to_thread(path.follow)
                finally:
                    asyncio.get_running_loop().add_reader(path.links_fileno(), self._on_links)
                if changes.restored:
                    log.warning(
                        "somebody has taken natlb's filter off %s: the kernel carried no packets there, and does again",
                        ", ".join(changes.restored),
                    )

    async def _learn(self) -> None:
        """Learn what packets were carried, once a second."""
        while True:
            await asyncio.sleep(1.0)
            path = self._path
            if path is None:
                continue
            self._tell_of_nat()
            for _ in self._offloading.catch_up_all(time.monotonic):
                self._settle()
                await asyncio.sleep(0)
                if path is not self._path:
                    break

    def _tell_of_nat(self) -> None:
        """Say it once, since somebody may wonder why the fast path has nothing to do."""
        if self.translated and not self._has_told_of_nat:
            self._has_told_of_nat = True
            notice(
                "connections that the kernel's own NAT (MASQUERADE, SNAT, DNAT) translates as well are handled in "
                "userspace; 'show offload' counts them"
            )

    def _on_away(self) -> None:
        """A server has gone: the next datagrams to it are for others."""
        if self._offloading.offloaded:
            started, pieces = time.monotonic(), self._engine.pieces(_TAKEN_BACK_AT_ONCE)
            for piece in pieces:
                self._offloading.retreat_from_servers_away(piece, started)
                if time.monotonic() - started > _AT_ONCE:
                    self._start(self._retreat(pieces))
                    break

    async def _retreat(self, pieces: Iterator[list[Connection]]) -> None:
        for piece in pieces:
            await asyncio.sleep(0)
            self._offloading.retreat_from_servers_away(piece, time.monotonic())


def _identity(service: Service, server: Server) -> bytes:
    """Return the names of a frontend and of a server, in short, for a later run to know them again."""
    pool = server.pool.name if server.pool is not None else ""
    return crc32(service.name.encode()).to_bytes(4, "big") + crc32(f"{pool}/{server.name}".encode()).to_bytes(4, "big")


def _identity_of(connection: Connection) -> bytes:
    return _identity(connection.service, connection.server)
