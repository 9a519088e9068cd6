import re

import pytest

from netns.__main__ import COMMANDS, Command, main
from netns.build import PREFIXES, Lab
from netns.draw import WIDTH
from netns.errors import LabError

NOWHERE = ["--prefix", "no-such-lab-"]


@pytest.mark.parametrize("word", ["bla", "--bla", "--prefixes"])
def test_a_command_that_is_none_is_refused_in_one_line_with_the_choices(capsys, word):
    assert main([word]) == 2
    assert capsys.readouterr() == ("", f"lab.sh: '{word}' is not a command; the commands are {', '.join(COMMANDS)}\n")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["up", "now"], "'up' takes no arguments"),
        (["lesson", "1", "2"], "'lesson' is given like this: lesson [N]"),
        (["check"], "'check' is given like this: check N"),
        (["ask"], "'ask' is given like this: ask WORDS..."),
        (["exec"], "'exec' is given like this: exec HOST [CMD...]"),
    ],
)
def test_a_command_with_words_that_it_does_not_take_is_refused_in_one_line(capsys, words, line):
    assert main(words) == 2
    assert capsys.readouterr() == ("", f"lab.sh: {line}\n")


@pytest.mark.parametrize(
    ("arguments", "fits"),
    [("", [0]), ("N", [1]), ("[N]", [0, 1]), ("WORDS...", [1, 2, 3, 4]), ("HOST [CMD...]", [1, 2, 3, 4])],
)
def test_how_many_words_a_command_takes_is_what_its_help_shows(arguments, fits):
    command = Command(lambda *_: 0, "", arguments)
    assert [number for number in range(5) if command.takes(number)] == fits


@pytest.mark.parametrize("option", ["-h", "--help", "help"])
def test_help_names_every_command_and_fits_the_terminal(capsys, option):
    assert main([option]) == 0
    out, _ = capsys.readouterr()
    for command in COMMANDS:
        assert f"  lab.sh {command}" in out
    assert max(len(line) for line in out.splitlines()) <= WIDTH


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_says_how_it_is_given(capsys, name, option):
    assert main([*NOWHERE, name, option]) == 0
    out, err = capsys.readouterr()
    assert re.match(rf"usage: lab\.sh {name}\b", out)
    assert (err, max(map(len, out.splitlines())) <= WIDTH) == ("", True)
    assert out.count("\n") > 1


def test_what_can_be_named_is_listed(capsys):
    assert main(["break", "-h"]) == 0
    assert capsys.readouterr().out.endswith(
        "\n\nFAULT is one of: server, route, checksum, loss, mtu, flood, drain, any, --tell\n"
    )


def test_what_is_run_on_a_host_has_its_own_help():
    with pytest.raises(LabError, match="the lab is not up"):
        main([*NOWHERE, "exec", "client", "-h"])


def test_a_prefix_can_be_given_as_other_options_are(capsys):
    assert main(["--prefix=no-such-lab-", "status"]) == 1
    assert capsys.readouterr().out == "The lab is down.\n"


def test_status_of_no_lab(capsys):
    assert main([*NOWHERE, "status"]) == 1
    assert capsys.readouterr().out == "The lab is down.\n"


def test_down_without_a_lab_is_fine(capsys):
    assert main([*NOWHERE, "down"]) == 0
    assert capsys.readouterr().out == "There is no lab.\n"


def test_nat_without_a_lab_says_what_to_do():
    with pytest.raises(LabError, match=r"not up: sudo scripts/lab\.sh --prefix no-such-lab- up$"):
        main([*NOWHERE, "nat"])


def test_exec_without_a_lab_says_what_to_do():
    with pytest.raises(LabError, match=r"not up.*sudo scripts/lab\.sh --prefix no-such-lab- up$"):
        main([*NOWHERE, "exec", "client", "true"])


def test_what_to_do_is_said_without_a_prefix_where_there_was_none():
    assert Lab().advice("exec client true") == "sudo scripts/lab.sh exec client true"


_SENSELESS = {
    "an unknown host": (
        [*NOWHERE, "exec", "mars", "true"],
        "there is no host 'mars' in the lab; the hosts are client, lb, balancer, vip, server1, server2",
    ),
    "a prefix that is none": (
        ["--prefix", "Mine-", "up"],
        f"'Mine-' cannot be a prefix: that is {PREFIXES}",
    ),
    "a prefix that is none, whatever comes after it": (
        ["--prefix", "bad/", "no-such-command"],
        f"'bad/' cannot be a prefix: that is {PREFIXES}",
    ),
    "a prefix that is too long": (
        [f"--prefix={'x' * 32}"],
        f"'{'x' * 32}' cannot be a prefix: that is {PREFIXES}",
    ),
    "no prefix": (
        ["--prefix"],
        f"after '--prefix' comes how the names of namespaces begin: {PREFIXES}",
    ),
}


@pytest.mark.parametrize(("words", "line"), _SENSELESS.values(), ids=_SENSELESS)
def test_a_command_line_about_nothing_that_exists_makes_no_sense_either(capsys, words, line):
    assert main(words) == 2
    assert capsys.readouterr() == ("", f"lab.sh: {line}\n")


@pytest.mark.parametrize("prefix", ["", "-x", "Upper-", "a/b", "..", "x" * 40])
def test_prefixes_that_could_not_name_a_namespace_are_refused(prefix):
    with pytest.raises(LabError, match="cannot be a prefix"):
        Lab(prefix=prefix)
