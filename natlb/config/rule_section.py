"""The rules of frontends and backends: who is let in, and where connections go.

    tcp-request connection reject if { src -f blocked.lst }
    use_backend local if { src 10.0.0.0/8 }
    use-server canary if { src 10.0.0.99 }
    rate-limit sessions 100

What a rule names, a backend, a server or a table, may stand further down; that it is there is checked at the end.
"""

import re
from collections.abc import Sequence
from typing import Final, Literal

from natlb.config.acl import condition_of
from natlb.config.drafts import Reading, Reference
from natlb.config.entries import CONTENT, ENDS_TCP, VARIABLES, at_most
from natlb.config.integers import parse_integer
from natlb.config.lexer import Line
from natlb.config.rule_model import Condition, ConnectionRule, UseBackend, UseServer
from natlb.config.samples import MOST_SLOTS, read_sample
from natlb.errors import ConfigError

_CONDITIONAL: Final = ("if", "unless")

_NO_SUCH_HEADER: Final = "changes what natlb's own translation depends on; natlb changes addresses and ports alone."

_OF_THE_FIREWALL: Final = (
    "is about packets on their way out; natlb leaves that to the firewall: 'iptables -t mangle' with '-j {}'."
)
_ONE_COUNTER: Final = "is about what natlb's stick tables do not have: there is one general-purpose counter, 'gpc0'."

_REFUSED_ACTIONS: Final = {
    "capture": CONTENT,
    "expect-proxy": ENDS_TCP,
    "expect-netscaler-cip": ENDS_TCP,
    "set-dst": _NO_SUCH_HEADER,
    "set-dst-port": _NO_SUCH_HEADER,
    "set-src": "changes what servers see of a client; natlb has 'source' for that.",
    "set-src-port": "changes what servers see of a client; natlb has 'source' for that.",
    "set-mark": _OF_THE_FIREWALL.format("MARK"),
    "set-tos": _OF_THE_FIREWALL.format("DSCP"),
    "sc-inc-gpc": _ONE_COUNTER,
    "sc-inc-gpc1": _ONE_COUNTER,
    "sc-set-gpt": _ONE_COUNTER,
    "sc-set-gpt0": _ONE_COUNTER,
    "set-var": VARIABLES,
    "set-var-fmt": VARIABLES,
    "unset-var": VARIABLES,
}
"""The other actions of HAProxy, and why natlb has not got them."""

_DECISIONS: Final[dict[str, Literal["accept", "reject", "silent-drop"]]] = {
    "accept": "accept",
    "reject": "reject",
    "silent-drop": "silent-drop",
}


def use_backend(reading: Reading, line: Line) -> None:
    """`use_backend <name> [if|unless <condition>]`."""
    name, rest = line.word(1), line.words[2:]
    if not name:
        raise ConfigError("'use_backend' expects a backend name.")
    if "%[" in name:
        raise ConfigError(
            f"'use_backend' takes the name of a backend (got '{name}'); write a line for each, with 'if'."
        )
    if rest and rest[0] not in _CONDITIONAL:
        raise ConfigError(f"unexpected keyword '{rest[0]}' after switching rule, only 'if' and 'unless' are allowed.")
    doing = "error detected while parsing switching rule"
    condition = condition_of(reading, rest, line.location, doing, "use_backend") if rest else None
    reading.section.use_backends.append(UseBackend(name, condition, line.location))


def use_server(reading: Reading, line: Line) -> None:
    """`use-server <name> if|unless <condition>`."""
    name, rest = line.word(1), line.words[2:]
    if not name:
        raise ConfigError("'use-server' expects a server name.")
    if not rest or rest[0] not in _CONDITIONAL:
        raise ConfigError("'use-server' requires either 'if' or 'unless' followed by a condition.")
    doing = "error detected while parsing switching rule"
    condition = condition_of(reading, rest, line.location, doing, "use-server")
    reading.section.use_servers.append(UseServer(name, condition, line.location))


