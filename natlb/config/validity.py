"""What sections say of one another: the errors and the warnings that no single line could show.

A line can be right and the configuration wrong: two servers with one name, a backend that nobody wrote, two frontends
on one port. Those are errors, and are found even if single lines were wrong before. Then there is what can be done, but
hardly as it was meant: a timeout left out, an address of a family that none of the servers speaks. Those are warnings,
and are given only when there are no errors, since a line that was left out would give false ones.
"""

from collections.abc import Iterable, Iterator
from ipaddress import IPv6Address
from typing import Final

from natlb.config import check_validity, defaults
from natlb.config.drafts import ProxyDraft, Reading, ServerDraft
from natlb.config.model import Address, Bind, Location, Protocol, Source
from natlb.config.rule_validity import check_rules
from natlb.config.suggest import hint
from natlb.config.times import format_time

_FINITE: Final = (
    f"natlb's own are finite, unlike HAProxy's: {format_time(defaults.IDLE)} for an idle connection, "
    f"{format_time(defaults.TRANSITORY)} for one not yet",
    "established (RFC 5382, REQ-5).",
)
_FINITE_FLOWS: Final = (
    f"natlb's own are finite, unlike HAProxy's: {format_time(defaults.FLOW_BOTH_WAYS)} for a flow that both sides have "
    "been seen of,",
    f"{format_time(defaults.FLOW_ONE_WAY)} for one that only one side has (RFC 4787, REQ-5).",
)


def check(reading: Reading) -> None:
    """Report the errors between sections, then, if there are none at all, the warnings."""
    proxies = [proxy for proxy in reading.proxies if proxy.registered]
    for proxy in proxies:
        _check_servers(reading, proxy)
        if not proxy.disabled:
            _check_default_backend(reading, proxy, proxies)
            check_rules(reading, proxy, proxies)
        check_validity.check_own_request(reading, proxy)
    check_validity.check_servers(reading, proxies)
    _check_binds(reading, proxies)
    if reading.alerts:
        return
    for proxy in [*proxies, *reading.defaults]:
        check_validity.warn_of_unused_rules(reading, proxy)
    for proxy in proxies:
        if not proxy.disabled:
            check_validity.warn_of_short_silences(reading, proxy)
            _warn_of_gaps(reading, proxy)
            _warn_of_idle_sources(reading, proxy)
    told: set[tuple[Location, Location]] = set()
    for front, back in _routes(proxies):
        _warn_of_idle_timers(reading, front, back, told)
        _warn_of_families(reading, front, back)
        _warn_of_loopback(reading, front, back, told)
    _warn_of_unreached_servers(reading, proxies)


def _check_servers(reading: Reading, proxy: ProxyDraft) -> None:
    seen: dict[str, ServerDraft] = {}
    for server in proxy.servers:
        twin = seen.setdefault(server.name, server)
        if twin is not server:
            reading.say(
                "ALERT",
                server.location,
                f"{proxy.noun} '{proxy.name}', another server named '{server.name}' was already defined at line "
                f"{twin.location.line}, please use distinct names.",
            )


def _check_default_backend(reading: Reading, proxy: ProxyDraft, proxies: list[ProxyDraft]) -> None:
    if proxy.default_backend is None:
        return
    name, location = proxy.default_backend  # a backend's own means nothing, and HAProxy checks it all the same
    target = _backend(proxies, name)
    if target is proxy:
        reading.say("ALERT", location, f"Proxy '{proxy.name}': loop detected for default_backend: '{name}'.")
    elif target is None:
        known = [each.name for each in proxies if each.is_a("backend") and each is not proxy]
        remedy = hint(name, known) or f"; add a section 'backend {name}'."
        text = f"Proxy '{proxy.name}': unable to find required default_backend: '{name}'{remedy}"
        reading.say("ALERT", location, text)
    elif target.protocol != proxy.protocol:
        reading.say(
            "ALERT",
            location,
            f"Proxy '{proxy.name}': default_backend '{name}' is a udp-lb section (declared at {target.location}); it "
            "takes the datagrams of its own 'dgram-bind', and no TCP connections. Name a backend.",
        )


def _check_binds(reading: Reading, proxies: list[ProxyDraft]) -> None:
    taken: dict[tuple[Protocol, Address, int], tuple[ProxyDraft, Bind]] = {}
    told: set[tuple[Location, Location]] = set()
    for proxy in proxies:
        if proxy.disabled or not proxy.is_a("frontend"):
            continue
        for bind in proxy.binds:
            other, twin = taken.setdefault((proxy.protocol, bind.address, bind.port), (proxy, bind))
            lines = (twin.location, bind.location)
            if twin is bind or lines in told:
                continue
            told.add(lines)
            reading.say(
                "ALERT",
                bind.location,
                f"{_bind(proxy)} : {_endpoint(bind)} of {proxy.noun} '{proxy.name}' is already bound by {other.noun} "
                f"'{other.name}' at {twin.location}.",
            )
    for front, back in _routes(proxies):
        _check_offsets(reading, front, back)


