"""What the `global` section says of the process itself: where it runs, as whom, how it ends, and in which environment.

`setenv` and its relatives change the environment that the rest of the configuration is read in: a variable that is set
in one line can be used in the next.
"""

import grp
import pwd

from natlb.config.drafts import Reading
from natlb.config.entries import at_most
from natlb.config.integers import parse_integer
from natlb.config.lexer import Line
from natlb.config.times import parse_time
from natlb.errors import ConfigError

MOST_ID = 2**32 - 2
"""The highest user and group number; the one above means none."""


def daemon(reading: Reading, line: Line) -> None:
    """`daemon`."""
    at_most(0, "daemon", line.words[1:])
    reading.settings.daemon = True


def quiet(reading: Reading, line: Line) -> None:
    """`quiet`."""
    at_most(0, "quiet", line.words[1:])
    reading.settings.quiet = True


def zero_warning(reading: Reading, line: Line) -> None:
    """`zero-warning`."""
    at_most(0, "zero-warning", line.words[1:])
    reading.settings.zero_warning = True


def pidfile(reading: Reading, line: Line) -> None:
    """`pidfile <path>`."""
    if not line.word(1):
        raise ConfigError("'pidfile' expects a file name as an argument.")
    at_most(1, "pidfile", line.words[1:])
    if reading.settings.pidfile is not None:
        raise ConfigError("'pidfile' already specified. Continuing.")
    reading.settings.pidfile = line.word(1)


def user(reading: Reading, line: Line) -> None:
    """`user <name>`."""
    at_most(1, "user", line.words[1:])
    try:
        number = pwd.getpwnam(line.word(1)).pw_uid
    except (KeyError, ValueError):
        raise ConfigError(f"cannot find user id for '{line.word(1)}' (0:Success)") from None
    _set_uid(reading, number)


def group(reading: Reading, line: Line) -> None:
    """`group <name>`."""
    at_most(1, "group", line.words[1:])
    try:
        number = grp.getgrnam(line.word(1)).gr_gid
    except (KeyError, ValueError):
        raise ConfigError(f"cannot find group id for '{line.word(1)}' (0:Success)") from None
    _set_gid(reading, number)


def uid(reading: Reading, line: Line) -> None:
    """`uid <number>`."""
    _set_uid(reading, _number(line))


def gid(reading: Reading, line: Line) -> None:
    """`gid <number>`."""
    _set_gid(reading, _number(line))


def _number(line: Line) -> int:
    keyword = line.word(0)
    if not line.word(1):
        raise ConfigError(f"'{keyword}' expects an integer argument.")
    at_most(1, keyword, line.words[1:])
    return parse_integer(line.word(1), keyword, 0, MOST_ID)


def _set_uid(reading: Reading, number: int) -> None:
    if reading.settings.uid is not None:
        raise ConfigError("user/uid already specified. Continuing.")
    reading.settings.uid = number


def _set_gid(reading: Reading, number: int) -> None:
    if reading.settings.gid is not None:
        raise ConfigError("group/gid already specified. Continuing.")
    reading.settings.gid = number


def hard_stop_after(reading: Reading, line: Line) -> None:
    """`hard-stop-after <time>`."""
    reading.settings.hard_stop_after = _time(line)


def grace(reading: Reading, line: Line) -> None:
    """`grace <time>`."""
    reading.settings.grace = _time(line)


def _time(line: Line) -> float:
    keyword = line.word(0)
    if not line.word(1):
        raise ConfigError(f"'{keyword}' expects <time> as argument.")
    at_most(1, keyword, line.words[1:])
    return parse_time(line.word(1), keyword)


def setenv(reading: Reading, line: Line) -> None:
    """`setenv <name> <value>`, and `presetenv`, which leaves a variable as it is that is set already."""
    keyword, name, value = line.word(0), line.word(1), line.word(2)
    if len(line.words) < 3:
        raise ConfigError(f"'{keyword}' expects a name and a value.")
    at_most(2, keyword, line.words[1:])
    if "=" in name:
        raise ConfigError(f"'{keyword}' failed on variable '{name}' : Invalid argument.")
    if keyword == "setenv" or name not in reading.environ:
        reading.environ[name] = value


def unsetenv(reading: Reading, line: Line) -> None:
    """`unsetenv <name>...`."""
    if not line.word(1):
        raise ConfigError("'unsetenv' expects at least one variable name.")
    for name in line.words[1:]:
        reading.environ.pop(name, None)


def resetenv(reading: Reading, line: Line) -> None:
    """`resetenv [<name>...]`: all others are gone."""
    for name in reading.environ.keys() - set(line.words[1:]):
        del reading.environ[name]
