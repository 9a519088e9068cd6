"""Commands about where a packet's time goes: `set profiling packets`, `show profiling`.

HAProxy has the same of tasks and of memory. natlb has neither, and what it shows of packets stands in lines like those.
"""

from collections.abc import Iterator

from natlb.errors import NatlbError
from natlb.runtime.console import Console
from natlb.runtime.language import Answer, Refused, Words
from natlb.runtime.running import Profiler


def set_profiling(console: Console, words: Words) -> Answer:
    """`set profiling packets {on|off}`."""
    if words[:1] != ["packets"]:
        raise Refused("Expects 'packets'.")
    profiler = _profiler(console)
    match words[1:2]:
        case ["on"]:
            return _started(profiler)
        case ["off"]:
            profiler.stop()
            return ""
    raise Refused("Expects either 'on' or 'off'.")


async def _started(profiler: Profiler) -> str:
    try:
        await profiler.start()
    except NatlbError as error:
        raise Refused(f"Cannot begin: {error}.") from error
    return ""


def show_profiling(console: Console, words: Words) -> Iterator[str]:
    """`show profiling [all|status|packets]`."""
    what = words[0] if words else "all"
    if what not in ("all", "status", "packets"):
        raise Refused("Expects either 'all', 'status' or 'packets'.")
    profiler = _profiler(console)

    def lines() -> Iterator[str]:
        if what != "packets":
            state = "on" if profiler.is_on else "off"
            yield f"{'Per-packet CPU profiling':<36}: {state:<14}# set profiling packets {{on|off}}\n"
        if what != "status":
            yield from profiler.report()

    return lines()


def _profiler(console: Console) -> Profiler:
    profiler = console.running.profiler
    if profiler is None:
        raise Refused("There are no packets to look at.")
    return profiler
