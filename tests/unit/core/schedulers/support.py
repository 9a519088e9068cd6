"""What the tests of the schedulers share."""

from collections import Counter
from collections.abc import Iterable, Sequence

from natlb.core.flow import FlowKey, flow_key
from natlb.core.pool import Server
from natlb.core.schedulers.base import Scheduler

TCP = 6


def server(name: str, weight: int = 1, **settings: object) -> Server:
    return Server(name, bytes(4), 80, weight=weight, **settings)


def servers(*weights: int) -> list[Server]:
    """Make servers named s000, s001, ... of the given weights."""
    return [server(f"s{place:03}", weight, id=place + 1) for place, weight in enumerate(weights)]


def flow(number: int, port: int = 1024) -> FlowKey:
    """Make the tuple of client number `number`, which speaks from `port`."""
    return flow_key((number.to_bytes(4, "big"), port.to_bytes(2, "big")), (bytes([44, 2, 2, 2]), b"\x22\xb8"), TCP)


FLOW = flow(0x2C010101)


def finish(scheduler: Scheduler) -> None:
    """Do all the work that is left."""
    while scheduler.work():
        pass


def built(scheduler: Scheduler, among: Sequence[Server]) -> Scheduler:
    scheduler.rebuild(among, among)
    finish(scheduler)
    return scheduler


def opened(scheduler: Scheduler, at: Server, number: int = 1) -> None:
    """Open connections to a server, or close them where the number is negative."""
    at.live += number
    scheduler.load_changed(at)


def connect(scheduler: Scheduler, number: int, flows: Iterable[FlowKey] | None = None) -> list[Server | None]:
    """Open so many connections that stay open; return their servers."""
    picked = []
    for each in flows or [FLOW] * number:
        chosen = scheduler.pick(each)
        if chosen is not None:
            opened(scheduler, chosen)
        picked.append(chosen)
    return picked


def names(picked: Iterable[Server | None]) -> str:
    return " ".join(each.name if each else "-" for each in picked)


def chi_square(picked: Iterable[Server | None], expected: dict[Server, float]) -> float:
    """Return Pearson's statistic of what was picked against what was expected."""
    counted = Counter(picked)
    return sum((counted[each] - number) ** 2 / number for each, number in expected.items())


def by_weight(among: Sequence[Server], number: int) -> dict[Server, float]:
    """Return how many of so many picks each server should get."""
    total = sum(each.weight for each in among)
    return {each: number * each.weight / total for each in among}


CRITICAL = {1: 10.83, 2: 13.82, 3: 16.27, 4: 18.47, 9: 27.88, 19: 43.82, 49: 85.35, 99: 148.23}
"""Values of chi-square that chance exceeds once in a thousand times, by degrees of freedom."""
