"""The screen as it is at 80x24 and at 200x60: nothing too wide, nothing too high, the essential always there."""

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from natlb.top.rates import Sample
from natlb.top.replies import Kind
from natlb.top.screen import clamp, draw
from natlb.top.state import State, View
from tests.unit.top.samples import INFO, crowd, row, session

SIZES = [(80, 24), (200, 60), (40, 10), (20, 6), (300, 6)]


def lines(
    state: State, now: Sample, before: Sample | None = None, message: str | None = "", size: tuple[int, int] = (80, 24)
) -> list[str]:
    width, height = size
    out = StringIO()
    console = Console(file=out, width=width, height=height, highlight=False, markup=False, color_system=None)
    console.print(draw(state, now, before, width, height, message), end="")
    return out.getvalue().rstrip("\n").split("\n")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("view", View)
@pytest.mark.parametrize("servers", [1, 1000])
def test_a_screen_is_as_high_as_the_terminal_and_no_wider(view: View, servers: int, size: tuple[int, int]) -> None:
    now = crowd(servers, 100)
    shown = lines(State(view), now, crowd(servers, 100, at=-1.0), size=size)
    assert len(shown) == size[1]
    assert max(map(len, shown)) <= size[0]


def test_the_heading_says_who_it_is_and_what_goes_on() -> None:
    before, now = crowd(3, 5), crowd(3, 5, at=2.0)
    now.rows[0] = replace(now.rows[0], total=30, octets_in=4005)
    title, totals, *_ = lines(State(), now, before)
    assert title.split() == ["natlb", "0.1.0", "on", "lb", "up", "0d", "0h12m06s"]
    assert totals == "connections 5 of 940  new 10/s  in 2.0kB/s  out -  servers 3, 1 down"


def test_haproxy_is_called_by_its_name() -> None:
    now = replace(crowd(1), info={**INFO, "Version": "2.6.12"})
    assert lines(State(), now)[0].startswith("HAProxy 2.6.12  on lb")


def test_without_show_info_it_is_natlb_all_the_same() -> None:
    shown = lines(State(), replace(crowd(1, 2), info={}))
    assert shown[0] == "natlb"
    assert shown[1].startswith("connections 2  new")


def test_proxies_are_frontends_and_backends() -> None:
    shown = lines(State(), crowd(3, 7))
    assert shown[2] == "[1 Proxies]  2 Servers   3 Connections   by name"
    assert shown[3].split() == [
        "PROXY",
        "SIDE",
        "STATUS",
        "CONN",
        "LIMIT",
        "NEW/s",
        "IN/s",
        "OUT/s",
        "QUEUE",
        "SERVERS",
    ]
    assert shown[4].split() == ["www", "frontend", "OPEN", "7", "940", "-", "-", "-", "-", "-"]
    assert shown[5].split() == ["www", "backend", "UP", "7", "-", "-", "-", "-", "-", "2"]


def test_servers_are_told_with_their_state_check_and_rates() -> None:
    before, now = crowd(3), crowd(3, at=1.0)
    now.rows[2] = replace(now.rows[2], octets_in=1501, octets_out=1, total=4, check="L4OK")
    shown = lines(State(View.SERVERS), now, before)
    assert shown[3].split() == [
        "SERVER",
        "STATUS",
        "CHECK",
        "WEIGHT",
        "CONN",
        "NEW/s",
        "IN/s",
        "OUT/s",
        "QUEUE",
        "EVER",
    ]
    assert shown[5].split() == ["www/server1", "UP", "L4OK", "1", "1", "3", "1.5k", "0", "-", "4"]
    assert shown[6].split()[:3] == ["www/server2", "DOWN", "L4CON"]


def test_connections_are_told_with_both_ends_and_their_bytes() -> None:
    before, now = crowd(1, 2), crowd(1, 2, at=1.0)
    assert now.sessions
    now.sessions[0] = session(1, octets_in=2001, octets_out=11)
    shown = lines(State(View.CONNECTIONS), now, before)
    assert shown[3].split() == ["CLIENT", "SERVER", "STATE", "AGE", "IN/s", "OUT/s", "BYTES"]
    assert shown[4].split() == ["44.1.1.1:1", "nodes/server1", "ESTABLISHED", "1s", "2.0k", "10", "2.0k"]
    wide = lines(State(View.CONNECTIONS), now, before, size=(200, 60))
    assert "44.2.2.2:8888" in wide[4], "where there is room, what the client asked for"


def names(state: State, now: Sample, before: Sample | None = None) -> list[str]:
    return [line.split()[0] for line in lines(state, now, before)[4:-1] if line.strip()]


def ordered(view: View, order: str) -> State:
    state = State(view)
    while state.order != order:
        state.press("s", 1)
    return state


def test_each_view_is_sorted_by_what_was_chosen() -> None:
    before, now = crowd(4, 3), crowd(4, 3, at=1.0)
    now.rows[2] = replace(now.rows[2], octets_in=9000)
    assert names(ordered(View.SERVERS, "name"), now) == [f"www/server{n}" for n in range(4)]
    assert names(ordered(View.SERVERS, "connections"), now)[0] == "www/server2"
    assert names(ordered(View.SERVERS, "traffic"), now, before)[0] == "www/server1"
    assert names(ordered(View.SERVERS, "status"), now)[0] == "www/server3", "what is down comes first"
    assert names(ordered(View.CONNECTIONS, "bytes"), now) == ["44.1.1.1:3", "44.1.1.1:2", "44.1.1.1:1"]
    assert names(ordered(View.CONNECTIONS, "traffic"), now, before)[0] == "44.1.1.1:3", "all equal: the largest"
    assert now.sessions
    now.sessions[0] = session(1, age="1h2m", octets_in=2)
    assert names(ordered(View.CONNECTIONS, "traffic"), now, before)[0] == "44.1.1.1:1"
    assert names(ordered(View.CONNECTIONS, "age"), now)[0] == "44.1.1.1:1"


