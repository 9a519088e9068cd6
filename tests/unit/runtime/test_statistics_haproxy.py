"""HAProxy is the oracle of the statistics: the same rows, columns, lines, tags and JSON, with the same configuration.

The two carry no traffic here, so what is counted is 0 in both, and all that a configuration says can be compared; of
the rest, that it is there. Descriptions are natlb's own.
"""

import json
import re
import time
from collections.abc import Callable, Iterator

import pytest

from natlb.assembly import assemble, written
from natlb.config.parser import parse
from natlb.runtime.columns import COLUMNS
from natlb.runtime.language import Level
from natlb.runtime.running import Running
from natlb.runtime.vitals import Watch
from netns import balancer
from tests.haproxy import running

from .consoles import Doctor, Recruits, answer, socket_directory

_CONFIG = """\
global
    maxconn 1000
    nbthread 1
    node lb1
    description a test, of two
    stats socket {directory}/admin mode 600 level admin
defaults
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h
frontend www
    bind {host}:18881
    maxconn 940
    default_backend nodes
backend nodes
    balance roundrobin
    server server1 127.0.0.1:14444 weight 10
    server server2 127.0.0.1:14445 disabled
    server server3 [::1]:14445 backup weight 3
listen both
    id 77
    bind {host}:18882
    server s1 127.0.0.1:14446 id 9 weight 0
    server s2 127.0.0.1:14446
frontend bare
    bind {host}:18883
backend empty
frontend off
    bind {host}:18884
    disabled
backend away
    disabled
    server s1 127.0.0.1:14446
backend down
    server s1 127.0.0.1:14446 disabled
"""

_MEASURED = {"lastchg", "downtime"}
"""Columns of time: other numbers in the two."""

Ask = Callable[[str], str]


@pytest.fixture(scope="module")
def haproxy() -> Iterator[Ask]:
    with socket_directory() as directory:
        # Nobody can reach a frontend at an abstract socket's address; natlb has no such thing.
        config = _CONFIG.format(directory=directory, host=f"abns@{directory.name}").replace(":1888", "-1888")
        with running(config, directory / "admin"):
            yield lambda line: balancer.ask(directory / "admin", line, 60)


@pytest.fixture
def natlb() -> Ask:
    parsed = parse([("t.cfg", _CONFIG.format(directory="/tmp", host="127.0.0.1").encode())], {})
    assert parsed.config is not None, parsed.diagnostics
    made = assemble(parsed.config)
    for pool in made.pools.values():
        pool.begin(time.monotonic())
    watch = Watch("lb1", parsed.config.description, "0.1.0", "2026/11/26", listeners=lambda: 4)
    running = Running(
        made.engine,
        made.services,
        made.pools,
        time.monotonic,
        Recruits(),
        Doctor(),
        proxies=made.proxies,
        written=written(parsed.config),
        vitals=watch.vitals,
    )
    return lambda line: answer(running, line) + "\n"


def rows(said: str) -> list[dict[str, str]]:
    """Return the rows of CSV, as far as natlb has columns."""
    heading, *lines = said.removesuffix("\n\n").split("\n")
    names = heading.removeprefix("# ").removesuffix(",").split(",")
    assert names[: len(COLUMNS)] == [column.name for column in COLUMNS]
    return [dict(zip(names[: len(COLUMNS)], line.split(","), strict=False)) for line in lines]


# show stat


def test_every_row_has_as_many_fields_as_the_heading(natlb: Ask) -> None:
    lines = natlb("show stat").removesuffix("\n\n").split("\n")
    assert {line.count(",") for line in lines} == {len(COLUMNS)}
    assert all(line.endswith(",") for line in lines)


def test_rows_are_haproxys_in_haproxys_order_and_what_the_configuration_says_is_the_same(
    haproxy: Ask, natlb: Ask
) -> None:
    ours, theirs = rows(natlb("show stat")), rows(haproxy("show stat"))
    assert len(ours) == 13
    for own, its in zip(ours, theirs, strict=True):
        where = f"{own['pxname']}/{own['svname']}"
        differing = {name for name in own if own[name] != its[name]}
        assert differing <= _MEASURED, (where, {name: (own[name], its[name]) for name in differing - _MEASURED})
        assert {name for name in own if not own[name]} == {name for name in own if not its[name]}, where


@pytest.mark.parametrize(
    "words",
    [
        "www 7 -1",
        "2 1 -1",
        "77 7 -1",
        "both 2 -1",
        "both 4 9",
        "-1 4 9",
        "-1 3 0",
        "nodes 4 2 no-maint",
        "3x 4 1",
        "nodes 0 -1",
        "nodes 4",
        "up",
        "no-maint",
        "no-maint up",
        "nonsense",
        "nobody 7 -1",
        "99 7 -1",
        "typed 7 -1",
    ],
)
def test_the_same_rows_are_chosen(haproxy: Ask, natlb: Ask, words: str) -> None:
    ours, theirs = natlb(f"show stat {words}"), haproxy(f"show stat {words}")
    if not theirs.startswith("#"):
        assert ours == theirs
        return
    chosen = [[(row["pxname"], row["svname"], row["status"]) for row in rows(said)] for said in (ours, theirs)]
    assert chosen[0] == chosen[1]


