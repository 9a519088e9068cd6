"""natlb as a service: what is written where, that systemd has no fault to find with it, that the page is complete."""

import argparse
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from natlb import cli, installing
from natlb.config.parser import parse
from natlb.errors import ProcessError
from natlb.log import log

ROOT = Path(__file__).parents[2]
DATA = ROOT / "natlb" / "data"
UNIT, MAN_PAGE, CONFIG = (str(path).lstrip("/") for path in (installing.UNIT, installing.MAN_PAGE, installing.CONFIG))


@pytest.fixture(autouse=True)
def log_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "handlers", log.handlers)
    monkeypatch.setattr(log, "propagate", log.propagate)


def tree(root: Path) -> dict[str, str]:
    """All files below a directory, and what stands in them."""
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def run(root: Path, *arguments: str) -> int:
    try:
        return cli.main(["install-service", "--root", str(root), *arguments])
    except SystemExit as stop:
        assert isinstance(stop.code, int)
        return stop.code


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A natlb that is installed, as far as its name goes."""
    path = tmp_path / "bin" / "natlb"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(path), "install-service"])
    return path


def test_unit_page_and_a_first_configuration_are_written_and_the_next_commands_told(
    tmp_path: Path, program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    assert run(root) == 0
    files = tree(root)
    assert set(files) == {UNIT, MAN_PAGE, CONFIG}
    assert f"\nExecStart={program} -db -f /etc/natlb/natlb.cfg\n" in files[UNIT]
    assert f"\nExecReload={program} -D -f /etc/natlb/natlb.cfg -sf $MAINPID\n" in files[UNIT]
    assert "@" not in re.sub(r"@system-service|@resources", "", files[UNIT])
    assert {(root / name).stat().st_mode & 0o777 for name in files} == {0o644}
    said = capsys.readouterr().out
    assert all(f"wrote     {root / name}\n" in said for name in files)
    assert f"  {program} -c -f /etc/natlb/natlb.cfg\n  systemctl daemon-reload\n" in said


def test_again_it_writes_nothing_and_what_a_user_has_written_stays(
    tmp_path: Path, program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.exists()
    assert run(tmp_path) == 0
    (tmp_path / CONFIG).write_text("mine\n")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert run(tmp_path) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before
    said = capsys.readouterr().out
    assert said.count("unchanged ") == 2
    assert f"kept      {tmp_path / CONFIG}\n" in said


def test_another_configuration_can_be_named_and_blanks_percents_and_dollars_reach_systemd(
    tmp_path: Path, program: Path
) -> None:
    assert program.exists()
    assert run(tmp_path, "--config", '/srv/50% "of" $it.cfg') == 0
    assert (tmp_path / 'srv/50% "of" $it.cfg').exists()
    assert '-db -f "/srv/50%% \\"of\\" $$it.cfg"\n' in (tmp_path / UNIT).read_text()


def test_uninstalling_takes_away_what_was_written_and_leaves_the_configuration(
    tmp_path: Path, program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    assert program.exists()
    assert run(root) == run(root, "--uninstall") == 0
    assert set(tree(root)) == {CONFIG}
    assert "systemctl disable --now natlb" in capsys.readouterr().out
    assert run(root, "--uninstall") == 0
    assert f"not there {root / UNIT}\n" in capsys.readouterr().out


@pytest.mark.parametrize("option", [(), ("--uninstall",)])
def test_a_unit_that_somebody_else_has_written_is_left_alone(
    tmp_path: Path, program: Path, capsys: pytest.CaptureFixture[str], option: tuple[str, ...]
) -> None:
    assert program.exists()
    path = tmp_path / UNIT
    path.parent.mkdir(parents=True)
    path.write_text("[Service]\nExecStart=/usr/bin/mine\n")
    assert run(tmp_path, *option) == 1
    assert f"{path} is not one of natlb's: " in capsys.readouterr().err
    assert path.read_text() == "[Service]\nExecStart=/usr/bin/mine\n"


def test_what_cannot_be_written_is_an_error_that_names_file_and_remedy(
    tmp_path: Path, program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.exists()
    (tmp_path / "etc").write_text("no directory")
    assert run(tmp_path) == 1
    assert (
        f"cannot read {tmp_path / UNIT}: Not a directory; run it as root, or move that away" in capsys.readouterr().err
    )
    (tmp_path / "etc").unlink()
    (tmp_path / "usr").write_text("no directory")
    assert run(tmp_path) == 1
    assert "Not a directory; run it as root" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--bogus"], "unrecognized arguments: --bogus"),
        (["--config"], "argument --config: expected one argument"),
        (["--config", "/etc/two\nlines"], "cannot stand in a unit of systemd: give it another name"),
    ],
)
def test_bad_arguments_are_one_line(
    tmp_path: Path, program: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    assert program.exists()
    assert run(tmp_path, *arguments) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("[ALERT]")]
    assert complaint in line
    assert not (tmp_path / UNIT).exists()


def test_a_natlb_that_the_service_will_not_see_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["/tmp/venv/bin/natlb"])
    assert run(tmp_path) == 0
    assert "/tmp/venv/bin/natlb is hidden from the service" in capsys.readouterr().out


def test_natlb_that_runs_as_a_module_is_named_with_its_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(ROOT / "natlb" / "__main__.py")])
    assert run(tmp_path) == 0
    assert f"ExecStart={sys.executable} -m natlb -db -f " in (tmp_path / UNIT).read_text()
    capsys.readouterr()


def test_a_template_that_is_missing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installing, "_DATA", tmp_path)
    with pytest.raises(ProcessError, match=r"cannot read .*natlb\.service: No such file or directory; reinstall natlb"):
        installing.install(tmp_path, installing.CONFIG, ["/usr/bin/natlb"])


# -- systemd's opinion


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, of a natlb that is there: systemd looks."""
    installing.install(tmp_path, installing.CONFIG, ["/bin/true"])
    return tmp_path / UNIT


