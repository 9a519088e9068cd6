"""The course's pages: how they are read, and what each of them must have."""

import ast
import re
from pathlib import Path

import pytest

from netns import experiments, haproxy, programs, wrong
from netns.__main__ import COMMANDS
from netns.build import Lab
from netns.draw import WIDTH, Pen
from netns.errors import LabError
from netns.lessons import course
from netns.lessons.catalogue import HOME, lesson, lessons
from netns.lessons.page import Step, sections
from netns.lessons.player import Player
from netns.topology import SEED

LESSONS = lessons()
ROOT = Path(__file__).parents[3]

PAGE = """\
# A title

*5 minutes.*

Read this.

```console
$ one
$ two \\
>     goes on
```

Then this.

## Another heading

    indented

```haproxy
frontend shown
```

```console
$ three
```
"""


@pytest.fixture
def player() -> Player:
    return Player(Lab(prefix="mine-"), Pen())


# -- pages


def test_a_page_is_divided_at_its_headings_and_at_its_commands():
    first, second = sections(PAGE)
    assert first.title == "A title"
    assert first.steps == [
        Step("*5 minutes.*\n\nRead this.", ("one", "two \\\n    goes on")),
        Step("Then this."),
    ]
    assert second.title == "Another heading"
    assert second.steps == [Step("indented\n\n```haproxy\nfrontend shown\n```", ("three",))]


@pytest.mark.parametrize("line", ["output", "$no space", "# comment", "> goes on with nothing"])
def test_a_line_that_is_no_command_is_refused(line):
    with pytest.raises(LabError, match=re.escape(line)):
        _ = sections(f"# T\n\n```console\n{line}\n```\n")[0].steps


def test_a_lesson_that_does_not_say_what_it_is_about_is_refused_by_name(tmp_path):
    folder = tmp_path / "01-odd"
    folder.mkdir()
    (folder / "lesson.md").write_text("# Odd\n\nNothing here.\n\n## Exercise\n\nNone.\n")
    with pytest.raises(LabError, match=r"01-odd/lesson\.md needs a sentence about itself"):
        lessons(tmp_path)


# -- the lessons


def test_lessons_are_numbered_from_one_without_a_gap():
    assert [each.number for each in LESSONS] == list(range(1, len(LESSONS) + 1))


def test_they_fit_into_a_class_of_two_hours():
    assert sum(each.minutes for each in LESSONS) <= 120


def test_every_statement_of_the_notes_about_layer_4_is_shown():
    shown = " ".join(each.shows for each in LESSONS)
    for statement in ("1a", "1b", "1c", "1d", "1e", "pros 1", "cons 3", "pros 5", "timeout"):
        assert statement in shown


@pytest.mark.parametrize("number", ["0", "99", "", "x", "-1", "1.5"])
def test_a_lesson_that_is_not_there_is_refused_with_the_choices(number):
    with pytest.raises(LabError, match=f"there is no lesson '{number}'; the lessons are 1 to {len(LESSONS)}"):
        lesson(number)


@pytest.mark.parametrize("each", LESSONS, ids=lambda each: each.folder.name)
def test_a_lesson_has_commands_an_exercise_hints_a_solution_and_a_check(each):
    steps = [step for section in each.pages for step in section.steps]
    assert any(step.commands for step in steps)
    assert each.exercise.body.strip()
    assert not any(step.commands for step in each.exercise.steps), "an exercise is read, not run"
    assert len(each.hints) >= 1
    assert all(hint.body.strip() and not any(step.commands for step in hint.steps) for hint in each.hints)
    assert any(step.commands for section in each.solution for step in section.steps)
    assert callable(each.check)
    assert {path.name for path in each.folder.iterdir() if path.is_file()} == {
        "lesson.md",
        "hints.md",
        "solution.md",
        f"check_{each.name.replace('-', '_')}.py",
    }


@pytest.mark.parametrize("each", LESSONS, ids=lambda each: each.folder.name)
def test_commands_of_the_lab_in_a_lesson_exist(each):
    text = "".join((each.folder / name).read_text() for name in ("lesson.md", "hints.md", "solution.md"))
    used = re.findall(r"scripts/lab\.sh (\w+)(?: (\w+))?", text)
    assert used
    for command, word in used:
        assert command in COMMANDS
        if command == "see":
            experiments.find(word)
        elif command in {"start", "stop", "restart"}:
            programs.find(word)


@pytest.mark.parametrize("each", LESSONS, ids=lambda each: each.folder.name)
def test_the_text_of_a_lesson_fits_the_terminal(each, player, capsys):
    for section in [*each.pages, each.exercise, *each.hints, *each.solution]:
        player.title(section.title)
        for step in section.steps:
            player.text(step.text)
            typed = [line for command in step.commands for line in f"$ {command}".replace("\n", "\n> ").splitlines()]
            assert [line for line in typed if len(line) > WIDTH] == []
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines) <= WIDTH
    assert not any("```" in line for line in lines)


def test_no_part_of_the_course_imports_natlb():
    for path in HOME.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "natlb" for name in names), path


