"""What natlb is to reach, as multiples of others in the same run; and whether a run has it reach that.

The aims are for a machine of two cores, where client, balancer and servers share what there is.
"""

from dataclasses import dataclass

from netns.bench.measures import MEASURES, Values, ratios


@dataclass(frozen=True, slots=True)
class Aim:
    """A bound for one measure of one candidate."""

    candidate: str
    measure: str
    bound: float
    """The least it should be, or the most where less is better."""
    against: str | None
    """Whose multiple it is; None where the value itself is meant."""


AIMS = (
    Aim("natlb", "bulk_gbps", 0.9, "haproxy"),
    Aim("natlb", "keepalive_rps", 0.7, "haproxy"),
    Aim("natlb", "connection_rps", 0.5, "haproxy"),
    Aim("natlb", "rss_kb_per_connection", 0.1, "haproxy"),
    Aim("natlb", "added_p99_us", 150, None),
    Aim("natlb-offload", "bulk_gbps", 1.05, "nft"),
    Aim("natlb-offload", "bulk_gbps", 2.0, "haproxy"),
    Aim("natlb-offload", "keepalive_rps", 1.0, "nft"),
    Aim("natlb-offload", "keepalive_rps", 1.8, "haproxy"),
    Aim("natlb-offload", "connection_rps", 1.2, "haproxy"),
    Aim("natlb-offload", "cpu_s_per_gb", 0.3, "haproxy"),
)

_MEASURES = {measure.key: measure for measure in MEASURES}
_LABELS = {
    "added_p99_us": "one at a time, 99 % within, us more than routing",
    "cpu_s_per_gb": "its CPU per GB",
    "rss_kb_per_connection": "memory for each connection",
}


def drawn(results: dict[str, Values]) -> str:
    """Return a table in Markdown of the aims that the results say something about; nothing if that is none."""
    rows = [row for aim in AIMS if aim.candidate in results and (row := _row(aim, results))]
    if not rows:
        return ""
    return "\n".join(["| measure | of | against | aim | measured | reached |", "|---|---|---|---|---|---|", *rows])


def _row(aim: Aim, results: dict[str, Values]) -> str:
    """Return a line of the table; nothing where there is nobody to compare with."""
    if aim.against is not None and aim.against not in results:
        return ""
    value = found(aim, results)
    less_is_better = not _MEASURES[aim.measure].more_is_better
    label = _LABELS.get(aim.measure, _MEASURES[aim.measure].label.removesuffix(", Gbit/s"))
    if value is None:
        measured, judged = "-", "not measured"
    else:
        measured = f"{value:,.0f}" if aim.against is None else f"{value:.2f}"
        judged = "yes" if (value <= aim.bound if less_is_better else value >= aim.bound) else "**no**"
    bound = f"at {'most' if less_is_better else 'least'} {aim.bound:g}"
    against = f"`{aim.against}`" if aim.against else ""
    return f"| {label} | `{aim.candidate}` | {against} | {bound} | {measured} | {judged} |"


def found(aim: Aim, results: dict[str, Values]) -> float | None:
    """Return what was measured, as the aim has it; None where something is missing."""
    values = results[aim.candidate] if aim.against is None else ratios(results, aim.against)[aim.candidate]
    return values.get(aim.measure)
