"""The command line: HAProxy's options, exit codes and messages.

Exit codes: 0 in order; 1 for every error, each told in one line; 2 when a checked configuration is valid but there is
nothing in it to listen on. Options of HAProxy's that natlb cannot do are refused by name.
"""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from platform import python_version
from typing import Any, Final, NoReturn

import natlb
from natlb import background, predecessors
from natlb.arguments import LoggedArguments, number
from natlb.command import Command
from natlb.config.model import Config
from natlb.config.parser import Parsed, load
from natlb.errors import NatlbError, ProcessError
from natlb.log import NOTICE, for_journal, is_journal, log, say, set_up
from natlb.metrics.address import LOOPBACK, Address, parse

DEFAULT_QUEUE = 2391
"""The netfilter queue, where --queue names no other: the number of the RFC that describes this kind of NAT."""

DEFAULT_STATE: Final = "/run/natlb"
"""The directory for the state file, where --state names no other."""

_ONE_PROCESS: Final = "natlb is one process, without a master"
_NO_SOCKETS: Final = "natlb has no listening sockets to hand on"
_NO_POLLER: Final = "natlb has no choice of pollers"
_REFUSED: Final = {
    "-W": _ONE_PROCESS,
    "-Ws": _ONE_PROCESS,
    "-S": _ONE_PROCESS,
    "-x": _NO_SOCKETS,
    "-dR": _NO_SOCKETS,
    "-dS": "natlb forwards packets and does not splice sockets",
    "-de": _NO_POLLER,
    "-dp": _NO_POLLER,
    "-dM": "natlb does not manage its memory by hand",
    "-dL": "natlb loads no libraries of its own",
    "-dK": "the keywords stand in the documentation",
    "-dV": "natlb does not read TLS",
    "-dG": "host names are looked up when the configuration is read, in the usual way",
    "-dr": "a server whose name has no address cannot be rewritten to",
    "-dD": "all that natlb finds suspicious, it warns of anyway",
    "-cc": "it is for '.if' lines in a configuration, which natlb does not read",
    "-m": "natlb's memory is bounded by its connections: see -n",
    "-N": "a frontend's bound is its 'maxconn'",
    "-L": "natlb has no peers",
}


