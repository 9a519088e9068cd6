"""The stats sockets: Unix or TCP stream sockets, their clients, and how much of the process those may take.

What a client says and is answered is `console`'s; here are the sockets. Clients are accepted while there is a place
(`stats maxconn`, for all sockets together); further ones wait in the kernel's queue and cost nothing. A client that
does not finish its line, or does not read its answer, is cut off after the timeout. A socket's buffers are all that
is kept for a client, but for the one line that it is sending and the piece of a reply that it is reading.

Packets come first. A reply is made in slices of half a millisecond, one slice of one client in each turn of the event
loop, so that the packets that came meanwhile are handled in between, however much is asked by however many.
"""

import asyncio
import contextlib
import errno
import grp
import os
import pwd
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from natlb.errors import RuntimeApiError
from natlb.log import fault, log
from natlb.readiness import readable
from natlb.remedies import OF_FILES
from natlb.runtime.console import Console
from natlb.runtime.language import Language, Level
from natlb.runtime.running import Running
from natlb.sockets import at_address, at_path

_SLICE: Final = 0.0005
"""Seconds of work on a reply before packets have their turn."""

_MOST_SENT_AT_ONCE: Final = 65536
"""Bytes of a reply that are kept while a client reads."""

_BACKLOG: Final = 1024
"""Clients that may wait for a place on each socket; the kernel makes the next ones wait before."""

_LOOKED_AFTER: Final = 2.0
"""Seconds from one look at the sockets' files to the next."""

_PATIENCE: Final = 1.0
"""Seconds until the next try when the system has no descriptor left for a client."""

_REMEDIES: Final[Mapping[int | None, str]] = {
    **OF_FILES,
    errno.EADDRINUSE: "a local process has that port; 'ss -ltnp' shows which",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address; add it, or give another",
    None: "give a path of at most 95 bytes",
}
"""What to do about an error of the system; None stands for a name too long for a Unix socket, which has no errno."""

_NO_SUCH_NAME: Final = "add it to the system, or name another"


@dataclass(frozen=True, slots=True)
class Access:
    """Where a socket is and who may use it for what."""

    path: str | None = None
    """Of a Unix socket; None for one of TCP."""
    address: tuple[str, int] | None = None
    """IP address and port of a TCP socket, which any program that reaches it may use."""
    level: Level = Level.OPERATOR
    mode: int = 0o600
    user: str | int | None = None
    """Name or number."""
    group: str | int | None = None
    severities: str = "none"
    """How messages are marked for clients that did not ask for it otherwise."""

    def __str__(self) -> str:
        """As `show cli sockets` has it."""
        if self.address is None:
            return f"unix@{self.path}"
        host, port = self.address
        return f"ipv6@[{host}]:{port}" if ":" in host else f"ipv4@{host}:{port}"


class _Listening:
    """A socket that clients come to."""

    def __init__(self, access: Access, inherited: socket.socket | None = None) -> None:
        """Open it, if it is not open already. Raises RuntimeApiError when that cannot be done."""
        self.access = access
        self.socket = inherited or _open(access)
        self.socket.setblocking(False)
        self.accepting: asyncio.Task[None]
        self._file = None if access.path is None else _identity(access.path)
        self.given_up = False
        """Whether it has lost its file for good, and that was told."""

    @property
    def is_lost(self) -> bool:
        """Whether its file is gone."""
        return self._file is not None and self._found() is None

    @property
    def is_replaced(self) -> bool:
        """Whether there is somebody else's in the place of its file."""
        return self._file is not None and self._found() not in (None, self._file)

    def _found(self) -> tuple[int, int] | None:
        try:
            return _identity(self.access.path or "")
        except OSError:  # natlb has become a user who may not look there
            return self._file

    def close(self, *, keep: bool = False) -> None:
        """Close it, and remove its file, if that is there and not kept for a successor."""
        self.accepting.cancel()
        self.socket.close()
        if self.access.path is not None and not keep and self._found() == self._file:
            with contextlib.suppress(OSError):
                Path(self.access.path).unlink()