def force_persist(reading: Reading, line: Line) -> None:
    """`force-persist if|unless <condition>`."""
    if line.word(1) not in _CONDITIONAL:
        raise ConfigError("'force-persist' requires either 'if' or 'unless' followed by a condition.")
    doing = "error detected while parsing a 'force-persist' rule"
    condition = condition_of(reading, line.words[1:], line.location, doing, "force-persist")
    reading.section.forced_persistence.append(condition)


def connection(reading: Reading, line: Line) -> None:
    """`tcp-request connection <action> [if|unless <condition>]`."""
    proxy, action = reading.section, line.word(2)
    if not proxy.is_a("frontend"):
        raise ConfigError(f"tcp-request connection is not allowed because {proxy.noun} {proxy.name} is not a frontend")
    name = action.partition("(")[0]
    if name in _REFUSED_ACTIONS:
        raise ConfigError(f"'tcp-request connection {name}' {_REFUSED_ACTIONS[name]}")
    if action in _DECISIONS:
        condition = _condition(reading, line, action, line.words[3:])
        proxy.connection_rules.append(ConnectionRule(_DECISIONS[action], condition, line.location))
    elif re.fullmatch(r"track-sc[0-9]+", action, re.ASCII):
        proxy.connection_rules.append(_track(reading, line, action))
    elif match := re.fullmatch(r"sc-inc-gpc0\(([^()]*)\)", action):
        slot = parse_integer(match[1], "sc-inc-gpc0", 0, MOST_SLOTS - 1)
        condition = _condition(reading, line, action, line.words[3:])
        proxy.connection_rules.append(ConnectionRule("sc-inc-gpc0", condition, line.location, slot=slot))
    else:
        raise ConfigError(
            "'tcp-request connection' expects 'accept', 'reject', 'silent-drop', 'track-sc0' ... "
            f"'track-sc{MOST_SLOTS - 1}' or 'sc-inc-gpc0(*)' in {proxy.noun} '{proxy.name}' (got '{action}')."
        )


def rate_limit(reading: Reading, line: Line) -> None:
    """`rate-limit sessions <number>`."""
    proxy = reading.section
    if line.word(1) != "sessions":
        raise ConfigError(f"'rate-limit' only supports 'sessions' (got '{line.word(1)}')")
    if not line.word(2):
        raise ConfigError("'rate-limit sessions' expects expects an integer value (in sessions/second)")
    at_most(1, "rate-limit sessions", line.words[2:])
    proxy.rate_limit = parse_integer(line.word(2), "rate-limit sessions") or None


def _track(reading: Reading, line: Line, action: str) -> ConnectionRule:
    proxy, rest = reading.section, line.words[3:]
    slot = int(action.removeprefix("track-sc"))
    if slot >= MOST_SLOTS:
        raise ConfigError(
            f"'tcp-request connection {action}' : {slot} track-sc number exceeding {MOST_SLOTS - 1} "
            "(MAX_SESS_STKCTR-1) value"
        )
    if not rest or rest[0] in _CONDITIONAL:
        raise ConfigError(f"'tcp-request connection {action}' : missing fetch method")
    try:
        sample = read_sample(reading, rest[0], line.location)
    except ConfigError as error:
        raise ConfigError(f"'tcp-request connection {action}' : {error}") from error
    rest = rest[1:]
    table = proxy.name
    if rest[:1] == ("table",):
        table, rest = "".join(rest[1:2]), rest[2:]
        if not table:
            raise ConfigError(f"'tcp-request connection {action}' : missing table name")
    proxy.references.append(Reference("key", table, line.location, action, sample.kind))
    condition = _condition(reading, line, action, rest)
    return ConnectionRule("track", condition, line.location, slot=slot, sample=sample, table=table)


def _condition(reading: Reading, line: Line, action: str, words: Sequence[str]) -> Condition | None:
    proxy = reading.section
    if not words:
        return None
    rule = f"'tcp-request connection {action}'"
    where = f"in {proxy.noun} '{proxy.name}'"
    if words[0] not in _CONDITIONAL:
        raise ConfigError(f"{rule} only accepts 'if' or 'unless', {where} (got '{words[0]}')")
    doing = f"{rule} : error detected {where} while parsing '{words[0]}' condition"
    return condition_of(reading, words, line.location, doing, "tcp-request connection")
