"""Noticing that somebody has taken away what packets come by, and making it again.

A machine's rules are everybody's. A firewall that is loaded anew begins with `flush`, `nft flush ruleset` takes all
there is, an administrator deletes one rule too many: from then on the kernel answers clients in the place of natlb,
with RSTs. So the rules are looked at while natlb runs. Rules that have gone, or were changed, are made again as they
were, each table in one step. A kernel setting that natlb needs and that somebody has changed is another matter: it is
not natlb's own, and who switched forwarding off may have had a reason. That is told, once, with the command that puts
it right. What interfaces need which come while natlb runs, they get.

To look at the rules takes two programs and some milliseconds. Whether there is a reason to, the kernel says for
nothing: nftables counts the changes of its rules (NFT_MSG_GETGEN, linux/netfilter/nf_tables.h), and links and addresses
are told of on a netlink socket (rtnetlink(7)). The old tables, of iptables-legacy, have no such count: there it is done
every two seconds.

It has to be cheap, whatever others do. Somebody may change rules all the time, and most changes are none of natlb's
business: between two looks there is twenty times what a look takes, up to ten seconds, and one at least. Somebody may
take natlb's rules away all the time: each time it is left to him for twice as long, up to half a minute. All that is
done in a thread, with packets going on meanwhile.
"""

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from natlb.datapath.sysctl import Setting
from natlb.errors import DatapathError
from natlb.log import log, notice

_TURN: Final = 0.5
"""Seconds from one question to the kernel to the next."""

_SHORTEST, _LONGEST = 1.0, 30.0
"""Seconds from one look to the next."""

_WITHOUT_COUNT: Final = 2.0
"""The same where the kernel does not count changes."""

_SETTINGS: Final = 4.0
"""Seconds from one look at the settings to the next: a machine may have hundreds of interfaces with some each."""

_SHARE: Final = 20
"""The time between two looks, in those that the last one has taken."""

_MOST_FOR_OTHERS: Final = 10.0
"""Seconds that this comes to at most."""

_TOLD: Final = 6
"""Things that are told of in one line, of those that were taken away at once."""

_FORGIVEN: Final = 60.0
"""Seconds after which it is forgotten that rules were taken away."""

_MOST_READ: Final = 64
"""Messages about links and addresses that are read in one turn."""

# linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h, linux/rtnetlink.h
_NETLINK_NETFILTER: Final = 12
_NLM_F_REQUEST: Final = 1
_NFT_MSG_NEWGEN, _NFT_MSG_GETGEN = 10 << 8 | 15, 10 << 8 | 16
_NFTA_GEN_ID: Final = 1
_RTMGRP_LINK, _RTMGRP_IPV4_IFADDR, _RTMGRP_IPV6_IFADDR = 0x1, 0x10, 0x100
_MESSAGE: Final = struct.Struct("=IHHIIBBH")


class Generation:
    """How often the rules of nftables have been changed in this network namespace."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        with contextlib.suppress(OSError):  # a kernel without netfilter's netlink
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _NETLINK_NETFILTER)

    def read(self) -> int | None:
        """Return the count; None where there is none. It takes some microseconds."""
        if self._socket is None:
            return None
        question = _MESSAGE.pack(_MESSAGE.size, _NFT_MSG_GETGEN, _NLM_F_REQUEST, 0, 0, socket.AF_UNSPEC, 0, 0)
        try:
            self._socket.send(question)
            answer = self._socket.recv(4096)  # it is there when `send` returns
        except OSError:
            return None
        return _generation_in(answer)

    def close(self) -> None:
        """Ask no more."""
        if self._socket is not None:
            self._socket.close()


def _generation_in(answer: bytes) -> int | None:
    if len(answer) < _MESSAGE.size + 8:
        return None
    _, kind, *_ = _MESSAGE.unpack_from(answer)
    size, attribute = struct.unpack_from("=HH", answer, _MESSAGE.size)
    if kind != _NFT_MSG_NEWGEN or (size, attribute) != (8, _NFTA_GEN_ID):
        return None
    return int.from_bytes(answer[_MESSAGE.size + 4 : _MESSAGE.size + 8], "big")


class Interfaces:
    """Whether links or addresses have changed in this network namespace."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        self._socket.bind((0, _RTMGRP_LINK | _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR))

    def have_changed(self) -> bool:
        """Return whether they have since the last time. What it was does not matter, nor whether some was lost."""
        changed = False
        for _ in range(_MOST_READ):
            try:
                self._socket.recv(65536)
            except BlockingIOError:
                break
            except OSError:
                pass  # more than the socket could take
            changed = True
        return changed

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()


