"""What is said about a configuration, in the words and the layout of HAProxy.

Whoever has run `haproxy -c` knows how to read these lines, and whatever tool greps them keeps working:

    [ALERT]    (17070) : config : parsing [t.cfg:7] : unknown keyword 'bnid' in 'frontend' section; ...
    [WARNING]  (17070) : config : parsing [t.cfg:1] : missing timeouts for backend 'nodes'.
       | what follows a first line is set off like this

A diagnostic is data: reading a configuration collects them, in the order found, and whoever called decides where they
are printed. An ALERT means that the configuration cannot be used; a WARNING that it can, though not as its author may
think; a NOTICE only informs.

What it never does: print, or let a byte of the configuration through that a terminal would obey or a reader would take
for a line of its own. A file is anybody's bytes; `printable` is the one gate that they pass on the way out.
"""

from dataclasses import dataclass
from typing import Final, Literal

from natlb.config.model import Location

Severity = Literal["ALERT", "WARNING", "NOTICE"]

_LABEL_WIDTH: Final = len("[WARNING]  ")
_LONGEST_LINE: Final = 1000


def printable(text: str) -> str:
    r"""`text` with everything a terminal would not show as one character written `\xNN` (or `\uNNNN`)."""
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8, kept by the surrogateescape handler (PEP 383)
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One message about the configuration."""

    severity: Severity
    """How bad it is."""
    location: Location | None
    """The line that it is about; None when it is about no single line."""
    text: str
    """The message: one line, without the severity and the location."""
    details: tuple[str, ...] = ()
    """Further lines, shown below the message: what follows from it, or the offending line with a caret."""
    parsing: bool = True
    """Whether HAProxy says `parsing [file:line]` here; its messages about one server say `[file:line]` alone."""

    def render(self, pid: int) -> str:
        """The message as HAProxy would print it on stderr, without the last newline; `pid` is the process's own."""
        where = ""
        if self.location is not None:
            prefix = "parsing " if self.parsing else ""
            where = f"{prefix}[{printable(self.location.file)}:{self.location.line}] : "
        label = f"[{self.severity}]".ljust(_LABEL_WIDTH)
        lines = [f"{label}({pid}) : config : {where}{_shorten(printable(self.text))}"]
        lines += [f"   | {_shorten(printable(detail))}" for detail in self.details]
        return "\n".join(lines)


def _shorten(line: str) -> str:
    return line if len(line) <= _LONGEST_LINE else line[: _LONGEST_LINE - 3] + "..."
