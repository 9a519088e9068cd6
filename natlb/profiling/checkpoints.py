"""Marks made into checkpoints, while the profiler is on.

Python obeys a signal only at certain places: when a function begins, when a loop goes round, when a call into C has
returned. Between two of them a sample waits for the second. The packet path has long stretches without any, on purpose;
a sample taken in one of them would be charged to the next stage, or the one after that. So each marked function has a
second code, compiled from the same source, in which every mark is such a place: a call that does nothing. What the mark
ends is charged for what came before it. While the profiler is on, functions have their second code, and each mark costs
some thirty nanoseconds; while it is off they have their own, and marks are comments.
"""

import contextlib
import inspect
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Final

from natlb.errors import ProfilingError
from natlb.profiling.stages import MARK, Stage, mark_of, stages_of

_DO_NOTHING: Final = "''.islower()"
"""A call into C, the cheapest there is."""


@dataclass(frozen=True, slots=True)
class _Marked:
    """A function with marks."""

    function: FunctionType
    own: CodeType
    stopping: CodeType
    """The same with checkpoints."""


Sources = Mapping[ModuleType, list[str]]
"""The lines of modules, with their ends."""


def sources(modules: Iterable[ModuleType]) -> Sources:
    """Read those of the modules that have marks and that can be read.

    That is to be done when they have just been loaded, and by whoever has loaded them: later a newer version may have
    taken their place, or a user may have taken over who cannot read them.
    """
    found: dict[ModuleType, list[str]] = {}
    for module in modules:
        with contextlib.suppress(OSError):
            text = Path(module.__file__ or "").read_text("utf-8")
            if MARK in text:
                found[module] = text.splitlines(keepends=True)
    return found


class Way:
    """All marked functions of some modules."""

    def __init__(self, of: Sources) -> None:
        """Compile them, which takes some hundredths of a second. Raises ProfilingError when their source is not theirs.

        To be made while no other's checkpoints are put in.
        """
        self._marked: list[_Marked] = []
        self._stages: dict[str, dict[int, Stage]] = {}
        """By file and line."""
        for module, lines in of.items():
            marks = [number for number, line in enumerate(lines, start=1) if mark_of(line)]
            for function in _functions(module):
                span = range(function.__code__.co_firstlineno, max(_lines(function.__code__)) + 1)
                if any(mark in span for mark in marks):
                    self._enter(function, lines)
        if not self._marked:
            raise ProfilingError("natlb's source is not there to look for marks in")

    def put_in(self) -> None:
        """Let marks be checkpoints."""
        for each in self._marked:
            each.function.__code__ = each.stopping

    def take_out(self) -> None:
        """Let marks be comments."""
        for each in self._marked:
            each.function.__code__ = each.own

    def stage(self, frame: FrameType | None) -> Stage:
        """Return the stage of a call that is going on."""
        while frame is not None:
            stages = self._stages.get(frame.f_code.co_filename)
            if stages is not None and (stage := stages.get(frame.f_lineno)) is not None:
                return stage
            frame = frame.f_back
        return Stage.ELSEWHERE

    def marks(self) -> set[tuple[str, int]]:
        """Return the file and the line of every mark that is a checkpoint when they are put in."""
        return {
            (each.own.co_filename, line) for each in self._marked for line in _lines(each.stopping) - _lines(each.own)
        }

    def _enter(self, function: FunctionType, module: list[str]) -> None:
        own = function.__code__
        first = own.co_firstlineno
        try:
            lines = inspect.getblock(module[first - 1 :])
            again = _compiled(lines, own)
            stopping = _compiled([_checkpoint(line) if mark_of(line) else line for line in lines], own)
        except (SyntaxError, ValueError, TokenError):
            again = None
        if again is None or (again.co_code, again.co_names) != (own.co_code, own.co_names):
            # Another version must not get into this one.
            raise ProfilingError(f"{own.co_filename} is not what {own.co_qualname} was loaded from: restart natlb")
        self._stages.setdefault(own.co_filename, {}).update(stages_of(lines, first))
        self._marked.append(_Marked(function, own, stopping))


def _compiled(lines: list[str], own: CodeType) -> CodeType:
    """Compile the source of a function, at its place. Raises SyntaxError, or ValueError when it is not one function."""
    text = "\n" * (own.co_firstlineno - 1) + textwrap.dedent("".join(lines))
    [code] = [each for each in compile(text, own.co_filename, "exec").co_consts if isinstance(each, CodeType)]
    return code.replace(co_qualname=own.co_qualname)


def _checkpoint(mark: str) -> str:
    return mark[: mark.index("#")] + _DO_NOTHING + "\n"


def _functions(module: ModuleType) -> Iterator[FunctionType]:
    """Go over the functions and methods that a module defines."""
    for value in vars(module).values():
        if getattr(value, "__module__", None) == module.__name__:
            for each in (value, *(vars(value).values() if inspect.isclass(value) else ())):
                function = inspect.unwrap(getattr(each, "fget", None) or getattr(each, "__func__", None) or each)
                if isinstance(function, FunctionType) and function.__module__ == module.__name__:
                    yield function


def _lines(code: CodeType) -> set[int]:
    """Return the lines that a function, with those inside it, has code for."""
    inner = (each for each in code.co_consts if isinstance(each, CodeType))
    return {line for *_, line in code.co_lines() if line is not None}.union(*map(_lines, inner))
