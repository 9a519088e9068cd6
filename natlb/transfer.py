"""From one natlb to the next: the sockets change hands, and there is no moment in which nobody has them.

A running natlb listens at a socket of its own in the state directory. The next one, started with `-sf`, has read and
checked its configuration, imported and assembled everything; then it connects. What follows is a conversation of few
words:

    new   estate                   what do you have?
    old   (names, descriptors)     the queue's socket, reserved ports, listening sockets, maps of the fast path: copies
                                   of all of them
    new                            binds what is new in its configuration; if that fails, nothing has happened yet
    new   record                   bring your record of connections up to date
    old   recorded                 which it has done between packets
    new                            goes on with what is on record, as far as nothing has changed since
    new   yield                    I have everything that can be had without you
    old                            stands still: no packet, no timer; completes the state file
    old   yours (rules)            with the fingerprint of the rules that stand
    new                            makes up for what has changed in the record and the rules, opens the rest
    new   thanks                   I go on from here
    old   farewell                 and ends, leaving everything in its place

Until it has heard "thanks" the old one has lost nothing. If the new one fails, dies, or takes too long, the old one
goes on where it stood. The queue's socket is open in either all the time, so the kernel keeps the packets that come
meanwhile, and whoever goes on decides about them: not one is lost.

Whoever may speak here gets natlb's place, so the socket is in a directory of root's and asks the kernel who it is
that connects: root, or the user that natlb was started by. A signal alone hands nothing over.
"""

import asyncio
import contextlib
import os
import select
import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from natlb.errors import ProcessError
from natlb.log import log
from natlb.ownership import doubt_about
from natlb.sockets import at_path

Estate = dict[str, int]
"""Descriptors by what they are for."""

PATIENCE: Final = 15.0
"""Seconds for which the old one stands still at most. The new one needs less than a tenth of one, unless another
program holds iptables' lock, for which it waits some seconds itself."""

_UNDECIDED: Final = 600.0
"""Seconds for which the new one may prepare itself, and wait for others to end whose place it takes too."""

_ANSWERS_WITHIN: Final = 30.0
"""Seconds in which the old one answers. It may be in the middle of a change of its servers, which it ends first."""

_LISTENS_WITHIN: Final = 1.0
"""Seconds in which the new one takes what the old one, which balances meanwhile, is giving to it."""

_LAST_STEPS: Final = 10.0
"""Seconds in which the old one that has handed everything over ends."""

_LONGEST: Final = 1 << 16
_AT_ONCE: Final = 128
"""Descriptors in one message: the kernel takes up to 253."""
_CREDENTIALS: Final = struct.Struct("=iII")
"""struct ucred (unix(7)): process, user, group."""


def place(directory: str, queue: int) -> Path:
    """Return where the natlb that holds a queue of this network namespace listens."""
    return Path(directory) / f"{Path('/proc/self/ns/net').stat().st_ino}-{queue}.sock"


class Offer:
    """The old one's side: a socket at which successors are expected."""

    def __init__(self, path: Path, inherited: socket.socket | None = None) -> None:
        """Listen at a path, or go on listening where a predecessor has; from `begin` on.

        ProcessError when that cannot be done.
        """
        self._path = path
        self._user = os.geteuid()
        self.socket: Final = inherited or _listening(path)

    def begin(self) -> None:
        """Expect successors as this process: whoever connects is told its number by the kernel."""
        self.socket.listen(1)
        self.socket.setblocking(False)

    def accept(self) -> "Heir | None":
        """Return who has connected, if he may."""
        try:
            connected, _ = self.socket.accept()
        except OSError:
            return None
        pid, user = _peer(connected)
        if user not in (0, self._user):
            connected.close()
            return None
        return Heir(connected, pid)

    def close(self, *, keep: bool = False) -> None:
        """Expect nobody any more; what is kept is a successor's."""
        self.socket.close()
        if not keep:
            with contextlib.suppress(OSError):  # of another user it stays, and is replaced at the next start
                self._path.unlink()