class _Refusal(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        option = self.option_strings[0]
        parser.error(f"{option}: {_REFUSED[option]}")


def arguments() -> argparse.ArgumentParser:
    """Return what reads the arguments of natlb itself."""
    parser = LoggedArguments(
        prog="natlb",
        description="A packet-level NAT load balancer.",
        epilog="`natlb top` watches a running natlb, and `natlb where` shows where a packet's time goes. "
        "`natlb replay` lets its engine decide about a capture, and `natlb explain` says why it does what it does with "
        "a packet. `natlb install-service` makes it a service of systemd. Each has its own -h.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "-f", dest="files", metavar="FILE|DIR", action="append", default=[], help="configuration; may be repeated"
    )
    parser.add_argument("more_files", metavar="FILE", nargs="*", help="further configuration files, after --")
    parser.add_argument("-c", dest="check", action="store_true", help="check the configuration and exit")
    parser.add_argument("-q", dest="quiet", action="store_true", help="say nothing but errors")
    parser.add_argument("-V", dest="verbose", action="store_true", help="say all, in spite of -q and of 'quiet'")
    parser.add_argument("-d", dest="debug", action="store_true", help="tell about every connection")
    parser.add_argument("-dW", dest="zero_warning", action="store_true", help="take warnings for errors")
    parser.add_argument("-D", dest="daemon", action="store_true", help="run in the background; return when ready")
    parser.add_argument("-db", dest="foreground", action="store_true", help="run in the foreground in spite of -D")
    parser.add_argument("-p", dest="pidfile", metavar="FILE", help="write the process number here when in background")
    parser.add_argument("-C", dest="directory", metavar="DIR", help="change to this directory first")
    parser.add_argument("-n", dest="maxconn", metavar="N", type=_maxconn, help="most connections at a time")
    for option, what in (("-sf", "take the place of these natlb"), ("-st", "end these natlb at once, then start")):
        parser.add_argument(option, dest=option[1:], metavar="PID", nargs="*", type=_pid, help=what)
    parser.add_argument("-v", dest="version", action="store_true", help="show the version and exit")
    parser.add_argument("-vv", dest="versions", action="store_true", help="show what it runs on too")
    parser.add_argument(
        "--queue", metavar="N", type=_queue_number, default=DEFAULT_QUEUE, help="netfilter queue to use (%(default)s)"
    )
    parser.add_argument(
        "--no-gso", action="store_true", help="let the kernel cut packets up before natlb sees them; slower"
    )
    parser.add_argument(
        "--offload",
        choices=("auto", "on", "off"),
        default="auto",
        help="have the kernel carry packets of established connections (%(default)s: where it can)",
    )
    parser.add_argument(
        "--state",
        metavar="DIR|off",
        default=DEFAULT_STATE,
        help="keep a record of connections there, which survive a crash by it (%(default)s)",
    )
    parser.add_argument(
        "--metrics",
        metavar="[ADDRESS:]PORT",
        type=_metrics_address,
        help=f"let Prometheus read metrics there, at /metrics; without ADDRESS at {LOOPBACK}",
    )
    for option in _REFUSED:
        parser.add_argument(option, dest="refused", nargs="?", action=_Refusal, help=argparse.SUPPRESS)
    return parser


def _metrics_address(text: str) -> Address:
    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _queue_number(text: str) -> int:
    return number(text, "a queue number, 0 to 65535", 0, 65535)


def _maxconn(text: str) -> int:
    return number(text, "a number of connections, 1 to 2147483647", 1, 2**31 - 1)


def _pid(text: str) -> int:
    return number(text, "a process number", 1, 2**22)


def main(argv: list[str]) -> int:
    """Run natlb with these arguments and return its exit code."""
    if argv[:1] == ["top"]:
        from natlb.top.app import main as top  # noqa: PLC0415 - it needs what natlb itself does not

        return top(argv[1:])
    if argv[:1] == ["where"]:
        from natlb.profiling.burst import main as where  # noqa: PLC0415 - it needs what a running natlb does not

        return where(argv[1:])
    if argv[:1] == ["install-service"]:
        from natlb.installing import main as install_service  # noqa: PLC0415 - as above

        return install_service(argv[1:])
    if argv[:1] in (["replay"], ["explain"]):
        from natlb.replay import commands  # noqa: PLC0415 - as above

        return commands.replay(argv[1:]) if argv[0] == "replay" else commands.explain(argv[1:])
    set_up(NOTICE)
    options = arguments().parse_args(argv)
    if options.version or options.versions:
        print("\n".join(_version(whole=options.versions)))  # noqa: T201
        return 0
    _set_up_log(options, quiet=options.quiet)
    files = [*options.files, *options.more_files]
    if not files:
        arguments().error("no configuration: name one with -f FILE")
    command = Command.own()
    try:
        _change_directory(options.directory)
        parsed = load(files)
        return _obey(options, parsed, command)
    except NatlbError as error:
        log.critical("%s", error)
        return 1


def _obey(options: argparse.Namespace, parsed: Parsed, command: Command) -> int:
    """Check the configuration or run it, as the options say."""
    config = parsed.config
    process = config.process if config is not None else None
    quiet = (options.quiet or bool(process and process.quiet)) and not options.verbose
    _set_up_log(options, quiet=quiet)
    _tell(parsed, quiet=quiet)
    if config is None or process is None:
        return 1
    if parsed.diagnostics and (options.zero_warning or process.zero_warning):
        which = "-dW" if options.zero_warning else "'zero-warning'"
        log.critical("config : Some warnings were found and %s is set. Aborting.", which)
        return 1
    if options.check:
        return _checked(parsed, quiet=quiet)
    if not config.listens:
        log.critical("No enabled listener found (check for 'bind' directives) ! Exiting.")
        return 1
    if options.maxconn is not None:
        config = replace(config, maxconn=options.maxconn)
    _run(config, options, command)
    return 0


def _run(config: Config, options: argparse.Namespace, command: Command) -> None:
    in_background = (options.daemon or config.process.daemon) and not options.foreground and not options.debug
    pidfile = (options.pidfile or config.process.pidfile) if in_background else None
    ready = background.fork() if in_background else lambda: None
    # What only runs with packets is loaded only then: -c works without root and without netfilter.
    from natlb import daemon, keeper  # noqa: PLC0415

    def end(softly: Sequence[int]) -> None:
        predecessors.end(softly, signal.SIGUSR1)
        predecessors.end(options.st or (), signal.SIGTERM)

    noted = daemon.run(
        config,
        options.queue,
        metrics=options.metrics,
        unsegmented=not options.no_gso,
        offload=options.offload,
        state=options.state,
        command=command,
        succeeded=options.sf or (),
        pidfile=pidfile,
        on_checked=end,
        on_ready=ready,
    )
    if noted is not None:
        keeper.become(noted)


def _change_directory(directory: str | None) -> None:
    if directory is None:
        return
    try:
        os.chdir(directory)
    except (OSError, ValueError) as error:
        raise ProcessError(
            f"Could not change to directory {directory} : {getattr(error, 'strerror', error)}"
        ) from error


def _set_up_log(options: argparse.Namespace, *, quiet: bool) -> None:
    set_up(logging.DEBUG if options.debug else logging.ERROR if quiet and not options.verbose else NOTICE)


def _version(*, whole: bool) -> list[str]:
    lines = [f"natlb version {natlb.__version__}"]
    if whole:
        kernel = os.uname()
        lines += [
            "It reads the configuration language of HAProxy 2.6 and speaks its Runtime API, at layer 4.",
            f"Running on: {kernel.sysname} {kernel.release} {kernel.machine}",
            f"Running with Python {python_version()}, {sys.executable}",
        ]
    return lines


def _tell(parsed: Parsed, *, quiet: bool) -> None:
    for diagnostic in parsed.diagnostics:
        if not quiet or diagnostic.severity == "ALERT":
            text = diagnostic.render(os.getpid())
            if is_journal():
                text = for_journal(logging.ERROR if diagnostic.severity == "ALERT" else logging.WARNING, text)
            say(text)


def _checked(parsed: Parsed, *, quiet: bool) -> int:
    lines = ["Warnings were found."] if parsed.diagnostics else []
    listens = parsed.config is not None and parsed.config.listens
    lines.append(
        "Configuration file is valid"
        if listens
        else "Configuration file has no error but will not start (no listener) => exit(2)."
    )
    if not quiet:
        print("\n".join(lines))  # noqa: T201
    return 0 if listens else 2


def _open_standard_descriptors() -> None:
    """Let 0, 1 and 2 be something: else a socket takes the number, and is sent what is meant for standard error."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < 3:  # the lowest that is free
        pass
    os.close(descriptor)


def run() -> NoReturn:
    """Enter from the shell."""
    _open_standard_descriptors()
    try:
        code = main(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        if "-d" in sys.argv:
            raise
        log.critical("internal error, please report it with the output of -d: %s: %s", type(error).__name__, error)
        code = 1
    sys.exit(code)
