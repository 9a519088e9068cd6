"""The reference page of the configuration language, written from the keyword table.

The table is what the parser obeys, so a page made of it cannot promise what is not there, nor forget what is.
`python -m natlb.config.reference` prints it; `docs/configuration.md` is what it printed last, and a test compares the
two. What can be said of the language as a whole, and not of a keyword, is the text at the end of this module.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from natlb.config.entries import Keyword, Refuse, Warn
from natlb.config.keywords import FOREIGN_SECTIONS, TABLE

Entries = Mapping[str, Keyword[Any]]

_PROXIES: Final = ("defaults", "frontend", "backend", "listen")

_CHAPTERS: Final = (
    ("`global`", ("global",), "The process as a whole."),
    (
        "Proxies: `defaults`, `frontend`, `backend`, `listen`",
        _PROXIES,
        "A `frontend` takes connections, a `backend` has servers, a `listen` is one of each. A `defaults` section says "
        "what the proxies below it start with, or, if it has a name, those that ask for it with `from <name>`. The "
        "letters say where a keyword may stand: d, f, b, l.",
    ),
    (
        "`udp-lb`",
        ("udp-lb",),
        "A service over UDP, with its servers: HAProxy Enterprise's section. It inherits nothing from `defaults`.",
    ),
    ("Parameters of `bind`", ("bind",), ""),
    ("Parameters of `server` and `default-server`", ("server", "default-server"), "The letters: s, d."),
    ("Parameters of `dgram-bind`", ("dgram-bind",), "In a `udp-lb` section."),
    (
        "Parameters of `server` and `default-server` in `udp-lb`",
        ("udp-lb server", "udp-lb default-server"),
        "The letters: s, d.",
    ),
    ("Parameters of `stats socket`", ("stats socket",), ""),
)
"""Title, the sections of the table that it is about, and what is to know before."""


def page() -> str:
    """Return the whole page, as Markdown."""
    return "\n".join([_BEFORE, *_chapters(), *_refusals(), ""])


def _chapters() -> Iterator[str]:
    for title, sections, text in _CHAPTERS:
        tables = {section: _entries(section) for section in sections}
        yield f"## {title}\n"
        if text:
            yield f"{text}\n"
        done = {name: keyword for table in tables.values() for name, keyword in table.items() if _is_done(keyword)}
        where = {name: _where(name, tables) for name in done}
        yield from _table(done, where if len(sections) > 1 else None)
        ignored = {name: each for table in tables.values() for name, each in table.items() if _is_ignored(each)}
        if ignored:
            yield "\nTaken, and without effect, which a warning says:\n"
            yield from _by_reason(ignored)
        yield ""


def _table(done: Entries, where: Mapping[str, str] | None) -> Iterator[str]:
    yield "| written | where | means | default |" if where else "| written | means | default |"
    yield "|---|---|---|---|" if where else "|---|---|---|"
    for name, keyword in sorted(done.items()):
        cells = [f"`{_cell(keyword.syntax)}`", *([where[name]] if where else [])]
        yield f"| {' | '.join([*cells, _cell(keyword.help), _cell(keyword.default)])} |"


def _refusals() -> Iterator[str]:
    yield "## What is refused, and why\n"
    yield "Each of these is an error that names the keyword and says the reason.\n"
    for title, sections, _ in _CHAPTERS:
        refused = {
            name: keyword
            for section in sections
            for name, keyword in _entries(section).items()
            if isinstance(keyword.action, Refuse)
        }
        if refused:
            yield f"### {title}\n"
            yield from _by_reason(refused)
            yield ""
    yield "### Whole sections\n"
    reasons: dict[str, list[str]] = {}
    for name, reason in FOREIGN_SECTIONS.items():
        reasons.setdefault(reason, []).append(name)
    yield from _list(reasons)


def _by_reason(keywords: Entries) -> Iterable[str]:
    reasons: dict[str, list[str]] = {}
    for name, keyword in keywords.items():
        reasons.setdefault(keyword.action.reason, []).append(name)
    return _list(reasons)


def _list(reasons: Mapping[str, list[str]]) -> Iterator[str]:
    for reason, names in sorted(reasons.items(), key=lambda each: (-len(each[1]), each[0])):
        yield f"- {', '.join(f'`{name}`' for name in sorted(names))}: {reason.rstrip('.')}."


def _entries(section: str) -> dict[str, Keyword[Any]]:
    return {name: keyword for (at, name), keyword in TABLE.items() if at == section}


def _is_done(keyword: Keyword[Any]) -> bool:
    # Without a text it only catches what stands beside the keywords of two words that begin alike.
    return not isinstance(keyword.action, Refuse | Warn) and bool(keyword.help)


def _is_ignored(keyword: Keyword[Any]) -> bool:
    return isinstance(keyword.action, Warn)


def _where(name: str, tables: Mapping[str, Entries]) -> str:
    return " ".join(
        section.split()[-1][0] for section, table in tables.items() if name in table and _is_done(table[name])
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


_BEFORE: Final = """\
# The configuration language

natlb reads HAProxy's configuration language: what natlb accepts, HAProxy 2.6 accepts too (`udp-lb` aside, which is
HAProxy Enterprise's). What a balancer of packets cannot do is refused by name, never passed over. This page is written
from the table that natlb obeys, by `.venv/bin/python -m natlb.config.reference`.

## Lines and words

A line holds one directive; its words are separated by blanks. A section keyword begins a section, which ends where the
next one begins; indentation means nothing. `#` begins a comment, unless it is quoted. A line has at most 64 words, and
the last line needs its newline.

| written | means |
|---|---|
| `\\` and a blank, `\\\\`, `\\#`, `\\'`, `\\"` | that character, as a part of the word |
| `\\n` `\\r` `\\t` `\\xNN` | a newline, a carriage return, a tab, the byte of that number |
| `'...'` | everything between the quotes, as it stands |
| `"..."` | the same, but `\\` escapes, and `$NAME`, `${NAME}` and `${NAME-default}` are variables of the environment |

Outside of quotes, variables are read in addresses only. Numbers are whole and decimal. A time is a number with one of
the units `us`, `ms`, `s`, `m`, `h`, `d`; without a unit it is milliseconds. An address is `192.0.2.1`, `2001:db8::1`,
`[2001:db8::1]`, or a host name, which is looked up once, when the configuration is read; `ipv4@` and `ipv6@` before it
say which family is wanted.

A mistake is shown with its file, line and word, and reading goes on, so that one run shows them all.
`natlb -c -f FILE` reads and does nothing more: exit status 0 is valid, 1 is not, 2 is valid with nothing to listen on.
"""


if __name__ == "__main__":
    sys.stdout.write(page())
