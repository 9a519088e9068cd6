"""libbpf, as far as natlb needs it, by ctypes.

libbpf (Debian package libbpf1) opens the object file, creates its maps, relocates the program and has the kernel verify
it; and it reads ring buffers. All that is called stands in one table, `_FUNCTIONS`, with its types. What can be freed
is an object with `close`. What libbpf has to say it would write to standard error: it is caught instead, and the line
of it in which the kernel says why is part of the message when loading fails.
"""

import contextlib
import ctypes
import errno
import mmap
import os
from collections import deque
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, Final

from natlb.errors import OffloadError

LOCK: Final = 4
"""linux/bpf.h, BPF_F_LOCK: copy a value while its lock is held, so that it is never half of one and half of another."""

_NAMES: Final = ("libbpf.so.1", "libbpf.so.2")
_PRINTED: Final = 1000
"""Lines of libbpf that are kept, the last ones."""
_LONGEST: Final = 1 << 20
"""Bytes of what it says at once: all that the kernel's verifier has to say, as a rule."""
_NOISE: Final = ("libbpf: ", "processed ", "verification time ", "stack depth ", "--")
"""How lines begin that say no reason."""

_FUNCTIONS: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "bpf_object__open_mem": (c_void_p, (c_char_p, c_size_t, c_void_p)),
    "bpf_object__load": (c_int, (c_void_p,)),
    "bpf_object__close": (None, (c_void_p,)),
    "bpf_object__find_map_by_name": (c_void_p, (c_void_p, c_char_p)),
    "bpf_object__find_program_by_name": (c_void_p, (c_void_p, c_char_p)),
    "bpf_program__fd": (c_int, (c_void_p,)),
    "bpf_map__fd": (c_int, (c_void_p,)),
    "bpf_map__initial_value": (c_void_p, (c_void_p, POINTER(c_size_t))),
    "bpf_map__set_max_entries": (c_int, (c_void_p, c_uint32)),
    "bpf_map__reuse_fd": (c_int, (c_void_p, c_int)),
    "bpf_map_update_elem": (c_int, (c_int, c_void_p, c_void_p, c_uint64)),
    "bpf_map_lookup_elem_flags": (c_int, (c_int, c_void_p, c_void_p, c_uint64)),
    "bpf_map_update_batch": (c_int, (c_int, c_void_p, c_void_p, POINTER(c_uint32), c_void_p)),
    "bpf_map_delete_batch": (c_int, (c_int, c_void_p, POINTER(c_uint32), c_void_p)),
    "bpf_map_lookup_batch": (c_int, (c_int, c_void_p, c_void_p, c_void_p, c_void_p, POINTER(c_uint32), c_void_p)),
    "bpf_prog_get_fd_by_id": (c_int, (c_uint32,)),
    "bpf_map_get_fd_by_id": (c_int, (c_uint32,)),
    "bpf_obj_get_info_by_fd": (c_int, (c_int, c_void_p, POINTER(c_uint32))),
    "ring_buffer__new": (c_void_p, (c_int, c_void_p, c_void_p, c_void_p)),
    "ring_buffer__add": (c_int, (c_void_p, c_int, c_void_p, c_void_p)),
    "ring_buffer__consume": (c_int, (c_void_p,)),
    "ring_buffer__epoll_fd": (c_int, (c_void_p,)),
    "ring_buffer__free": (None, (c_void_p,)),
}

_PRINTER = ctypes.CFUNCTYPE(c_int, c_int, c_void_p, c_void_p)
_ON_RECORD = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)

_printed: deque[str] = deque(maxlen=_PRINTED)
_library: ctypes.CDLL | None = None


class _BatchOptions(ctypes.Structure):
    _fields_ = (("size", c_size_t), ("elem_flags", c_uint64), ("flags", c_uint64))


class _MapInfo(ctypes.Structure):
    """The start of linux/bpf.h, struct bpf_map_info."""

    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("key_size", c_uint32),
        ("value_size", c_uint32),
        ("max_entries", c_uint32),
        ("map_flags", c_uint32),
        ("name", ctypes.c_char * 16),
    )


class _ProgramInfo(ctypes.Structure):
    """The start of linux/bpf.h, struct bpf_prog_info."""

    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("tag", ctypes.c_ubyte * 8),
        ("jited_prog_len", c_uint32),
        ("xlated_prog_len", c_uint32),
        ("jited_prog_insns", c_uint64),
        ("xlated_prog_insns", c_uint64),
        ("load_time", c_uint64),
        ("created_by_uid", c_uint32),
        ("nr_map_ids", c_uint32),
        ("map_ids", c_uint64),
    )


def _keep(_level: int, form: int, arguments: int) -> int:
    line = ctypes.create_string_buffer(_LONGEST)
    ctypes.CDLL(None).vsnprintf(line, c_size_t(len(line)), c_void_p(form), c_void_p(arguments))
    _printed.extend(line.value.decode(errors="replace").splitlines())
    return 0


_keeper = _PRINTER(_keep)


