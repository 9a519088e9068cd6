"""What the `global` section says of the process."""

import grp
import pwd

import pytest

from natlb.config.model import Process

from .conftest import Reader


def test_all_of_it_is_kept(read: Reader) -> None:
    config = read(
        "global\n daemon\n pidfile /run/natlb.pid\n user nobody\n group nogroup\n quiet\n zero-warning\n"
        " hard-stop-after 30s\n grace 500ms\n"
    ).config
    assert config.process == Process(
        daemon=True,
        pidfile="/run/natlb.pid",
        uid=pwd.getpwnam("nobody").pw_uid,
        gid=grp.getgrnam("nogroup").gr_gid,
        quiet=True,
        zero_warning=True,
        hard_stop_after=30.0,
        grace=0.5,
    )


def test_numbers_of_users_and_groups(read: Reader) -> None:
    process = read("global\n uid 1234\n gid 0\n").config.process
    assert (process.uid, process.gid) == (1234, 0)


def test_a_hard_stop_after_nothing_is_none(read: Reader) -> None:
    assert read("global\n hard-stop-after 0\n").config.process.hard_stop_after is None


def bound(read: Reader, lines: str, environ: dict[str, str] | None = None) -> list[int]:
    """The ports that a frontend is bound to with `$PORT`."""
    text = f'global\n{lines}frontend f\n bind "127.0.0.1:${{PORT-1}}"\n'
    return [bind.port for bind in read(text, environ=environ or {}).config.frontends[0].binds]


ENVIRONMENTS = {
    " setenv PORT 80\n": 80,
    " setenv PORT 80\n setenv PORT 81\n": 81,
    " presetenv PORT 80\n": 9,
    " unsetenv PORT\n": 1,
    " unsetenv OTHER\n": 9,
    " unsetenv PORT\n presetenv PORT 80\n": 80,
    " resetenv\n": 1,
    " resetenv OTHER PORT\n": 9,
    " resetenv OTHER\n": 1,
}


@pytest.mark.parametrize(("lines", "port"), ENVIRONMENTS.items(), ids=ENVIRONMENTS)
def test_lines_below_are_read_in_the_environment_that_was_set(read: Reader, lines: str, port: int) -> None:
    given = {"PORT": "9"}
    assert bound(read, lines, given) == [port]
    assert given == {"PORT": "9"}, "the process's own is left alone"


def test_addresses_outside_quotes_know_it_too(read: Reader) -> None:
    config = read("global\n setenv HERE 127.0.0.9\nfrontend f\n bind $HERE:80\n").config
    assert str(config.frontends[0].binds[0].address) == "127.0.0.9"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("daemon x", "'daemon' cannot handle unexpected argument 'x'."),
        ("quiet x", "'quiet' cannot handle unexpected argument 'x'."),
        ("zero-warning x", "'zero-warning' cannot handle unexpected argument 'x'."),
        ("pidfile", "'pidfile' expects a file name as an argument."),
        ("pidfile a b", "'pidfile' cannot handle unexpected argument 'b'."),
        ("pidfile a\n    pidfile b", "'pidfile' already specified. Continuing."),
        ("user", "cannot find user id for '' (0:Success)"),
        ("user no-such-user", "cannot find user id for 'no-such-user' (0:Success)"),
        ("group no-such-group", "cannot find group id for 'no-such-group' (0:Success)"),
        ("user root\n    uid 0", "user/uid already specified. Continuing."),
        ("gid 1\n    gid 1", "group/gid already specified. Continuing."),
        ("uid", "'uid' expects an integer argument."),
        ("uid x", "'uid' expects an integer from 0 to 4294967294 (got 'x')."),
        ("gid -1", "'gid' expects an integer from 0 to 4294967294 (got -1)."),
        ("hard-stop-after", "'hard-stop-after' expects <time> as argument."),
        ("hard-stop-after 5s x", "'hard-stop-after' cannot handle unexpected argument 'x'."),
        ("grace", "'grace' expects <time> as argument."),
        ("setenv A", "'setenv' expects a name and a value."),
        ("setenv A b c", "'setenv' cannot handle unexpected argument 'c'."),
        ("presetenv A=b c", "'presetenv' failed on variable 'A=b' : Invalid argument."),
        ("unsetenv", "'unsetenv' expects at least one variable name."),
        ("chroot /var/lib", "'chroot' would lock natlb out of iptables, "),
        ("stats bind-process 1", "'stats bind-process' divides work among processes; natlb is one. Remove it."),
        ("close-spread-time 5s", "'close-spread-time' works on HTTP messages (layer 7); "),
        ("ulimit-n 5", "'ulimit-n' belongs to parts of HAProxy that natlb does not have; remove it."),
    ],
)
def test_an_error_names_the_line_and_the_word(read: Reader, line: str, text: str) -> None:
    (alert,) = read(f"global\n    {line}\n").alerts
    assert alert.startswith(f"parsing [t.cfg:{2 + line.count(chr(10))}] : {text}")
