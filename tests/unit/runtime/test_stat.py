"""What stands in the rows of `show stat`; that they are HAProxy's rows is test_statistics_haproxy's."""

import asyncio
import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from natlb.core.engine import NatEngine
from natlb.core.pool import AdminState, Pool, Server
from natlb.core.service import Intake, Service, VirtualAddresses
from natlb.core.verdict import Rewrite
from natlb.health.server import ServerHealth
from natlb.runtime import info
from natlb.runtime.columns import COLUMNS, POSITIONS
from natlb.runtime.console import Console
from natlb.runtime.language import Level
from natlb.runtime.running import Running, Value
from natlb.runtime.stat import show_stat

from .conftest import syn
from .consoles import LANGUAGE, Doctor, Recruits, answer


def rows(running: Running, words: str = "") -> dict[tuple[str, str], dict[str, str]]:
    """Return the rows by proxy and name."""
    table = csv.DictReader(answer(running, f"show stat{words}").removeprefix("# ").splitlines())
    return {(row["pxname"], row["svname"]): row for row in table}


def row_of(running: Running, name: str) -> dict[str, str]:
    """Return the row of www's FRONTEND or BACKEND, or of its server."""
    return rows(running)["www" if name == "FRONTEND" else "www-nodes", name]


def server1(running: Running) -> Server:
    return running.pools["www-nodes"].servers["server1"]


def test_a_connection_stands_in_all_three_rows(running: Running) -> None:
    for name in ("FRONTEND", "server1", "BACKEND"):
        row = row_of(running, name)
        assert (row["scur"], row["smax"], row["stot"], row["rate_max"]) == ("1", "1", "1", "1"), name
    assert row_of(running, "server1")["lastsess"] == "7", "it came at 100, and it is 107"
    assert row_of(running, "FRONTEND")["conn_tot"] == "1"


def test_a_frontend_without_a_limit_has_that_which_the_process_began_with(running: Running) -> None:
    assert row_of(running, "FRONTEND")["slim"] == str(running.engine.capacity)
    answer(running, "set maxconn global 900")
    assert row_of(running, "FRONTEND")["slim"] == str(running.engine.capacity), "as HAProxy has it"
    running.services[0].max_connections = 5
    assert row_of(running, "FRONTEND")["slim"] == "5"


@pytest.mark.parametrize(
    ("intake", "status"), [(Intake.OPEN, "OPEN"), (Intake.PAUSED, "PAUSED"), (Intake.STOPPED, "STOP")]
)
def test_a_frontend_says_whether_it_takes_connections(running: Running, intake: Intake, status: str) -> None:
    running.services[0].intake = intake
    assert row_of(running, "FRONTEND")["status"] == status


def test_limits_of_a_server_stand_in_its_row(running: Running) -> None:
    assert (row_of(running, "server1")["slim"], row_of(running, "server1")["qlimit"]) == ("", "")
    server1(running).maxconn, server1(running).maxqueue = 5, 6
    assert (row_of(running, "server1")["slim"], row_of(running, "server1")["qlimit"]) == ("5", "6")


def test_a_server_in_its_slow_start_is_throttled(running: Running) -> None:
    assert row_of(running, "server1")["throttle"] == ""
    server1(running).started, server1(running).throttle = 100.0, 4
    assert row_of(running, "server1")["throttle"] == "25"


def test_what_is_queued_stands_with_whom_it_waits_for(running: Running) -> None:
    pool = running.pools["www-nodes"]
    server1(running).queued, server1(running).most_queued, pool.queued, pool.most_queued = 1, 2, 3, 4
    assert [row_of(running, "server1")[name] for name in ("qcur", "qmax")] == ["1", "2"]
    assert [row_of(running, "BACKEND")[name] for name in ("qcur", "qmax")] == ["3", "4"]


def test_bytes_are_up_to_date_in_every_row(running: Running) -> None:
    connection = next(iter(running.engine.connections()))
    for account, size in zip((each.account for each in connection.translations), (7, 9), strict=True):
        account.octets += size
    for name in ("FRONTEND", "server1", "BACKEND"):
        assert (row_of(running, name)["bin"], row_of(running, name)["bout"]) == ("7", "9"), name


def test_a_backend_without_a_usable_server_is_down_since_then(running: Running) -> None:
    pool = running.pools["www-nodes"]
    pool.standing.changed = 100.0
    pool.set_health(server1(running), False, 104.0)
    row = row_of(running, "BACKEND")
    assert [row[name] for name in ("status", "weight", "act", "chkdown", "lastchg", "downtime")] == [
        *("DOWN", "0", "0"),
        *("1", "3", "3"),
    ]