def test_systemd_has_nothing_to_object_to(unit: Path) -> None:
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_finds_it_as_safe_as_the_page_on_security_says(unit: Path) -> None:
    (promised,) = re.findall(r"exposure of (\d+\.\d)", (ROOT / "docs" / "security.md").read_text())
    threshold = str(round(float(promised) * 10))
    command = ["systemd-analyze", "security", "--offline=true", "--threshold", threshold, "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Overall exposure level for natlb\.service: \d", done.stdout)


def test_natlb_is_started_again_at_once_and_told_from_a_hung_one(unit: Path) -> None:
    settings = dict(line.split("=", 1) for line in unit.read_text().splitlines() if re.match(r"\w+=", line))
    assert settings["Type"] == "notify"
    assert (settings["Restart"], settings["RestartSec"]) == ("on-failure", "0")
    assert (settings["RuntimeDirectory"], settings["RuntimeDirectoryPreserve"]) == ("natlb", "restart")
    assert float(settings["WatchdogSec"]) >= 10, "natlb says every five seconds that it lives"


def test_the_first_configuration_balances_nothing_and_its_examples_do() -> None:
    text = (DATA / "natlb.cfg").read_text()
    head, examples = text.split("#frontend", 1)
    uncommented = re.sub(r"^#", "", "#frontend" + examples, flags=re.M)
    for written, frontends in ((text, []), (head + uncommented, ["www"])):
        read = parse([("natlb.cfg", written.encode())], {})
        assert read.config is not None, read.diagnostics
        assert read.diagnostics == []
        assert [frontend.name for frontend in read.config.frontends] == frontends


# -- the page


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """What a parser takes and does not hide."""
    return {
        option for action in parser._actions if action.help is not argparse.SUPPRESS for option in action.option_strings
    }


def test_the_page_has_all_options_and_no_others() -> None:
    page = (DATA / "natlb.8").read_text()
    told = {
        "-" + option for line in re.findall(r"^\.It (Fl .*)", page, re.M) for option in re.findall(r"Fl (\S+)", line)
    }
    assert told == options_of(cli.arguments()) | options_of(installing.arguments())


@pytest.mark.parametrize("command", [["mandoc", "-Tlint", "-Wwarning"], ["man", "--warnings", "-P", "cat", "-l"]])
def test_those_who_set_it_find_no_fault_with_it(command: list[str]) -> None:
    done = subprocess.run([*command, str(DATA / "natlb.8")], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert command[0] != "mandoc" or done.stdout == ""


# -- the package


def test_a_wheel_has_all_that_a_service_needs_and_the_natlb_in_it_installs_itself(tmp_path: Path) -> None:
    source, wheels, place = tmp_path / "source", tmp_path / "wheels", tmp_path / "place"
    source.mkdir()
    for name in ("natlb", "netns"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    offline = ["--no-deps", "--no-index", "--no-build-isolation"]
    # With a path to this tree pip would find natlb there, and install nothing.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([*pip, "wheel", *offline, "-w", str(wheels), str(source)], check=True, timeout=200)
    (wheel,) = wheels.iterdir()
    inside = set(zipfile.ZipFile(wheel).namelist())
    for name in ("data/natlb.service", "data/natlb.8", "data/natlb.cfg", "offload/flow.bpf.o", "py.typed"):
        assert f"natlb/{name}" in inside
    assert "netns/host.bashrc" in inside
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True, timeout=100)
    install = [*pip, "--python", str(place / "bin" / "python"), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, env=environment, check=True, timeout=200)
    natlb, root = place / "bin" / "natlb", tmp_path / "root"
    # What natlb needs to run is not installed here; to check a configuration and to install a service takes nothing.
    for arguments in (["-v"], ["install-service", "--root", str(root)]):
        done = subprocess.run(
            [str(natlb), *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert f"ExecStart={natlb} -db" in (root / UNIT).read_text()
    check = [str(natlb), "-c", "-f", str(root / CONFIG)]
    done = subprocess.run(check, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Configuration file is valid\n", "")
