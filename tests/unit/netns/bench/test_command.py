import pytest

from netns.bench.candidates import TABLE
from netns.bench.command import arguments, main, plan


def chosen(*words):
    return plan(arguments().parse_args(words))


def test_a_whole_run_has_several_rounds_and_weighs_memory():
    whole = chosen()
    assert whole.rounds >= 3
    assert whole.rounds % 2 == 1, "a median that is one of the values"
    assert whole.idle_connections == 100_000


def test_a_quick_run_is_one_short_round():
    quick = chosen("--quick")
    assert (quick.rounds, quick.seconds, quick.idle_connections) == (1, 1, 0)


def test_rounds_and_seconds_can_be_chosen():
    assert (chosen("--rounds", "7").rounds, chosen("--quick", "--seconds", "2").seconds) == (7, 2)


def test_a_quick_run_has_less_than_a_minute_unless_it_is_said_how_much_is_measured():
    assert chosen("--quick").within < 60
    for words in ([], ["--rounds", "1"], ["--quick", "--rounds", "1"], ["--quick", "--seconds", "1"]):
        assert chosen(*words).within is None


def test_all_candidates_are_measured_in_the_tables_order_whatever_order_they_are_named_in():
    assert arguments().parse_args([]).only == TABLE
    only = arguments().parse_args(["--only", "natlb,routing"]).only
    assert [candidate.name for candidate in only] == ["routing", "natlb"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--only", "natlb,envoy"], "there is no candidate 'envoy'; they are routing, nft, haproxy"),
        (["--only", ""], "no candidate ''"),
        (["--rounds", "0"], "'0' is not a number from 1 to 1000"),
        (["--seconds", "1.5"], "'1.5' is not a number"),
        (["--json", "/no/such/directory/file"], "is there such a directory?"),
        (["--plot", "/tmp"], "cannot be a file"),
        (["--where", "/tmp"], "cannot be a file"),
        (["--only", "haproxy", "--where", "/tmp/it.svg"], "--where: natlb is not among those that are measured"),
        (["--bla"], "unrecognized arguments: --bla"),
        (["--qui"], "unrecognized arguments: --qui"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused_before_anything_is_done(capsys, words, complaint):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_help_names_every_option_and_every_candidate(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    for word in (
        "--quick",
        "--only",
        "--json",
        "--plot",
        "--where",
        "--prefix",
        *(candidate.name for candidate in TABLE),
    ):
        assert word in out
