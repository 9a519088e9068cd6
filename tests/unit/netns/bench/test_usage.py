import os

import pytest

from netns.bench import usage
from netns.bench.usage import Spent
from netns.processes import Resident


class NoLab:
    def namespace(self, host):
        return f"nowhere-{host}"


def living(monkeypatch, *pids):
    monkeypatch.setattr(usage, "living_in", lambda names: [Resident(pid, names[0], "it") for pid in pids])


def test_what_was_spent_in_between_and_per_unit():
    spent = Spent(7.5, 30.0).since(Spent(5.5, 20.0)).each(4)
    assert (spent.own, spent.machine) == (0.5, 2.5)


@pytest.mark.parametrize(("later", "earlier"), [(None, 5.0), (5.0, None), (None, None)])
def test_a_balancer_without_processes_spends_nothing_that_is_known(later, earlier):
    spent = Spent(later, 30.0).since(Spent(earlier, 20.0)).each(10)
    assert (spent.own, spent.machine) == (None, 1.0)


def test_all_threads_of_a_process_are_charged(monkeypatch):
    living(monkeypatch, os.getpid())
    before = Spent.so_far(NoLab())
    while sum(os.times()[:2]) < 0.1 or (Spent.so_far(NoLab()).since(before).own or 0) < 0.05:
        sum(range(10_000))
    spent = Spent.so_far(NoLab()).since(before)
    assert 0.05 <= spent.own < 10
    assert spent.machine > 0


def test_without_processes_only_the_machine_is_charged(monkeypatch):
    living(monkeypatch)
    assert Spent.so_far(NoLab()).own is None
    assert usage.resident_kilobytes(NoLab()) == 0


def test_memory_is_that_of_all_processes_that_are_still_there(monkeypatch):
    living(monkeypatch, os.getpid())
    own = usage.resident_kilobytes(NoLab())
    assert 5_000 < own < 5_000_000
    living(monkeypatch, os.getpid(), os.getpid(), 2**22 + 1)
    assert usage.resident_kilobytes(NoLab()) == pytest.approx(2 * own, rel=0.05)
