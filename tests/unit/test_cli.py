"""The command line: options, exit codes, and what is said about bad input."""

import logging
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import natlb
from natlb import cli
from natlb.config.model import Config
from natlb.errors import DatapathError
from natlb.log import log
from natlb.metrics.address import Address

GOOD = """\
listen web
    bind 127.0.0.1:8888
    server s 127.0.0.1:4444
    timeout client 1h
    timeout connect 5s
    timeout server 1h
"""
SILENT = "backend b\n server s 127.0.0.1:4444\n"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current directory of its own, so that messages name files as they were given; the log as it was before."""
    monkeypatch.chdir(tmp_path)
    before = log.handlers, log.level, log.propagate
    yield tmp_path
    log.handlers, log.level, log.propagate = before


Started = list[tuple[Config, int, Address | None]]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """What would have been run, instead of running it."""
    runs: Started = []
    daemon = type(sys)("natlb.daemon")
    daemon.run = lambda config, queue, *, metrics, **_: runs.append((config, queue, metrics))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "natlb.daemon", daemon)
    monkeypatch.setattr(natlb, "daemon", daemon, raising=False)
    return runs


def ends(arguments: str | list[str]) -> int:
    try:
        return cli.main(arguments.split() if isinstance(arguments, str) else arguments)
    except SystemExit as stop:
        assert isinstance(stop.code, int)
        return stop.code


_SUMMARIES = ("Error(s) found in configuration file : ", "Fatal errors found in configuration.")


def alerts(stderr: str) -> list[str]:
    """The text of each ALERT, less HAProxy's summaries; every line of a message must have HAProxy's layout."""
    assert "Traceback" not in stderr
    found = []
    for line in stderr.splitlines():
        if not line.startswith(("usage: ", "   | ", "  ")):
            match = re.fullmatch(r"\[(ALERT|WARNING|NOTICE)\] +\(\d+\) : (.*)", line)
            assert match, line
            text = match[2].removeprefix("config : ")
            if match[1] == "ALERT" and not text.startswith(_SUMMARIES):
                found.append(text)
    return found


# -- bad configurations: each is exit code 1 and one line that names file, line and word, and the remedy if there is one

_BAD = {
    "an unknown section": (
        "backnd x\n",
        "parsing [t.cfg:1] : unknown keyword 'backnd' out of section; did you mean 'backend' maybe ?",
    ),
    "a keyword before any section": (
        "bind *:80\n",
        "parsing [t.cfg:1] : unknown keyword 'bind' out of section; a section comes first: 'defaults', 'frontend', "
        "'backend', 'listen', 'udp-lb', 'global'.",
    ),
    "an unknown keyword": (
        "frontend w\n bnid *:80\n",
        "parsing [t.cfg:2] : unknown keyword 'bnid' in 'frontend' section; did you mean 'bind' maybe ?",
    ),
    "an unknown option": (
        "backend b\n option tcplgo\n",
        "parsing [t.cfg:2] : unknown option 'tcplgo'; did you mean 'tcplog' maybe ?",
    ),
    "an unknown parameter": (
        "backend b\n server s 127.0.0.1:1 chekc\n",
        "[t.cfg:2] : 'server b/s' : unknown keyword 'chekc'; did you mean 'check' maybe ?",
    ),
    "a bind without its argument": (
        "frontend w\n bind\n",
        "parsing [t.cfg:2] : 'bind' expects {[addr1]:port1[-end1]}{,[addr]:port[-end]}... as arguments.",
    ),
    "a server without its address": (
        "backend b\n server s\n",
        "[t.cfg:2] : 'server' expects <name> and <addr>[:<port>] as arguments.",
    ),
    "a section without its name": ("frontend\n", "parsing [t.cfg:1] : 'frontend' expects an <id> argument"),
    "port 0 of a bind": (
        "frontend w\n bind *:0\n",
        "parsing [t.cfg:2] : 'bind' : invalid port '0'; a port is a number from 1 to 65535.",
    ),
    "port 70000 of a bind": (
        "frontend w\n bind *:70000\n",
        "parsing [t.cfg:2] : 'bind' : invalid port '70000'; a port is a number from 1 to 65535.",
    ),
    "port 0 of a server": (
        "backend b\n server s 127.0.0.1:0\n",
        "[t.cfg:2] : 'server b/s' : invalid port '0'; a port is a number from 1 to 65535.",
    ),
    "port 70000 of a server": (
        "backend b\n server s 127.0.0.1:70000\n",
        "[t.cfg:2] : 'server b/s' : invalid port '70000'; a port is a number from 1 to 65535.",
    ),
    "two frontends of one name": (
        "frontend w\n bind *:80\nfrontend w\n bind *:81\n",
        "parsing [t.cfg:3] : frontend 'w' has the same name as frontend 'w' declared at t.cfg:1.",
    ),
    "two servers of one name": (
        "backend b\n server s 127.0.0.1:1\n server s 127.0.0.1:2\n",
        "parsing [t.cfg:3] : backend 'b', another server named 's' was already defined at line 2, "
        "please use distinct names.",
    ),
    "two binds at one place": (
        "frontend a\n bind *:80\nfrontend b\n bind *:80\n",
        "parsing [t.cfg:4] : 'bind' : 0.0.0.0:80 of frontend 'b' is already bound by frontend 'a' at t.cfg:2.",
    ),
    "an unknown backend": (
        "frontend w\n bind *:80\n default_backend nope\n",
        "parsing [t.cfg:3] : Proxy 'w': unable to find required default_backend: 'nope'; add a section 'backend nope'.",
    ),
    "a misspelt backend": (
        "frontend w\n bind *:80\n default_backend nodse\nbackend nodes\n",
        "parsing [t.cfg:3] : Proxy 'w': unable to find required default_backend: 'nodse'; did you mean 'nodes' maybe ?",
    ),
    "a keyword of layer 7": (
        "frontend w\n mode http\n",
        "parsing [t.cfg:2] : 'mode http' works on HTTP messages (layer 7); "
        "natlb forwards packets and never reads them.",
    ),
}


@pytest.mark.parametrize("mode", ["-c -f t.cfg", "-f t.cfg", "-q -c -f t.cfg"])
@pytest.mark.parametrize(("text", "message"), _BAD.values(), ids=_BAD)
def test_a_bad_configuration(
    place: Path, capsys: pytest.CaptureFixture[str], started: Started, text: str, message: str, mode: str
) -> None:
    (place / "t.cfg").write_text(text)
    assert ends(mode) == 1
    said = capsys.readouterr()
    assert alerts(said.err) == [message]
    assert said.out == ""
    assert started == []


def test_all_errors_are_told_in_one_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "t.cfg").write_text("frontend w\n bnid *:80\n bind *:0\n mode http\n")
    assert ends("-c -f t.cfg") == 1
    assert [line.partition("]")[0] for line in alerts(capsys.readouterr().err)] == [
        f"parsing [t.cfg:{number}" for number in (2, 3, 4)
    ]


# -- bad files


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends("-c -f nosuch.cfg") == 1
    (alert,) = alerts(capsys.readouterr().err)
    assert alert == "Cannot open configuration file/directory nosuch.cfg : No such file or directory"


def test_a_directory_without_configurations(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "conf.d").mkdir()
    (place / "conf.d" / "notes.txt").write_text("nonsense\n")
    assert ends("-c -f conf.d") == 1
    (alert,) = alerts(capsys.readouterr().err)
    assert alert == "Cannot open configuration file/directory conf.d : no .cfg file in it"


def test_a_directory_stands_for_the_configurations_in_it(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "conf.d").mkdir()
    (place / "conf.d" / "notes.txt").write_text("nonsense\n")
    (place / "conf.d" / "2.cfg").write_text("backend nodes\n bogus\n")
    (place / "conf.d" / "1.cfg").write_text(GOOD)
    assert ends("-c -f conf.d") == 1
    (alert,) = alerts(capsys.readouterr().err)
    assert alert.startswith("parsing [conf.d/2.cfg:2] : unknown keyword 'bogus'")
    (place / "conf.d" / "2.cfg").unlink()
    assert ends("-c -f conf.d") == 0


def test_a_file_that_is_no_text(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "t.cfg").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(range(256)) * 8)
    assert ends("-c -f t.cfg") == 1
    (alert,) = alerts(capsys.readouterr().err)
    assert alert == "parsing [t.cfg:1] : control character 0x7f at position 1: this is no text file; it is not read."


def test_a_configuration_cannot_write_to_the_terminal(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "t.cfg").write_bytes('frontend w\n \u202ebind\u2028 "\\x1b[31m"\n'.encode())
    assert ends("-c -f t.cfg") == 1
    assert all(character.isprintable() for character in capsys.readouterr().err.replace("\n", ""))


# -- bad arguments

_ARGUMENTS = {
    "no configuration": ("", "no configuration: name one with -f FILE"),
    "-f without a file": ("-f", "argument -f: expected one argument"),
    "an unknown option": ("--bogus -f t.cfg", "unrecognized arguments: --bogus"),
    "an abbreviated option": ("--que 3 -f t.cfg", "unrecognized arguments: --que"),
    "a queue that is no number": ("--queue x -f t.cfg", "argument --queue: 'x' is not a queue number, 0 to 65535"),
    "a queue too high": ("--queue 65536 -f t.cfg", "argument --queue: '65536' is not a queue number, 0 to 65535"),
    "a queue too low": ("--queue -1 -f t.cfg", "argument --queue: '-1' is not a queue number, 0 to 65535"),
    "a limit that is no number": ("-n x -f t.cfg", "argument -n: 'x' is not a number of connections, 1 to 2147483647"),
    "a limit of nothing": ("-n 0 -f t.cfg", "argument -n: '0' is not a number of connections, 1 to 2147483647"),
    "a limit too high": (
        "-n 10000000000 -f t.cfg",
        "argument -n: '10000000000' is not a number of connections, 1 to 2147483647",
    ),
    "a queue of more digits than Python reads": (
        f"--queue {'9' * 5000} -f t.cfg",
        f"argument --queue: '{'9' * 5000}' is not a queue number, 0 to 65535",
    ),
    "a process that is no number": ("-sf x -f t.cfg", "argument -sf: 'x' is not a process number"),
    "an empty queue": ("--queue= -f t.cfg", "argument --queue: '' is not a queue number, 0 to 65535"),
    "a queue in other digits": (
        "--queue \u0663 -f t.cfg",
        "argument --queue: '\u0663' is not a queue number, 0 to 65535",
    ),
    "metrics without a port": (
        "--metrics 127.0.0.1: -f t.cfg",
        "argument --metrics: '127.0.0.1:' has no port from 1 to 65535; write [ADDRESS:]PORT",
    ),
    "metrics at a name": (
        "--metrics here:9101 -f t.cfg",
        "argument --metrics: 'here' is not an IP address; write [ADDRESS:]PORT",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), _ARGUMENTS.values(), ids=_ARGUMENTS)
def test_bad_arguments(
    place: Path, capsys: pytest.CaptureFixture[str], started: Started, arguments: str, message: str
) -> None:
    (place / "t.cfg").write_text(GOOD)
    assert ends(arguments) == 1
    said = capsys.readouterr()
    assert said.err.startswith("usage: natlb ")
    assert alerts(said.err) == [message]
    assert started == []


# -- -c, -q, -v

VALID = "Configuration file is valid\n"
NO_LISTENER = "Configuration file has no error but will not start (no listener) => exit(2).\n"


@pytest.mark.parametrize(
    ("text", "code", "output"),
    [(GOOD, 0, VALID), (SILENT, 2, f"Warnings were found.\n{NO_LISTENER}"), ("", 2, NO_LISTENER)],
    ids=["valid", "nothing to listen on", "empty"],
)
def test_check(
    place: Path, capsys: pytest.CaptureFixture[str], started: Started, text: str, code: int, output: str
) -> None:
    (place / "t.cfg").write_text(text)
    assert ends("-c -f t.cfg") == code
    assert capsys.readouterr().out == output
    assert ends("-q -c -f t.cfg") == code
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")
    assert started == []


def test_warnings_are_shown_and_do_not_make_it_invalid(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "t.cfg").write_text(GOOD.replace("    timeout client 1h\n", ""))
    assert ends("-c -f t.cfg") == 0
    said = capsys.readouterr()
    assert re.match(
        r"\[WARNING\]  \(\d+\) : config : parsing \[t\.cfg:1\] : missing timeouts for proxy 'web'\.", said.err
    )
    assert said.out == f"Warnings were found.\n{VALID}"


def test_nothing_to_listen_on_is_an_error_when_it_should_run(
    place: Path, capsys: pytest.CaptureFixture[str], started: Started
) -> None:
    (place / "t.cfg").write_text(SILENT)
    assert ends("-f t.cfg") == 1
    (alert,) = alerts(capsys.readouterr().err)
    assert alert == "No enabled listener found (check for 'bind' directives) ! Exiting."
    assert started == []


def test_the_version_needs_no_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends("-v") == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == (f"natlb version {natlb.__version__}\n", "")


def test_the_longer_version_says_what_it_runs_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends("-vv") == 0
    first, *more = capsys.readouterr().out.splitlines()
    assert first == f"natlb version {natlb.__version__}"
    assert any(line.startswith("Running on: Linux ") for line in more)


@pytest.mark.parametrize("option", cli._REFUSED)
def test_an_option_of_haproxys_that_natlb_cannot_do_is_refused_by_name(
    place: Path, capsys: pytest.CaptureFixture[str], started: Started, option: str
) -> None:
    (place / "t.cfg").write_text(GOOD)
    assert ends(f"{option} 5 -c -f t.cfg") == 1
    (alert,) = alerts(capsys.readouterr().err)
    assert alert == f"{option}: {cli._REFUSED[option]}"
    assert started == []


WITH_A_WARNING = GOOD.replace("    timeout client 1h\n", "")


@pytest.mark.parametrize(("option", "text"), [("-dW ", ""), ("", "global\n    zero-warning\n")])
@pytest.mark.parametrize("check", ["-c ", ""])
def test_warnings_can_be_errors(
    place: Path, capsys: pytest.CaptureFixture[str], started: Started, option: str, text: str, check: str
) -> None:
    (place / "t.cfg").write_text(text + GOOD)
    assert ends(f"{option}{check}-f t.cfg") == 0
    capsys.readouterr()
    (place / "t.cfg").write_text(text + WITH_A_WARNING)
    assert ends(f"{option}{check}-f t.cfg") == 1
    (alert,) = alerts(capsys.readouterr().err)
    which = "-dW" if option else "'zero-warning'"
    assert alert == f"Some warnings were found and {which} is set. Aborting."
    assert len(started) == (not check)


def test_quiet_may_stand_in_the_configuration_and_v_overrides_it(
    place: Path, capsys: pytest.CaptureFixture[str], started: Started
) -> None:
    (place / "t.cfg").write_text(f"global\n    quiet\n{WITH_A_WARNING}")
    assert ends("-c -f t.cfg") == 0
    assert capsys.readouterr() == ("", "")
    for options in ("-V", "-q -V"):
        assert ends(f"{options} -c -f t.cfg") == 0
        said = capsys.readouterr()
        assert said.out == f"Warnings were found.\n{VALID}"
        assert "missing timeouts" in said.err
    assert started == []


def test_a_directory_to_change_to(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "conf").mkdir()
    (place / "conf" / "t.cfg").write_text(GOOD)
    assert ends("-C conf -c -f t.cfg") == 0
    assert ends("-C nonexistent -c -f t.cfg") == 1
    assert alerts(capsys.readouterr().err) == ["Could not change to directory nonexistent : No such file or directory"]


def test_a_limit_on_the_command_line_comes_before_that_of_the_configuration(place: Path, started: Started) -> None:
    (place / "t.cfg").write_text(f"global\n    maxconn 5\n{GOOD}")
    assert ends("-f t.cfg") == ends("-n 7 -f t.cfg") == 0
    assert [config.maxconn for config, _, _ in started] == [5, 7]


# -- running


@pytest.mark.parametrize(
    ("arguments", "queue"), [("-f t.cfg", 2391), ("-f t.cfg --queue 0", 0), ("--queue=65535 -db -- t.cfg", 65535)]
)
def test_a_good_configuration_runs_on_the_queue_that_was_asked_for(
    place: Path, capsys: pytest.CaptureFixture[str], started: Started, arguments: str, queue: int
) -> None:
    (place / "t.cfg").write_text(GOOD)
    assert ends(arguments) == 0
    ((config, number, metrics),) = started
    assert (config.frontends[0].name, number, metrics) == ("web", queue, None)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("argument", "where"), [("9101", "127.0.0.1:9101"), ("[::1]:9101", "[::1]:9101")])
def test_metrics_are_read_where_it_is_said(place: Path, started: Started, argument: str, where: str) -> None:
    (place / "t.cfg").write_text(GOOD)
    assert ends(["-f", "t.cfg", "--metrics", argument]) == 0
    ((_, _, metrics),) = started
    assert str(metrics) == where


@pytest.mark.parametrize(("argument", "unsegmented"), [("", True), ("--no-gso", False)])
def test_packets_are_asked_for_unsegmented_unless_it_is_forbidden(
    place: Path, started: Started, monkeypatch: pytest.MonkeyPatch, argument: str, unsegmented: bool
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(sys.modules["natlb.daemon"], "run", lambda *_, unsegmented, **__: asked.append(unsegmented))
    (place / "t.cfg").write_text(GOOD)
    assert ends(f"-f t.cfg {argument}") == 0
    assert asked == [unsegmented]


@pytest.mark.parametrize(("argument", "wish"), [("", "auto"), ("--offload on", "on"), ("--offload off", "off")])
def test_the_kernel_carries_packets_where_it_can_unless_that_is_forbidden(
    place: Path, started: Started, monkeypatch: pytest.MonkeyPatch, argument: str, wish: str
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(sys.modules["natlb.daemon"], "run", lambda *_, offload, **__: asked.append(offload))
    (place / "t.cfg").write_text(GOOD)
    assert ends(f"-f t.cfg {argument}") == 0
    assert asked == [wish]


@pytest.mark.parametrize(("argument", "state"), [("", "/run/natlb"), ("--state off", "off"), ("--state here", "here")])
def test_connections_are_recorded_unless_that_is_off(
    place: Path, started: Started, monkeypatch: pytest.MonkeyPatch, argument: str, state: str
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(sys.modules["natlb.daemon"], "run", lambda *_, state, **__: asked.append(state))
    (place / "t.cfg").write_text(GOOD)
    assert ends(f"-f t.cfg {argument}") == 0
    assert asked == [state]


def test_several_files_are_one_configuration(place: Path, started: Started) -> None:
    (place / "1.cfg").write_text("frontend f\n bind 127.0.0.1:80\n default_backend b\n")
    (place / "2.cfg").write_text("backend b\n server s 127.0.0.1:4444\n")
    assert ends("-q -f 1.cfg -f 2.cfg") == 0
    ((config, _, _),) = started
    assert [server.name for server in config.backends[0].servers] == ["s"]


@pytest.mark.parametrize(("option", "level"), [("", 25), ("-q ", logging.ERROR), ("-d ", logging.DEBUG)])
def test_how_much_is_logged(place: Path, started: Started, option: str, level: int) -> None:
    (place / "t.cfg").write_text(GOOD)
    assert ends(f"{option}-f t.cfg") == 0
    assert log.level == level


def test_what_the_kernel_refuses_is_one_line_and_exit_code_1(
    place: Path, capsys: pytest.CaptureFixture[str], started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_config: Config, _queue: int, **_: object) -> None:
        raise DatapathError("queue 2391 is taken")

    monkeypatch.setattr(sys.modules["natlb.daemon"], "run", refuse)
    (place / "t.cfg").write_text(GOOD)
    assert ends("-f t.cfg") == 1
    assert alerts(capsys.readouterr().err) == ["queue 2391 is taken"]


def _entered(monkeypatch: pytest.MonkeyPatch, error: BaseException, *arguments: str) -> int:
    def fail(_: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "main", fail)
    monkeypatch.setattr(sys, "argv", ["natlb", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.run()
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_an_internal_error_is_one_line_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    cli.set_up(25)
    assert _entered(monkeypatch, ZeroDivisionError("oops")) == 1
    assert alerts(capsys.readouterr().err) == [
        "internal error, please report it with the output of -d: ZeroDivisionError: oops"
    ]


def test_with_d_an_internal_error_is_shown_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        _entered(monkeypatch, ZeroDivisionError("oops"), "-d")


def test_an_interrupt_before_it_runs_is_no_error_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _entered(monkeypatch, KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == ""


def test_python_m_natlb_is_the_same_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["natlb", "-v"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("natlb", run_name="__main__")
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("natlb version ")
