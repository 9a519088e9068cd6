import re

from netns.bench import report as telling
from netns.bench.measures import MEASURES


def rows(text):
    return {re.split(r"  +", line.strip())[0]: re.split(r"  +", line.strip())[1:] for line in text.splitlines()}


def test_every_measure_is_a_row_and_every_candidate_a_column(report):
    found = rows(telling.medians(report["results"]))
    assert set(found) == {"routing"} | {measure.label.strip() for measure in MEASURES}
    assert len(telling.medians(report["results"]).splitlines()) == 1 + len(MEASURES)
    assert found["bulk to the server, Gbit/s"] == ["27.35", "8.00", "2.00"]
    assert found["datagrams/s that arrive"] == ["-", "-", "1,234,567"]


def test_ratios_are_told_where_there_is_something_to_divide_and_which_way_is_better(report):
    found = rows(telling.compared(report["results"]))
    assert found["multiples of haproxy; * less is better"] == ["routing", "haproxy", "natlb"]
    assert found["requests/s, kept alive"] == ["2.03", "1.00", "0.25"]
    assert found["99 % within, us *"] == ["1.26", "1.00", "-"]
    assert "datagrams/s that arrive" not in found


def test_without_haproxy_there_is_nothing_to_compare_with(report):
    assert "multiples of" in telling.render(report)
    del report["results"]["haproxy"]
    assert "multiples of" not in telling.render(report)


def test_nothing_is_wider_than_a_terminal_with_five_candidates(report):
    report["results"] = {
        name: {measure.key: 10.0 ** (6 - measure.digits) - 1 for measure in MEASURES}
        for name in ("routing", "nft", "haproxy", "nginx", "natlb")
    }
    report["about"] = dict.fromkeys(report["results"], "what it is " * 20)
    report["machine"]["versions"] |= dict.fromkeys(report["results"], "version " * 20)
    report["machine"]["cpu"] = "A Processor " * 10
    report["remarks"] = ["round 1 of 3, natlb, requests: " + "1 timeout and " * 20]
    assert max(len(line) for line in telling.render(report).splitlines()) <= 80


def test_the_head_says_when_where_what_and_with_which_versions(report):
    head = telling.head(report)
    for part in ("2026-01-31 12:00 UTC", "medians of 3 rounds, 5 s", "2 cores", "6.18.44", "wrk: wrk 4.1.0"):
        assert part in head
    assert "natlb: Python (natlb 0.1.0)" in head
    assert "busy" not in head
    assert "quick" not in head


def test_the_head_says_that_a_run_was_quick_and_the_machine_busy(report):
    report |= {"quick": True, "rounds": 1, "seconds": 1}
    report["machine"]["load_average"] = 1.75
    head = telling.head(report)
    assert "1 round, 1 s for each load, quick" in head
    assert "The machine was busy with other things: load average 1.75 at the start." in head


def test_every_remark_is_told(report):
    report["remarks"] = ["round 1 of 3, natlb, requests: 7 timeout; 100 answered", "memory: not measured"]
    assert telling.render(report).endswith(
        "\n\n! round 1 of 3, natlb, requests: 7 timeout; 100 answered\n! memory: not measured"
    )


def test_where_a_packets_time_goes_is_a_table_if_it_was_measured(report):
    assert "where a packet's time goes" not in telling.render(report)
    stages = {"parse": {"user_us": 3.0, "kernel_us": 0.0}, "verdict": {"user_us": 1.0, "kernel_us": 6.0}}
    report["where"] = {"packets": 1000, "samples": 100, "stages": stages}
    text = telling.render(report)
    found = rows(text)
    assert found["where a packet's time goes in natlb, us"] == ["natlb", "kernel", "%"]
    assert found["parse"] == ["3.00", "0.00", "30.0"]
    assert found["verdict"] == ["1.00", "6.00", "70.0"]
    assert found["all"] == ["4.00", "6.00", "100.0"]
    assert max(map(len, text.splitlines())) <= 80