def _check_offsets(reading: Reading, front: ProxyDraft, back: ProxyDraft) -> None:
    for server in back.servers:
        target = server.target
        if target is None or target.port is not None or not target.offset:
            continue
        for bind in front.binds:
            if not 1 <= bind.port + target.offset <= 65535:
                reading.say(
                    "ALERT",
                    server.location,
                    f"'server {back.name}/{server.name}' : port offset {target.offset:+d} leads from "
                    f"{_endpoint(bind)} (bound at {bind.location}) to no port.",
                    parsing=False,
                )
                break


def _warn_of_gaps(reading: Reading, proxy: ProxyDraft) -> None:
    def warn(text: str, *details: str) -> None:
        reading.say("WARNING", proxy.location, text, details=details)

    front, back = proxy.is_a("frontend"), proxy.is_a("backend")
    if front and not proxy.binds:
        otherwise = "" if proxy.protocol == "udp" else " Please declare it as a backend if this was intended."
        warn(f"{proxy.noun} '{proxy.name}' has no {_bind(proxy)} directive.{otherwise}")
    unset = _unset_timeouts(proxy)
    if unset:
        names = ", ".join(f"'timeout {name}'" for name in unset)
        first, second = _FINITE_FLOWS if proxy.protocol == "udp" else _FINITE
        warn(f"missing timeouts for {proxy.noun} '{proxy.name}'.", first, f"{second} To choose, set {names}.")
    if front and not back and proxy.default_backend is None and not proxy.use_backends:
        warn(f"frontend '{proxy.name}' has no 'default_backend'; every connection to it will be refused.")
    is_table = proxy.stick_table is not None and not front  # a backend may be there for its table alone
    if back and not proxy.servers and not is_table and not (front and proxy.default_backend is not None):
        warn(f"{proxy.noun} '{proxy.name}' has no 'server'; every {_unit(proxy)} sent to it will be refused.")
    hashes = proxy.hashing.consistent and proxy.balance != "random"
    if back and proxy.hashing.balance_factor and proxy.balance in ("source", "hash", "random") and not hashes:
        warn("'hash-balance-factor' has no effect here: it bounds 'balance source|hash' with 'hash-type consistent'.")
    named = [(rule.backend, rule.location) for rule in proxy.use_backends if front]
    for name, location in [*([proxy.default_backend] if front and proxy.default_backend is not None else []), *named]:
        target = _backend(reading.proxies, name)
        if target is not None and target.disabled:
            which = "every connection" if not proxy.use_backends else "connections to it"
            text = f"{proxy.noun} '{proxy.name}' : backend '{name}' is disabled; {which} will be refused."
            reading.say("WARNING", location, text)


def _unset_timeouts(proxy: ProxyDraft) -> list[str]:
    """The timeouts that HAProxy would warn about, or those that a udp-lb has."""
    unset = []
    if proxy.is_a("frontend") and proxy.seconds("client") is None:
        unset.append("client")
    if proxy.is_a("backend") and proxy.servers:
        if proxy.seconds("connect") is None and proxy.protocol == "tcp":
            unset.append("connect")
        if proxy.seconds("server") is None and proxy.seconds("tunnel") is None:
            unset.append("server")
    return unset


def _warn_of_idle_timers(
    reading: Reading, front: ProxyDraft, back: ProxyDraft, told: set[tuple[Location, Location]]
) -> None:
    client, server = front.timers.get("client"), back.timers.get("server")
    if client is None or server is None or client.seconds is None or server.seconds is None:
        return
    lines = (client.location, server.location)
    if client.seconds == server.seconds or back.seconds("tunnel") is not None or lines in told:
        return
    told.add(lines)
    smaller = format_time(min(client.seconds, server.seconds))
    if front.protocol == "udp":
        why = (
            f"a UDP flow that both sides have been seen of has one idle timer; natlb uses the smaller, {smaller}, and "
            f"{format_time(server.seconds)} while the server has not answered"
        )
    else:
        why = f"one TCP connection has one idle timer; natlb uses the smaller, {smaller}"
    reading.say(
        "WARNING",
        client.location,
        f"'timeout client' ({format_time(client.seconds)}, {front.noun} '{front.name}') and 'timeout server' "
        f"({format_time(server.seconds)}, {back.noun} '{back.name}', {server.location}) differ, but {why}. "
        "Set both to the same.",
    )


