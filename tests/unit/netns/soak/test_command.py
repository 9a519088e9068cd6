"""The command line of a soak: what it takes, and what it refuses before anything is done."""

import pytest

from netns.soak.command import arguments


def test_it_takes_minutes_and_little_else(tmp_path):
    options = arguments().parse_args(["1.5"])
    assert (options.minutes, options.offload, options.seed, options.json, options.plot) == (
        1.5,
        "off",
        None,
        None,
        None,
    )
    file = tmp_path / "it.json"
    options = arguments().parse_args(["60", "--offload", "on", "--seed", "44", "--json", str(file)])
    assert (options.minutes, options.offload, options.seed, options.json) == (60, "on", 44, file)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "MINUTES"),
        (["0"], "'0' is not a number of minutes"),
        (["nan"], "'nan' is not a number of minutes"),
        (["ten"], "'ten' is not a number of minutes"),
        (["1", "--seed", "-1"], "--seed"),
        (["1", "--seed", "1.5"], "'1.5' is not a whole number"),
        (["1", "--offload", "auto"], "invalid choice: 'auto'"),
        (["1", "--json", "/no/such/directory/it.json"], "cannot be a file"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(capsys, words, complaint):
    with pytest.raises(SystemExit) as ended:
        arguments().parse_args(words)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err