def typed(said: str) -> list[tuple[str, str]]:
    """Return all that stands before the value, in each line of what natlb has, and the value."""
    found = []
    for line in said.removesuffix("\n\n").split("\n"):
        head, tags, kind, value = line.split(":", 3)
        if line[0].isdigit() or int(head.split(".")[3]) < len(COLUMNS):
            found.append((f"{head}:{tags}:{kind}", value))
    return found


def test_typed_values_have_haproxys_names_places_tags_and_types(haproxy: Ask, natlb: Ask) -> None:
    ours, theirs = typed(natlb("show stat typed")), typed(haproxy("show stat typed"))
    assert [head for head, _ in ours] == [head for head, _ in theirs]
    differing = {head.split(".")[4] for (head, own), (_, its) in zip(ours, theirs, strict=True) if own != its}
    assert differing <= _MEASURED


def test_json_has_haproxys_structure(haproxy: Ask, natlb: Ask) -> None:
    ours, theirs = json.loads(natlb("show stat json")), json.loads(haproxy("show stat json"))
    theirs = [[each for each in row if each["field"]["pos"] < len(COLUMNS)] for row in theirs]
    for both in (ours, theirs):
        for row in both:
            for each in row:
                if each["field"]["name"] in _MEASURED:
                    assert isinstance(each["value"].pop("value"), int)
    assert ours == theirs
    assert list(ours[0][0]) == list(theirs[0][0])


@pytest.mark.parametrize("command", ["show stat typed", "show info typed", "show info"])
def test_described_values_have_a_description_in_quotes_each(haproxy: Ask, natlb: Ask, command: str) -> None:
    for ask in (haproxy, natlb):
        lines = ask(f"{command} desc").removesuffix("\n\n").split("\n")
        assert all(re.fullmatch(r'.+:"[^"]+"', line) for line in lines)


def test_a_description_of_rows_is_nothing_to_csv_and_json(natlb: Ask) -> None:
    for form in ("", " json"):
        assert natlb(f"show stat{form} desc") == natlb(f"show stat{form}")


def test_the_last_format_holds(haproxy: Ask, natlb: Ask) -> None:
    for ask in (haproxy, natlb):
        assert ask("show stat typed json").startswith("[[{")
        assert ask("show info json typed").startswith("0.Name.1:POS:str:HAProxy\n")


# show info


def test_info_has_haproxys_lines_in_haproxys_order(haproxy: Ask, natlb: Ask) -> None:
    ours, theirs = (
        [line.split(": ", 1) for line in ask("show info").removesuffix("\n\n").split("\n")] for ask in (natlb, haproxy)
    )
    assert [name for name, _ in ours] == [name for name, _ in theirs]
    assert all(value for _, value in ours)
    own, its = dict(ours), dict(theirs)
    for name in ("Name", "Nbthread", "Nbproc", "Maxconn", "node", "Stopping", "Listeners", "Tainted", "CurrConns"):
        assert own[name] == its[name], name
    assert {name for name in own if name.startswith("Ssl") and own[name] != "0"} == set()
    assert re.fullmatch(r"\d+d \d+h\d\dm\d\ds", own["Uptime"])
    assert re.fullmatch(r"\d+\.\d+\.\d+-natlb.*", own["Version"])


def test_typed_info_has_haproxys_names_places_tags_and_types(haproxy: Ask, natlb: Ask) -> None:
    ours, theirs = typed(natlb("show info typed")), typed(haproxy("show info typed"))
    assert [head for head, _ in ours] == [head for head, _ in theirs]


def test_info_in_json_has_haproxys_structure(haproxy: Ask, natlb: Ask) -> None:
    ours, theirs = json.loads(natlb("show info json")), json.loads(haproxy("show info json"))
    for both in (ours, theirs):
        for each in both:
            each["value"]["value"] = type(each["value"]["value"])
    assert ours == theirs


# show servers state, clear counters


def test_the_state_of_servers_has_haproxys_columns_and_rows(haproxy: Ask, natlb: Ask) -> None:
    for words in ("", " nodes"):
        ours, theirs = (
            # HAProxy does not number the servers of a backend that is disabled.
            [line.split(" ") for line in ask(f"show servers state{words}").split("\n") if " away " not in line]
            for ask in (natlb, haproxy)
        )
        assert ours[:2] == theirs[:2]
        assert [(len(row), row[:5], row[6:9], row[14:]) for row in ours[2:]] == [
            (len(row), row[:5], row[6:9], row[14:]) for row in theirs[2:]
        ]


def test_the_state_of_an_unknown_backend_is_refused_alike(haproxy: Ask, natlb: Ask) -> None:
    assert natlb("show servers state x") == haproxy("show servers state x") == "Can't find backend.\n\n"


@pytest.mark.parametrize("words", ["", " all", " x"])
def test_counters_are_cleared_without_a_word(haproxy: Ask, natlb: Ask, words: str) -> None:
    assert natlb(f"clear counters{words}") == haproxy(f"clear counters{words}")


def test_all_counters_are_for_admins(running: Running) -> None:
    assert answer(running, "clear counters", Level.OPERATOR) == ""
    assert answer(running, "clear counters all", Level.OPERATOR) == "Permission denied\n"
