"""A sample and the user's choices: the lines of the screen.

Three lines of heading, a table that takes what room there is, one line of footing. What does not fit is cut, and the
columns that matter least are left out where the screen is narrow; 80 columns have the essential ones. Room that some
names do not need is for those that need it; of `backend/server` the server stays, since it is what lines differ in.
Colours only repeat what the words say.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from natlb.top.rates import Rate, Rates, Sample
from natlb.top.replies import Kind, Row, Session
from natlb.top.state import HELP, State, View
from natlb.top.units import NOTHING, age, seconds, short

_AROUND: Final = 5
"""Lines that are not the table's rows: heading, its own heading, footing."""

_KEYS: Final = "q quit  Tab/1-3 view  s sort  p pause  ? help"

_Item = TypeVar("_Item", Row, Session)


@dataclass(frozen=True, slots=True)
class _Column(Generic[_Item]):
    """One column of a table."""

    title: str
    text: Callable[[_Item, Rate], str]
    width: int = 5
    """Where it stretches: when there is room, and nobody needs it more."""
    stretches: bool = False
    """Whether it takes of what the others leave; the first of these takes what nobody needs."""
    path: bool = False
    """Whether it is `backend/server`."""
    left: bool = False
    """Whether it is words, and stands to the left."""
    wide: bool = False
    """Whether it is only shown where there is more room than 80 columns."""


_PROXIES: Final[tuple[_Column[Row], ...]] = (
    _Column("PROXY", lambda row, _: row.proxy, 19, stretches=True, left=True),
    _Column("SIDE", lambda row, _: row.kind.name.lower(), 8, left=True),
    _Column("STATUS", lambda row, _: row.status, 7, left=True),
    _Column("CONN", lambda row, _: short(row.current)),
    _Column("LIMIT", lambda row, _: short(row.limit)),
    _Column("NEW/s", lambda row, rate: short(row.rate if rate.total is None else rate.total)),
    _Column("IN/s", lambda _, rate: short(rate.octets_in)),
    _Column("OUT/s", lambda _, rate: short(rate.octets_out)),
    _Column("QUEUE", lambda row, _: short(row.queued)),
    _Column("SERVERS", lambda row, _: _servers(row), 7),
    _Column("EVER", lambda row, _: short(row.total), wide=True),
    _Column("IN", lambda row, _: short(row.octets_in), wide=True),
    _Column("OUT", lambda row, _: short(row.octets_out), wide=True),
)

_SERVERS: Final[tuple[_Column[Row], ...]] = (
    _Column("SERVER", lambda row, _: f"{row.proxy}/{row.name}", 21, stretches=True, path=True, left=True),
    _Column("STATUS", lambda row, _: row.status, 8, left=True),
    _Column("CHECK", lambda row, _: row.check or NOTHING, 6, left=True),
    _Column("WEIGHT", lambda row, _: short(row.weight), 6),
    _Column("CONN", lambda row, _: short(row.current)),
    _Column("NEW/s", lambda row, rate: short(row.rate if rate.total is None else rate.total)),
    _Column("IN/s", lambda _, rate: short(rate.octets_in)),
    _Column("OUT/s", lambda _, rate: short(rate.octets_out)),
    _Column("QUEUE", lambda row, _: short(row.queued)),
    _Column("EVER", lambda row, _: short(row.total)),
    _Column("IN", lambda row, _: short(row.octets_in), wide=True),
    _Column("OUT", lambda row, _: short(row.octets_out), wide=True),
    _Column("ROLE", lambda row, _: "backup" if row.backup else "active", 6, left=True, wide=True),
    _Column("ADDRESS", lambda row, _: row.address or NOTHING, 21, stretches=True, left=True, wide=True),
)

_CONNECTIONS: Final[tuple[_Column[Session], ...]] = (
    _Column("CLIENT", lambda session, _: session.client, 21, stretches=True, left=True),
    _Column(
        "SERVER", lambda session, _: f"{session.backend}/{session.server}", 18, stretches=True, path=True, left=True
    ),
    _Column("STATE", lambda session, _: session.state, 12, left=True),
    _Column("AGE", lambda session, _: age(session.age)),
    _Column("IN/s", lambda _, rate: short(rate.octets_in)),
    _Column("OUT/s", lambda _, rate: short(rate.octets_out)),
    _Column("BYTES", lambda session, _: short(session.octets)),
    _Column("IDLE", lambda session, _: age(session.idle), wide=True),
    _Column("PKTS", lambda session, _: short(session.packets), wide=True),
    _Column("PROTO", lambda session, _: session.protocol, left=True, wide=True),
    _Column("FRONTEND", lambda session, _: session.frontend, 18, stretches=True, left=True, wide=True),
    _Column("ASKED", lambda session, _: session.asked or NOTHING, 21, stretches=True, left=True, wide=True),
)