def test_lessons_are_installed_with_the_package():
    written = (ROOT / "setup.cfg").read_text()
    for pattern in ("lessons/*/*.md", "lessons/*/*.py"):
        assert pattern in written


def test_the_list_of_lessons_fits_the_terminal_and_names_the_first(capsys):
    assert course.list_lessons(Lab(), Pen()) == 0
    out = capsys.readouterr().out
    assert max(len(line) for line in out.splitlines()) <= WIDTH
    assert all(each.title in out for each in LESSONS)
    assert out.endswith("  sudo scripts/lab.sh lesson 1\n")


# -- how a page is played


def test_commands_are_shown_before_what_they_print(player, capfd):
    player.play(sections("# T\n\nText.\n\n```console\n$ echo one\n$ echo two; \\\n>     echo three\n```\n")[0])
    assert capfd.readouterr().out == ("T\n\nText.\n\n$ echo one\none\n$ echo two; \\\n>     echo three\ntwo\nthree\n\n")


def test_a_block_is_one_shell_and_ends_with_the_first_command_that_fails(player, capfd):
    page = "# T\n\n```console\n$ name=value\n$ echo $name\n$ false\n$ echo never\n```\n"
    with pytest.raises(LabError, match="ended with status 1, and should not have"):
        player.play(sections(page)[0])
    out = capfd.readouterr().out
    assert "\nvalue\n" in out
    assert "never" not in out


def test_names_and_commands_are_those_of_the_students_own_lab(player, capfd):
    page = "# T\n\n`/run/natlb-lab/x`, `natlb-lb`, natlb.\n\n```console\n$ echo sudo scripts/lab.sh up\n```\n"
    player.play(sections(page)[0])
    out = capfd.readouterr().out
    assert "`/run/mine-lab/x`, `mine-lb`, natlb.\n" in out
    assert "\nsudo scripts/lab.sh --prefix mine- up\n" in out


def test_sudo_and_the_script_are_this_installation(player, capfd):
    page = "# T\n\n```console\n$ sudo scripts/lab.sh status || echo status $?\n$ .venv/bin/natlb -v\n```\n"
    player.play(sections(page)[0])
    out = capfd.readouterr().out
    assert "The lab is down.\nstatus 1\n" in out
    assert re.search(r"^natlb.* \d", out, re.M)


def test_a_step_that_takes_too_long_is_stopped(player, monkeypatch, capfd):
    monkeypatch.setattr("netns.lessons.player.SECONDS", 0.2)
    with pytest.raises(LabError, match=r"took more than 0\.2 s"):
        player.play(sections("# T\n\n```console\n$ sleep 60\n```\n")[0])


def test_without_colour_words_to_type_keep_their_marks(capsys):
    Player(Lab(), Pen()).text("Type `ls -l` here.")
    Player(Lab(), Pen(colour=True)).text("Type `ls -l` here.")
    plain, coloured = capsys.readouterr().out.split("\n\n", 1)
    assert plain == "Type `ls -l` here."
    assert "`" not in coloured
    assert "\x1b[" in coloured


# -- what stands beside natlb


def test_haproxys_configuration_begins_with_the_notes_word_for_word():
    notes = (ROOT / "tests" / "lab" / "seed-l7.cfg").read_text()
    ours = haproxy.notes(SEED)
    for server in SEED.servers:
        ours = ours.replace(server.ipv4, "127.0.0.1")
    assert [line.split() for line in ours.splitlines()] == [line.split() for line in notes.splitlines()]


def test_the_wrong_balancer_says_that_it_is_wrong():
    rules = wrong.rules(SEED)
    assert rules.startswith("# WRONG ON PURPOSE.")
    assert f"table ip {wrong.TABLE} " in rules
    assert "wrong" in wrong.TABLE


def test_natlb_has_no_way_to_the_wrong_balancer():
    for path in (ROOT / "natlb").rglob("*.py"):
        assert wrong.TABLE not in path.read_text()


@pytest.mark.parametrize(("find", "names"), [(experiments.find, experiments.TABLE), (programs.find, programs.TABLE)])
def test_what_is_not_there_is_refused_with_the_choices(find, names):
    with pytest.raises(LabError, match=", ".join(names)):
        find("nonsense")


# -- the pages about the course


def test_the_syllabus_has_every_lesson_at_its_time():
    page = (ROOT / "docs" / "teaching.md").read_text()
    rows = re.findall(r"^\| (\d):(\d\d) \| (\d+) ([^|]+) \|", page, re.M)
    begins = 0
    for each, (hours, minutes, number, title) in zip(LESSONS, rows, strict=True):
        assert (int(number), title) == (each.number, each.title)
        assert int(hours) * 60 + int(minutes) == begins
        begins += each.minutes


def test_each_statement_of_the_notes_is_shown_by_lessons_that_there_are():
    page = (ROOT / "docs" / "seed.md").read_text()
    rows = re.findall(r"^\|([\w, -]*)\| .+ \| ([\d, ]+) \| .+ \|$", page, re.M)
    assert len(rows) == 31, "a row for each statement"
    shown = {int(number) for _, numbers in rows for number in numbers.split(", ")}
    assert shown == {each.number for each in LESSONS}
