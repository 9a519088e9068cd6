"""What happened to one packet and why, as data: names to values, as JSON has them.

It is put together from what the engine's parts say of themselves: the witness of the rules, the pool's word on each of
its servers from the moment before the packet came, the step that the player took, and the bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from natlb.assembly import Assembly
from natlb.captures.files import Record
from natlb.config.diagnostics import printable
from natlb.config.model import Bind, Config, Frontend, Location
from natlb.config.rule_model import (
    Call,
    Condition,
    ConnectionRule,
    Network,
    Pattern,
    Range,
    Sample,
    StickRule,
    UseBackend,
    UseServer,
)
from natlb.core.conditions import Value
from natlb.core.flow import Connection, Direction, FlowKey, ends, reverse
from natlb.core.icmp import is_error, quoted
from natlb.core.packet import Kind, PacketView
from natlb.core.pool import Pool, Server
from natlb.core.service import Service
from natlb.core.verdict import Drop, DropReason, Reply, Rewrite
from natlb.replay.anatomy import changes, rows, sums
from natlb.replay.history import Fate, ways
from natlb.replay.lent import Lent
from natlb.replay.player import Player, Step, kind_of
from natlb.replay.witness import Asked, Tested, Witness
from natlb.runtime.addresses import endpoints, plain, written

Explained = dict[str, Any]

_FLAGS: Final = "FSRPAU"

_BEFORE_BACKENDS: Final = frozenset((DropReason.RATE_LIMIT, DropReason.MAXCONN, DropReason.DENIED))
_OF_OPENINGS: Final = _BEFORE_BACKENDS | {
    DropReason.QUEUED,
    DropReason.NO_PORT,
    DropReason.TABLE_FULL,
    DropReason.TUPLE_CLASH,
}
"""Why a packet is dropped that would have opened a connection: before a backend was asked, or at all."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A server as it stood before the packet came."""

    obstacle: str | None
    standing: str | None
    live: int
    limit: int | None
    weight: int
    balanced: int


