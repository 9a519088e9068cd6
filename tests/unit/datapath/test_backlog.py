"""What the kernel counts of its queues, read out of its table."""

from pathlib import Path

import pytest

from natlb.datapath.backlog import Backlog


def table(*rows: tuple[int, int, int, int]) -> str:
    """The kernel's table: number, waiting, dropped by the queue, and on the way to the user."""
    return "".join(
        f"{number:5} {1234:6} {waiting:5} 2 65531 {queue:5} {user:5} {99:8} {1:2}\n"
        for number, waiting, queue, user in rows
    )


@pytest.fixture
def queues(tmp_path: Path) -> Path:
    return tmp_path / "nfnetlink_queue"


def seen(backlog: Backlog) -> tuple[int, int, int]:
    backlog.look()
    return backlog.waiting, backlog.queue_full, backlog.socket_full


def test_all_queues_of_ours_count_and_nobody_elses(queues: Path) -> None:
    queues.write_text(table((7, 3, 10, 20), (8, 100, 100, 100), (65535, 4, 1, 2)))
    backlog = Backlog((7, 65535), queues)
    assert (backlog.waiting, backlog.queue_full, backlog.socket_full) == (0, 0, 0)
    assert seen(backlog) == (7, 11, 22)
    backlog.close()


def test_each_look_adds_what_was_lost_since_the_last(queues: Path) -> None:
    backlog = None
    for row, expected in [((7, 3, 10, 20), (3, 10, 20)), ((7, 0, 10, 20), (0, 10, 20)), ((7, 1, 15, 21), (1, 15, 21))]:
        queues.write_text(table(row))
        backlog = backlog or Backlog((7,), queues)
        assert seen(backlog) == expected
    assert backlog is not None
    backlog.close()


def test_the_kernels_counters_may_begin_anew(queues: Path) -> None:
    queues.write_text(table((7, 0, 2**32 - 2, 2**32 - 1)))
    backlog = Backlog((7,), queues)
    assert seen(backlog) == (0, 2**32 - 2, 2**32 - 1)
    queues.write_text(table((7, 0, 3, 0)))
    assert seen(backlog) == (0, 2**32 + 3, 2**32)
    backlog.close()


def test_a_queue_that_is_gone_waits_for_nothing_and_has_lost_what_it_had(queues: Path) -> None:
    queues.write_text(table((7, 5, 1, 1)))
    backlog = Backlog((7,), queues)
    backlog.look()
    queues.write_text("")
    assert seen(backlog) == (0, 1, 1)
    backlog.close()


def test_where_there_is_no_table_nothing_is_known_to_be_lost(queues: Path) -> None:
    backlog = Backlog((7,), queues)
    assert seen(backlog) == (0, 0, 0)
    backlog.close()


def test_it_is_closed_once(queues: Path) -> None:
    queues.write_text("")
    backlog = Backlog((7,), queues)
    backlog.close()
    backlog.close()
    assert seen(backlog) == (0, 0, 0)


def test_what_was_lost_before_a_queue_was_taken_over_is_not_told_again(queues: Path) -> None:
    queues.write_text(table((7, 3, 10, 20)))
    backlog = Backlog((7,), queues, inherited=True)
    assert (backlog.waiting, backlog.queue_full, backlog.socket_full) == (0, 0, 0)
    queues.write_text(table((7, 1, 12, 21)))
    assert seen(backlog) == (1, 2, 1)
    backlog.close()
