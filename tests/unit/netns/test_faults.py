"""What is said of faults before anybody looks at one."""

import re
from pathlib import Path

import pytest

from netns import flood
from netns.draw import WIDTH, paragraphs
from netns.faults import ANY, FAULTS
from netns.topology import SEED


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_noticed_gives_away_neither_place_nor_cause(name):
    words = set(re.findall(r"\w+", FAULTS[name].notice.lower()))
    given_away = {host.name for host in SEED.hosts} | {"sigstop", "gateway", "iptables", "nft", "process"}
    assert not words & (given_away | ({name} - {"server"}))


@pytest.mark.parametrize("name", FAULTS)
def test_the_cause_says_where_it_shows(name):
    assert "`" in FAULTS[name].cause


def test_different_causes_may_look_the_same():
    assert FAULTS["checksum"].notice == FAULTS["mtu"].notice


def test_chance_is_no_fault_of_its_own():
    assert ANY not in FAULTS


def test_the_page_has_every_fault_and_the_bounds_of_the_flood():
    page = (Path(__file__).parents[3] / "docs" / "lab.md").read_text()
    table = page.partition("| `lab.sh break` |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", table)) == set(FAULTS)
    bounds = (
        f"{flood.CONNECTIONS} connections, {flood.RATE} new ones a second, and ends by itself after {flood.SECONDS:g}"
    )
    assert bounds in " ".join(page.split())


def test_the_list_fits_the_terminal():
    for texts in ({n: f.notice for n, f in FAULTS.items()}, {n: f.cause for n, f in FAULTS.items()}):
        assert max(map(len, paragraphs(texts).splitlines())) <= WIDTH
