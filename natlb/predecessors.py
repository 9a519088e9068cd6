"""Older natlb that a new one takes the place of, and that hand nothing over: they end first, softly or at once.

Most do hand over (`natlb.transfer`). Left are those that cannot - they run without a state directory, or with another
one, or another queue - and those that `-st` ends with all that they have. They are told once the new configuration is
known to be good, and the new process starts when they have gone. While one ends softly no new connection is taken: give
it a `hard-stop-after`.

A number that is not natlb's is never sent a signal: numbers are used again, and a stale file may name anybody. Nor
does it keep natlb down, since whoever it named is no more: that is told, and nothing is waited for.
"""

import os
import select
import signal
from collections.abc import Sequence
from pathlib import Path

from natlb.errors import ProcessError
from natlb.log import log, notice


def end(pids: Sequence[int], signum: signal.Signals) -> None:
    """Send the signal to these processes and wait for their end. Those that are gone already are no matter.

    Those that are not natlb are left alone, with a warning. ProcessError when one may not be sent a signal.
    """
    held: list[int] = []
    try:
        for pid in pids:
            try:
                held.append(os.pidfd_open(pid))
            except ProcessLookupError:
                continue
            except OSError:  # the number of another process's thread
                _leave_alone(pid)
                continue
            if not _is_natlb(pid):
                os.close(held.pop())
                _leave_alone(pid)
        for descriptor in held:
            try:
                signal.pidfd_send_signal(descriptor, signum)
            except ProcessLookupError:
                continue
            except PermissionError as error:
                raise ProcessError("may not signal another user's natlb; start this one as root") from error
        if held and signum == signal.SIGUSR1:
            notice(
                "an older natlb hands nothing over, since it runs with --state off, or not with the same --state and "
                "--queue: this one starts when that has ended softly"
            )
        for descriptor in held:
            select.select([descriptor], [], [])  # a process's descriptor is readable when it has ended
    finally:
        for descriptor in held:
            os.close(descriptor)


def _leave_alone(pid: int) -> None:
    log.warning(
        "process %d is not natlb; it is sent no signal, and not waited for: if a pidfile names it, that is stale",
        pid,
    )


def _is_natlb(pid: int) -> bool:
    """Whether a process was started as natlb: `natlb ...`, or `python -m natlb ...`."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    program, *arguments = [word.decode("utf-8", "replace") for word in words[:8]] or [""]
    if Path(program).name == "natlb" or any(word.endswith("/natlb/keeper.py") for word in arguments[:3]):
        return True
    if not Path(program).name.startswith("python"):
        return False
    for at, word in enumerate(arguments):
        if word == "-m":
            return arguments[at + 1 : at + 2] == ["natlb"]
        if not word.startswith("-"):
            return Path(word).name == "natlb"
    return False