class Explainer:
    """One player, and what there is to say of a packet that it is given."""

    def __init__(
        self, config: Config, made: Assembly, witness: Witness, lines: Mapping[tuple[str, int], str], lent: Lent
    ) -> None:
        """`lines` are those of the configuration, by file and number; `lent` is what is known of ports."""
        self._config = config
        self._made = made
        self._witness = witness
        self._lines = lines
        self._candidates: dict[Pool, dict[Server, _Candidate]] = {}
        self._is_looking = False
        self.player: Final = Player(made, on_packet=self._look, lent=lent)

    def play(self, record: Record) -> None:
        """Let a packet go by."""
        self.player.play(record)

    def explain(self, record: Record) -> Explained:
        """Let a packet go by, and say what happened to it and why."""
        self._is_looking = True
        step = self.player.play(record)
        self._is_looking = False
        told: Explained = {"fate": step.fate.name.lower(), "why": self._why(step)}
        if step.captured is None:
            return told
        told["packet"] = _packet(step)
        service = self._service(step)
        if service is not None and self._witness_matters(step):
            frontend = next(each for each in self._config.frontends if each.name == service.name)
            told["bind"] = self._bind(frontend, step)
            told["rules"] = self._rules(step)
            told |= self._choice(frontend, step)
        connection = self._connection(step)
        if connection is not None:
            told["connection"] = self._about(connection, step)
        if isinstance(step.verdict, Rewrite):
            told |= _rewriting(step)
        if isinstance(step.verdict, Reply):
            answer = step.verdict.packet
            told["answer"] = {"what": kind_of(answer), **ways(answer), "bytes": answer.hex()}
        return told

    def _look(self, key: FlowKey | None) -> None:
        """Note how each server stands: called before the engine is asked about a packet."""
        self._witness.clear()
        self._candidates = {}
        if key is not None and self._is_looking:
            self._candidates = {pool: self._standings(pool, key) for pool in self._made.pools.values()}

    def _standings(self, pool: Pool, key: FlowKey) -> dict[Server, _Candidate]:
        standings = pool.standings(key)
        found = {}
        for server in pool.servers.values():
            obstacle = pool.obstacle(server, key)
            found[server] = _Candidate(
                obstacle.value if obstacle else None,
                standings.get(server),
                server.live,
                server.limit,
                server.effective_weight,
                server.counters.balanced,
            )
        return found

    # Where it goes

    def _service(self, step: Step) -> Service | None:
        if step.key is None:
            return None
        _, (address, port) = ends(step.key)
        return self._made.engine.addresses.find(address, port, step.key[-1])

    def _witness_matters(self, step: Step) -> bool:
        """Whether the packet was one that would open a connection, so that rules and servers were asked about it."""
        if step.verdict is None or step.fate is Fate.PASSED:
            return False
        opened = step.connection is not None and step.connection.original == step.key and step.state[0] is None
        limited = isinstance(step.verdict, Drop) and step.connection is None and step.verdict.reason in _OF_OPENINGS
        return opened or bool(self._witness.asked) or step.refused is not None or step.denied or limited

    def _bind(self, frontend: Frontend, step: Step) -> Explained:
        _, (address, port) = ends(step.key or b"")
        places: Sequence[Bind] = [each for each in frontend.binds if each.port == int.from_bytes(port, "big")]
        exact = [each for each in places if each.address.packed == address]
        wide = [each for each in places if int(each.address) == 0 and len(each.address.packed) == len(address)]
        bind = (exact or wide)[0]
        return {"frontend": frontend.name, "vip": written(address, port), **self._line(bind.location)}

    def _line(self, location: Location) -> Explained:
        text = self._lines.get((location.file, location.line), "")
        return {"where": printable(str(location)), "line": printable(" ".join(text.split()))}

    # Rules

    def _rules(self, step: Step) -> list[Explained]:
        """Return the rules in the order in which they were asked.

        Once a connection has its server, the `stick` rules that store are asked whether to remember that.
        """
        asked = self._witness.asked
        opened = step.connection if step.state[0] is None else None
        stores = 0
        if opened is not None and (pool := opened.server.pool) is not None:
            backend = next(each for each in self._config.backends if each.name == pool.name)
            stores = sum(rule.stores for rule in backend.stick_rules)
        decided = len(asked) - stores
        told = [self._asked(each) for each in asked[:decided]]
        for each in asked[decided:]:
            remembered = self._asked(each)
            if each.holds and opened is not None:
                remembered["effect"] = f"{_keys(each)} will stick to {opened.server.name} once that has answered"
            told.append(remembered)
        return told

    def _asked(self, asked: Asked) -> Explained:
        rule = asked.rule
        told: Explained = {"holds": asked.holds, "tests": [_tested(each) for each in asked.tests]}
        if isinstance(rule, Condition):
            return {"where": None, "line": "force-persist", **told, "effect": None}
        told["effect"] = self._effect(rule, asked) if asked.holds else None
        return {**self._line(rule.location), **told}

    def _effect(self, rule: ConnectionRule | UseBackend | UseServer | StickRule, asked: Asked) -> str:
        match rule:
            case ConnectionRule(action=action):
                return {
                    "accept": "let in",
                    "reject": "rejected",
                    "silent-drop": "dropped without an answer",
                    "track": f"counted under {_keys(asked)}",
                    "sc-inc-gpc0": "one is counted",
                }[action]
            case UseBackend(backend=backend):
                return f"to backend {backend}"
            case UseServer(server=server):
                return f"belongs to {server}" + self._but_away(rule, server)
            case StickRule(table=table):
                values = [value for _, value in asked.keys]
                key = self._made.tables[table].key(values[-1]) if values else None
                entry = None if key is None else self._made.tables[table].get(key, self.player.now)
                if entry is None or entry.server is None:
                    return f"{_keys(asked)} sticks to no server yet"
                return f"{_keys(asked)} sticks to {entry.server}" + self._but_away(rule, entry.server)

    def _but_away(self, rule: UseServer | StickRule, name: str) -> str:
        backend = next(each for each in self._config.backends if rule in (*each.use_servers, *each.stick_rules))
        server = self._made.pools[backend.name].servers.get(name)
        return ", which is down or in maintenance" if server is not None and server.away else ""

    # Servers

    def _choice(self, frontend: Frontend, step: Step) -> Explained:
        """Return the backend, and each of its servers with what spoke for it or against it."""
        decisive = [each for each in self._witness.asked if each.holds]
        rejected = [
            each.rule
            for each in decisive
            if isinstance(each.rule, ConnectionRule) and each.rule.action in ("reject", "silent-drop")
        ]
        if rejected or (isinstance(step.verdict, Drop) and step.verdict.reason in _BEFORE_BACKENDS):
            return {}
        led = next((each.rule for each in decisive if isinstance(each.rule, UseBackend)), None)
        name = led.backend if isinstance(led, UseBackend) else frontend.default_backend
        backend = self._config.backend(name) if name else None
        if backend is None:
            return {"backend": None}
        pool = self._made.pools[backend.name]
        chosen = step.connection.server if step.connection is not None else None
        by_rule = chosen is not None and self._belonged(pool, chosen)
        servers = []
        for server, candidate in self._candidates.get(pool, {}).items():
            servers.append(_server(server, candidate, step.key or b"", chosen, by_rule=by_rule))
        return {
            "backend": {
                "name": backend.name,
                "balance": pool.algorithm,
                "how": "use_backend" if led is not None else "default_backend",
                **self._line(backend.location),
            },
            "servers": servers,
        }

    def _belonged(self, pool: Pool, server: Server) -> bool:
        """Whether a server got the connection by a rule: then the algorithm has not given it to it."""
        before = self._candidates.get(pool, {}).get(server)
        return before is not None and server.counters.balanced == before.balanced

    # Connections

    def _connection(self, step: Step) -> Connection | None:
        if step.connection is not None or not isinstance(step.verdict, Rewrite):
            return step.connection
        view = PacketView()
        if view.read(bytearray(step.before)) is Kind.ICMP and is_error(view) and (quote := quoted(view)) is not None:
            return self._made.engine.table.find(reverse(quote.key))
        return None

    def _about(self, connection: Connection, step: Step) -> Explained:
        direction = None
        if step.key in (connection.original, connection.reply):
            direction = "original" if step.key == connection.original else "reply"
        pool = connection.server.pool
        before, after = step.state
        translation = connection.translations[Direction.ORIGINAL]
        return {
            "number": self.player.number_of(connection),
            "opened_by": self.player.opened_by(connection),
            "direction": direction,
            "state": [before.value if before else None, (after or connection.state).value],
            "frontend": connection.service.name,
            "server": f"{pool.name if pool else '-'}/{connection.server.name}",
            "original": list(endpoints(connection.original)),
            "reply": list(endpoints(connection.reply)),
            "full_nat": connection.has_own_port,
            "leaves_as": list(endpoints(reverse(connection.reply if direction != "reply" else connection.original))),
            "checksum_moves_by": translation.transport_delta,
        }

    def _why(self, step: Step) -> str:
        match step.verdict:
            case Drop(reason):
                return reason.value
            case Reply():
                return self.player.why_answered(step)
        if step.fate is Fate.PASSED and step.captured is not None:
            return "it goes to no virtual address, and belongs to no connection"
        return step.fate.value