class RuntimeServer:
    """Answers the clients of all stats sockets until `close`."""

    def __init__(
        self, sockets: Sequence[Access], running: Running, language: Language, *, timeout: float, most_clients: int
    ) -> None:
        """Prepare to serve; `timeout` is in seconds of a client's silence, `most_clients` for all sockets together."""
        self._accesses = tuple(sockets)
        self._running = running
        self._language = language
        self._timeout = timeout
        self._free_places = asyncio.Semaphore(most_clients)
        self._turn = asyncio.Lock()
        self._listening: list[_Listening] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, inherited: MutableMapping[Access, socket.socket] | None = None) -> None:
        """Open the sockets, within a running event loop. Raises RuntimeApiError when that cannot be done.

        Those `inherited` that are used are taken out.
        """
        for access in self._accesses:
            taken = inherited.pop(access, None) if inherited is not None else None
            self._listening.append(self._listen(access, taken))
        self._begin(self._look_after_files())

    @property
    def holdings(self) -> dict[Access, socket.socket]:
        """What to give to the one who is to listen at these sockets next."""
        return {each.access: each.socket for each in self._listening if not each.given_up}

    def close(self, *, keep: bool = False) -> None:
        """Stop answering, cut clients off, and remove the sockets' files unless a successor is to keep them."""
        for task in self._tasks:
            task.cancel()
        for each in self._listening:
            each.close(keep=keep)
        self._listening.clear()

    def _listen(self, access: Access, inherited: socket.socket | None = None) -> _Listening:
        made = _Listening(access, inherited)
        made.accepting = self._begin(self._accept(access, made.socket))
        return made

    async def _look_after_files(self) -> None:
        while True:
            await asyncio.sleep(_LOOKED_AFTER)
            for place, each in enumerate(self._listening):
                if each.given_up:
                    continue
                if each.is_replaced:
                    each.given_up = True
                    log.warning("stats socket %s: somebody else's file has taken its place", each.access)
                elif each.is_lost:
                    try:
                        self._listening[place] = self._listen(each.access)
                    except RuntimeApiError as error:
                        each.given_up = True
                        log.warning("its file was removed by somebody else, and cannot be made again: %s", error)
                    else:
                        each.close()
                        log.warning("stats socket %s: its file was removed by somebody else; made again", each.access)

    async def _accept(self, access: Access, listening: socket.socket) -> None:
        while True:
            await readable(listening)
            # Not before somebody is there: the place is for whoever comes first, at whichever socket.
            await self._free_places.acquire()
            try:
                client, _ = listening.accept()
            except BlockingIOError:  # it has gone again
                self._free_places.release()
            except OSError as error:
                self._free_places.release()
                log.warning("stats socket %s cannot accept a client: %s", access, error.strerror)
                await asyncio.sleep(_PATIENCE)
            else:
                client.setblocking(False)
                self._begin(self._serve(access, client), partial(self._leave, client))

    async def _serve(self, access: Access, client: socket.socket) -> None:
        console = Console(self._running, self._language, access.level, self._timeout)
        console.severities = access.severities
        try:
            while not console.finished:
                line = await self._line(client, console)
                if line is None:
                    break
                await self._reply(client, console, line)
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        except (OSError, TimeoutError):
            pass  # it has gone, or does not read: there is nobody to tell

    def _leave(self, client: socket.socket, _: asyncio.Task[None]) -> None:
        client.close()
        self._free_places.release()

    async def _line(self, client: socket.socket, console: Console) -> str | None:
        """Return the client's next command, or None when there is none to come. Raises TimeoutError."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(console.timeout):
            while (line := console.next_line()) is None and console.room:
                if console.served and not console.interactive and not console.waiting:
                    # What a client sends at once is answered as one; it need not say that it has finished.
                    try:
                        data = client.recv(console.room)
                    except BlockingIOError:
                        return None
                else:
                    data = await loop.sock_recv(client, console.room)
                if not data:
                    return None
                console.feed(data)
        return line

    async def _reply(self, client: socket.socket, console: Console, line: str) -> None:
        """Answer a command, a slice in each turn of the event loop. Raises TimeoutError if the client does not read."""
        loop = asyncio.get_running_loop()
        async with contextlib.aclosing(console.obey(line)) as pieces:
            going_on = True
            while going_on:
                made: list[str] = []
                async with self._turn:
                    going_on = await _slice(pieces, made, loop.time() + _SLICE)
                    self._running.afterwards()
                    # One slice in a turn: whoever comes next gets the lock in the next one.
                    await asyncio.sleep(0)
                async with asyncio.timeout(console.timeout):
                    await loop.sock_sendall(client, "".join(made).encode("utf-8", "replace"))

    def _begin(
        self, work: Coroutine[None, None, None], afterwards: Callable[[asyncio.Task[None]], None] | None = None
    ) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        if afterwards is not None:
            task.add_done_callback(afterwards)
        return task

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            fault("a stats socket's task ended", error)


def _identity(path: str) -> tuple[int, int] | None:
    """Return what a path leads to now, as device and inode; None if that is nothing. Raises OSError."""
    try:
        found = Path(path).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


async def _slice(pieces: AsyncIterator[str], made: list[str], until: float) -> bool:
    """Have pieces made until that time, or until they are much; return whether there are more."""
    now, size = asyncio.get_running_loop().time, 0
    async for piece in pieces:
        made.append(piece)
        size += len(piece)
        if size >= _MOST_SENT_AT_ONCE or now() >= until:
            return True
    return False


def _open(access: Access) -> socket.socket:
    def prepare(file: Path) -> None:
        user = pwd.getpwnam(access.user).pw_uid if isinstance(access.user, str) else access.user
        group = grp.getgrnam(access.group).gr_gid if isinstance(access.group, str) else access.group
        os.chown(file, -1 if user is None else user, -1 if group is None else group)
        file.chmod(access.mode)

    try:
        if access.address is not None:
            return at_address(*access.address, _BACKLOG)
        return at_path(Path(access.path or ""), socket.SOCK_STREAM, _BACKLOG, prepare)
    except (OSError, KeyError) as error:
        raise _failure(access, error) from error


def _failure(access: Access, error: OSError | KeyError) -> RuntimeApiError:
    """Return what to tell of a socket that could not be opened, with the remedy."""
    # A name too long for a Unix socket is an OSError without an errno, an unknown user a KeyError.
    reason = (isinstance(error, OSError) and error.strerror) or error.args[0]
    remedy = _REMEDIES.get(error.errno, "") if isinstance(error, OSError) else _NO_SUCH_NAME
    place = access.path if access.path is not None else str(access)
    directory = Path(access.path or "").parent
    return RuntimeApiError(
        f"Starting stats socket {place}: {reason}" + (f"; {remedy.format(directory=directory)}" if remedy else "")
    )