class Guarded(Protocol):
    """What a guard asks of the diversion: its methods of these names say what they do."""

    @property
    def counted(self) -> bool: ...  # noqa: D102
    def lost(self) -> list[str]: ...  # noqa: D102
    def unset(self) -> list[Setting]: ...  # noqa: D102
    def wants_more(self) -> bool: ...  # noqa: D102
    def again(self) -> None: ...  # noqa: D102


class Guard:
    """Looks after a diversion while natlb runs."""

    def __init__(
        self,
        diversion: Guarded,
        generation: Callable[[], int | None],
        interfaces: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with a diversion that has just been set up; the others are `Generation.read` and so on."""
        self._diversion = diversion
        self._generation = generation
        self._interfaces = interfaces
        self._clock = clock
        self.repaired = 0
        """How often rules were made again."""
        self._one_at_a_time = asyncio.Lock()
        self._seen = generation()
        self._next = 0.0
        self._settings_at = 0.0
        self._patience = _SHORTEST
        self._repaired_at = float("-inf")
        self._interfaces_changed = False
        self._unset: set[Setting] = set()
        """The settings that were told of."""
        self._told = ""
        """The failure that was told of last."""

    async def watch(self) -> None:
        """Look after it until cancelled."""
        while True:
            await asyncio.sleep(_TURN)
            await self.turn()

    def undisturbed(self) -> AbstractAsyncContextManager[None]:
        """Keep the guard from looking, or making rules, within a block: while another natlb makes its own."""
        return self._one_at_a_time

    async def turn(self) -> None:
        """Look at what may have changed, if the time for that has come."""
        async with self._one_at_a_time:
            await self._turn()

    async def _turn(self) -> None:
        self._interfaces_changed = self._interfaces() or self._interfaces_changed
        began = self._clock()
        if began < self._next:
            return
        generation = self._generation() if self._diversion.counted else None
        may_be_lost = generation is None or generation != self._seen
        self._seen = generation
        changed, self._interfaces_changed = self._interfaces_changed, False
        settings = began >= self._settings_at
        if may_be_lost or changed or settings:
            await asyncio.to_thread(self._look, rules=may_be_lost, interfaces=changed, settings=settings)
        now = self._clock()
        patience = self._patience_at(now)
        if generation is None:
            patience = max(patience, _WITHOUT_COUNT)
        self._next = now + max(patience, min(_SHARE * (now - began), _MOST_FOR_OTHERS))

    def _patience_at(self, now: float) -> float:
        """Return for how long rules are left alone that somebody takes away all the time."""
        return self._patience if now - self._repaired_at < _FORGIVEN else _SHORTEST

    def _look(self, *, rules: bool, interfaces: bool, settings: bool) -> None:
        """Do what takes time, in a thread."""
        try:
            if rules:
                self._look_at_rules()
            if interfaces and self._diversion.wants_more():
                self._diversion.again()
            if settings:
                self._settings_at = self._clock() + _SETTINGS
                self._look_at_settings()
        except DatapathError as error:
            self._seen = None  # once more, the next time
            self._interfaces_changed = self._interfaces_changed or interfaces
            if str(error) != self._told:
                log.error("natlb's rules and settings cannot be looked after: %s", error)
            self._told = str(error)
        else:
            self._told = ""

    def _look_at_rules(self) -> None:
        lost = self._diversion.lost()
        if not lost:
            return
        now = self._clock()
        self._patience, self._repaired_at = min(2 * self._patience_at(now), _LONGEST), now
        what = "; ".join([*lost[:_TOLD], *([f"and {len(lost) - _TOLD} more"] * (len(lost) > _TOLD))])
        try:
            self._diversion.again()
        except DatapathError as error:
            raise DatapathError(f"somebody has taken away {what}; packets pass natlb by, and {error}") from error
        self.repaired += 1
        log.warning(
            "somebody has taken away or changed rules of natlb's, which are made again: %s. If that happens once more, "
            "they are left away for up to %g seconds.",
            what,
            self._patience,
        )

    def _look_at_settings(self) -> None:
        unset = set(self._diversion.unset())
        for setting in sorted(unset - self._unset, key=lambda each: each.name):
            log.warning(
                "somebody has changed %s, which natlb needs to be %s: %s. To put it right: sysctl -w %s=%s",
                setting.dotted,
                setting.value,
                setting.reason,
                setting.name,
                setting.value,
            )
        for setting in sorted(self._unset - unset, key=lambda each: each.name):
            notice(f"{setting.dotted} is no longer in natlb's way")
        self._unset = unset