class Heir:
    """A natlb that wants to take this one's place, as this one sees it."""

    def __init__(self, connected: socket.socket, pid: int) -> None:
        self.socket: Final = connected
        self.pid: Final = pid
        connected.setblocking(False)

    async def hear(self) -> str:
        """Return its next words; nothing when it has gone. OSError when it does not speak for too long."""
        try:
            async with asyncio.timeout(_UNDECIDED):
                said = await asyncio.get_running_loop().sock_recv(self.socket, _LONGEST)
        except TimeoutError as error:
            raise OSError(f"it has said nothing for {_UNDECIDED:g} seconds") from error
        return said.decode("utf-8", "replace")

    def give(self, estate: Mapping[str, int]) -> None:
        """Hand over copies of everything, descriptors by name. OSError when it does not listen."""
        self.socket.settimeout(_LISTENS_WITHIN)
        things = list(estate.items())
        for start in range(0, len(things), _AT_ONCE):
            piece = things[start : start + _AT_ONCE]
            names = "\n".join(name for name, _ in piece).encode()
            socket.send_fds(self.socket, [names], [each for _, each in piece])
        self.socket.send(b".")
        self.socket.setblocking(False)

    def confirm(self) -> None:
        """Say that everything is on record. OSError when it does not listen."""
        self.socket.send(b"recorded")

    def yield_to(self, rules: str) -> str:
        """Say that everything is this natlb's now and wait, blocking, for its word.

        `rules` is the fingerprint of those that stand, one word. Return nothing if it goes on from here, else why it
        does not; then nothing has changed hands.
        """
        self.socket.settimeout(PATIENCE)
        try:
            with contextlib.suppress(BrokenPipeError):  # it has said why
                self.socket.send(f"yours {rules}".encode())
            word, _, reason = self.socket.recv(_LONGEST).decode("utf-8", "replace").partition(" ")
        except TimeoutError:
            return f"it was not ready within {PATIENCE:g} seconds"
        except OSError as error:
            return str(error.strerror)
        return "" if word == "thanks" else reason or "it has ended"

    def bid_farewell(self, *, ends: bool) -> None:
        """Let it go on; `ends` is whether this process ends now."""
        with contextlib.suppress(OSError):
            self.socket.send(b"farewell" if ends else b"farewell, but the process stays")

    def close(self) -> None:
        """Speak with it no more."""
        self.socket.close()


