"""Marks as checkpoints: what they change in functions, and that without them samples go to the wrong stage."""

import dis
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from natlb.errors import ProfilingError
from natlb.profiling.checkpoints import Way, sources
from natlb.profiling.sampler import Sampler
from natlb.profiling.stages import Stage

_SOURCE = '''
from functools import cache


class Work:
    """Straight code takes nearly all of its time; the call at the end takes none."""

    def carry(self, number: int) -> int:
        # -- state
{straight}
        # -- rewrite
        return abs(number)

    @property
    def marked(self) -> int:
        # -- lookup
        return 1

    @staticmethod
    def alone() -> int:
        # -- parse
        return 2

    @cache
    def wrapped(self) -> int:
        # -- open
        return 3

    def unmarked(self) -> int:
        return self.carry(4)


def outer(
    number: int,
) -> int:
    # -- receive
    def inner() -> int:
        return number + 1

    # -- verdict
    return inner()
'''.replace("{straight}", "\n".join(["        number = number + 3 & 0xFFFF"] * 200))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "marked_module.py"


@pytest.fixture
def module(path: Path) -> Iterator[ModuleType]:
    path.write_text(_SOURCE)
    spec = importlib.util.spec_from_file_location("marked_module", path)
    assert spec is not None
    assert spec.loader is not None
    made = sys.modules["marked_module"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    yield made
    del sys.modules["marked_module"]


def results(module: ModuleType) -> list[int]:
    work = module.Work()
    return [work.carry(7), work.marked, work.alone(), work.wrapped(), work.unmarked(), module.outer(5)]


def test_functions_do_the_same_with_checkpoints_and_are_afterwards_what_they_were(module: ModuleType) -> None:
    own, expected = module.Work.carry.__code__, results(module)
    way = Way(sources([module]))
    way.put_in()
    assert module.Work.carry.__code__ is not own
    assert results(module) == expected
    way.take_out()
    assert module.Work.carry.__code__ is own


def test_every_mark_of_every_kind_of_function_is_a_checkpoint(module: ModuleType, path: Path) -> None:
    marks = {(str(path), number) for number, line in enumerate(_SOURCE.splitlines(), 1) if "# -- " in line}
    assert Way(sources([module])).marks() == marks
    assert len(marks) == 7


def test_lines_stay_where_they_are(module: ModuleType) -> None:
    def numbers(function: Callable[..., object]) -> set[int]:
        return {line for _, line in dis.findlinestarts(function.__code__) if line is not None}

    before = numbers(module.Work.carry)
    way = Way(sources([module]))
    way.put_in()
    assert before < numbers(module.Work.carry)
    assert module.Work.carry.__code__.co_qualname == "Work.carry"


def test_straight_code_is_charged_for_its_time(module: ModuleType) -> None:
    def share() -> float:
        way = Way(sources([module]))
        sampler = Sampler(way.stage)
        if checkpoints:
            way.put_in()
        work, until = module.Work(), time.process_time() + 0.4
        sampler.resume()
        while time.process_time() < until:
            for number in range(100):
                work.carry(number)
        sampler.close()
        way.take_out()
        assert sampler.samples.total() > 20
        return sampler.samples[Stage.STATE] / sampler.samples.total()

    checkpoints = True
    assert share() > 0.8
    checkpoints = False
    assert share() < 0.2  # or they would not be needed


def test_source_that_has_changed_is_not_taken(module: ModuleType, path: Path) -> None:
    path.write_text(_SOURCE.replace("return 2", "return 2 + self()"))
    with pytest.raises(
        ProfilingError, match=r"marked_module\.py is not what Work\.alone was loaded from: restart natlb"
    ):
        Way(sources([module]))


@pytest.mark.parametrize("change", [("def alone", "lambda"), ("        return 2\n", "        return (2\n")])
def test_source_that_is_no_source_is_not_taken(module: ModuleType, path: Path, change: tuple[str, str]) -> None:
    path.write_text(_SOURCE.replace(*change))
    with pytest.raises(ProfilingError, match="restart natlb"):
        Way(sources([module]))


def test_source_that_is_not_there_is_told(module: ModuleType, path: Path) -> None:
    path.unlink()
    with pytest.raises(ProfilingError, match="natlb's source is not there to look for marks in"):
        Way(sources([module]))


def test_what_no_marked_line_has_called_is_elsewhere(module: ModuleType) -> None:
    assert Way(sources([module])).stage(sys._getframe()) is Stage.ELSEWHERE
