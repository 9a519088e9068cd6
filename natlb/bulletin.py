"""How natlb is, in a few words, and the service manager that is told so now and then.

`natlb.notify` knows how to tell it, `natlb.heartbeat` whether packets are being handled; a watchdog is told that natlb
lives only if they are.
"""

import asyncio
from collections.abc import Sized
from typing import Final

from natlb import notify
from natlb.assembly import Assembly
from natlb.core.wording import counted
from natlb.datapath.nfqueue import PacketQueue
from natlb.heartbeat import Heartbeat
from natlb.softstop import SoftStop

_TOLD_EVERY: Final = 5.0
"""Seconds after which a service manager is told again how natlb is, unless it wants to hear from it more often. It may
want to hear from a natlb that it has not started itself, and that does not know how often: one that took over."""


class Bulletin:
    """What there is to say of one natlb."""

    def __init__(self, made: Assembly, packets: PacketQueue, ports: Sized, soft_stop: SoftStop) -> None:
        """`ports` are those that it answers at."""
        self._made = made
        self._packets = packets
        self._ports = ports
        self._soft_stop = soft_stop

    def answering(self) -> str:
        """Return in a few words what it does."""
        return f"answering at {counted(len(self._ports), 'address', 'addresses')}"

    async def tell_the_manager(self) -> None:
        """Tell the service manager now and then how natlb is; and that it lives, if it does."""
        heartbeat = Heartbeat(self._packets.filenos(), lambda: self._packets.delivered)
        interval = min(notify.interval() or _TOLD_EVERY, _TOLD_EVERY)
        while True:
            await asyncio.sleep(interval)
            status = f"STATUS={self._status()}"
            notify.tell(*(["WATCHDOG=1", status] if heartbeat.is_felt() else [status]))

    def _status(self) -> str:
        """Return in a few words how natlb is."""
        pools = self._made.pools.values()
        usable, servers = sum(pool.usable for pool in pools), sum(len(pool.servers) for pool in pools)
        words = f"{counted(self._made.engine.live)}, {usable} of {counted(servers, 'server')} usable"
        return words + (", stopping softly" if self._soft_stop.has_begun else "")
