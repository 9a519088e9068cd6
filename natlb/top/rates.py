"""Two samples, and what happened between them."""

from dataclasses import dataclass, field

from natlb.top.replies import Row, Session


@dataclass(frozen=True, slots=True)
class Sample:
    """What was answered at one time."""

    at: float
    """Seconds, on a clock that never goes backwards."""
    info: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    sessions: list[Session] | None = None
    """None if they were not asked for."""
    whole: bool = True
    """Whether these are all that were asked for."""
    refusal: str = ""
    """What was answered instead of sessions."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What changed in a second, on average; None where that is not known."""

    total: float | None = None
    octets_in: float | None = None
    octets_out: float | None = None

    @property
    def octets(self) -> float | None:
        """In both directions."""
        return None if self.octets_in is None or self.octets_out is None else self.octets_in + self.octets_out


_UNKNOWN = Rate()


class Rates:
    """The rates of everything that is in both samples."""

    def __init__(self, before: Sample | None, now: Sample) -> None:
        seconds = now.at - before.at if before else 0.0
        self._of: dict[tuple[str, ...], Rate] = {}
        if before is None or seconds <= 0:
            return
        earlier = {row.key: row for row in before.rows}
        for row in now.rows:
            if row.key in earlier:
                old = earlier[row.key]
                self._of[row.key] = Rate(
                    _rate(old.total, row.total, seconds),
                    _rate(old.octets_in, row.octets_in, seconds),
                    _rate(old.octets_out, row.octets_out, seconds),
                )
        known = {session.key: session for session in before.sessions or ()}
        for session in now.sessions or ():
            if session.key in known:
                seen = known[session.key]
                self._of[session.key] = Rate(
                    None,
                    _rate(seen.octets_in, session.octets_in, seconds),
                    _rate(seen.octets_out, session.octets_out, seconds),
                )

    def of(self, what: Row | Session) -> Rate:
        """Return the rates of a row or a connection."""
        return self._of.get(what.key, _UNKNOWN)


def _rate(before: int | None, now: int | None, seconds: float) -> float | None:
    """A counter that is lower than before was cleared, or is another program's: nothing is known then."""
    return None if before is None or now is None or now < before else (now - before) / seconds