def _warn_of_families(reading: Reading, front: ProxyDraft, back: ProxyDraft) -> None:
    spoken = {server.target.address.version for server in back.servers if server.target is not None}
    told: set[int] = set()
    for bind in front.binds:
        version = bind.address.version
        if not spoken or version in spoken or version in told:
            continue
        told.add(version)
        reading.say(
            "WARNING",
            bind.location,
            f"{_bind(front)} : {_endpoint(bind)} is IPv{version}, and {back.noun} '{back.name}' has no IPv{version} "
            "server; addresses of one family cannot be translated into the other, so every such "
            f"{_unit(front)} will be refused.",
        )


def _warn_of_loopback(
    reading: Reading, front: ProxyDraft, back: ProxyDraft, told: set[tuple[Location, Location]]
) -> None:
    """Warn of servers that nothing from another machine gets to: the kernel lets none through to ::1."""
    bind = next((bind for bind in front.binds if bind.address.version == 6 and not bind.address.is_loopback), None)
    for server in back.servers:
        if bind is None or server.target is None or server.target.address.version != 6:
            continue
        lines = (bind.location, server.location)
        if server.target.address.is_loopback and lines not in told:
            told.add(lines)
            reading.say(
                "WARNING",
                server.location,
                f"'server {back.name}/{server.name}' : IPv6 leads nothing from another machine to "
                f"{server.target.address}, unlike IPv4 to 127.0.0.1; every {_unit(front)} from there to "
                f"{_endpoint(bind)} (bound at {bind.location}) will be refused. Have the server listen at another "
                "address of this machine, and write that.",
                parsing=False,
            )


def _warn_of_idle_sources(reading: Reading, proxy: ProxyDraft) -> None:
    spoken: dict[Source, set[int]] = {}
    for server in proxy.servers if proxy.is_a("backend") else ():
        own = server.settings.sources
        for source in (own if own is not None else proxy.sources) or ():
            spoken.setdefault(source, set())
            if server.target is not None:
                spoken[source].add(server.target.address.version)
    for source, versions in spoken.items():
        version = source.address.version
        if version not in versions:
            reading.say(
                "WARNING",
                source.location,
                f"'source' : {source.address} is IPv{version}, and no server of {proxy.noun} '{proxy.name}' that it is "
                "for is; addresses of one family cannot be translated into the other, so it will not be used.",
            )


def _warn_of_unreached_servers(reading: Reading, proxies: list[ProxyDraft]) -> None:
    reached: dict[str, set[int]] = {}
    for front, back in _routes(proxies):
        reached.setdefault(back.name, set()).update(bind.address.version for bind in front.binds)
    for proxy in proxies:
        versions = reached.get(proxy.name) if proxy.is_a("backend") else None
        if not versions:
            continue
        spoken = {server.target.address.version for server in proxy.servers if server.target is not None}
        if not spoken & versions:
            continue  # said already, of the `bind` lines
        for server in proxy.servers:
            if server.target is not None and server.target.address.version not in versions:
                version = server.target.address.version
                reading.say(
                    "WARNING",
                    server.location,
                    f"'server {proxy.name}/{server.name}' : no {_bind(proxy)} that leads here is IPv{version}, so it "
                    f"will get no {_unit(proxy)}.",
                    parsing=False,
                )


def _routes(proxies: list[ProxyDraft]) -> Iterator[tuple[ProxyDraft, ProxyDraft]]:
    """Each enabled frontend with each enabled backend that its connections go to."""
    for proxy in proxies:
        if proxy.disabled or not proxy.is_a("frontend"):
            continue
        reached: list[ProxyDraft] = []
        if proxy.default_backend is not None:
            targets = [_backend(proxies, proxy.default_backend[0])]
        else:
            targets = [proxy if proxy.is_a("backend") else None]
        for target in (*targets, *(_backend(proxies, rule.backend) for rule in proxy.use_backends)):
            if target is not None and not target.disabled and all(target is not each for each in reached):
                reached.append(target)
        yield from ((proxy, back) for back in reached)


def _backend(proxies: Iterable[ProxyDraft], name: str) -> ProxyDraft | None:
    return next((each for each in proxies if each.registered and each.name == name and each.is_a("backend")), None)


def _bind(proxy: ProxyDraft) -> str:
    """The keyword for addresses, quoted, of a section and of those that lead to it."""
    return "'dgram-bind'" if proxy.protocol == "udp" else "'bind'"


def _unit(proxy: ProxyDraft) -> str:
    """What is balanced."""
    return "datagram" if proxy.protocol == "udp" else "connection"


def _endpoint(bind: Bind) -> str:
    host = f"[{bind.address}]" if isinstance(bind.address, IPv6Address) else str(bind.address)
    return f"{host}:{bind.port}"
