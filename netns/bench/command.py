"""natlb beside plain routing, the kernel's DNAT, HAProxy and nginx: the same load, the same lab, one after the other.

All of it runs in network namespaces that are made for it and taken away again, whatever happens.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime

from netns.bench import machine, report
from netns.bench.candidates import TABLE, Candidate
from netns.bench.hosts import Room
from netns.bench.measures import together
from netns.bench.plot import plot, plot_where
from netns.bench.rounds import QUICK, QUICK_WITHIN, Plan, Run
from netns.build import Lab
from netns.console import Progress, output_file

PREFIX = "bench-"


def arguments() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    parser = argparse.ArgumentParser(prog="bench.sh", description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    names = ", ".join(candidate.name for candidate in TABLE)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one round of a second for each load, within a minute: what does not fit is left out",
    )
    parser.add_argument("--only", type=_candidates, default=TABLE, metavar="NAME,...", help=f"of {names}")
    parser.add_argument("--rounds", type=_count, metavar="N", help="how often everything is measured")
    parser.add_argument("--seconds", type=_count, metavar="N", help="how long each load lasts")
    parser.add_argument("--json", type=output_file, metavar="FILE", help="write everything that was found to a file")
    parser.add_argument("--plot", type=output_file, metavar="FILE.svg", help="draw a picture")
    parser.add_argument(
        "--where", type=output_file, metavar="FILE.svg", help="draw where a packet's time goes in natlb"
    )
    parser.add_argument("--prefix", default=PREFIX, help="the beginning of the namespaces' names (%(default)s)")
    return parser


def _candidates(text: str) -> tuple[Candidate, ...]:
    known = {candidate.name: candidate for candidate in TABLE}
    if unknown := [name for name in text.split(",") if name not in known]:
        raise argparse.ArgumentTypeError(f"there is no candidate '{unknown[0]}'; they are {', '.join(known)}")
    return tuple(candidate for candidate in TABLE if candidate.name in text.split(","))


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 1 to 1000")
    return int(text)


def plan(options: argparse.Namespace) -> Plan:
    """Return how much to measure."""
    chosen = Plan(**(QUICK if options.quick else {}))
    given = {name: value for name in ("rounds", "seconds") if (value := getattr(options, name)) is not None}
    # Who says how much takes the time for it.
    return replace(chosen, **given, within=QUICK_WITHIN if options.quick and not given else None)


def main(words: Sequence[str]) -> int:
    """Measure and tell; 1 when something could not be measured."""
    parser = arguments()
    options = parser.parse_args(words)
    if options.where and all(candidate.name != "natlb" for candidate in options.only):
        parser.error("--where: natlb is not among those that are measured")
    chosen, room = plan(options), Room.found()
    found: report.Report = {
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "quick": options.quick,
        "rounds": chosen.rounds,
        "seconds": chosen.seconds,
        "machine": machine.describe(options.only, room),
        "about": {candidate.name: candidate.about for candidate in options.only},
    }
    progress = Progress()
    with Lab(prefix=options.prefix, offloads=True) as lab:
        run = Run(lab, options.only, chosen, room)
        run.measure(progress)
    progress("")
    outcome = run.outcome
    found |= {"results": outcome.results, "samples": outcome.samples, "remarks": outcome.remarks}
    if outcome.profiles:
        found["where"] = asdict(together(outcome.profiles))
    print(report.render(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    if options.plot:
        plot(found, options.plot)
    if options.where and outcome.profiles:
        plot_where(found, options.where)
    return int(outcome.failed)
