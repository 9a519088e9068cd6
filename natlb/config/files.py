"""The files that a configuration is read from.

A directory stands for the `*.cfg` files in it, in the order of their names; hidden files and whatever is no regular
file are passed over, as HAProxy does. What cannot be read is reported, by HAProxy's sentence; so is a name that leads
nowhere, since whoever has put it there means something to be read.
"""

from collections.abc import Sequence
from errno import ENOENT
from os import strerror
from pathlib import Path
from stat import S_ISREG

from natlb.config.diagnostics import Diagnostic


def read(paths: Sequence[str]) -> tuple[list[tuple[str, bytes]], list[Diagnostic]]:
    """Each file's name and content, in order, and an ALERT for each path that gave none."""
    files: list[tuple[str, bytes]] = []
    diagnostics: list[Diagnostic] = []
    for path in paths:
        try:
            names = _expand(path)
            if not names:
                diagnostics.append(_cannot_open(path, "no .cfg file in it"))
            files += [(name, Path(name).read_bytes()) for name in names]
        except OSError as error:
            diagnostics.append(_cannot_open(str(error.filename or path), error.strerror or str(error)))
        except ValueError as error:  # a NUL byte in the name
            diagnostics.append(_cannot_open(path, str(error)))
    return files, diagnostics


def _expand(path: str) -> list[str]:
    if not path:  # Path("") would be the current directory
        raise FileNotFoundError(ENOENT, strerror(ENOENT))
    directory = Path(path)
    if not directory.is_dir():
        return [path]
    entries = sorted(directory.iterdir(), key=lambda entry: entry.name)
    named = [each for each in entries if each.suffix == ".cfg" and each.stem[:1] != "."]
    # Not is_file(), which takes a link that leads nowhere for something else than a file.
    return [str(each) for each in named if S_ISREG(each.stat().st_mode)]


def _cannot_open(path: str, why: str) -> Diagnostic:
    return Diagnostic("ALERT", None, f"Cannot open configuration file/directory {path} : {why}")