def library() -> ctypes.CDLL:
    """Return libbpf, loaded once; OffloadError if it is not there or too old."""
    global _library  # noqa: PLW0603 (a library is loaded once in a process)
    if _library is None:
        for name in _NAMES:
            with contextlib.suppress(OSError):
                found = ctypes.CDLL(name, use_errno=True)
                break
        else:
            raise OffloadError("libbpf is not installed: 'apt install libbpf1'")
        for function, (returns, arguments) in _FUNCTIONS.items():
            try:
                called = getattr(found, function)
            except AttributeError:
                raise OffloadError(f"{name} has no {function}: it must be version 1.0 or later") from None
            called.restype, called.argtypes = returns, arguments
        found.libbpf_set_print(_keeper)
        _library = found
    return _library


class Map:
    """A map of the kernel. Raises OSError when the kernel refuses what is asked, but for what is just not there."""

    def __init__(self, descriptor: int, key_size: int, value_size: int, capacity: int) -> None:
        self._bpf = library()
        self.descriptor: Final = descriptor
        self.capacity: Final = capacity
        self._key_size = key_size
        self._value_size = value_size
        self._value = ctypes.create_string_buffer(value_size)
        self._count = c_uint32()

    def update(self, key: bytes, value: bytes, flags: int = 0) -> None:
        """Enter a value."""
        _checked(self._bpf.bpf_map_update_elem(self.descriptor, key, value, flags))

    def lookup(self, key: bytes, flags: int = 0) -> bytes | None:
        """Return the value of a key, or None."""
        result = self._bpf.bpf_map_lookup_elem_flags(self.descriptor, key, self._value, flags)
        if result == -errno.ENOENT:
            return None
        _checked(result)
        return self._value.raw

    def memory(self) -> memoryview:
        """Return all values of an array that can be mapped, as words of four bytes: what is written is there at once.

        It is the kernel's memory until it is released.
        """
        return memoryview(mmap.mmap(self.descriptor, self.capacity * self._value_size)).cast("I")

    def update_all(self, keys: bytes, values: bytes) -> int:
        """Enter values under as many keys, all in a row; return how many found room."""
        count = self._count
        count.value = wanted = len(keys) // self._key_size
        result = self._bpf.bpf_map_update_batch(self.descriptor, keys, values, count, None)
        if result in (-errno.E2BIG, -errno.ENOMEM):
            return count.value
        _checked(result)
        return wanted

    def delete_all(self, keys: bytes) -> None:
        """Remove keys, all in a row; it does not matter if one is not there."""
        count, size = self._count, self._key_size
        while keys:
            count.value = len(keys) // size
            result = self._bpf.bpf_map_delete_batch(self.descriptor, keys, count, None)
            if result != -errno.ENOENT:
                _checked(result)
                return
            keys = keys[size * (count.value + 1) :]


class Pieces:
    """Going over a map, at most `most` entries in a call: what comes and goes meanwhile may be met or missed."""

    def __init__(self, which: Map, most: int, flags: int = 0) -> None:
        self._map = which
        self._most = most
        self._bpf = library()
        self._keys = ctypes.create_string_buffer(most * which._key_size)  # noqa: SLF001 (its own iterator)
        self._values = ctypes.create_string_buffer(most * which._value_size)  # noqa: SLF001
        self._position = ctypes.create_string_buffer(max(4, which._key_size))  # noqa: SLF001
        self._options = _BatchOptions(ctypes.sizeof(_BatchOptions), flags, 0)
        self._started = False
        self._over = False
        self.values: Final = memoryview(self._values).cast("B")
        """The values of the piece that was read last, one after the other."""
        self.keys: Final = memoryview(self._keys).cast("B")
        """Their keys."""

    def start(self, after: bytes | None = None) -> None:
        """Begin again; in an array, after the entry of this key."""
        self._over = False
        self._started = after is not None
        if after is not None:
            ctypes.memmove(self._position, after, len(after))

    def read(self, most: int | None = None) -> int:
        """Read the next piece; return how many entries it has, 0 at the end."""
        if self._over:
            return 0
        count = c_uint32(min(most or self._most, self._most))
        result = self._bpf.bpf_map_lookup_batch(
            self._map.descriptor,
            self._position if self._started else None,
            self._position,
            self._keys,
            self._values,
            count,
            ctypes.byref(self._options),
        )
        self._started = True
        if result == -errno.ENOENT:
            self._over = True
        else:
            _checked(result)
        return count.value


class Ring:
    """Ring buffers that are read together. A record is handed to the function of its ring, as bytes."""

    def __init__(self, *rings: tuple[Map, Callable[[bytes], None]]) -> None:
        self._bpf = library()
        self._callbacks = [_ON_RECORD(_receiver(receive)) for _, receive in rings]
        self._rings: int | None = None
        for (source, _), callback in zip(rings, self._callbacks, strict=True):
            called = ctypes.cast(callback, c_void_p)
            if self._rings is None:
                self._rings = self._bpf.ring_buffer__new(source.descriptor, called, None, None)
                if not self._rings:
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            else:
                _checked(self._bpf.ring_buffer__add(self._rings, source.descriptor, called, None))

    def fileno(self) -> int:
        """Return what is readable while there are records."""
        return int(self._bpf.ring_buffer__epoll_fd(self._rings))

    def consume(self) -> None:
        """Hand out all records that are there."""
        _checked(self._bpf.ring_buffer__consume(self._rings))

    def close(self) -> None:
        """Give the buffers back."""
        if self._rings is not None:
            self._bpf.ring_buffer__free(self._rings)
            self._rings = None


