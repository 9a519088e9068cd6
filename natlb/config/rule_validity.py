"""Whether what rules name is there: backends, servers, and tables that store what is asked of them.

Part of `natlb.config.validity`, which see.
"""

from collections.abc import Iterable
from typing import Final

from natlb.config.drafts import ProxyDraft, Reading, Reference
from natlb.config.rule_model import UseBackend
from natlb.config.suggest import hint

_KEYS: Final = {"ip": ("ip",), "ipv6": ("ip",), "integer": ("int", "bool")}
"""What kinds of samples can be keys of each type of table."""


def check_rules(reading: Reading, proxy: ProxyDraft, proxies: list[ProxyDraft]) -> None:
    """Report what the rules of a section name that is not there."""
    for rule in proxy.use_backends:
        _check_backend(reading, proxy, rule, proxies)
    for server_rule in proxy.use_servers:
        if all(server.name != server_rule.server for server in proxy.servers):
            remedy = hint(server_rule.server, (server.name for server in proxy.servers))
            reading.say(
                "ALERT",
                server_rule.location,
                f"{proxy.noun} '{proxy.name}' : unable to find server '{server_rule.server}' referenced in a "
                f"'use-server' rule{remedy or '.'}",
            )
    for reference in dict.fromkeys(proxy.references):
        text = _missing(proxy, reference, proxies)
        if text is not None:
            reading.say("ALERT", reference.location, text)


def _check_backend(reading: Reading, proxy: ProxyDraft, rule: UseBackend, proxies: list[ProxyDraft]) -> None:
    def alert(text: str) -> None:
        reading.say("ALERT", rule.location, text)

    name = rule.backend
    target = next((each for each in proxies if each.name == name and each.is_a("backend")), None)
    if target is proxy:
        alert(f"Proxy '{proxy.name}': loop detected for use_backend: '{name}'.")
    elif target is None:
        known = [each.name for each in proxies if each.is_a("backend") and each is not proxy]
        remedy = hint(name, known) or f"; add a section 'backend {name}'."
        alert(f"Proxy '{proxy.name}': unable to find required use_backend: '{name}'{remedy}")
    elif target.protocol != proxy.protocol:
        alert(
            f"Proxy '{proxy.name}': use_backend '{name}' is a udp-lb section (declared at {target.location}); it takes "
            "the datagrams of its own 'dgram-bind', and no TCP connections. Name a backend."
        )


def _missing(proxy: ProxyDraft, reference: Reference, proxies: Iterable[ProxyDraft]) -> str | None:
    named = [each for each in proxies if each.name == reference.name]
    where = f"referenced in arg 1 of ACL keyword '{reference.word.partition('(')[0]}' in proxy '{proxy.name}'"
    match reference.what:
        case "frontend" | "backend" as side:
            if any(each.is_a(side) for each in named):
                return None
            if reference.name == proxy.name and f"({reference.name})" not in reference.word:
                return f"proxy '{proxy.name}', {where}, has not {side} capability."
            known = [each.name for each in proxies if each.is_a(side)]
            return f"unable to find {side} '{reference.name}' {where}{hint(reference.name, known) or '.'}"
        case "server":
            backend, _, name = reference.name.rpartition("/")
            owners = [each for each in proxies if each.name == backend and each.is_a("backend")]
            if any(server.name == name for owner in owners for server in owner.servers):
                return None
            known = [server.name for owner in owners for server in owner.servers]
            return f"unable to find server '{name}' in proxy '{backend}', {where}{hint(name, known) or '.'}"
    return _missing_table(proxy, reference, where, named)


def _missing_table(proxy: ProxyDraft, reference: Reference, where: str, named: list[ProxyDraft]) -> str | None:
    if reference.name == proxy.name and reference.what in ("key", "stick"):
        named = [proxy]  # and not the frontend or backend of the same name
    table = next((each.stick_table for each in named if each.stick_table is not None), None)
    if table is None:
        remedy = f"; add a 'stick-table' line to section '{reference.name}'."
        if reference.what == "key":
            return (
                f"Proxy '{proxy.name}': unable to find table '{reference.name}' referenced by {reference.word}{remedy}"
            )
        if reference.what == "stick":
            return (
                f"Proxy '{proxy.name}': unable to find stick-table '{reference.name}'; a 'stick' rule needs one{remedy}"
            )
        return f"unable to find table '{reference.name}' {where}{remedy}"
    if reference.what in ("key", "stick"):
        if reference.needs not in _KEYS[table.type]:
            return (
                f"Proxy '{proxy.name}': '{reference.word}' cannot use table '{reference.name}': keys of type "
                f"'{table.type}' are not made of {reference.needs}."
            )
    elif reference.needs and reference.needs not in dict(table.stored):
        period = "(<period>)" if reference.needs.endswith("_rate") else ""
        return (
            f"table '{reference.name}' does not store what '{reference.word}' asks for; add 'store "
            f"{reference.needs}{period}' to it (at {table.location})."
        )
    return None
