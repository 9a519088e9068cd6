"""Packets to a pcap: nanoseconds, raw IP, always in the same byte order, so that the same packets are the same file."""

from struct import Struct
from typing import BinaryIO, Final

from natlb.captures.files import LARGEST
from natlb.captures.links import RAW
from natlb.errors import CaptureError

_HEADER: Final = Struct("<IHHiIII")
_RECORD: Final = Struct("<IIII")
_NANOSECONDS: Final = 0xA1B23C4D
_SECOND: Final = 1_000_000_000


class Writer:
    """A pcap being written."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        """Write to `file`, which messages call `name`. Raises CaptureError, as `write` does."""
        self._file = file
        self._name = name
        self._put(_HEADER.pack(_NANOSECONDS, 2, 4, 0, 0, LARGEST, RAW))

    def write(self, at: int, packet: bytes | bytearray, size: int) -> None:
        """Write a packet, from its IP header on, at so many nanoseconds since the epoch.

        `size` is how many bytes there would be, were it whole.
        """
        self._put(_RECORD.pack(at // _SECOND & 0xFFFFFFFF, at % _SECOND, len(packet), size) + packet)

    def flush(self) -> None:
        """See to it that all is written."""
        self._put(b"")
        try:
            self._file.flush()
        except OSError as error:
            raise self._failed(error) from error

    def _put(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> CaptureError:
        return CaptureError(f"cannot write {self._name}: {error.strerror or error}")
