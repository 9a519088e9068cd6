"""From the rules of a configuration to the rules that the core asks.

The configuration keeps rules as they were written, as data. Here they become functions, once, each with what it names
in hand: the service, the pool, the server, the table. The vocabulary is that of `natlb.config.samples`.
"""

from collections.abc import Callable, Mapping
from ipaddress import ip_address
from operator import add, and_, floordiv, mod, mul, or_, sub, xor
from typing import Final

from natlb.config.model import Backend, Config, Frontend
from natlb.config.rule_model import (
    Call,
    Condition,
    ConnectionRule,
    Network,
    Range,
    Sample,
    StickRule,
    Term,
    Test,
    UseBackend,
    UseServer,
)
from natlb.config.rule_model import StickTable as WrittenTable
from natlb.config.samples import MOST_SLOTS, STORED
from natlb.core import conditions, facts
from natlb.core.pool import Pool, Server
from natlb.core.rules import Action, BackendRules, Decision, FrontendRules, Sticking, count_event, track
from natlb.core.service import Service
from natlb.core.stick import StickTable

Rule = ConnectionRule | UseBackend | UseServer | StickRule

_PLAIN: Final[Mapping[str, conditions.Sample]] = {
    "always_true": facts.constant(True),
    "always_false": facts.constant(False),
    "src": facts.source,
    "dst": facts.destination,
    "src_port": facts.source_port,
    "dst_port": facts.destination_port,
    "src_is_local": facts.source_is_local,
    "dst_is_local": facts.destination_is_local,
    "fe_id": facts.frontend_id,
    "fe_name": facts.frontend_name,
}
_OF_SERVICES: Final[Mapping[str, Callable[[Service], conditions.Sample]]] = {
    "fe_conn": facts.frontend_connections,
    "fe_sess_rate": facts.frontend_session_rate,
}
_OF_POOLS: Final[Mapping[str, Callable[[Pool], conditions.Sample]]] = {
    "be_conn": facts.backend_connections,
    "be_sess_rate": facts.backend_session_rate,
    "nbsrv": facts.usable_servers,
    "queue": facts.queued,
    "avg_queue": facts.average_queue,
    "connslots": facts.free_places,
}
_OF_SERVERS: Final[Mapping[str, Callable[[Server], conditions.Sample]]] = {
    "srv_is_up": facts.server_is_up,
    "srv_conn": facts.server_connections,
    "srv_queue": facts.server_queue,
}
_OPERATIONS: Final[Mapping[str, Callable[[int, int], int]]] = {
    "add": add,
    "sub": sub,
    "mul": mul,
    "div": floordiv,
    "mod": mod,
    "and": and_,
    "or": or_,
    "xor": xor,
}
_TRUTHS: Final[Mapping[str, Callable[[int], bool]]] = {
    "odd": lambda number: number % 2 == 1,
    "even": lambda number: number % 2 == 0,
    "bool": bool,
    "not": lambda number: not number,
}
_COMPARISONS: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "str": str.__eq__,
    "beg": str.startswith,
    "end": str.endswith,
    "sub": str.__contains__,
}