@cache
def content_of(path: Path) -> bytes:
    """Return what is in a file, read once; OffloadError, with the remedy, if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise OffloadError(f"cannot read {path}: {error.strerror}: reinstall natlb") from error


class Object:
    """An object file with one program, opened; its maps come to life with `load`."""

    def __init__(self, path: Path) -> None:
        """Open it; OffloadError if it cannot be read, or is none."""
        self._bpf = library()
        content = content_of(path)
        self._object = self._bpf.bpf_object__open_mem(content, len(content), None)
        if not self._object:
            raise OffloadError(f"libbpf cannot read {path} ({_last_words()}): reinstall natlb")

    def constants(self, name: str) -> bytes:
        """Return the content of a map as it is in the file: read-only data."""
        size = c_size_t()
        at = self._bpf.bpf_map__initial_value(self._map(name), size)
        return ctypes.string_at(at, size.value) if at else b""

    def set_capacity(self, name: str, entries: int) -> None:
        """Make a map as large as this."""
        _checked(self._bpf.bpf_map__set_max_entries(self._map(name), entries))

    def reuse(self, name: str, descriptor: int) -> None:
        """Use a map that is there, in the place of a new one."""
        _checked(self._bpf.bpf_map__reuse_fd(self._map(name), descriptor))

    def load(self) -> None:
        """Create the maps and have the kernel verify the program; OffloadError, with the kernel's words, if not."""
        _printed.clear()
        result = self._bpf.bpf_object__load(self._object)
        if result == -errno.EPERM:
            raise OffloadError("the kernel does not permit it: it takes root, or CAP_BPF and CAP_NET_ADMIN")
        if result:
            reason = f"{os.strerror(-result)}; {_last_words()}"
            raise OffloadError(f"the kernel refuses the program ({reason}): it takes Linux 5.8 or later")

    def program(self, name: str) -> int:
        """Return the descriptor of a loaded program."""
        return int(self._bpf.bpf_program__fd(self._bpf.bpf_object__find_program_by_name(self._object, name.encode())))

    def map(self, name: str) -> Map:
        """Return a map, once loaded."""
        descriptor = int(self._bpf.bpf_map__fd(self._map(name)))
        _, key_size, value_size, capacity = map_info(descriptor)
        return Map(descriptor, key_size, value_size, capacity)

    def close(self) -> None:
        """Let go of the program and of its maps: what nobody else holds is gone."""
        if self._object:
            self._bpf.bpf_object__close(self._object)
            self._object = None

    def _map(self, name: str) -> int:
        return int(self._bpf.bpf_object__find_map_by_name(self._object, name.encode()))


def map_info(descriptor: int) -> tuple[str, int, int, int]:
    """Return name, sizes of key and value, and capacity of a map."""
    info = _MapInfo()
    _checked(library().bpf_obj_get_info_by_fd(descriptor, ctypes.byref(info), c_uint32(ctypes.sizeof(info))))
    return info.name.decode(), info.key_size, info.value_size, info.max_entries


def maps_of(program: int) -> dict[str, int]:
    """Return descriptors of the maps of a program, by name, to be closed; `program` is the kernel's number."""
    bpf = library()
    descriptor = _checked(bpf.bpf_prog_get_fd_by_id(program))
    found: dict[str, int] = {}
    try:
        ids = (c_uint32 * 16)()
        info = _ProgramInfo(nr_map_ids=len(ids), map_ids=ctypes.addressof(ids))
        _checked(bpf.bpf_obj_get_info_by_fd(descriptor, ctypes.byref(info), c_uint32(ctypes.sizeof(info))))
        for number in ids[: min(info.nr_map_ids, len(ids))]:
            held = _checked(bpf.bpf_map_get_fd_by_id(number))
            found[map_info(held)[0]] = held
    except OSError:
        for held in found.values():
            os.close(held)
        raise
    finally:
        os.close(descriptor)
    return found


def _receiver(receive: Callable[[bytes], None]) -> Callable[[int, int, int], int]:
    def on_record(_context: int, data: int, size: int) -> int:
        receive(ctypes.string_at(data, size))
        return 0

    return on_record


def _checked(result: int) -> int:
    """Return what libbpf has returned, or raise OSError: it returns -errno."""
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


def _last_words() -> str:
    """Return the last line of libbpf that says something, and if it can be, the kernel's own."""
    lines = [line.strip() for line in _printed if line.strip()]
    telling = [line for line in lines if not line.startswith(_NOISE)] or lines
    return telling[-1] if telling else "it says no more"
