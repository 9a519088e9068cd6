"""Reload in place (SIGUSR2): natlb starts its own successor, by the command line that it was started with itself.

The successor reads the configuration anew, is made of whatever code is installed by then, and takes this one's place as
any other would (`natlb.transfer`). Before that the configuration is checked by another process, `natlb -c`, so that its
errors come into this one's log, wherever that is, and nothing else happens.

In the foreground somebody may be waiting for this process: a supervisor, a container, a shell. It keeps its number, and
becomes the `keeper` of its successor. In the background nobody is waiting, and the pidfile tells the new number.

Whoever asks while a reload is under way may have changed what that has read already. So another one follows it: here if
this natlb still balances then, and else there where that is done now, to whom the signal is passed on.
"""

import asyncio
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import IO, Final

from natlb import privileges
from natlb.command import Command
from natlb.errors import ProcessError
from natlb.log import log, notice
from natlb.readiness import readable

KEPT_BY: Final = "NATLB_KEEPER"
"""Variable of the environment: the process that keeps this natlb, and is to end with it."""

_CHECKED_WITHIN: Final = 120.0
"""Seconds in which a configuration is read: host names in it may have to be looked up."""

_MOST_TOLD: Final = 4096
"""Bytes of what a check has said that go into the log."""


class Reloader:
    """Starts successors of this process."""

    def __init__(self, command: Command, start: Callable[[Coroutine[None, None, None]], None]) -> None:
        """`start` runs what goes on in the background. To be made before privileges are dropped."""
        self._command = command
        self._start = start
        self._user = os.geteuid()
        self._busy = False
        self._again = False
        """Whether another reload was asked for while one is under way."""
        self._successor: subprocess.Popen[bytes] | None = None
        self._heir: int | None = None
        """Who has taken this one's place."""

    def request(self) -> None:
        """Have a successor started, now or when the one has failed that is being started already."""
        if self._heir is not None:
            self._pass_on(self._heir)
        elif self._busy:
            if not self._again:
                notice("SIGUSR2: a reload is under way already; another one follows when that is done")
            self._again = True
        elif os.geteuid() != self._user:
            log.warning(
                "SIGUSR2: as user %d natlb cannot start its successor; run its command line as user %d, with '-sf %d'",
                os.geteuid(),
                self._user,
                os.getpid(),
            )
        else:
            self._busy = True
            self._start(self._reload())

    def hand_on(self, pid: int) -> None:
        """Leave all reloads to a process that has taken this one's place, and hears signals already."""
        self._heir = pid
        if self._again:
            self._pass_on(pid)

    def keeps(self, pid: int) -> bool:
        """Whether this process stays when `pid` has taken its place: that is its child, and itself it is waited for."""
        successor = self._successor
        return successor is not None and successor.pid == pid and KEPT_BY not in self._command.environment

    async def _reload(self) -> None:
        try:
            await self._reload_once()
            while self._again:
                self._again = False
                await self._reload_once()
        finally:
            self._busy = False

    async def _reload_once(self) -> None:
        try:
            if await self._is_valid():
                notice("SIGUSR2: the configuration is valid; a natlb starts that is to take this one's place")
                with privileges.handing_on():
                    self._successor = self._run(self._command.succeeding(os.getpid()), None)
                # If all goes well this one balances no more by then.
                code = await _end_of(self._successor)
                if code:
                    log.warning("SIGUSR2: the new natlb has ended with status %d; this one goes on as it is", code)
        except (OSError, ProcessError) as error:
            log.warning("SIGUSR2: cannot start another natlb: %s; this one goes on as it is", error)
        finally:
            self._successor = None

    def _pass_on(self, pid: int) -> None:
        try:
            os.kill(pid, signal.SIGUSR2)
        except OSError as error:
            log.warning("SIGUSR2: natlb %d, which goes on from here, cannot be told: %s", pid, error.strerror)

    async def _is_valid(self) -> bool:
        with tempfile.TemporaryFile() as said:
            checking = self._run(self._command.checking(), said)
            try:
                async with asyncio.timeout(_CHECKED_WITHIN):
                    code = await _end_of(checking)
            except TimeoutError:
                log.warning("SIGUSR2: the configuration was not read within %g seconds; natlb goes on", _CHECKED_WITHIN)
                return False
            finally:
                if checking.poll() is None:
                    checking.kill()
                    checking.wait()
            if code == 0:
                return True
            said.seek(0)
            lines = said.read(_MOST_TOLD).decode("utf-8", "replace").splitlines()
        log.warning("SIGUSR2: the configuration cannot be used; natlb goes on as it is")
        for line in lines:
            log.warning("SIGUSR2: %s", line.partition(") : ")[2] or line)
        return False

    def _run(self, argv: Sequence[str], output: IO[bytes] | None) -> "subprocess.Popen[bytes]":
        command = self._command
        environment = {KEPT_BY: str(os.getpid()), **command.environment}
        with privileges.handing_on():
            return subprocess.Popen(
                argv, cwd=command.directory, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )


async def _end_of(process: "subprocess.Popen[bytes]") -> int:
    """Wait for the end of a child, and return its status."""
    descriptor = os.pidfd_open(process.pid)
    try:
        await readable(descriptor)
    finally:
        os.close(descriptor)
    return process.wait()


def keeper_of(environment: Mapping[str, str]) -> int | None:
    """Return the process that keeps this one, if there is one."""
    number = environment.get(KEPT_BY, "")
    return int(number) if number.isascii() and number.isdigit() and len(number) < 10 else None
