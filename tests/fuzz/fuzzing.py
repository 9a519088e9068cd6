"""The long mode: targets fuzzed for as long as one likes, as many at a time as there are processors.

Each is a process of its own (`tests.fuzz.one`), which libFuzzer bounds in memory and in time for one input. It begins
with the inputs that are kept in tests/fuzz/corpus and those of earlier runs, and writes to a directory of its own:
inputs that reach something new, a log, and findings. It ends with its first finding, since what is broken is
found again and again; the others go on. What a run has added is kept by `tests.fuzz.keep`, for everybody.
"""

import asyncio
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.fuzz import corpus
from tests.fuzz.targets import TARGETS, words_of

ROOT: Final = Path(__file__).parents[2]
DIRECTORY: Final = ROOT / "fuzzed"
"""Where everything is written."""

MOST_MEMORY: Final = 1024
"""Megabytes of a process: some ten times what it needs."""
_LONGEST: Final = 60
"""Seconds of the clock for one input; targets are stricter themselves, by the processor's time."""
_TOLD_EVERY: Final = 10.0
"""Seconds."""
_KINDS: Final = {"crash": "not right", "timeout": "too slow", "oom": "too much memory", "leak": "memory is lost"}

_STATUS: Final = re.compile(r"#(\d+)\s.*?\bcov: (\d+) .*\brss: (\d+)Mb")
_EXECUTED: Final = re.compile(r"stat::number_of_executed_units: +(\d+)")
_TRACEBACK: Final = re.compile(r"^ === Uncaught Python exception: ===\n(.*?)^$", re.M | re.S)


@dataclass
class Fuzzed:
    """One target, and how far it has come."""

    target: str
    directory: Path
    began: float = field(default_factory=time.monotonic)
    executions: int = 0
    coverage: int = 0
    """Places in natlb's code that were reached: libFuzzer's count."""
    memory: int = 0
    """Megabytes."""
    before: int = 0
    """Inputs that it began with."""
    found_before: set[Path] = field(default_factory=set)
    status: int | None = None
    """What the process exited with."""

    @property
    def inputs(self) -> Path:
        return self.directory / "inputs"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    def all_findings(self) -> set[Path]:
        """The inputs that found something, those of earlier runs included."""
        return {path for kind in _KINDS for path in (self.directory / "findings").glob(f"{kind}-*")}

    @property
    def findings(self) -> list[Path]:
        """The inputs that have found something in this run."""
        return sorted(self.all_findings - self.found_before)

    def heed(self, line: str) -> None:
        """Note what a line of libFuzzer's says."""
        if found := _STATUS.match(line):
            self.executions, self.coverage, self.memory = map(int, found.groups())
        elif found := _EXECUTED.match(line):
            self.executions = int(found[1])

    def __str__(self) -> str:
        seconds = max(time.monotonic() - self.began, 0.001)
        added = sum(1 for _ in self.inputs.iterdir()) - self.before
        return (
            f"{self.target:<14}{int(seconds) // 60:>4}:{int(seconds) % 60:02}"
            f"{self.executions:>12,} executions {self.executions / seconds:>8,.0f}/s"
            f"{self.coverage:>7,} places {added:>6,} new inputs {self.memory:>5} MB"
        )


def fuzz(targets: Sequence[str], seconds: float, directory: Path = DIRECTORY, jobs: int | None = None) -> int:
    """Fuzz each target for so long; return 1 if anything was found, 2 if a process could not do its work, else 0."""
    return asyncio.run(_fuzz(targets, seconds, directory, jobs or os.cpu_count() or 1))


async def _fuzz(targets: Sequence[str], seconds: float, directory: Path, jobs: int) -> int:
    places = asyncio.Semaphore(jobs)
    print(f"inputs, logs and findings go to {_shown(directory)}", flush=True)

    async def one(target: str) -> Fuzzed:
        async with places:
            return await _fuzz_one(target, seconds, directory / target)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(target)) for target in targets]
    done = [task.result() for task in tasks]
    for each in done:
        _tell(each)
    if any(each.findings for each in done):
        return 1
    return 2 if any(each.status for each in done) else 0


async def _fuzz_one(target: str, seconds: float, directory: Path) -> Fuzzed:
    fuzzed = Fuzzed(target, directory)
    corpus.unpack(corpus.read(target), fuzzed.inputs)
    (directory / "findings").mkdir(exist_ok=True)
    dictionary, words = directory / "words", [word for word in words_of(target) if word]
    dictionary.write_text("".join(f'"{_quoted(word)}"\n' for word in words))
    fuzzed.found_before = fuzzed.all_findings
    fuzzed.before = sum(1 for _ in fuzzed.inputs.iterdir())
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fuzz.one", target, str(fuzzed.inputs)),
        f"-max_total_time={max(1, round(seconds))}",
        f"-max_len={TARGETS[target]}",
        f"-rss_limit_mb={MOST_MEMORY}",
        f"-timeout={_LONGEST}",
        f"-report_slow_units={_LONGEST}",
        f"-artifact_prefix={directory / 'findings'}{os.sep}",
        *([f"-dict={dictionary}"] if words else []),  # libFuzzer takes an empty one for an error
        "-print_final_stats=1",
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        await _follow(fuzzed, process)
    except BaseException:
        process.terminate()
        raise
    finally:
        fuzzed.status = await process.wait()
    return fuzzed


async def _follow(fuzzed: Fuzzed, process: asyncio.subprocess.Process) -> None:
    """Write down what a process says, and tell how far it has come now and then."""
    if process.stdout is None:
        raise AssertionError("the output is a pipe")
    told = time.monotonic()
    with fuzzed.log.open("w", encoding="utf-8") as log:
        while line := (await process.stdout.readline()).decode("utf-8", "replace"):
            log.write(line)
            fuzzed.heed(line)
            if time.monotonic() - told >= _TOLD_EVERY:
                told = time.monotonic()
                print(fuzzed, flush=True)


def _tell(fuzzed: Fuzzed) -> None:
    """Tell what became of a target in the end."""
    print(fuzzed)
    for path in fuzzed.findings:
        print(f"    {_KINDS[path.name.partition('-')[0]]}: {_shown(path)}")
        print(f"    to see it again: .venv/bin/python -m tests.fuzz.reproduce {fuzzed.target} {_shown(path)}")
    text = fuzzed.log.read_text(encoding="utf-8")
    if found := _TRACEBACK.search(text):
        print("".join(f"        {line}\n" for line in found[1].splitlines()), end="")
    elif fuzzed.status and not fuzzed.findings:
        print(f"    it ended with status {fuzzed.status}; the last it said stands in {_shown(fuzzed.log)}:")
        print("".join(f"        {line}\n" for line in text.splitlines()[-5:]), end="")


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def _quoted(word: str) -> str:
    """Return a word as libFuzzer's dictionaries have it."""
    return "".join(f"\\x{byte:02x}" for byte in word.encode("utf-8", "surrogateescape")[:60])
