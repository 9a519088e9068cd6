"""What stands in the lines of `show info`; that they are HAProxy's lines is test_statistics_haproxy's."""

import asyncio
import os
from dataclasses import replace

import pytest

from natlb.runtime.running import Running
from natlb.runtime.vitals import Meter, Vitals, Watch

from .consoles import answer


def lines(running: Running) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in answer(running, "show info").splitlines() if line)


def test_connections_stand_in_the_lines(running: Running) -> None:
    shown = lines(running)
    assert [shown[name] for name in ("CurrConns", "CumConns", "CumReq", "MaxConnRate")] == ["2", "2", "2", "1"]
    answer(running, "clear counters all")
    shown = lines(running)
    assert [shown[name] for name in ("CurrConns", "CumConns", "CumReq", "MaxConnRate")] == ["2", "2", "2", "0"]


def test_connections_that_a_rule_has_rejected_came_and_were_not_let_in(running: Running) -> None:
    running.engine.books.denied(running.services[0], running.clock())
    shown = lines(running)
    assert [shown[name] for name in ("CumConns", "CumReq")] == ["3", "2"]


def test_what_maxconn_may_be_set_to_is_what_natlb_was_started_with(running: Running) -> None:
    running.engine.admission.max_connections = 2
    started = replace(running)
    for limit, told in (("1", ""), ("3", "Value out of range.\n"), ("0", "")):
        assert answer(started, f"set maxconn global {limit}") == told
        assert lines(started)["Hard_maxconn"] == "2"
    assert lines(started)["Maxconn"] == "2"


def test_limits_are_the_engines(running: Running) -> None:
    assert lines(running)["Maxconn"] == lines(running)["Hard_maxconn"] == str(running.engine.capacity)
    running.engine.admission.max_connections = 50
    assert lines(running)["Maxconn"] == "50"


def test_all_bytes_stand_there_even_those_that_were_cleared(running: Running) -> None:
    connection = next(iter(running.engine.connections()))
    for translation in connection.translations:
        translation.account.octets += 50
    answer(running, "clear counters all")
    connection.translations[0].account.octets += 1
    assert lines(running)["TotalBytesOut"] == "101"


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.9, "0d 0h00m00s"), (6, "0d 0h00m06s"), (3671, "0d 1h01m11s"), (90061 * 3, "3d 3h03m03s")],
)
def test_the_time_since_the_start_is_written_as_haproxy_does(running: Running, seconds: float, written: str) -> None:
    running.vitals = lambda: Vitals(uptime=seconds)
    assert lines(running)["Uptime"] == written
    assert lines(running)["Uptime_sec"] == str(int(seconds))


def test_a_description_has_a_line_if_there_is_one(running: Running) -> None:
    assert "description" not in lines(running)
    running.vitals = lambda: Vitals(description="for the tests")
    assert lines(running)["description"] == "for the tests"


def test_jobs_are_connections_and_listeners(running: Running) -> None:
    running.vitals = lambda: replace(Vitals(), listeners=5, stopping=True)
    shown = lines(running)
    assert (shown["Jobs"], shown["Listeners"], shown["Stopping"]) == ("7", "5", "1")


# What is measured


def test_idle_is_what_is_left_of_the_last_second() -> None:
    meter = Meter(100.0, 5.0)
    meter.sample(101.0, 5.25, 1000)
    assert (meter.idle_percent, meter.octets_per_second) == (75, 1000)
    meter.sample(103.0, 6.25, 1500)
    assert (meter.idle_percent, meter.octets_per_second) == (50, 250)
    meter.sample(104.0, 7.5, 1500)
    assert (meter.idle_percent, meter.octets_per_second) == (0, 0)
    meter.sample(104.0, 7.5, 1500)
    assert meter.idle_percent == 0, "no time has passed"


def test_the_process_is_looked_at() -> None:
    watch = Watch("here", None, "1.2", "2026/11/26", listeners=lambda: 3, dropped_logs=lambda: 7)
    watch.sample(0)

    async def look() -> Vitals:
        return watch.vitals()

    vitals = asyncio.run(look())
    assert (vitals.pid, vitals.node, vitals.version, vitals.listeners) == (os.getpid(), "here", "1.2", 3)
    assert 1 << 20 < vitals.resident <= vitals.most_resident
    assert (vitals.tasks, vitals.active_tasks) == (1, 1)
    assert 0 <= vitals.uptime < 60
    assert vitals.dropped_logs == 7
    assert vitals.descriptors > 3