def test_the_weight_of_a_backend_is_that_of_the_servers_that_get_connections() -> None:
    pool = Pool(
        "b",
        [
            Server("one", bytes(4), 80, weight=5),
            Server("two", bytes(4), 80, weight=7, id=2),
            Server("three", bytes(4), 80, weight=11, backup=True, id=3),
            Server("four", bytes(4), 80, weight=13, backup=True, id=4),
        ],
    )
    running = Running(NatEngine(VirtualAddresses()), [], {"b": pool}, lambda: 0.0, Recruits(), Doctor())

    def shown() -> tuple[str, ...]:
        row = rows(running)["b", "BACKEND"]
        return tuple(row[name] for name in ("weight", "uweight", "act", "bck"))

    assert shown() == ("12", "12", "2", "2")
    pool.servers["two"].throttle = 1
    assert shown() == ("6", "12", "2", "2")
    pool.set_admin(pool.servers["one"], AdminState.DRAIN, 0.0)
    pool.set_admin(pool.servers["two"], AdminState.MAINT, 0.0)
    assert shown() == ("11", "11", "0", "2")
    pool.all_backups = True
    assert shown() == ("24", "24", "0", "2")


def test_what_an_operator_should_know_of_a_server_stands_in_last_chk_without_commas(running: Running) -> None:
    server = server1(running)
    server.remark = "it answers past us, by another way"
    server.unanswered = 2
    assert row_of(running, "server1")["last_chk"] == ""
    server.unanswered = 3
    assert row_of(running, "server1")["last_chk"] == "it answers past us; by another way"


class Known(ServerHealth):
    """The health of a server of which one thing is known."""

    cleared = 0

    def columns(self, now: float) -> dict[str, Value]:
        return {"check_status": "L4OK", "last_chk": self.name}

    def status(self, *, draining: bool = False) -> str:
        return "DRAIN 1/3" if draining else "UP 1/3"

    def state(self) -> dict[str, int]:
        return {"srv_op_state": 3}

    def clear(self) -> None:
        self.cleared += 1


class Checked(Doctor):
    """Checks that know one thing of every server."""

    def __init__(self) -> None:
        super().__init__()
        self.known = Known("www-nodes/server1", None, 0.0)

    def __getitem__(self, name: str) -> Known:
        return self.known

    def __iter__(self) -> Iterator[Known]:
        return iter([self.known])


def test_the_checks_fill_their_columns(running: Running) -> None:
    running.checks = Checked()
    row = row_of(running, "server1")
    assert [row[name] for name in ("status", "check_status", "last_chk")] == ["UP 1/3", "L4OK", "www-nodes/server1"]
    assert answer(running, "show servers state www-nodes").splitlines()[2].split()[5] == "3"


@pytest.mark.parametrize("checks", [Doctor(), Checked()])
def test_the_time_since_a_change_is_that_since_the_last_one_of_any_kind(running: Running, checks: Doctor) -> None:
    running.checks = checks
    pool = running.pools["www-nodes"]
    pool.begin(100.0)
    shown = []
    for change in (
        lambda: None,
        lambda: pool.set_admin(server1(running), AdminState.DRAIN, 102.0),
        lambda: pool.set_admin(server1(running), AdminState.DRAIN, 103.0),
        lambda: pool.set_health(server1(running), False, 104.0),
        lambda: pool.set_health(server1(running), False, 105.0),
    ):
        change()
        state = answer(running, "show servers state www-nodes").splitlines()[2].split()
        assert state[9] == row_of(running, "server1")["lastchg"]
        shown.append(state[9])
    assert shown == ["7", "5", "5", "3", "3"]


@pytest.mark.parametrize(
    ("change", "checks", "status"),
    [
        (lambda pool, server: pool.set_admin(server, AdminState.DRAIN, 0.0), Doctor(), "DRAIN"),
        (lambda pool, server: pool.set_admin(server, AdminState.MAINT, 0.0), Doctor(), "MAINT"),
        (lambda pool, server: pool.set_admin(server, AdminState.DRAIN, 0.0), Checked(), "DRAIN 1/3"),
        (lambda pool, server: pool.set_admin(server, AdminState.MAINT, 0.0), Checked(), "MAINT"),
    ],
)
def test_the_status_is_what_the_operator_wants_and_the_checks_found(
    running: Running, change: Callable[[Pool, Server], None], checks: Doctor, status: str
) -> None:
    running.checks = checks
    change(running.pools["www-nodes"], server1(running))
    assert row_of(running, "server1")["status"] == status


