from netns.bench.measures import MEASURES
from netns.bench.plot import PANELS, plot, plot_where


def test_a_panel_for_each_measure_that_says_most_and_a_bar_for_each_candidate(report, tmp_path):
    assert set(PANELS) <= {measure.key for measure in MEASURES}
    plot(report, tmp_path / "it.svg")
    drawn = (tmp_path / "it.svg").read_text()
    assert drawn.startswith("<?xml")
    for text in ("27.35", "203,312", "1,234,567", "natlb", "requests/s, kept alive", "2026-01-31 12:00 UTC"):
        assert f">{text}" in drawn


def test_a_bar_for_each_stage_of_a_packets_way(report, tmp_path):
    stages = {"parse": {"user_us": 3.0, "kernel_us": 0.0}, "verdict": {"user_us": 1.0, "kernel_us": 6.0}}
    report["where"] = {"packets": 123456, "samples": 789, "stages": stages}
    plot_where(report, tmp_path / "it.svg")
    drawn = (tmp_path / "it.svg").read_text()
    assert drawn.startswith("<?xml")
    origin = "2026-01-31 12:00 UTC"
    for text in ("parse", "verdict", "3.00 us, 30 %", "7.00 us, 70 %", "kernel", "10.0 us a packet", origin):
        assert f">{text}" in drawn
    assert "from 123,456 packets, looked at 789 times" in drawn