_WELL: Final = ("UP", "no check")
"""What a server's status is when nothing needs to be looked at."""

_WIDE: Final = 140
"""Columns from which on all is shown."""


def draw(
    state: State, now: Sample, before: Sample | None, width: int, height: int, message: str | None = ""
) -> RenderableType:
    """Return the screen: `height` lines of at most `width` characters; `message` is what went wrong, if anything.

    With a message of None it has no footing, for who has no keys to press.
    """
    rates = Rates(before, now)
    room = page(height)
    if state.helping:
        body, shown = _help(), ""
    elif state.view is View.CONNECTIONS and now.refusal:
        body, shown = _refused(now.refusal, room), ""
    elif state.view is View.CONNECTIONS:
        sessions = _sorted_sessions(now.sessions or [], rates, state.order)
        body, shown = _table(_CONNECTIONS, sessions, rates, state, width, room), _extent(now, state, room)
    else:
        columns, kinds = (
            (_PROXIES, (Kind.FRONTEND, Kind.BACKEND)) if state.view is View.PROXIES else (_SERVERS, (Kind.SERVER,))
        )
        rows = _sorted_rows([row for row in now.rows if row.kind in kinds], rates, state.order)
        body = _table(columns, rows, rates, state, width, room)
        shown = _range(len(rows), state, room)
    heading = _line(_title(now), style="bold"), _line(_totals(now, rates)), _line(_tabs(state, shown))
    return Group(*heading, body) if message is None else Group(*heading, body, _line(*_footing(state, message)))


def extent(now: Sample, view: View) -> int:
    """Return how many rows a view of this sample has."""
    if view is View.CONNECTIONS:
        return 1 if now.refusal else len(now.sessions or ())
    return sum((row.kind is Kind.SERVER) is (view is View.SERVERS) for row in now.rows)


def clamp(state: State, now: Sample, height: int) -> None:
    """Let nobody scroll past the end."""
    state.first = max(0, min(state.first, extent(now, state.view) - page(height)))


def height_of(rows: int) -> int:
    """Return how many lines a screen needs for so many rows."""
    return rows + _AROUND


def page(height: int) -> int:
    """Return how many rows a screen of so many lines has room for."""
    return max(0, height - _AROUND)


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis", end="\n")


def _title(now: Sample) -> str:
    info = now.info
    name, version = info.get("Name", "natlb"), info.get("Version", "")
    if "natlb" in version:
        name, version = "natlb", version.partition("natlb")[2]
    words = [f"{name} {version}".strip()]
    if info.get("node"):
        words.append(f"on {info['node']}")
    if info.get("Uptime"):
        words.append(f"up {info['Uptime']}")
    return "  ".join(words)


def _totals(now: Sample, rates: Rates) -> str:
    frontends = [row for row in now.rows if row.kind is Kind.FRONTEND]
    of_all = [rates.of(row) for row in frontends]
    servers = [row for row in now.rows if row.kind is Kind.SERVER]
    down = sum(row.status.startswith("DOWN") for row in servers)
    limit = now.info.get("Maxconn", "")
    current = _sum(row.current for row in frontends)
    return (
        f"connections {short(current)}{f' of {limit}' if limit else ''}  "
        f"new {_per_second((rate.total for rate in of_all), '')}  "
        f"in {_per_second(rate.octets_in for rate in of_all)}  "
        f"out {_per_second(rate.octets_out for rate in of_all)}  "
        f"servers {len(servers)}, {down} down"
    )


def _per_second(numbers: Iterable[float | None], unit: str = "B") -> str:
    total = _sum(numbers)
    return NOTHING if total is None else f"{short(total)}{unit}/s"


