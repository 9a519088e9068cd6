"""`natlb install-service`: what makes a natlb that is installed a service of systemd.

Three files: the unit, in which this natlb and its configuration are named; the man page; and a first configuration,
which balances nothing yet, unless there is one. The templates are part of natlb. Running it again writes only what has
changed, and what somebody else has made is never written over: a configuration is left as it is, a unit that does not
begin as natlb's does is an error. systemd is not spoken to; what to say to it is printed.
"""

import argparse
import contextlib
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from natlb.arguments import LoggedArguments
from natlb.errors import NatlbError, ProcessError
from natlb.log import NOTICE, log, set_up

_DATA: Final = Path(__file__).with_name("data")

UNIT: Final = Path("/etc/systemd/system/natlb.service")
MAN_PAGE: Final = Path("/usr/local/share/man/man8/natlb.8")
CONFIG: Final = Path("/etc/natlb/natlb.cfg")

_HIDDEN: Final = ("/tmp", "/var/tmp")  # noqa: S108 (not to be written to)
"""Where the service sees files of its own only (PrivateTmp)."""


def arguments() -> argparse.ArgumentParser:
    """Return what reads the command's arguments."""
    parser = LoggedArguments(
        prog="natlb install-service",
        description="Make this natlb a service of systemd: write its unit, its man page and a first configuration.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", metavar="FILE", type=Path, default=CONFIG, help="the service's configuration (%(default)s)"
    )
    parser.add_argument("--uninstall", action="store_true", help="take unit and man page away again")
    parser.add_argument(
        "--root", metavar="DIR", type=Path, default=Path("/"), help="write below this directory, as if it were /"
    )
    return parser


def main(argv: list[str]) -> int:
    """Run the command with these arguments and return its exit code."""
    set_up(NOTICE)
    options = arguments().parse_args(argv)
    config = Path(os.path.abspath(options.config))  # noqa: PTH100 (symbolic links may be meant)
    try:
        command = None if options.uninstall else this_natlb()
        lines = uninstall(options.root, config) if command is None else install(options.root, config, command)
    except NatlbError as error:
        log.critical("%s", error)
        return 1
    print("\n".join(lines))  # noqa: T201
    return 0


def install(root: Path, config: Path, command: Sequence[str]) -> list[str]:
    """Write the files below `root`; return what to tell the user. `command` runs natlb, `config` is absolute.

    Raises ProcessError, with file and remedy, when one cannot be written.
    """
    unit = _unit(command, config)
    first_line = unit.partition("\n")[0]
    before = _content(root, UNIT)
    if before is not None and not before.startswith(first_line):
        raise ProcessError(f"{_below(root, UNIT)} is not one of natlb's: move it away, or edit that one")
    told = [
        _write(root, UNIT, unit),
        _write(root, MAN_PAGE, _template("natlb.8")),
        f"kept      {_below(root, config)}"
        if _content(root, config) is not None
        else _write(root, config, _template("natlb.cfg")),
    ]
    if command[0].startswith(tuple(f"{hidden}/" for hidden in _HIDDEN)):
        told.append(
            f"warning   {command[0]} is hidden from the service, which has a /tmp of its own: install it elsewhere"
        )
    return [
        *told,
        "",
        "Next:",
        f"  edit {config}",
        f"  {' '.join(command)} -c -f {config}",
        "  systemctl daemon-reload",
        "  systemctl enable --now natlb",
        "and after each change of the configuration: systemctl reload natlb",
    ]


def uninstall(root: Path, config: Path) -> list[str]:
    """Remove what `install` has written, but for the configuration; return what to tell the user.

    Raises ProcessError, with file and remedy, when one cannot be removed.
    """
    told = []
    for path in (UNIT, MAN_PAGE):
        before, here = _content(root, path), _below(root, path)
        if before is None:
            told.append(f"not there {here}")
        elif path == UNIT and not before.startswith(_template("natlb.service").partition("\n")[0]):
            raise ProcessError(f"{here} is not one of natlb's: it is left as it is")
        else:
            try:
                here.unlink()
            except OSError as error:
                raise ProcessError(f"cannot remove {here}: {error.strerror}; run it as root") from error
            told.append(f"removed   {here}")
    if _content(root, config) is not None:
        told.append(f"kept      {_below(root, config)}")
    return [*told, "", "Next, if it still runs:", "  systemctl disable --now natlb", "  systemctl daemon-reload"]


def this_natlb() -> list[str]:
    """Return the command that runs the natlb that is running: its program, or Python with natlb as a module."""
    program = Path(sys.argv[0])
    if program.name != "natlb":
        return [sys.executable, "-m", "natlb"]
    found = shutil.which(program) or str(program)
    # Symbolic links are left as they are: what pipx has in its directory of programs stays when natlb is upgraded.
    return [os.path.abspath(found)]  # noqa: PTH100


def _unit(command: Sequence[str], config: Path) -> str:
    words = {"@NATLB@": " ".join(map(quoted, command)), "@CONFIG@": quoted(str(config))}
    return re.sub("|".join(words), lambda found: words[found[0]], _template("natlb.service"))


def quoted(word: str) -> str:
    r"""Return a word as systemd reads it back in a command: "with blanks", %% for %, $$ for $ (systemd.service(5)).

    ProcessError if it has characters that have no place in a line.
    """
    if not word.isprintable():
        raise ProcessError(f"{word!r} cannot stand in a unit of systemd: give it another name")
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return escaped if re.fullmatch(r"[\w@/.:+,=%$-]+", escaped) else f'"{escaped}"'


def _template(name: str) -> str:
    try:
        return (_DATA / name).read_text("utf-8")
    except OSError as error:
        raise ProcessError(f"cannot read {_DATA / name}: {error.strerror}; reinstall natlb") from error


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _content(root: Path, path: Path) -> str | None:
    """Return what stands in a file; None if there is none."""
    here = _below(root, path)
    try:
        return here.read_text("utf-8", "replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ProcessError(f"cannot read {here}: {error.strerror}; run it as root, or move that away") from error


def _write(root: Path, path: Path, text: str) -> str:
    """Have a text in a file, whole or not at all; return what was done."""
    if _content(root, path) == text:
        return f"unchanged {_below(root, path)}"
    here = _below(root, path)
    fresh = here.with_name(f".{here.name}.{os.getpid()}")
    try:
        here.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(text, "utf-8")
        fresh.chmod(0o644)
        fresh.replace(here)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise ProcessError(f"cannot write {here}: {error.strerror}; run it as root") from error
    return f"wrote     {here}"
