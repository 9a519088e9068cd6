"""A soak's figures are judged as its page says, and told in words."""

from typing import Any

import pytest

from netns.soak.report import command, failures, render


@pytest.fixture
def report() -> dict[str, Any]:
    """One of a soak that has found nothing wrong."""
    vitals = {"resident": 50.0, "descriptors": 25, "threads": 2}
    return {
        "when": "2026-01-31 12:00 UTC",
        "minutes": 1,
        "seconds": 60.1,
        "seed": 44,
        "offload": True,
        "interrupted": False,
        "machine": {"cores": 2, "kernel": "6.1", "python": "3.11"},
        "connections": {
            "made": 12,
            "connected": 11,
            "ends": {"finished": 11, "ended by: it": 1},
            "lost": 0,
            "corrupted": 0,
        },
        "verified": 123_456,
        "datagrams": {
            "flows": 2,
            "answered_flows": 2,
            "asked": 5_000,
            "answered": 4_990,
            "lost_by_faults": 9,
            "lost": 1,
            "doubled_by_faults": 0,
            "doubled": 0,
            "wrong": 0,
        },
        "faults": {"it": 3},
        "churn": {},
        "natlb": {
            "warm": vitals,
            "end": dict(vitals),
            "entries": 12,
            "open": 0,
            "sent_again": 0,
            "activity": [],
            "counters": {"tcp-dnat4": [11, 12, 12], "udp-dnat4": [2, 2, 2]},
        },
        "failures": [],
        "stories": [],
        "log": [],
        "timeline": [],
        "marks": [],
    }


def test_nothing_wrong_is_no_failure(report: dict[str, Any]) -> None:
    assert failures(report) == []
    text = render(report)
    assert "lost: 0, corrupted: 0" in text
    assert "FAILED" not in text


@pytest.mark.parametrize(
    ("where", "what", "words"),
    [
        (("connections",), {"lost": 1, "made": 13}, "1 connection was lost"),
        (("connections",), {"corrupted": 2, "made": 14}, "2 connections were corrupted"),
        (("connections",), {"made": 13}, "13 connections were made, and 12 have ended"),
        (("datagrams",), {"wrong": 1}, "1 datagrams were altered or strange"),
        (("datagrams",), {"doubled": 1}, "1 came twice"),
        (("datagrams",), {"lost": 6}, "6 of 5000 datagrams were lost while no fault"),
        (("natlb", "counters"), {"tcp-dnat4": [11, 12, 13]}, "natlb has counted 13 in tcp-dnat4"),
        (("natlb", "counters"), {"tcp-dnat4": [11, 12, 10]}, "natlb has counted 10 in tcp-dnat4"),
        (("natlb", "end"), {"resident": 67.0}, "67.0 MB at the end: 66.0 were allowed"),
        (("natlb", "end"), {"descriptors": 26}, "natlb has 26 descriptors, and had 25"),
        (("natlb", "end"), {"threads": 8}, "natlb has 8 threads, and had 2"),
    ],
)
def test_each_figure_that_is_wrong_is_a_failure(
    report: dict[str, Any], where: tuple[str, ...], what: dict[str, Any], words: str
) -> None:
    place = report
    for key in where:
        place = place[key]
    place.update(what)
    assert any(words in line for line in failures(report)), failures(report)


def test_a_syn_that_was_sent_again_may_be_counted_twice(report: dict[str, Any]) -> None:
    report["natlb"]["counters"] = {"tcp-dnat4": [11, 12, 13], "tcp-dnat6": [11, 12, 13], "udp-dnat4": [2, 2, 2]}
    report["natlb"]["sent_again"] = 2
    assert failures(report) == []
    report["natlb"]["sent_again"] = 1
    assert failures(report) == ["natlb has counted 2 more than were begun, and 1 SYNs were sent again"]
    report["natlb"]["counters"]["udp-dnat4"] = [2, 2, 3]
    assert "natlb has counted 3 in udp-dnat4: 2 were answered of 2 that were begun" in failures(report)


def test_a_long_soak_is_allowed_less_memory(report: dict[str, Any]) -> None:
    report["natlb"]["end"]["resident"] = 55.0
    assert failures(report) == []
    report["seconds"] = 3_600.0
    assert failures(report) == ["natlb has 55.0 MB at the end: 54.0 were allowed"]


@pytest.mark.parametrize("fault", ["natlb killed", "natlb replaced (-sf)", "natlb reloaded (SIGUSR2)"])
def test_one_natlb_may_have_two_descriptors_more_than_another(report: dict[str, Any], fault: str) -> None:
    report["faults"] = {fault: 1}
    report["natlb"]["end"]["descriptors"] = 27
    assert failures(report) == []
    report["natlb"]["end"]["descriptors"] = 28
    assert failures(report) == ["natlb has 28 descriptors, and had 25 after the warm-up"]


def test_a_failure_is_told_with_the_command_that_does_it_again(report: dict[str, Any]) -> None:
    report["failures"], report["stories"] = ["it went wrong"], [f"story {number}" for number in range(20)]
    text = render(report)
    assert "! it went wrong" in text
    assert "story 7" in text
    assert "story 8" not in text
    assert "and 12 more such stories" in text
    assert text.endswith("once more: scripts/soak.sh 1 --offload on --seed 44")
    assert command(report) in text


def test_a_soak_that_never_came_to_its_end_can_be_told_too(report: dict[str, Any]) -> None:
    report["natlb"] |= {"warm": None, "end": None, "entries": None, "open": None, "sent_again": None}
    report["natlb"]["counters"] = {"tcp-dnat4": [11, 12, None]}
    report["interrupted"] = True
    assert failures(report) == []
    assert "interrupted after 1:00" in render(report)
