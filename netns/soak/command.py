"""Mixed traffic, an operator and faults at random: every byte is verified, every connection accounted for.

All of it runs in network namespaces that are made for it and taken away again, whatever happens.
"""

import argparse
import asyncio
import json
import secrets
import signal
from collections.abc import Sequence

from netns.build import Lab
from netns.console import Progress, output_file
from netns.soak.conductor import Conductor
from netns.soak.report import Report, build, render
from netns.soak.scene import Scene

PREFIX = "soak-"


def arguments() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    parser = argparse.ArgumentParser(prog="soak.sh", description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("minutes", type=_minutes, metavar="MINUTES", help="how long traffic goes on")
    parser.add_argument("--offload", choices=("on", "off"), default="off", help="have the kernel carry packets (off)")
    parser.add_argument("--seed", type=_seed, metavar="N", help="what all chance comes from (another one each time)")
    parser.add_argument("--json", type=output_file, metavar="FILE", help="write everything that was found to a file")
    parser.add_argument("--plot", type=output_file, metavar="FILE.svg", help="draw a picture")
    parser.add_argument("--prefix", default=PREFIX, help="the beginning of the namespaces' names (%(default)s)")
    return parser


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0.1 <= minutes <= 100_000:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of minutes from 0.1 to 100000")
    return minutes


def _seed(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at most nine digits")
    return int(text)


def main(words: Sequence[str]) -> int:
    """Soak and tell; 1 when anything was wrong, 128 and the signal's number when a signal has ended it before."""
    options = arguments().parse_args(words)
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    progress = Progress()
    offload = options.offload == "on"
    with Lab(prefix=options.prefix) as lab:
        conductor = Conductor(Scene(lab, seed, offload=offload), 60 * options.minutes, progress)
        ended_by = asyncio.run(_conducted(conductor))
    progress("")
    report = build(conductor, options.minutes, offload=offload)
    tell(report, options)
    if report["failures"]:
        return 1
    return 128 + ended_by if ended_by else 0


async def _conducted(conductor: Conductor) -> int:
    """Run a soak; return the number of the signal that has ended it before its time, or 0."""
    loop = asyncio.get_running_loop()
    running = asyncio.current_task()
    ended_by = 0

    def end(signum: int) -> None:
        nonlocal ended_by
        if ended_by and running:
            running.cancel()  # whoever asks twice does not want to wait for the end of all traffic
        ended_by = ended_by or signum
        conductor.interrupt()

    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, end, signum)
    try:
        await conductor.run()
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    return ended_by


def tell(report: Report, options: argparse.Namespace) -> None:
    """Print a report, write it down, draw it, as was asked for."""
    print(render(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    if options.plot:
        from netns.soak.plot import plot  # noqa: PLC0415 - it takes a second: only for those who want a picture

        plot(report, options.plot)