def _sum(numbers: Iterable[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None


def _tabs(state: State, shown: str) -> str:
    names = (f"{view.value} {view.title}" for view in View)
    tabs = (f"[{name}]" if view is state.view else f" {name} " for view, name in zip(View, names, strict=True))
    return f"{' '.join(tabs)}  by {state.order}  {shown}".rstrip()


def _range(number: int, state: State, room: int) -> str:
    if number <= room and not state.first:
        return ""
    return f"{min(state.first + 1, number)}-{min(state.first + room, number)} of {number}"


def _extent(now: Sample, state: State, room: int) -> str:
    """Say how much of the table was looked at: the busiest of those, and not of all, are shown."""
    read = len(now.sessions or ())
    current = _sum(row.current for row in now.rows if row.kind is Kind.FRONTEND)
    if now.whole and (current is None or read >= current):
        return _range(read, state, room)
    return f"of the {read} heard last" if now.whole else f"of the first {read} only"


def _footing(state: State, message: str) -> tuple[str, str]:
    if message:
        return message, "bold red"
    return (f"PAUSED  {_KEYS}" if state.paused else _KEYS), "reverse"


def _servers(row: Row) -> str:
    if row.kind is not Kind.BACKEND or row.active is None:
        return NOTHING
    return f"{row.active}+{row.backup}" if row.backup else f"{row.active}"


def _sorted_rows(rows: list[Row], rates: Rates, order: str) -> list[Row]:
    """The largest first; what is down before all else. By name is the order of the configuration, which is kept."""
    match order:
        case "connections":
            return sorted(rows, key=lambda row: -(row.current or 0))
        case "traffic":
            return sorted(rows, key=lambda row: -(rates.of(row).octets or 0))
        case "status":
            return sorted(rows, key=lambda row: (row.status in _WELL, row.status))
    return rows


def _sorted_sessions(sessions: list[Session], rates: Rates, order: str) -> list[Session]:
    match order:
        case "traffic":
            return sorted(sessions, key=lambda each: (-(rates.of(each).octets or 0), -(each.octets or 0)))
        case "age":
            return sorted(sessions, key=lambda each: -(seconds(each.age) or 0))
    return sorted(sessions, key=lambda each: -(each.octets or 0))


def _table(
    columns: Sequence[_Column[_Item]], items: Sequence[_Item], rates: Rates, state: State, width: int, room: int
) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, expand=True, header_style="bold underline")
    chosen = [column for column in columns if width >= _WIDE or not column.wide]
    shown = items[state.first : state.first + room]
    texts = [[column.text(item, rates.of(item)) for column in chosen] for item in shown]
    widths = _widths(chosen, texts, width)
    for column, wide in zip(chosen, widths, strict=True):
        table.add_column(
            column.title,
            justify="left" if column.left else "right",
            width=wide,
            no_wrap=True,
            overflow="ellipsis",
        )
    for item, line in zip(shown, texts, strict=True):
        cells = zip(chosen, line, widths, strict=True)
        table.add_row(
            *(Text(_fitted(text, wide) if column.path else text) for column, text, wide in cells), style=_style(item)
        )
    for _ in range(room - len(shown)):
        table.add_row("")
    return table


def _widths(columns: Sequence[_Column[_Item]], texts: Sequence[Sequence[str]], width: int) -> list[int]:
    """Share out a line: what columns that stretch leave goes to those that need it, and then to their usual widths."""
    widths = [column.width for column in columns]
    stretching = [place for place, column in enumerate(columns) if column.stretches]
    needed = {
        place: max(len(line[place]) for line in (*texts, [column.title for column in columns])) for place in stretching
    }
    for place in stretching:
        widths[place] = min(widths[place], needed[place])
    spare = width - sum(widths) - (len(widths) - 1)
    for wanted in (needed, {place: columns[place].width for place in stretching}):
        while spare > 0 and (short_of := [place for place in stretching if widths[place] < wanted[place]]):
            for place in short_of[:spare]:
                widths[place] += 1
            spare -= len(short_of[:spare])
    widths[stretching[0]] = max(1, widths[stretching[0]] + spare)
    return widths


def _fitted(path: str, width: int) -> str:
    """Shorten the backend of `backend/server`, or leave it out, and the server's name only where that is too long."""
    if len(path) <= width:
        return path
    backend, _, server = path.rpartition("/")
    room = width - len(server) - 2
    return f"{backend[:room]}…/{server}" if room >= 0 else f"…{server[-(width - 1) :]}"


def _refused(refusal: str, room: int) -> Table:
    """Say why there are no connections, in the room of their table."""
    table = Table(box=None, padding=0, pad_edge=False, expand=True, show_header=False)
    table.add_column(no_wrap=True, overflow="ellipsis")
    table.add_row("")
    table.add_row(Text(refusal))
    for _ in range(room - 1):
        table.add_row("")
    return table


def _style(item: Row | Session) -> str:
    return "red" if isinstance(item, Row) and item.status.startswith("DOWN") else ""


def _help() -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), show_header=False)
    for keys, meaning in HELP.items():
        table.add_row(Text(keys), Text(meaning))
    return table