def test_a_long_list_can_be_scrolled_to_its_end_and_not_past_it() -> None:
    now, state = crowd(100), State(View.SERVERS)
    assert lines(state, now)[2].endswith("1-19 of 100")
    state.first = 10_000
    clamp(state, now, 24)
    assert state.first == 81
    shown = lines(state, now)
    assert shown[2].endswith("82-100 of 100")
    assert shown[-2].startswith("www/server99")
    clamp(state, crowd(1), 24)
    assert state.first == 0, "the list has become short"


def test_when_not_all_connections_were_read_it_says_so() -> None:
    some = crowd(1, 30)
    some.rows[0] = replace(some.rows[0], current=1_000_000)
    assert lines(State(View.CONNECTIONS), some)[2].endswith("by traffic  of the 30 heard last")
    assert lines(State(View.CONNECTIONS), replace(some, whole=False))[2].endswith("of the first 30 only")
    assert lines(State(View.CONNECTIONS), crowd(1, 30))[2].endswith("1-19 of 30")


def test_the_footing_has_the_keys_or_what_went_wrong() -> None:
    now = crowd(1)
    assert lines(State(), now)[-1] == "q quit  Tab/1-3 view  s sort  p pause  ? help"
    assert lines(State(paused=True), now)[-1].startswith("PAUSED  q quit")
    lost = lines(State(), now, message="Connection lost: " + "x" * 100)
    assert lost[-1].startswith("Connection lost: xxx")
    assert len(lost) == 24
    assert len(lost[-1]) <= 80


def test_the_help_names_the_keys() -> None:
    shown = "\n".join(lines(State(helping=True), crowd(1)))
    for text in ("Tab", "sort by something else", "quit", "pause"):
        assert text in shown


def test_a_name_of_any_kind_stays_in_its_column() -> None:
    odd = row(Kind.FRONTEND, "[bold]x[/bold] " + "y" * 200, "FRONTEND", status="OPEN")
    shown = lines(State(), Sample(0.0, rows=[odd]))
    assert shown[4].startswith("[bold]x[/bold]")
    assert "frontend OPEN" in shown[4]


# -- long names


@pytest.mark.parametrize("width", [80, 120, 160])
def test_of_a_backend_with_a_long_name_the_servers_are_told_apart(width: int) -> None:
    names = [f"server{number}" for number in range(5)]
    rows = [row(Kind.SERVER, "another-very-long-name-of-a-backend", name, status="UP") for name in names]
    shown = lines(State(View.SERVERS), Sample(0.0, INFO, rows), size=(width, 24))[4:9]
    told = [line.split()[0] for line in shown]
    assert [text.rpartition("/")[2] for text in told] == names
    assert all(text.startswith("another-ve") for text in told)
    assert max(map(len, shown)) <= width
    if width >= 120:
        assert told[0] == "another-very-long-name-of-a-backend/server0"


def test_a_server_whose_name_is_too_long_keeps_its_end() -> None:
    rows = [row(Kind.SERVER, "nodes", f"a-machine-in-the-cellar-{number}") for number in range(2)]
    shown = lines(State(View.SERVERS), Sample(0.0, INFO, rows))[4:6]
    assert [line.split()[0] for line in shown] == ["…hine-in-the-cellar-0", "…hine-in-the-cellar-1"]


def test_connections_share_the_room_that_there_is() -> None:
    client, asked = "44.1.1.1:40312", "44.2.2.2:8888"
    long = {"backend": "a-backend-with-a-long-name", "server": "server1", "frontend": "a-frontend-with-a-long-name"}
    short = {"backend": "nodes", "server": "server1", "frontend": "www"}
    wide = lines(
        State(View.CONNECTIONS),
        Sample(0.0, INFO, [], [session(1, client=client, asked=asked, **long)]),
        size=(160, 24),
    )[4]
    for text in (client, asked, "a-backend-with-a-long-name/server1", "a-frontend-with-a-long-name"):
        assert f" {text} " in f" {wide} "
    narrow = lines(State(View.CONNECTIONS), Sample(0.0, INFO, [], [session(1, client=client, **long)]))[4]
    assert narrow.split()[:2] == [client, "a-backend-with-a-lo…/server1"]
    ipv6 = "[2001:db8:1234:5678:9abc:def0:1234:5678]:40312"
    both = [session(1, client=ipv6, asked=ipv6, **short)]
    assert lines(State(View.CONNECTIONS), Sample(0.0, INFO, [], both), size=(200, 24))[4].count(ipv6) == 2


# -- who may not see connections


@pytest.mark.parametrize("size", SIZES)
def test_why_there_are_no_connections_is_said_in_their_place(size: tuple[int, int]) -> None:
    refusal = "Permission denied: connections need 'level operator' on the stats socket"
    now = Sample(0.0, INFO, [], [], True, refusal)
    shown = lines(State(View.CONNECTIONS), now, size=size)
    assert len(shown) == size[1]
    assert shown[4].rstrip().startswith(refusal[: size[0] - 1])
    assert "heard last" not in "".join(shown)
    assert refusal not in "".join(lines(State(View.SERVERS), now, size=size))