class Policy:
    """The rules of one configuration, made for the services and pools that run it."""

    def __init__(self, config: Config, services: Mapping[str, Service], pools: Mapping[str, Pool]) -> None:
        """Make the stick tables; `services` are those of enabled frontends."""
        self._config = config
        self._services = services
        self._pools = pools
        sections: list[Frontend | Backend] = [*config.frontends, *config.backends]
        self.tables: Final[dict[str, StickTable]] = {
            section.name: _table(section.name, section.stick_table) for section in sections if section.stick_table
        }
        """By the name of their section."""
        self.named: Final[set[Server]] = set()
        """The servers that rules made so far name: they have to stay."""

    def of_frontend(self, frontend: Frontend) -> FrontendRules:
        """Return the rules of a frontend."""
        return FrontendRules(
            tuple((self._rule(rule), self._action(rule)) for rule in frontend.connection_rules),
            tuple((self._rule(rule), self._pool(rule.backend)) for rule in frontend.use_backends),
        )

    def of_backend(self, backend: Backend) -> BackendRules | None:
        """Return the rules of a backend; None if it has none."""
        if not backend.use_servers and not backend.stick_rules:
            return None
        self.named.update(self._pools[backend.name].servers[rule.server] for rule in backend.use_servers)
        return BackendRules(
            tuple((self._rule(rule), rule.server) for rule in backend.use_servers),
            tuple(
                Sticking(
                    self.tables[rule.table],
                    self._sample(rule.sample),
                    self._rule(rule),
                    rule.matches,
                    rule.stores,
                )
                for rule in backend.stick_rules
            ),
            backend.persist,
            tuple(map(self._forced, backend.forced_persistence)),
        )

    def _pool(self, name: str) -> Pool | None:
        backend = self._config.backend(name)
        return None if backend is None or backend.disabled else self._pools[name]

    def _action(self, rule: ConnectionRule) -> Decision | Action:
        if rule.action == "track" and rule.sample is not None and rule.table is not None:
            return track(rule.slot, self.tables[rule.table], self._sample(rule.sample))
        if rule.action == "sc-inc-gpc0":
            return count_event(rule.slot)
        return Decision(rule.action)

    def _rule(self, rule: Rule) -> conditions.Condition:
        """Return the condition of a rule."""
        return self._condition(rule.condition)

    def _forced(self, condition: Condition) -> conditions.Condition:
        """Return the condition of a `force-persist`."""
        return self._condition(condition)

    def _condition(self, condition: Condition | None) -> conditions.Condition:
        if condition is None:
            return conditions.always
        made = conditions.any_of(conditions.all_of(map(self._term, terms)) for terms in condition.choices)
        return conditions.unless(made) if condition.negated else made

    def _term(self, term: Term) -> conditions.Condition:
        made = conditions.any_of(map(self._test, term.tests))
        return conditions.unless(made) if term.negated else made

    def _test(self, test: Test) -> conditions.Condition:
        return conditions.ask(self._sample(test.sample), _match(test))

    def _sample(self, sample: Sample) -> conditions.Sample:
        made = self._fact(sample.fact)
        for converter in sample.converters:
            made = self._converted(made, converter)
        return made

    def _fact(self, fact: Call) -> conditions.Sample:
        name = fact.name
        if name in _PLAIN:
            return _PLAIN[name]
        if name in _OF_SERVICES:
            service = self._services.get(fact.arguments[0])
            return facts.constant(0) if service is None else _OF_SERVICES[name](service)
        if name in _OF_POOLS:
            return _OF_POOLS[name](self._pools[fact.arguments[0]])
        if name in _OF_SERVERS:
            backend, name_of_server = fact.arguments
            server = self._pools[backend].servers[name_of_server]
            self.named.add(server)
            return _OF_SERVERS[name](server)
        if name == "table_cnt":
            return facts.entries_of_table(self.tables[fact.arguments[0]])
        return self._fact_of_key(fact)

    def _fact_of_key(self, fact: Call) -> conditions.Sample:
        """`src_conn_rate(t)`, `sc0_conn_rate`, `sc_conn_rate(0,t)`, and so on."""
        family, _, what = fact.name.partition("_")
        arguments = fact.arguments
        if family == "src":
            table = self.tables[arguments[0]]
            if what == "inc_gpc0":
                return facts.event_counted(table, facts.source)
            if what == "clr_gpc0":
                return facts.event_count_cleared(table, facts.source)
            return facts.of_key(table, facts.source, STORED[what])
        if family == "sc":
            slot, arguments = int(arguments[0]), arguments[1:]
        else:
            slot = int(family.removeprefix("sc"))
        if not 0 <= slot < MOST_SLOTS:
            raise AssertionError(f"no such slot: {fact}")
        if what == "tracked":
            return facts.is_tracked(slot)
        return facts.of_tracked(slot, self.tables[arguments[0]] if arguments else None, STORED[what])

    def _converted(self, sample: conditions.Sample, converter: Call) -> conditions.Sample:
        name, arguments = converter.name, converter.arguments
        if name == "ipmask":
            masks = [_packed(argument) for argument in arguments]
            return facts.mask_address(sample, masks[0], masks[1] if len(masks) > 1 else None)
        if name == "in_table":
            return facts.is_known(self.tables[arguments[0]], sample)
        if name in _TRUTHS:
            return facts.compute(sample, _TRUTHS[name])
        operation, number = _OPERATIONS[name], int(arguments[0])
        return facts.compute(sample, lambda value: operation(value, number))


def _match(test: Test) -> conditions.Match:
    if test.method == "found":
        return conditions.is_found
    if test.method == "bool":
        return conditions.is_true
    if test.method == "ip":
        networks = [each for each in test.patterns if isinstance(each, Network)]
        return conditions.in_networks((each.address.packed, each.mask.packed) for each in networks)
    if test.method == "int":
        ranges = [each for each in test.patterns if isinstance(each, Range)]
        return conditions.in_ranges((each.low, each.high) for each in ranges)
    texts = [each for each in test.patterns if isinstance(each, str)]
    return conditions.is_text(texts, _COMPARISONS[test.method], any_case=test.any_case)


def _table(name: str, written: WrittenTable) -> StickTable:
    return StickTable(
        name, written.type, written.size, expire=written.expire, purge=written.purge, stored=dict(written.stored)
    )


def _packed(address: str) -> bytes:
    return ip_address(address).packed
