"""Programs that live in the lab, and how they end.

Two questions, answered apart. `Service` is a program that this process started: it has a log, it can be waited for, and
it is stopped by its parent. `living_in` asks the kernel who is in a namespace, whoever started it: that is how `down`
finds what a killed demo left behind, with no pid file that could lie. A process found that way may end, and its number
be given to a stranger, between the look and the signal; so it is held by a pidfd, looked at again, and only then
signalled.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from netns.errors import LabError

NAMESPACES = Path("/run/netns")

PYTHON = (sys.executable, "-P", "-m")
"""Runs a module of this installation; -P, so that no file in the current directory can come before it."""


PATIENCE = 40.0
"""Seconds that a program may take to come up, or to go. One that ends instead is told of at once, so this is for a
machine that has no processor for it; and it is less than the 60 s that a step of a lesson may take."""


@dataclass(frozen=True, slots=True)
class Resident:
    """A process seen in a namespace."""

    pid: int
    namespace: str
    command: str


def _identity(namespace: Path) -> tuple[int, int] | None:
    """What tells one network namespace from another; None when it is gone (a zombie's is, too)."""
    try:
        found = namespace.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _namespace_of(pid: int) -> tuple[int, int] | None:
    return _identity(Path(f"/proc/{pid}/ns/net"))


def living_in(namespaces: Iterable[str]) -> list[Resident]:
    """Every process in one of the namespaces, but for the caller itself."""
    names = {_identity(NAMESPACES / namespace): namespace for namespace in namespaces}
    names.pop(None, None)
    residents = []
    for pid in sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        namespace = names.get(_namespace_of(pid))
        if namespace is not None and pid != os.getpid():
            residents.append(Resident(pid, namespace, _command(pid)))
    return residents


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def end_all_in(namespaces: Sequence[str], grace: float = 5.0) -> None:
    """End every process in the namespaces: asked with SIGTERM first, after `grace` seconds no longer asked."""
    end(lambda: living_in(namespaces), grace)


def end(find: Callable[[], list[Resident]], grace: float = 5.0) -> None:
    """End the processes that `find` finds, and those that it finds afterwards, as `end_all_in` does."""
    for signum, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 2.0), (signal.SIGKILL, 2.0)):
        with contextlib.ExitStack() as pidfds:
            waiting = [fd for resident in find() if (fd := _signal(resident, signum, pidfds)) is not None]
            _wait_for_end(waiting, patience)
        if not find():
            return
    left = ", ".join(f"{resident.pid} ({resident.command})" for resident in find())
    raise LabError(f"these processes do not end: {left}")


def send(residents: Iterable[Resident], signum: signal.Signals) -> None:
    """Send a signal to processes that still live where they were seen; whoever has ended meanwhile is passed over."""
    with contextlib.ExitStack() as pidfds:
        for resident in residents:
            _signal(resident, signum, pidfds)


def _signal(resident: Resident, signum: signal.Signals, pidfds: contextlib.ExitStack) -> int | None:
    try:
        fd = os.pidfd_open(resident.pid)
        pidfds.callback(os.close, fd)
        if _namespace_of(resident.pid) == _identity(NAMESPACES / resident.namespace):
            signal.pidfd_send_signal(fd, signum)
            if signum == signal.SIGTERM:
                signal.pidfd_send_signal(fd, signal.SIGCONT)  # one that stands still hears it only once it goes on
    except ProcessLookupError:
        return None
    return fd


def _wait_for_end(pidfds: Iterable[int], seconds: float) -> None:
    poll = select.poll()
    left = set(pidfds)
    for fd in left:
        poll.register(fd, select.POLLIN)
    deadline = time.monotonic() + seconds
    while left and (remaining := deadline - time.monotonic()) > 0:
        for fd, _ in poll.poll(remaining * 1000):
            poll.unregister(fd)
            left.discard(fd)


class Service:
    """A program that runs beside its starter, its output in a file; or in a pipe, if it says little.

    It gets a session of its own: a Ctrl-C at the terminal is for the lab, which then stops its services in order.
    """

    def __init__(self, name: str, argv: Sequence[str], log: Path | None = None) -> None:
        self.name = name
        self._argv = argv
        self._log = log
        self._heard = b""
        with contextlib.ExitStack() as stack:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=stack.enter_context(log.open("wb")) if log else subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def busy(self) -> bool:
        """Whether it runs, or would if a processor were free: not while it waits for something to happen."""
        try:
            stat = Path(f"/proc/{self.process.pid}/stat").read_text("utf-8", "replace")
        except (FileNotFoundError, ProcessLookupError):
            return False
        return stat.rpartition(") ")[2][:1] in ("R", "D")

    def log(self) -> str:
        """All that it said so far, on stdout and stderr."""
        if self._log:
            return self._log.read_text("utf-8", "replace") if self._log.exists() else ""
        pipe = self.process.stdout
        while pipe and not pipe.closed and select.select([pipe], [], [], 0)[0]:
            piece = os.read(pipe.fileno(), 65536)
            self._heard += piece
            if not piece:
                pipe.close()
        return self._heard.decode("utf-8", "replace")

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def wait_to_live_in(self, namespace: str, seconds: float = PATIENCE) -> None:
        """Return once it is in the namespace, and no longer the program that took it there; or once it has ended.

        LabError when it takes longer. Until then whoever looks for it, as `living_in` does, does not see it.
        """
        there, pid, way = _identity(NAMESPACES / namespace), self.process.pid, " ".join(self._argv)
        for _ in every(0.002, seconds):
            if not self.alive or (_namespace_of(pid) == there and _command(pid) != way):
                return
        raise self.failure("did not come up")

    def wait_for(self, text: str, seconds: float = PATIENCE) -> None:
        """Return once its log contains the text; LabError when it ends before that, or takes longer."""
        for _ in every(0.02, seconds):
            alive = self.alive
            if text in self.log():
                return
            if not alive:
                break
        raise self.failure("did not come up")

    def failure(self, alive: str) -> LabError:
        """Return an error with its last words: that it ended, or, if it still runs, what it did instead."""
        how = alive if self.alive else f"ended with status {self.process.returncode}"
        last_words = " / ".join(self.log().strip().splitlines()[-3:]) or "nothing"
        return LabError(f"{self.name} {how}; it said: {last_words}")

    def stop(self, seconds: float = PATIENCE, signum: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end and return its exit status; LabError when it does not, after which it is killed."""
        if self.alive:
            self.process.send_signal(signum)
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise LabError(f"{self.name} did not end within {seconds:g} s and was killed") from None
        self.log()
        return status

    def kill(self) -> None:
        """End it with SIGKILL: no last words, no clean-up of its own."""
        self.process.kill()
        self.process.wait()
        self.log()


def every(interval: float, seconds: float) -> Iterator[None]:
    """Yield at once, then every `interval` seconds, for at most `seconds`: for polling what cannot be waited for."""
    deadline = time.monotonic() + seconds
    yield
    while time.monotonic() < deadline:
        time.sleep(interval)
        yield