class Predecessor:
    """The natlb whose place is to be taken, as the new one sees it. Leaving its context by an error tells it why."""

    def __init__(self, connected: socket.socket, pid: int) -> None:
        self._socket = connected
        self.pid: Final = pid
        self._process: int | None = None
        self._asked = 0.0
        self.stood_still: float | None = None
        """Seconds for which packets have waited, when all of it is over."""
        with contextlib.suppress(ProcessLookupError):
            self._process = os.pidfd_open(pid)

    def is_known_as(self, pid: int) -> bool:
        """Whether it is meant by a process's number: its own, or its parent's."""
        return pid in (self.pid, parent_of(self.pid))

    def estate(self) -> Estate:
        """Return copies of all descriptors that it has. ProcessError when it does not answer."""
        self._say("estate")
        estate: Estate = {}
        while True:
            try:
                text, descriptors, flags, _ = socket.recv_fds(self._socket, _LONGEST, _AT_ONCE)
            except OSError as error:
                raise self._silence(error) from error
            names = text.decode().split("\n") if descriptors else []
            for name, descriptor in zip(names, descriptors, strict=False):
                os.set_inheritable(descriptor, False)  # programs that are started are to have none of them
                estate[name] = descriptor
            if flags & socket.MSG_CTRUNC or len(names) != len(descriptors):
                raise ProcessError(
                    f"too few descriptors for all that natlb {self.pid} has: raise the limit ('ulimit -n') that this "
                    "one is started with"
                )
            if not text:
                raise self._silence()
            if not descriptors:
                return estate

    def ask_to_record(self) -> None:
        """Have it bring its record of connections up to date. ProcessError when it does not."""
        self._say("record")
        if self._hear() != "recorded":
            raise self._silence()

    def ask_to_yield(self) -> str:
        """Have it stand still, its state complete; return the fingerprint of its rules. ProcessError if it does not."""
        self._asked = time.monotonic()
        self._say("yield")
        word, _, rules = self._hear().partition(" ")
        if word != "yours":
            raise self._silence()
        return rules

    def thank(self) -> bool:
        """Take its place; return whether its process ends now. ProcessError when it has gone on by itself."""
        with contextlib.suppress(ProcessError):
            self._say("thanks")
            answer = self._hear()
            if answer.startswith("farewell"):
                self.stood_still = time.monotonic() - self._asked
                return answer == "farewell"
        # It has closed the connection without a word: because it goes on, or has died, and then everything is ours.
        if self.wait(time.monotonic() + 1.0):
            return True
        raise ProcessError(f"natlb {self.pid} has waited too long for this one, and goes on by itself; try again")

    def wait(self, until: float) -> bool:
        """Wait for its end, blocking, until a time on the monotonic clock; return whether it has come."""
        if self._process is None:
            return True
        return bool(select.select([self._process], [], [], max(0.0, until - time.monotonic()))[0])

    async def see_off(self, *, ends: bool) -> None:
        """Wait for its end when it has handed everything over, if it ends: it is expected to be gone."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _LAST_STEPS
        while ends and not self.wait(time.monotonic()):
            if loop.time() >= until:
                log.warning("natlb %d has handed everything over and does not end: look what holds it up", self.pid)
                return
            await asyncio.sleep(0.01)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            with contextlib.suppress(ProcessError):
                self._say(f"failed {error}")
        self.close()

    def close(self) -> None:
        """Speak with it no more."""
        self._socket.close()
        if self._process is not None:
            os.close(self._process)
            self._process = None

    def _say(self, text: str) -> None:
        try:
            self._socket.send(text.encode("utf-8", "replace")[:_LONGEST])
        except OSError as error:
            raise self._silence(error) from error

    def _hear(self) -> str:
        try:
            return self._socket.recv(_LONGEST).decode("utf-8", "replace")
        except OSError as error:
            raise self._silence(error) from error

    def _silence(self, error: OSError | None = None) -> ProcessError:
        why = f" ({error.strerror})" if error is not None and error.strerror else ""
        return ProcessError(f"natlb {self.pid} does not hand over{why}; it goes on, and this one ends")


def find(path: Path, pids: Sequence[int]) -> Predecessor | None:
    """Connect to the natlb that listens at a path, if it is one of these processes or has one of them as its parent.

    Where others may write none listens: what there is may be anybody's.
    """
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with _opened(path.parent) as directory:
            if doubt_about(path.parent, directory.stat()):
                connected.close()
                return None
            connected.settimeout(_ANSWERS_WITHIN)
            connected.connect(str(directory / path.name))
    except OSError:
        connected.close()
        return None
    pid, _ = _peer(connected)
    if pid in pids or parent_of(pid) in pids:
        return Predecessor(connected, pid)
    connected.close()
    return None


def parent_of(pid: int) -> int:
    """Return the parent of a process; 0 if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return int(text.rpartition(")")[2].split()[1])


def _peer(connected: socket.socket) -> tuple[int, int]:
    """Return the process and the user at the other end."""
    credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, user, _ = _CREDENTIALS.unpack(credentials)
    return pid, user


def _listening(path: Path) -> socket.socket:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _opened(path.parent) as directory:
            if objection := doubt_about(path.parent, directory.stat()):
                raise ProcessError(f"{objection}, or name another with --state")
            return at_path(directory / path.name, socket.SOCK_SEQPACKET, 1)
    except OSError as error:
        raise ProcessError(
            f"cannot open {path}: {error.strerror or error}; name another directory with --state"
        ) from error


@contextlib.contextmanager
def _opened(directory: Path) -> Iterator[Path]:
    """Open a directory; hand out a short path to it. A socket's path has 107 bytes at most (unix(7)), others' not."""
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