def _packet(step: Step) -> Explained:
    found = step.captured
    if found is None:
        raise AssertionError("nothing was captured")
    view = PacketView()
    kind = view.read(bytearray(step.before))
    told: Explained = {"number": found.number, "at": found.at, "size": len(step.before), "captured": found.known}
    told |= ways(step.before, step.key)
    told["kind"] = "a packet that cannot be read" if not isinstance(kind, Kind) else kind.value
    if kind is Kind.TCP:
        names = "".join(letter for bit, letter in enumerate(_FLAGS) if view.flags >> bit & 1)
        told["flags"] = names
    if kind in (Kind.TCP, Kind.UDP, Kind.ICMP):
        told["checksum"] = "unfinished" if found.unfinished else "right" if _is_good(step.before) else "wrong"
    return told


def _is_good(packet: bytes) -> bool:
    view = PacketView()
    view.read(bytearray(packet))
    return view.checksum_is_good()


def _rewriting(step: Step) -> Explained:
    """Return what was written into a packet."""
    found = step.captured
    if found is None:
        raise AssertionError("nothing was captured")
    before, after = step.before, bytes(found.packet)
    return {
        "changes": [
            {"field": field.name, "at": field.start, "from": old, "to": new}
            for field, old, new in changes(before, after)
        ],
        "checksums": []
        if found.unfinished
        else [
            {
                "name": each.name,
                "at": each.at,
                "from": each.old,
                "to": each.new,
                "words": [list(pair) for pair in each.words],
                "computed": each.made,
                "sum": each.total,
            }
            for each in sums(before, after, found.known)
        ],
        "rows": [
            [row.at, row.before.hex(), row.after.hex()] for row in rows(before[: found.known], after[: found.known])
        ],
        "unfinished": found.unfinished,
    }


def _server(server: Server, candidate: _Candidate, key: bytes, chosen: Server | None, *, by_rule: bool) -> Explained:
    _, (_, port) = ends(key)
    is_chosen = server is chosen
    if is_chosen:
        why = "the connection belongs to it by a rule" if by_rule else candidate.standing
    elif candidate.obstacle is None and by_rule and chosen is not None:
        why = f"the connection belongs to {chosen.name}"
    else:
        why = candidate.obstacle or candidate.standing
    return {
        "name": server.name,
        "address": written(*server.endpoint(int.from_bytes(port, "big"))),
        "weight": candidate.weight,
        "connections": candidate.live,
        "limit": candidate.limit,
        "backup": server.backup,
        "chosen": is_chosen,
        "obstacle": candidate.obstacle,
        "standing": candidate.standing,
        "why": why,
    }


# Rules, as they are written


def _keys(asked: Asked) -> str:
    return ", ".join(f"{_sample(sample)} {_value(value)}" for sample, value in asked.keys[-1:]) or "no key"


def _tested(tested: Tested) -> Explained:
    test = tested.test
    return {
        "sample": _sample(test.sample),
        "value": _value(tested.value),
        "method": test.method,
        "patterns": [_pattern(each) for each in test.patterns],
        "holds": tested.holds,
    }


def _sample(sample: Sample) -> str:
    return ",".join(map(_call, (sample.fact, *sample.converters)))


def _call(call: Call) -> str:
    return f"{call.name}({','.join(call.arguments)})" if call.arguments else call.name


def _value(value: Value | None) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    return plain(value) if isinstance(value, bytes) else str(value)


def _pattern(pattern: Pattern) -> str:
    match pattern:
        case Network(address=address, mask=mask):
            bits = f"{int(mask):b}"
            width = mask.max_prefixlen
            ones = bits.count("1") if int(mask) else 0
            plainly = int(mask) == ((1 << ones) - 1) << (width - ones)
            if not plainly:
                return f"{address}/{mask}"
            return str(address) if ones == width else f"{address}/{ones}"
        case Range(low=low, high=high):
            return str(low) if low == high else f"{'' if low is None else low}:{'' if high is None else high}"
    return pattern