def test_a_section_of_udp_is_of_mode_udp(running: Running) -> None:
    service, pool = Service("dns", None, protocol=17), Pool("dns", [Server("s", bytes(4), 53)])
    running.proxies = [(service, pool)]
    assert {row["mode"] for row in rows(running).values()} == {"udp"}


def test_a_number_of_any_length_is_nobodys(running: Running) -> None:
    """Python reads numbers of some thousand digits and no longer ones; a line has room for more."""
    (heading, *rows) = answer(running, f"show stat {'9' * 5000} -1 -1").splitlines()
    assert heading.startswith("# pxname,")
    assert rows == []


def test_no_piece_of_the_reply_is_more_than_a_row(running: Running) -> None:
    pieces = list(show_stat(Console(running, LANGUAGE, Level.USER, 1.0), []))
    assert max(piece.count("\n") for piece in pieces) == 1


def test_a_server_that_goes_while_the_reply_is_read_is_no_trouble(running: Running) -> None:
    reply = show_stat(Console(running, LANGUAGE, Level.USER, 1.0), [])
    for piece in reply:
        if piece.startswith("www-nodes,server1"):
            running.pools["www-nodes"].remove(server1(running))
    assert ("www-nodes", "server1") not in rows(running)
    assert row_of(running, "BACKEND")["stot"] == "1", "its backend has had that connection"


# clear counters


def test_what_was_highest_is_forgotten_alone(running: Running) -> None:
    assert answer(running, "clear counters", Level.OPERATOR) == ""
    row = row_of(running, "server1")
    assert [row[name] for name in ("scur", "smax", "stot", "rate_max", "lbtot")] == ["1", "0", "1", "0", "1"]


def test_everything_is_forgotten_but_what_is_open(running: Running) -> None:
    pool = running.pools["www-nodes"]
    for owner in (server1(running), pool):
        owner.retries = owner.redispatches = owner.most_queued = 3
    running.services[0].denied = 3
    running.checks = checks = Checked()
    assert answer(running, "clear counters all") == ""
    assert checks.known.cleared == 1
    for name in ("FRONTEND", "server1", "BACKEND"):
        row = row_of(running, name)
        assert (row["scur"], row["smax"], row["stot"], row["wretr"] or "0", row["wredis"] or "0") == ("1", *"0000")
    assert row_of(running, "server1")["lastsess"] == "-1"
    assert [row_of(running, "FRONTEND")[name] for name in ("dcon", "conn_tot")] == ["0", "0"]
    assert running.engine.books.total == 2, "the process is as old as before"


def test_counting_goes_on_after_that(running: Running) -> None:
    answer(running, "clear counters all")
    assert isinstance(running.engine.handle_packet(syn("44.1.1.1", 40400, "44.2.2.2", 8888), 107.0), Rewrite)
    row = row_of(running, "server1")
    assert [row[name] for name in ("scur", "smax", "stot", "rate", "rate_max")] == ["2", "2", "1", "1", "1"]


# The page


def test_every_column_and_line_that_means_something_is_on_the_page() -> None:
    page = (Path(__file__).parents[3] / "docs" / "statistics.md").read_text("utf-8")
    first = [row.split("|")[1] for row in page.splitlines() if row.startswith("| `")]
    named = {name for cell in first for name in re.findall(r"`([^`]+)`", cell)}
    columns = {column.name for column in COLUMNS} - {name for name in POSITIONS if name.startswith("hrsp_")}
    agents = {name for name in columns if name.startswith("agent_")}
    assert columns - agents <= named
    lines = {line.field.name for line in info.LINES.values() if ": none" not in line.field.meaning}
    assert lines - {"Tainted"} <= named
    assert named <= columns | lines | {"hrsp_1xx", "hrsp_other", "agent_*", "ConnRateLimit", "SessRateLimit"}


@pytest.mark.parametrize(
    "line", ["show stat", "show stat typed", "show stat json", "show servers state", "show servers conn"]
)
def test_a_server_that_goes_while_others_are_shown_is_left_out(running: Running, line: str) -> None:
    for name in ("gone", "last"):
        running.pools["www-nodes"].add(Server(name, bytes(4), 80, id=len(name)))
    console = Console(running, LANGUAGE, Level.ADMIN, 10.0)

    async def read() -> str:
        pieces = []
        async for piece in console.obey(line):
            pieces.append(piece)
            if "server1" in piece and "gone" in running.pools["www-nodes"].servers:
                running.pools["www-nodes"].remove(running.pools["www-nodes"].servers["gone"])
        return "".join(pieces)

    shown = asyncio.run(read())
    assert "last" in shown
    assert "gone" not in shown
