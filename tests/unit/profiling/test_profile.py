"""The table: shares of the samples, times of the clock."""

from collections import Counter

import pytest

from natlb.profiling.profile import Profile, written
from natlb.profiling.stages import Stage

_STAGES = (Stage.PARSE, Stage.VERDICT, Stage.ELSEWHERE)


def profile() -> Profile:
    samples = Counter({Stage.VERDICT: 30, Stage.PARSE: 10, Stage.ELSEWHERE: 10})
    return Profile(12.0, 5.0, 100_000, samples, Counter({Stage.VERDICT: 10, Stage.PARSE: 10, Stage.ELSEWHERE: 5}))


def test_stages_come_in_the_order_of_a_packets_way_with_their_times() -> None:
    assert "".join(profile().table(_STAGES)) == (
        "  stage                       samples   cpu_tot   cpu_avg   usr_avg   sys_avg     share\n"
        "  parse                            10    1.000s   10.00us   10.00us   0.000ns     20.0%  ########\n"
        "  verdict                          30    3.000s   30.00us   10.00us   20.00us     60.0%  {}\n"
        "  elsewhere                        10    1.000s   10.00us   5.000us   5.000us     20.0%  ########\n"
        "  total                            50    5.000s   50.00us   25.00us   25.00us    100.0%\n"
    ).format("#" * 24)


def test_what_is_forgotten_was_never_there() -> None:
    found = profile()
    found.forget(Stage.ELSEWHERE)
    assert found.cpu == pytest.approx(4.0)
    assert "".join(found.table(_STAGES)).splitlines()[1:] == [
        "  parse                            10    1.000s   10.00us   10.00us   0.000ns     25.0%  ##########",
        "  verdict                          30    3.000s   30.00us   10.00us   20.00us     75.0%  " + "#" * 30,
        "  elsewhere                         0   0.000ns   0.000ns   0.000ns   0.000ns      0.0%",
        "  total                            40    4.000s   40.00us   20.00us   20.00us    100.0%",
    ]


def test_without_packets_there_is_no_average() -> None:
    found = profile()
    found.packets = 0
    lines = list(found.table(_STAGES))
    assert lines[-1].split() == ["total", "50", "5.000s", "-", "-", "-", "100.0%"]


def test_nothing_seen_is_an_empty_table() -> None:
    head, total = Profile().table(())
    assert head.split()[0] == "stage"
    assert total.split() == ["total", "0", "0.000ns", "-", "-", "-", "100.0%"]


def test_a_sample_that_only_one_timer_saw_takes_no_time_from_the_kernel() -> None:
    found = Profile(1.0, 1.0, 1, Counter({Stage.PARSE: 1}), Counter({Stage.PARSE: 2}))
    assert found.kernel_share(Stage.PARSE) == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.000ns"),
        (1.5e-10, "0.150ns"),
        (9.999e-9, "9.999ns"),
        (2.5e-6, "2.500us"),
        (34.71e-6, "34.71us"),
        (9.9999e-6, "10.00us"),
        (124.4e-6, "124.4us"),
        (0.0123, "12.30ms"),
        (1.0, "1.000s"),
        (3600.4, "3600s"),
        (None, "-"),
    ],
)
def test_times_have_four_digits_as_haproxys_have(seconds: float | None, text: str) -> None:
    assert written(seconds) == text


def test_every_stage_has_its_row_in_the_order_of_a_packets_way() -> None:
    rows = [line.split()[0] for line in profile().table()]
    assert rows == ["stage", *(stage.value for stage in Stage), "total"]
