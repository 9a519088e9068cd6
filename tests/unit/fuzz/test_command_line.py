"""The command line of `scripts/fuzz.sh`: nothing is begun that nobody has asked for."""

import pytest

from tests.fuzz import __main__ as command
from tests.fuzz.targets import TARGETS


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], float]]:
    """What would be fuzzed, and for how many seconds."""
    found: list[tuple[list[str], float]] = []

    def fuzz(targets: list[str], seconds: float, *_: object) -> int:
        found.append((targets, seconds))
        return 0

    monkeypatch.setattr(command, "fuzz", fuzz)
    return found


def test_a_target_or_all_of_them_for_some_minutes(begun: list[tuple[list[str], float]]) -> None:
    assert command.main(["packets", "0.5"]) == command.main(["all"]) == 0
    assert begun == [(["packets"], 30), (list(TARGETS), 600)]


def test_without_a_target_it_says_how_it_is_used(
    begun: list[tuple[list[str], float]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert command.main([]) == 2
    said = capsys.readouterr().err
    assert said.startswith("usage: fuzz.sh ")
    assert all(target in said for target in TARGETS)
    assert max(map(len, said.splitlines())) <= 80
    assert begun == []


@pytest.mark.parametrize("minutes", ["x", "", "0", "-1", "nan", "inf", "100000"])
def test_what_is_no_number_of_minutes_is_told_in_words(
    begun: list[tuple[list[str], float]], capsys: pytest.CaptureFixture[str], minutes: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["packets", "--", minutes])
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(
        f"argument MINUTES: '{minutes}' is not a number of minutes: more than 0 and less than 100000\n"
    )
    assert begun == []
