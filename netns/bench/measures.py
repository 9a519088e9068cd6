"""What is measured: names, units, and how to read them. Data and arithmetic alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from netns.bench.readings import Profile, Stage

Values = dict[str, float | None]
"""By the measure's key; None where there is nothing to measure, or nothing that could be believed."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One row of the table."""

    key: str
    """Its name in JSON."""
    label: str
    digits: int = 0
    """After the decimal point."""
    more_is_better: bool = True

    def write(self, value: float | None) -> str:
        """Write a value for people: `-` where there is none."""
        return "-" if value is None else f"{value:,.{self.digits}f}"


MEASURES = (
    Measure("bulk_gbps", "bulk to the server, Gbit/s", 2),
    Measure("bulk_reverse_gbps", "bulk to the client, Gbit/s", 2),
    Measure("bulk8_gbps", "bulk, 8 streams, Gbit/s", 2),
    Measure("keepalive_rps", "requests/s, kept alive"),
    Measure("keepalive_p50_us", "    half within, us", more_is_better=False),
    Measure("keepalive_p99_us", "    99 % within, us", more_is_better=False),
    Measure("connection_rps", "requests/s, a connection each"),
    Measure("udp_pps", "datagrams/s that arrive"),
    Measure("udp_loss_percent", "    lost, %", 1, more_is_better=False),
    Measure("unloaded_p50_us", "one at a time, half within, us", more_is_better=False),
    Measure("unloaded_p99_us", "    99 % within, us", more_is_better=False),
    Measure("added_p99_us", "        more than routing, us", more_is_better=False),
    Measure("cpu_s_per_gb", "its CPU, s per GB", 3, more_is_better=False),
    Measure("cpu_s_per_10k_connections", "its CPU, s per 10,000 conn.", 2, more_is_better=False),
    Measure("machine_cpu_s_per_gb", "all CPU, s per GB", 3, more_is_better=False),
    Measure("machine_cpu_s_per_10k_connections", "all CPU, s per 10,000 conn.", 2, more_is_better=False),
    Measure("rss_mb_100k", "MB at 100,000 connections", more_is_better=False),
    Measure("rss_kb_per_connection", "kB for each connection", 2, more_is_better=False),
)

NOT_A_RATIO = frozenset({"udp_loss_percent", "added_p99_us"})
"""Differences and shares: dividing one by another's says nothing."""


def medians(rounds: Sequence[Values]) -> Values:
    """Return the median of each measure over the rounds that have it; None where none has."""
    found: Values = {}
    for measure in MEASURES:
        values = [value for values in rounds if (value := values.get(measure.key)) is not None]
        found[measure.key] = median(values) if values else None
    return found


def ratios(results: Mapping[str, Values], reference: str) -> dict[str, Values]:
    """Return each candidate's values as multiples of the reference's; None where either is missing, or zero divides."""
    base = results[reference]
    return {
        name: {measure.key: _ratio(measure.key, values.get(measure.key), base.get(measure.key)) for measure in MEASURES}
        for name, values in results.items()
    }


def together(parts: Sequence[Profile]) -> Profile:
    """Return where the time of all packets went, of several measurements."""
    packets = sum(part.packets for part in parts)
    names = dict.fromkeys(name for part in parts for name in part.stages)

    def mean(name: str, times: Callable[[Stage], float]) -> float:
        spent = (times(part.stages[name]) * part.packets for part in parts if name in part.stages)
        return sum(spent) / packets

    stages = {name: Stage(mean(name, lambda of: of.user_us), mean(name, lambda of: of.kernel_us)) for name in names}
    return Profile(packets, sum(part.samples for part in parts), stages)


def _ratio(key: str, value: float | None, base: float | None) -> float | None:
    return None if value is None or not base or key in NOT_A_RATIO else value / base
