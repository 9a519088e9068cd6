"""The state file: found, read, replaced by a new one, and kept or ended when natlb stops.

There is one for each queue of each network namespace, `<inode of the namespace>-<queue>.state` in a directory that only
root may enter. Whoever holds the queue is the only one to write it. A life goes like this:

    file = StateFile.open(directory, queue)        before anything is taken from the machine
    file.prepare(engine, services, pools, ...)     only if another natlb is about to hand over, which is still at work
    file.restore(engine, services, pools, ...)     when the queue is held, and before packets come
    file.settle(), file.refresh()                  after packets, and about once a second
    file.hand_over()                               a successor is about to read it, while the engine stands still
    file.take_back()                               only if that one has failed
    file.close(keep=...)                           when no packets come any more: kept for the next natlb, or not

What is read is never written to: a new file takes its place in one step, with all that goes on in it. A file that is
not to be believed is moved aside, so that it can be looked at, and so is one with damaged records in it.

Only what root or we have written is believed, in a directory where nobody else may write (`natlb.ownership`). The
directory is opened once, and then all is done in there and nowhere else; a file is asked whose it is when it is open,
and is another one's no more. What is no file at all, such as a symbolic link or a named pipe, is not opened.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import natlb
from natlb.core.engine import NatEngine
from natlb.core.flow import Connection
from natlb.core.pool import Pool
from natlb.core.service import Service
from natlb.core.stick import StickTable
from natlb.errors import HandoverError
from natlb.handover import tables
from natlb.handover.draft import Draft
from natlb.handover.layout import PAGE, Contents, Header, Refused, Stranger
from natlb.handover.place import here
from natlb.handover.recorder import Recorder
from natlb.ownership import doubt, doubt_about

DEFAULT_DIRECTORY: Final = "/run/natlb"

_ROOM_FOR_NAMES: Final = 65_536
"""Bytes for names of servers that come while natlb runs."""

_LARGEST: Final = 1 << 30
"""Bytes of a file that is looked at: more than the records, names and tables of any table of connections take."""

_KINDS: Final = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Foreign(Refused):
    """A file that others may have written, and nothing of it was read."""


class NoFile(Foreign):
    """Something in its place that is no file."""


@dataclass(slots=True)
class Restored:
    """What came of a restoration."""

    connections: int = 0
    """Connections that go on."""
    no_place: int = 0
    """Connections for which there is no room, or whose tuple is taken."""
    refused: int = 0
    """Records that are damaged."""
    retired: list[Connection] = field(default_factory=list)
    """Those of the connections that go on whose frontend or server is not in the configuration any more."""
    late: list[Connection] = field(default_factory=list)
    """Those of the connections that go on which `prepare` has not returned."""
    entries: int = 0
    """Entries of stick tables."""
    complaint: str = ""
    """Why a file was there that was not to be believed; empty otherwise."""
    is_from_elsewhere: bool = False
    """Whether that was all there is to say of it: of its connections none can exist here, so none is lost."""
    aside: Path | None = None
    """Where a damaged file is now, or one that others may have written, if it is kept."""
    failure: str = ""
    """Why nothing can be recorded from now on; empty if it can."""
    was_complete: bool = True
    """Whether the natlb before had stopped in order, and nothing was newer than the file."""


class StateFile:
    """The state file of one queue in this network namespace."""

    def __init__(self, path: Path, queue: int, *, made_directory: bool) -> None:
        """Name a file; use `open`."""
        self.path: Final = path
        self._made_directory = made_directory
        self._place = here(queue)
        self._recorder: Recorder | None = None
        self._tables: Collection[StickTable] = ()
        self._names = PAGE
        self._tell: Callable[[str], None] = lambda _: None
        self._handed_over = False
        self._draft: Draft | None = None
        self._is_in_place = False
        """Whether the file of this natlb is the one that the next one will find."""
        self._directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        objection = doubt_about(path.parent, os.fstat(self._directory))
        if objection:
            os.close(self._directory)
            raise HandoverError(
                f"connections will not survive a crash or a reload, and what is on record in there is not believed: "
                f"{objection}, or name another with --state DIR, or --state off"
            )

    @classmethod
    def open(cls, directory: str | Path, queue: int) -> "StateFile":
        """Return the file of a queue; nothing is read yet.

        Raises HandoverError if the directory cannot be had, or others may write to it.
        """
        directory = Path(directory).absolute()
        try:
            made = not directory.exists()
            if made:
                directory.mkdir(0o700, parents=True)
            elif not directory.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return cls(directory / f"{here(queue).namespace}-{queue}.state", queue, made_directory=made)
        except OSError as error:
            raise HandoverError(
                f"connections will not survive a crash or a reload: no state in {directory}: {error.strerror}; name "
                "another directory with --state DIR, or --state off"
            ) from error

    @property
    def recorder(self) -> Recorder | None:
        """What keeps the file up to date; None before `restore`, and when there is no room for a file at all."""
        return self._recorder

    def prepare(
        self,
        engine: NatEngine,
        services: Collection[Service],
        pools: Mapping[str, Pool],
        now: float,
        tell: Callable[[str], None],
    ) -> list[Connection]:
        """Have an engine go on with what a natlb that is at work has on record by now; return the connections.

        `restore`, of the same, makes it right when that one stands still. What is wrong with the file is left for then,
        and nothing of it is changed.
        """
        self._tell = tell
        draft = Draft(engine, services, pools)
        try:
            early = draft.take_early(self._data(), self._place, now)
        except (OSError, Refused):
            return []
        self._draft = draft
        self._reckon(services, pools, draft)
        with contextlib.suppress(OSError):  # `restore` tries it again, and says what is wrong
            self._make(engine)
        return early

    def restore(
        self,
        engine: NatEngine,
        services: Collection[Service],
        pools: Mapping[str, Pool],
        stick_tables: Collection[StickTable],
        now: float,
        tell: Callable[[str], None],
    ) -> Restored:
        """Have an engine go on with what the file holds, and follow the engine in a new file from then on.

        `tell` is told, in one line, when there comes to be no room to record connections. The queue must be held, and
        no packet decided about.
        """
        restored, self._tables, self._tell = Restored(), stick_tables, tell
        draft, self._draft = self._draft or Draft(engine, services, pools), None
        contents = self._contents(draft, restored, now)
        if contents is not None:
            restored.refused, restored.was_complete = contents.refused, contents.is_complete
            restored.late = draft.take(contents, now)
            restored.entries = tables.restore(contents.tables, engine, draft.connections, stick_tables, now)
        restored.connections, restored.no_place = len(draft.connections), len(draft.no_place)
        restored.retired = list(draft.retired.values())
        if self._recorder is None:
            self._reckon(services, pools, draft)
        restored.failure = self._begin(engine)
        return restored

    def settle(self) -> None:
        """Record what has changed with the last packets: see `Recorder.settle`."""
        if self._recorder is not None:
            self._recorder.settle()

    def refresh(self) -> Iterator[float]:
        """Bring the file up to date, a little at a time: see `Recorder.refresh`."""
        return self._recorder.refresh() if self._recorder is not None else iter(())

    def hand_over(self, now: float) -> None:
        """Complete the file for the next natlb, which reads it and replaces it while this one stands still."""
        if self._recorder is not None:
            self._recorder.complete(now)
            self._recorder.seal(tables.pack(self._recorder.engine, self._tables, now), now)
            self._handed_over = True

    def take_back(self) -> str:
        """Go on, in a new file; return why nothing can be recorded from now on, empty if it can."""
        self._handed_over = False
        recorder, self._recorder = self._recorder, None
        if recorder is None:
            return ""
        recorder.close()
        return self._begin(recorder.engine)

    def close(self, *, keep: bool, now: float = 0.0) -> None:
        """Follow the engine no more. What is kept for the next natlb is completed, at the time `now`, unless it is."""
        if keep and not self._handed_over:
            self.hand_over(now)
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            if not keep:
                # A natlb that has given up root may not remove the file, but its say in it is final.
                recorder.end()
                own = self.path if self._is_in_place else self._new
                with contextlib.suppress(OSError):
                    self._remove(own)
                    if self._made_directory:
                        self.path.parent.rmdir()
            recorder.close()
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1

    @property
    def _new(self) -> Path:
        return self.path.with_suffix(".new")

    def _data(self) -> bytes:
        """Return what stands in the file. Raises OSError, and Foreign if that is not to be believed, whatever it is."""
        name, directory = self.path.name, self._directory
        _check(os.stat(name, dir_fd=directory, follow_symlinks=False))
        # It may be another by now: so nothing is followed or waited for, and what is open is asked again.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=directory)
        try:
            status = os.fstat(descriptor)
            _check(status)
            if status.st_size > _LARGEST:
                return bytes(PAGE)
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read()
        finally:
            os.close(descriptor)

    def _contents(self, draft: Draft, restored: Restored, now: float) -> Contents | None:
        """Return what the file holds, or None, with nothing in the draft; a damaged one is moved aside."""
        contents = None
        try:
            contents = draft.read(self._data(), self._place, now)
        except OSError as error:
            draft.unmake(now)
            if not isinstance(error, FileNotFoundError | IsADirectoryError):  # of a directory `_begin` says it
                restored.complaint = f"it cannot be read: {error.strerror}"
            return None
        except Refused as reason:
            draft.unmake(now)
            restored.complaint, restored.is_from_elsewhere = str(reason), isinstance(reason, Stranger)
            if isinstance(reason, Stranger | NoFile):  # it is replaced, or removed: nobody is to open that by mistake
                return None
        if contents is None or contents.refused:
            restored.aside = self._put_aside()
        return contents

    def _put_aside(self) -> Path | None:
        """Keep the file by another name; return it, or None if that cannot be done."""
        aside = self.path.with_suffix(".damaged")
        try:
            self._move(self.path, aside)
        except OSError:
            return None
        return aside

    def _move(self, path: Path, to: Path) -> None:
        """Rename what is in the directory, in the place of what has that name there."""
        os.replace(path.name, to.name, src_dir_fd=self._directory, dst_dir_fd=self._directory)

    def _remove(self, path: Path) -> None:
        os.unlink(path.name, dir_fd=self._directory)

    def _reckon(self, services: Iterable[Service], pools: Mapping[str, Pool], draft: Draft) -> None:
        """Reckon with how many bytes of names there will be."""
        names = sum(len(service.name.encode()) + 6 for service in services)
        names += sum(len(each.encode()) + 6 for pool in pools.values() for each in (pool.name, *pool.servers))
        names += sum(len(part.encode()) for each in draft.retired.values() for part in _names_of(each))
        self._names = -(-(names + _ROOM_FOR_NAMES) // PAGE) * PAGE

    def _make(self, engine: NatEngine) -> None:
        """Make a new file beside the one that there is, and follow the engine in it. OSError if it cannot be done."""
        header = Header(self._place, self._names, version=natlb.__version__)
        with contextlib.suppress(FileNotFoundError):
            self._remove(self._new)
        # What is made is new, or it is not made: O_EXCL follows no symbolic link either.
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._new.name, flags, 0o600, dir_fd=self._directory)
        try:
            self._recorder = Recorder(engine, descriptor, header, self._tell)
        except OSError:
            os.close(descriptor)
            raise

    def _begin(self, engine: NatEngine) -> str:
        """Put a new file in the place of the one that there is; return why that cannot be done, empty if it can."""
        try:
            if self._recorder is None:
                self._make(engine)
            self.settle()
            self._move(self._new, self.path)
        except OSError as error:
            if self._recorder is not None:
                self._recorder.close()
                self._recorder = None
            where, remedy = self.path, "make room there"
            if isinstance(error, IsADirectoryError):
                where, remedy = (self._new if self._new.is_dir() else self.path), "remove that"
            for path in (self._new, self.path):
                with contextlib.suppress(OSError):
                    self._remove(path)
            return (
                f"connections will not survive a crash or a reload: cannot write {where}: {error.strerror}; "
                f"{remedy}, or name another directory with --state DIR"
            )
        self._is_in_place = True
        return ""


def _check(status: os.stat_result) -> None:
    """Raise Foreign if this is not to be believed, and IsADirectoryError for that."""
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if kind != stat.S_IFREG:
        raise NoFile(f"it is {_KINDS.get(kind, 'something else')}, which natlb makes none of")
    if why := doubt(status):
        raise Foreign(f"it {why}, and only what root alone can have written is believed")


def _names_of(connection: Connection) -> tuple[str, ...]:
    pool = connection.server.pool
    return connection.service.name, connection.server.name, pool.name if pool is not None else "", " " * 18
