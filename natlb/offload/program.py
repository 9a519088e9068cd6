"""The program and its maps: loaded, and joined to what an earlier run of natlb has left.

A filter holds the program, and the program its maps. So when natlb is killed, they stay, and the packets of the
connections in them go on. The next start finds the filters by their name, asks which maps their program has, and loads
its own program onto these, if they have the layout that it knows. The old program runs until the new one takes its
place on each interface, on the same maps, so not one packet sees the change.

To open a map by its number takes CAP_SYS_ADMIN. A run that hands over gives descriptors of its maps away, and who has
those needs no more than to use them.
"""

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from natlb.errors import OffloadError
from natlb.offload import layout, libbpf

OBJECT: Final = Path(__file__).with_name("flow.bpf.o")
PROGRAM: Final = "natlb"

_SIZES: Final = {
    "flows": (layout.KEY.size, layout.FLOW.size),
    "connections": (4, layout.CONNECTION.size),
    "handled": (4, layout.HANDLED.size),
    "settings": (4, layout.SETTINGS.size),
    "events": (0, 0),
    "samples": (0, 0),
}
"""Of key and value, by map. The two rings have neither."""
_FIRST: Final = bytes(4)


class Program:
    """The program, loaded."""

    def __init__(self, capacity: int, left: Iterable[int] = (), handed_over: Mapping[str, int] | None = None) -> None:
        """Load it, for so many connections; onto maps that were handed over or `left`, if they fit.

        What was left is known by the kernel's numbers of programs, what was handed over by descriptors of maps, which
        stay the caller's. OffloadError, with the reason and the remedy, if it cannot be had.
        """
        self._object = libbpf.Object(OBJECT)
        self.inherited = False
        """Whether the maps are those of an earlier run."""
        try:
            layout.check(self._object.constants(".rodata"))
            found = _copies(handed_over or {}) or _maps_left(left)
            try:
                for name, descriptor in found.items():
                    self._object.reuse(name, descriptor)
            finally:
                for descriptor in found.values():
                    os.close(descriptor)
            self.inherited = bool(found)
            if not found:
                self._object.set_capacity("flows", 2 * capacity)
                self._object.set_capacity("connections", capacity)
                self._object.set_capacity("handled", capacity)
            self._object.load()
            self.descriptor: Final = self._object.program(PROGRAM)
            self.flows: Final = self._object.map("flows")
            self.connections: Final = self._object.map("connections")
            self.handled: Final = self._object.map("handled").memory()
            self.events: Final = self._object.map("events")
            self.samples: Final = self._object.map("samples")
            self._settings = self._object.map("settings")
            self._sampled = 0
            self._narrowest = (0, 0)
            self._set()
        except OSError as error:
            self._object.close()
            raise OffloadError(
                f"the kernel refuses the maps of the fast path: {os.strerror(error.errno or 0)}"
            ) from error
        except OffloadError:
            self._object.close()
            raise

    @property
    def maps(self) -> dict[str, int]:
        """Descriptors of the maps, by name."""
        return {name: self._object.map(name).descriptor for name in _SIZES}

    def sample(self, share: float) -> None:
        """Have a share of the packets, from 0 to 1, copied for the audit."""
        self._sampled = min(int(share * 2**32), 2**32 - 1)
        self._set()

    def limit(self, narrowest: tuple[int, int]) -> None:
        """Have larger packets handled elsewhere, in bytes, over IPv4 and over IPv6; 0 is no limit."""
        self._narrowest = narrowest
        self._set()

    def close(self) -> None:
        """Let go of the program and the maps. What filters hold stays."""
        self.handled.release()
        self._object.close()

    def _set(self) -> None:
        self._settings.update(_FIRST, layout.SETTINGS.pack(layout.LAYOUT, self._sampled, *self._narrowest))


def _copies(handed_over: Mapping[str, int]) -> dict[str, int]:
    """Return descriptors of maps that were handed over, if they can be used again, or nothing."""
    with contextlib.suppress(OSError):
        if _fit(handed_over):
            return {name: os.dup(descriptor) for name, descriptor in handed_over.items()}
    return {}


def _maps_left(programs: Iterable[int]) -> dict[str, int]:
    """Return descriptors of the maps that can be used again, or nothing."""
    for program in programs:
        with contextlib.suppress(OSError):
            found = libbpf.maps_of(program)
            ours = {name: descriptor for name, descriptor in found.items() if name in _SIZES}
            for name in found.keys() - ours.keys():
                os.close(found[name])
            if _fit(ours):
                return ours
            for descriptor in ours.values():
                os.close(descriptor)
    return {}


def _fit(maps: Mapping[str, int]) -> bool:
    """Whether maps that were left have the layout that this natlb knows."""
    if maps.keys() != _SIZES.keys():
        return False
    if any(libbpf.map_info(descriptor)[1:3] != _SIZES[name] for name, descriptor in maps.items()):
        return False
    settings = libbpf.Map(maps["settings"], *libbpf.map_info(maps["settings"])[1:]).lookup(_FIRST)
    return settings is not None and layout.SETTINGS.unpack(settings)[0] == layout.LAYOUT
