"""Letting go of what root may, without losing what packets need.

Root starts natlb: sockets and files of its own, the queue, rules, kernel settings, a fast path that an earlier run may
have left. From then on, before the first packet is looked at, it needs five capabilities and nothing else of root's,
whether it stays root or becomes another user:

    CAP_NET_ADMIN         gives verdicts, changes rules and settings, puts programs on interfaces
    CAP_NET_RAW           sends packets of natlb's own
    CAP_NET_BIND_SERVICE  binds low ports
    CAP_BPF               reads and writes the maps of the fast path, and loads its program when that is switched on
    CAP_PERFMON           lets that program compute with pointers, which the kernel's verifier forbids to others

All others go from every set, the bounding set included, and can never come back: `no_new_privs` is set, and a program
that is started as root has nothing for being root's (SECBIT_NOROOT). What takes the rules away at the end is another
program, iptables; what it must have is ambient (capabilities(7)), and no more than that.

Being root without CAP_DAC_OVERRIDE is to be the owner of root's files. So what has another owner is made before.

A process that has less to begin with keeps what it has of these. Without CAP_SETPCAP it cannot change the bounding set,
which then means nothing any more either, since nothing that it starts gains what it has not.

Python has no calls for this, so the C library and the kernel are called directly: `prctl`, `capget` and `capset`. They
are about one thread, and those that it starts. That there is no other one any more is looked at afterwards; one that
was waited for may take a moment to be gone (Python says so when the last line of it has run).
"""

import concurrent.futures.thread  # noqa: F401 - asyncio loads it with the first thread: who cannot read it may be asking
import ctypes
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from natlb.errors import ProcessError

KEPT: Final = {"CAP_NET_BIND_SERVICE": 10, "CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_PERFMON": 38, "CAP_BPF": 39}
"""What is kept, by the kernel's numbers (linux/capability.h)."""

HANDED_ON: Final = {name: KEPT[name] for name in ("CAP_NET_ADMIN", "CAP_NET_RAW")}
"""What programs have that natlb starts: iptables needs the one, and its legacy kind the other as well."""

_CAP_SETPCAP: Final = 8

# linux/prctl.h, linux/securebits.h
_PR_SET_KEEPCAPS, _PR_CAPBSET_READ, _PR_CAPBSET_DROP = 8, 23, 24
_PR_GET_SECUREBITS, _PR_SET_SECUREBITS, _NOROOT_FOR_GOOD = 27, 28, 1 << 0 | 1 << 1
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _AMBIENT_RAISE, _AMBIENT_CLEAR_ALL = 38, 47, 2, 4
_CAPABILITY_VERSION_3 = 0x20080522


_MOMENT: Final = 2.0
"""Seconds that a thread may take to be gone, on a machine that has much to do; most take a hundred microseconds."""


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Half(ctypes.Structure):
    """One half of the three sets: the first has capabilities 0 to 31, the second those from 32."""

    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def drop(uid: int | None, gid: int | None) -> None:
    """Keep what packets need; become this user and of this group, where they are given. For good.

    To be called by the only thread that goes on. ProcessError, with the reason, if it cannot be done.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    had, _ = _held(libc)
    kept = had & _set_of(KEPT.values())
    if had >> _CAP_SETPCAP & 1:
        _bound(libc, kept)
    if uid is not None or gid is not None:
        _become(libc, uid, gid)
    _keep(libc, kept, kept & _set_of(HANDED_ON.values()))
    _call(libc.prctl, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _check_all_threads(kept)


@contextmanager
def handing_on() -> Iterator[None]:
    """Let what this thread starts inside the block have all that was kept: another natlb. ProcessError if not."""
    libc = ctypes.CDLL(None, use_errno=True)
    kept, handed_on = _held(libc)
    _keep(libc, kept, kept)
    try:
        yield
    finally:
        _keep(libc, kept, handed_on)


def _held(libc: ctypes.CDLL) -> tuple[int, int]:
    """Return what this thread is permitted, and what it hands on (which is inheritable, and with us ambient too)."""
    low, high = halves = (_Half * 2)()
    _call(libc.capget, ctypes.byref(_Header(_CAPABILITY_VERSION_3, 0)), halves)
    return int(low.permitted) | int(high.permitted) << 32, int(low.inheritable) | int(high.inheritable) << 32


def _bound(libc: ctypes.CDLL, kept: int) -> None:
    """Give up for good, for all that is started too, what is not kept, and being root as a reason to have it."""
    number = 0
    while (present := libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0)) >= 0:  # the kernel knows as many as that
        if present and not kept >> number & 1:
            _call(libc.prctl, _PR_CAPBSET_DROP, number, 0, 0, 0)
        number += 1
    bits = libc.prctl(_PR_GET_SECUREBITS, 0, 0, 0, 0)
    _call(libc.prctl, _PR_SET_SECUREBITS, bits | _NOROOT_FOR_GOOD, 0, 0, 0)


def _become(libc: ctypes.CDLL, uid: int | None, gid: int | None) -> None:
    _call(libc.prctl, _PR_SET_KEEPCAPS, 1, 0, 0, 0)
    try:
        if os.geteuid() == 0:
            os.setgroups([])
        if gid is not None:
            os.setresgid(gid, gid, gid)
        if uid is not None:
            os.setresuid(uid, uid, uid)
    except OSError as error:
        what = f"group {gid}" if uid is None else f"user {uid}"
        raise ProcessError(f"cannot become {what}: {error.strerror}; start natlb as root") from error


def _keep(libc: ctypes.CDLL, kept: int, handed_on: int) -> None:
    """Hold these capabilities alone, and hand some of them on to programs that are started."""
    halves = (_Half * 2)(
        *(_Half(*(each >> shift & 0xFFFFFFFF for each in (kept, kept, handed_on))) for shift in (0, 32))
    )
    _call(libc.prctl, _PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL, 0, 0, 0)
    _call(libc.capset, ctypes.byref(_Header(_CAPABILITY_VERSION_3, 0)), halves)
    for number in range(64):
        if handed_on >> number & 1:
            _call(libc.prctl, _PR_CAP_AMBIENT, _AMBIENT_RAISE, number, 0, 0)


def _check_all_threads(kept: int) -> None:
    """Raise ProcessError if a thread may more than it should and stays, which one that was started before would."""
    until = time.monotonic() + _MOMENT
    while (thread := _other_thread(kept)) is not None:
        if time.monotonic() > until:
            raise ProcessError(f"thread {thread} has kept its privileges; please report it")
        time.sleep(0.001)


def _other_thread(kept: int) -> str | None:
    """Return number and name of a thread that may more than it should."""
    for status in Path("/proc/self/task").glob("*/status"):
        try:
            text = status.read_text(encoding="ascii")
        except (FileNotFoundError, ProcessLookupError):  # it is gone
            continue
        lines = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
        held = int(lines["CapPrm"], 16) | int(lines["CapEff"], 16)
        if held & ~kept or lines.get("NoNewPrivs", "1").strip() != "1":
            return f"{status.parent.name} ({lines['Name']})"
    return None


def _set_of(numbers: Iterable[int]) -> int:
    return sum(1 << number for number in numbers)


def _call(function: "ctypes._NamedFuncPointer", *arguments: object) -> None:
    if function(*arguments) != 0:
        raise ProcessError(f"cannot keep {', '.join(KEPT)} alone: {os.strerror(ctypes.get_errno())}")
