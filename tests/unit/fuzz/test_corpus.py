"""Every input that is kept is tried, as any test is: without a fuzzer, in seconds."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import corpus
from tests.fuzz.targets import TARGETS, check_of

_MOST_BYTES = 1_000_000
"""Of all files: they are to be read in a review."""


@pytest.mark.parametrize("target", TARGETS)
def test_every_input_that_is_kept_is_taken_well(target: str) -> None:
    check, inputs = check_of(target), corpus.read(target)
    assert inputs
    for each in inputs:
        try:
            check(each)
        except Exception as error:
            error.add_note(f"this is the input of tests/fuzz/corpus/{target}.txt: {corpus.escape(each).decode()}")
            raise


def test_there_is_a_file_for_each_target_and_no_other() -> None:
    assert {path.name for path in corpus.DIRECTORY.iterdir()} == {f"{target}.txt" for target in TARGETS}


def test_the_files_are_small_enough_to_be_read_and_no_longer_than_a_fuzzer_would_make_inputs() -> None:
    assert sum(path.stat().st_size for path in corpus.DIRECTORY.iterdir()) < _MOST_BYTES
    for target, longest in TARGETS.items():
        assert max(map(len, corpus.read(target))) <= longest


@pytest.mark.parametrize("target", TARGETS)
def test_a_file_is_as_it_would_be_written(target: str, tmp_path: Path) -> None:
    corpus.write(target, corpus.read(target), tmp_path)
    written = (tmp_path / f"{target}.txt").read_bytes()
    assert written == (corpus.DIRECTORY / f"{target}.txt").read_bytes()


@given(st.lists(st.binary(), unique=True))
def test_what_is_written_is_read_again(inputs: list[bytes]) -> None:
    lines = [corpus.escape(each) for each in inputs]
    assert [corpus.unescape(line) for line in lines] == inputs
    assert all(line.decode("ascii").isprintable() for line in lines)


def test_an_escape_that_means_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="stands for no byte"):
        corpus.unescape(rb"a\qb")
