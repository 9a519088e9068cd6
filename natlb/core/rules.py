"""What the rules decide about a connection that opens.

HAProxy's order: the rules of `tcp-request connection`, which let it in or not and may count it in stick tables; then
`use_backend`, for its backend; then in that backend `use-server` and `stick`, for its server. The algorithm of the
backend is asked for what these leave open. Rules are asked in the order in which they were written, and the first whose
condition holds decides.

A server that a rule names gets the connection even in drain, with weight 0, or as a backup, since none of these speaks
of connections that belong to it. If it is down or in maintenance the next rule is asked, unless the backend has `option
persist` or, for this client, `force-persist`: then the client is sent there all the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from natlb.core.conditions import Condition, Sample
from natlb.core.opening import Opening
from natlb.core.pool import Pool, Server
from natlb.core.stick import Key, StickTable


class Decision(Enum):
    """What a rule of `tcp-request connection` says; further rules are not asked then."""

    ACCEPT = "accept"
    REJECT = "reject"
    SILENT_DROP = "silent-drop"


Action = Callable[[Opening], None]
"""What a rule does that decides nothing."""


@dataclass(frozen=True, slots=True)
class FrontendRules:
    """The rules of a frontend."""

    connection: tuple[tuple[Condition, Decision | Action], ...] = ()
    backends: tuple[tuple[Condition, Pool | None], ...] = ()
    """None is a backend that takes no connections: the connection is refused."""

    def decide(self, opening: Opening) -> Decision:
        """Ask the rules of `tcp-request connection`. Who is not rejected is accepted."""
        for condition, does in self.connection:
            if condition(opening):
                if isinstance(does, Decision):
                    return does
                does(opening)
        return Decision.ACCEPT

    def choose(self, opening: Opening, default: Pool | None) -> Pool | None:
        """Return the backend for a connection."""
        if not self.backends:
            return default
        return next((pool for condition, pool in self.backends if condition(opening)), default)


@dataclass(frozen=True, slots=True)
class Sticking:
    """One `stick` rule."""

    table: StickTable
    sample: Sample
    condition: Condition
    matches: bool
    """Whether it sends a connection to the server that its key sticks to."""
    stores: bool
    """Whether its key will stick to the server that the connection gets."""


@dataclass(frozen=True, slots=True)
class BackendRules:
    """The rules of a backend: which server a connection belongs to."""

    servers: tuple[tuple[Condition, str], ...] = ()
    """Conditions of `use-server`, each with the name of a server."""
    sticking: tuple[Sticking, ...] = ()
    persist: bool = False
    """Whether a connection goes to the server that it belongs to although that is down."""
    forced: tuple[Condition, ...] = ()
    """The same for connections for which one of these holds (`force-persist`)."""

    def choose(self, opening: Opening, pool: Pool) -> Server | None:
        """Return the server that a connection belongs to, or None if it belongs to none."""
        for condition, name in self.servers:
            if condition(opening) and (server := self._open_server(opening, pool, name)) is not None:
                return server
        for rule in self.sticking:
            if not rule.matches or not rule.condition(opening):
                continue
            key = rule.table.key(rule.sample(opening))
            entry = None if key is None else rule.table.get(key, opening.now)
            if entry is not None:
                rule.table.touch(entry, opening.now)
                if entry.server and (server := self._open_server(opening, pool, entry.server)) is not None:
                    return server
        return None

    def to_store(self, opening: Opening) -> tuple[tuple[StickTable, Key], ...]:
        """Return which keys, of which tables, will stick to the server of a connection once that has answered."""
        return tuple(
            (rule.table, key)
            for rule in self.sticking
            if rule.stores and rule.condition(opening) and (key := rule.table.key(rule.sample(opening))) is not None
        )

    def _open_server(self, opening: Opening, pool: Pool, name: str) -> Server | None:
        server = pool.servers.get(name)
        if server is None or len(server.address) != len(opening.client[0]):
            return None
        if server.away and not self.persist and not any(condition(opening) for condition in self.forced):
            return None
        return server


def track(slot: int, table: StickTable, sample: Sample) -> Action:
    """`track-sc0`: count a connection in the entry of its key. What is counted in that slot already stays."""

    def act(opening: Opening) -> None:
        key = table.key(sample(opening))
        if key is None or opening.tracked[slot] is not None:
            return
        entry = table.enter(key, opening.now)
        if entry is not None:
            opening.count_in(slot, entry)

    return act


def count_event(slot: int) -> Action:
    """`sc-inc-gpc0`: count one in the general-purpose counter of the entry that counts the connection."""

    def act(opening: Opening) -> None:
        entry = opening.tracked[slot]
        if entry is not None:
            entry.add("gpc0", opening.now)
            entry.add("gpc0_rate", opening.now)

    return act
