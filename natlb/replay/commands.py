"""What `natlb replay` and `natlb explain` do, from their words to their exit codes."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final

from natlb.assembly import Assembly
from natlb.captures.files import Reader
from natlb.captures.links import NAMES, is_known
from natlb.captures.writer import Writer
from natlb.config.files import read as read_files
from natlb.config.model import Config
from natlb.config.parser import load
from natlb.errors import CaptureError, ConfigError, NatlbError
from natlb.replay import options as words
from natlb.replay import prose
from natlb.replay.explanation import Explained, Explainer
from natlb.replay.history import Entry, Fate
from natlb.replay.lent import Lent
from natlb.replay.made import first_packet
from natlb.replay.player import Player
from natlb.replay.scene import prepare
from natlb.replay.witness import Witness

DONE, FAILED, DIFFERENT = 0, 1, 2
NOT_OURS: Final = 3

_CODES: Final = {Fate.REWRITTEN: 0, Fate.DROPPED: 2, Fate.ANSWERED: 2}
"""What `explain` exits with."""

_BUFFER: Final = 1 << 20


def replay(argv: list[str]) -> int:
    """Run `natlb replay` with these arguments and return its exit code."""
    return _run(words.REPLAY, lambda: _replay(argv))


def explain(argv: list[str]) -> int:
    """Run `natlb explain` with these arguments and return its exit code."""
    return _run(words.EXPLAIN, lambda: _explain(argv))


def _run(name: str, do: Callable[[], int]) -> int:
    """Do it; say what went wrong in one line."""
    try:
        return do()
    except NatlbError as error:
        sys.stdout.flush()
        sys.stderr.write(f"{name}: {error}\n")
        return FAILED
    except BrokenPipeError:  # whoever reads has read enough; what is still in the buffer would fail once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


def _replay(argv: list[str]) -> int:
    options = words.replay().parse_args(argv)
    config = _load(options.files)
    made = prepare(config, words.scene(options))

    def tell(entry: Entry) -> None:
        if not options.quiet or entry.event == "end":
            text = entry.as_json() if options.json else entry.as_text()
            sys.stdout.write(f"{text.lstrip() if options.quiet else text}\n")

    with contextlib.ExitStack() as stack:
        reader = Reader(stack.enter_context(_opened(options.capture)), _shown(options.capture))
        lent = _lent(options.capture, made)
        player = Player(made, tell, lent=lent)
        if options.output is not None:
            _refuse_to_overwrite(options.capture, options.output)
            writer = Writer(stack.enter_context(_created(options.output)), options.output)
            player = Player(made, tell, writer.write, lent=lent)
            stack.callback(writer.flush)
        try:
            for record in reader:
                _check_link(record.link, options.capture)
                player.play(record)
        finally:
            if player.first is not None:
                player.finish()
    if reader.cut_off:
        _note(words.REPLAY, f"{_shown(options.capture)} ends in the middle of a packet: what came before it counts")
    if reader.untimed:
        _note(words.REPLAY, f"{reader.untimed} packets have no time of their own, and take that of the one before")
    return DONE if player.different is None else DIFFERENT


def _explain(argv: list[str]) -> int:
    parser = words.explain()
    options = parser.parse_args(argv)
    packet = words.packet(parser, options)
    config = _load(options.files)
    witness = Witness()
    made = prepare(config, replace(words.scene(options), make_policy=witness.make_policy))
    lent = _lent(packet.capture, made) if isinstance(packet, words.Numbered) else Lent()
    explainer = Explainer(config, made, witness, _lines(options.files), lent)
    if isinstance(packet, words.Made):
        told = explainer.explain(first_packet(packet.source, packet.destination, packet.protocol))
    else:
        told = _explain_captured(explainer, packet)
    if options.json:
        sys.stdout.write(f"{json.dumps(told)}\n")
    else:
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        sys.stdout.writelines(f"{line}\n" for line in prose.lines(told, colour=colour))
    return _CODES.get(Fate[told["fate"].upper()], NOT_OURS)


def _explain_captured(explainer: Explainer, packet: words.Numbered) -> Explained:
    number = 0
    with _opened(packet.capture) as file:
        for record in Reader(file, _shown(packet.capture)):
            _check_link(record.link, packet.capture)
            number = record.number
            if number == packet.number:
                return explainer.explain(record)
            explainer.play(record)
    raise CaptureError(f"{_shown(packet.capture)} has no packet {packet.number}: it has {number}")


def _lent(capture: str, made: Assembly) -> Lent:
    """Find out which ports full NAT has lent, if there is any, and the capture can be read twice."""
    lent = Lent()
    if made.sources and capture != "-":
        # What is wrong with the capture is told when it is replayed.
        with _opened(capture) as file, contextlib.suppress(CaptureError):
            lent.learn(Reader(file, capture), frozenset(address.packed for address in made.sources))
    return lent


def _lines(files: Sequence[str]) -> dict[tuple[str, int], str]:
    """Return the lines of the configuration, by file and number."""
    found, _ = read_files(files)
    return {
        (name, number): line.decode(errors="surrogateescape")
        for name, data in found
        for number, line in enumerate(data.split(b"\n"), start=1)
    }


def _load(files: Sequence[str]) -> Config:
    parsed = load(files)
    for diagnostic in parsed.diagnostics:
        if diagnostic.severity == "ALERT":  # of what it only warns of, -c is the place to hear
            sys.stderr.write(f"{diagnostic.render(os.getpid())}\n")
    if parsed.config is None:
        raise ConfigError("the configuration has errors")
    if not any(frontend.binds and not frontend.disabled for frontend in parsed.config.frontends):
        raise ConfigError("the configuration has no 'bind': there is nothing that a packet could come to")
    return parsed.config


def _check_link(link: int, name: str) -> None:
    if not is_known(link):
        known = ", ".join(NAMES.values())
        raise CaptureError(f"{_shown(name)} has packets of a link of type {link}; those that can be read are: {known}")


def _note(name: str, text: str) -> None:
    sys.stdout.flush()
    sys.stderr.write(f"{name}: {text}\n")


def _shown(name: str) -> str:
    return "standard input" if name == "-" else name


def _opened(name: str) -> contextlib.AbstractContextManager[BinaryIO]:
    if name == "-":
        return contextlib.nullcontext(sys.stdin.buffer)
    try:
        return Path(name).open("rb", buffering=_BUFFER)
    except (OSError, ValueError) as error:
        raise CaptureError(f"cannot read {name}: {getattr(error, 'strerror', None) or error}") from error


def _created(name: str) -> contextlib.AbstractContextManager[BinaryIO]:
    try:
        return Path(name).open("wb", buffering=_BUFFER)
    except (OSError, ValueError) as error:
        raise CaptureError(f"cannot write {name}: {getattr(error, 'strerror', None) or error}") from error


def _refuse_to_overwrite(capture: str, output: str) -> None:
    """Raise CaptureError if the capture would be overwritten while it is read."""
    with contextlib.suppress(OSError, ValueError):
        if capture != "-" and Path(capture).samefile(output):
            raise CaptureError(f"{output} is the capture itself: write to another file")
