"""What to do when the system does not let natlb make a file: the second half of an error message."""

import errno
from collections.abc import Mapping
from typing import Final

OF_FILES: Final[Mapping[int | None, str]] = {
    errno.ENOENT: "make its directory ('mkdir -p {directory}'), or give another path",
    errno.ENOTDIR: "give a path in a directory",
    errno.EISDIR: "give the path of a file in it",
    errno.EACCES: "natlb must be able to write to {directory}; give another path",
    errno.EROFS: "natlb must be able to write to {directory}; give another path",
    errno.ENOSPC: "make room where {directory} is ('df {directory}', 'df -i {directory}'), or give another path",
}
"""By errno, as an OSError has it; `directory` is the one that the file is to be in."""
