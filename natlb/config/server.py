"""The `server`, `server-template` and `default-server` lines: where connections go, and on what terms.

`default-server` sets what the servers below it in the section start with; a `server` line goes on from there. Both take
the same parameters, but for those that make sense for one server only. A `server-template` line is several servers that
differ by the number in their names, and by their ids: the one that it gives is the first one's.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, get_args

from natlb.config import source
from natlb.config.addresses import AddressReader
from natlb.config.drafts import ProxyDraft, Reading, ServerDraft, ServerSettings
from natlb.config.entries import (
    CONTENT,
    ENDS_TCP,
    FOREIGN,
    HTTP,
    NO_RESOLVERS,
    NO_SOCKETS,
    TCP_ONLY,
    TLS,
    Keyword,
    Warn,
    nothing,
    refuse,
    time,
)
from natlb.config.integers import parse_integer
from natlb.config.lexer import Line
from natlb.config.model import Location, OnError
from natlb.config.parameters import read_parameters
from natlb.config.times import parse_time
from natlb.errors import ConfigError

MOST_WEIGHT: Final = 256
MOST_TEMPLATE_SERVERS: Final = 4096
"""Servers that one `server-template` makes at most."""

_TEMPLATE_RANGE: Final = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", re.ASCII)

_FORBIDDEN_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_.:-]", re.ASCII)
_FORBIDDEN_IN_PREFIXES: Final = re.compile(r"[^A-Za-z0-9_.-]", re.ASCII)


def forbidden_character(name: str) -> str | None:
    """The first character of `name` that no proxy or server may have in its name."""
    match = _FORBIDDEN_IN_NAMES.search(name)
    return match[0] if match else None


@dataclass(frozen=True, slots=True)
class Setting:
    """A parameter at work: what it sets, the words that belong to it, and what may help to read those."""

    settings: ServerSettings
    words: tuple[str, ...]
    addresses: AddressReader
    siblings: tuple[ServerDraft, ...]
    location: Location

    @property
    def value(self) -> str:
        """The word after the parameter; "" if there is none."""
        return self.words[0] if self.words else ""


ServerHandler = Callable[[Setting], None]


def _flag(attribute: str, value: bool) -> ServerHandler:
    def handler(setting: Setting) -> None:
        setattr(setting.settings, attribute, value)

    return handler


def _number(attribute: str, name: str, lowest: int, highest: int = 2**31 - 1) -> ServerHandler:
    def handler(setting: Setting) -> None:
        setattr(setting.settings, attribute, parse_integer(setting.value, name, lowest, highest))

    return handler


def _interval(name: str) -> ServerHandler:
    def handler(setting: Setting) -> None:
        seconds = parse_time(setting.value, name)
        if not seconds:
            raise ConfigError(f"invalid value {setting.value} for argument '{name}'; it has to be > 0.")
        setattr(setting.settings, name, seconds)

    return handler


def _init_addr(setting: Setting) -> None:
    methods = setting.value.split(",")
    for method in methods:
        if method not in ("last", "libc", "none") and _is_no_address(method):
            raise ConfigError(
                f"'init-addr' : unknown init-addr method '{method}', supported methods are 'libc', 'last', 'none'."
            )
    if "libc" not in methods or not {"last", "libc"}.issuperset(methods):
        raise ConfigError(
            "'init-addr' : natlb starts with an address for each server, which 'libc' finds, or not at all. Write the "
            "address, or add the server with 'add server' of the Runtime API."
        )


def _is_no_address(word: str) -> bool:
    try:
        ip_address(word)
    except ValueError:
        return True
    return False


def _slowstart(setting: Setting) -> None:
    setting.settings.slowstart = parse_time(setting.value, "slowstart") or 0.0


def _addr(setting: Setting) -> None:
    if not setting.value:
        raise ConfigError("'addr' expects <ipv4|ipv6> as argument.")
    try:
        setting.settings.address = setting.addresses.host(setting.value)
    except ConfigError as error:
        raise ConfigError(f"'addr' : {error}") from error


def _on_marked_down(setting: Setting) -> None:
    if setting.value != "shutdown-sessions":
        raise ConfigError(f"'on-marked-down' expects 'shutdown-sessions' but got '{setting.value}'.")
    setting.settings.shutdown_on_down = True


def _on_marked_up(setting: Setting) -> None:
    if setting.value != "shutdown-backup-sessions":
        raise ConfigError(f"'on-marked-up' expects 'shutdown-backup-sessions' but got '{setting.value}'.")
    setting.settings.shutdown_backups_on_up = True


def _track(setting: Setting) -> None:
    if not setting.value:
        raise ConfigError("'track' expects [<proxy>/]<server> as argument.")
    setting.settings.track = setting.value


def _observe(setting: Setting) -> None:
    match setting.value:
        case "none" | "layer4":
            setting.settings.observed = setting.value == "layer4"
        case "layer7":
            raise ConfigError("'observe layer7' reads HTTP messages; natlb never reads them: write 'observe layer4'.")
        case "":
            raise ConfigError("'observe' expects <mode> as argument.")
        case _:
            raise ConfigError(f"'observe' expects one of 'none', 'layer4', 'layer7' but got '{setting.value}'.")


def _error_limit(setting: Setting) -> None:
    if not setting.value:
        raise ConfigError("'error-limit' expects an integer argument.")
    setting.settings.error_limit = parse_integer(setting.value, "error-limit", 1)


def _on_error(setting: Setting) -> None:
    for known in get_args(OnError):
        if setting.value == known:
            setting.settings.on_error = known
            return
    raise ConfigError(
        f"'on-error' expects one of 'fastinter', 'fail-check', 'sudden-death' or 'mark-down' but got '{setting.value}'."
    )


def _source(setting: Setting) -> None:
    made = source.read(setting.words, setting.addresses, setting.location, on_server=True)
    setting.settings.sources = () if made is None else (made,)


def _id(setting: Setting) -> None:
    number = parse_integer(setting.value, "id", 1)
    for other in setting.siblings:
        if other.settings.id == number:
            raise ConfigError(f"'id' : custom id {number} already used at {other.location} ('server {other.name}').")
    setting.settings.id = number


_NO_AGENT: Final = (
    "asks a program on the server for its state and weight; natlb has checks for the one, and 'set server' and 'set "
    "weight' of the Runtime API for both."
)


def _table(*keywords: Keyword[ServerHandler]) -> dict[str, Keyword[ServerHandler]]:
    return {keyword.name: keyword for keyword in keywords}


PARAMETERS: Final[dict[str, Keyword[ServerHandler]]] = _table(
    Keyword(
        "weight",
        _number("weight", "weight", 0, MOST_WEIGHT),
        "weight <0..256>",
        "Share of the connections against the other servers'; 0 gets none.",
        "1",
        takes=1,
    ),
    Keyword("check", _flag("check", True), "check", "Check the server's health.", "no check"),
    Keyword("no-check", _flag("check", False), "no-check", "Undo `check` of a default-server."),
    Keyword("inter", _interval("inter"), "inter <time>", "Time between two checks.", "2s", takes=1),
    Keyword("fastinter", _interval("fastinter"), "fastinter <time>", "While going up or down.", "inter", takes=1),
    Keyword("downinter", _interval("downinter"), "downinter <time>", "While down.", "inter", takes=1),
    Keyword("rise", _number("rise", "rise", 1), "rise <count>", "Good checks until it is up.", "2", takes=1),
    Keyword("fall", _number("fall", "fall", 1), "fall <count>", "Failed checks until it is down.", "3", takes=1),
    Keyword("port", _number("port", "port", 1, 65535), "port <port>", "The port to check.", "the server's", takes=1),
    Keyword("addr", _addr, "addr <ip>", "The address to check.", "the server's", takes=1),
    Keyword("disabled", _flag("disabled", True), "disabled", "Start in maintenance.", "enabled"),
    Keyword("enabled", _flag("disabled", False), "enabled", "Undo `disabled` of a default-server."),
    Keyword("backup", _flag("backup", True), "backup", "Use it only when no other server is usable.", "no-backup"),
    Keyword("no-backup", _flag("backup", False), "no-backup", "Undo `backup` of a default-server."),
    Keyword(
        "on-marked-down",
        _on_marked_down,
        "on-marked-down shutdown-sessions",
        "End its connections as soon as it goes down.",
        "they go on, and end on their own",
        takes=1,
    ),
    Keyword(
        "on-marked-up",
        _on_marked_up,
        "on-marked-up shutdown-backup-sessions",
        "End the connections to backup servers as soon as it comes up.",
        "they go on, and end on their own",
        takes=1,
    ),
    Keyword("track", _track, "track [<backend>/]<server>", "Be up or down as that server is.", "its own", takes=1),
    Keyword(
        "observe",
        _observe,
        "observe none|layer4",
        "Let clients' connections count as well: a SYN that the server does not answer is an error.",
        "none",
        takes=1,
    ),
    Keyword("error-limit", _error_limit, "error-limit <count>", "Errors in a row until `on-error`.", "10", takes=1),
    Keyword(
        "on-error",
        _on_error,
        "on-error fastinter|fail-check|sudden-death|mark-down",
        "Check soon; or count a failed check; or leave one to go; or take it down.",
        "fail-check",
        takes=1,
    ),
    Keyword(
        "source",
        _source,
        "source <host>[:<port>[-<port>]] | source 0.0.0.0 usesrc clientip|client",
        "Full NAT from this address and these ports, or never; in place of the section's `source`, which see.",
        "the section's `source`",
        takes=1,
        options=source.OPTIONS,
    ),
    Keyword(
        "maxconn",
        _number("maxconn", "maxconn", 0),
        "maxconn <number>",
        "Most connections of the server at a time; further ones wait, see `timeout queue`.",
        "0, no limit",
        takes=1,
    ),
    Keyword(
        "minconn",
        _number("minconn", "minconn", 0),
        "minconn <number>",
        "The same while the section has nothing to do; it grows to `maxconn` as connections come near to `fullconn`.",
        "maxconn",
        takes=1,
    ),
    Keyword(
        "maxqueue",
        _number("maxqueue", "maxqueue", 0),
        "maxqueue <number>",
        "Most connections that wait for this server and no other; one more is refused.",
        "0, no limit",
        takes=1,
    ),
    Keyword(
        "slowstart",
        _slowstart,
        "slowstart <time>",
        "Time over which weight and `maxconn` grow to their full size when the server has come back.",
        "0, at once",
        takes=1,
    ),
    Keyword("id", _id, "id <number>", "Its number; not in default-server.", "the next free one", takes=1),
    Keyword("tfo", Warn(NO_SOCKETS, nothing), "tfo"),
    Keyword("no-tfo", Warn(NO_SOCKETS, nothing), "no-tfo"),
    Keyword("tcp-ut", Warn(NO_SOCKETS, time), "tcp-ut <time>", takes=1),
    *refuse("only allowed after a 'source' statement.", "usesrc", takes=1),
    Keyword(
        "non-stick",
        _flag("sticks", False),
        "non-stick",
        "No stick table remembers that a client had this server.",
        "stick",
    ),
    Keyword("stick", _flag("sticks", True), "stick", "Undo `non-stick` of a default-server."),
    *refuse(NO_RESOLVERS, "resolvers, resolve-prefer, resolve-net, resolve-opts", takes=1),
    Keyword(
        "init-addr",
        _init_addr,
        "init-addr libc | last,libc",
        "How a server that is given by name gets its address when natlb starts; there is no other way.",
        "libc",
        takes=1,
    ),
    *refuse(_NO_AGENT, "agent-addr, agent-inter, agent-port, agent-send", takes=1),
    *refuse(_NO_AGENT, "agent-check, no-agent-check"),
    *refuse(ENDS_TCP, "send-proxy, send-proxy-v2, send-proxy-v2-ssl, send-proxy-v2-ssl-cn, no-send-proxy"),
    *refuse(ENDS_TCP, "no-send-proxy-v2, no-send-proxy-v2-ssl, no-send-proxy-v2-ssl-cn, check-send-proxy"),
    *refuse(ENDS_TCP, "no-check-send-proxy, check-via-socks4"),
    *refuse(ENDS_TCP, "socks4, proxy-v2-options, pool-low-conn, pool-max-conn, pool-purge-delay, max-reuse", takes=1),
    *refuse(HTTP, "cookie, redir, ws", takes=1),
    *refuse(CONTENT, "proto, check-proto", takes=1),
    *refuse(FOREIGN, "log-proto, namespace", takes=1),
    *refuse(TLS, "ssl, no-ssl, check-ssl, no-check-ssl, allow-0rtt, force-sslv3, force-tlsv10, force-tlsv11"),
    *refuse(TLS, "force-tlsv12, force-tlsv13, no-sslv3, no-tls-tickets, no-tlsv10, no-tlsv11, no-tlsv12, no-tlsv13"),
    *refuse(TLS, "ssl-reuse, no-ssl-reuse, tls-tickets"),
    *refuse(TLS, "alpn, ca-file, check-alpn, check-sni, ciphers, ciphersuites, crl-file, crt, npn, sni", takes=1),
    *refuse(TLS, "ssl-max-ver, ssl-min-ver, verify, verifyhost", takes=1),
)

_ONE_SERVERS: Final = _table(
    *refuse("option is not accepted in default-server sections.", "id", takes=1),
)
_OF_TCP: Final = _table(
    *refuse(TCP_ONLY, "tfo, no-tfo"),
    *refuse(TCP_ONLY, "tcp-ut", takes=1),
)

DEFAULT_SERVER_PARAMETERS: Final[dict[str, Keyword[ServerHandler]]] = PARAMETERS | _ONE_SERVERS
UDP_PARAMETERS: Final[dict[str, Keyword[ServerHandler]]] = PARAMETERS | _OF_TCP
UDP_DEFAULT_SERVER_PARAMETERS: Final[dict[str, Keyword[ServerHandler]]] = UDP_PARAMETERS | _ONE_SERVERS


_TABLES: Final = {
    ("tcp", "server"): PARAMETERS,
    ("tcp", "server-template"): PARAMETERS,
    ("tcp", "default-server"): DEFAULT_SERVER_PARAMETERS,
    ("udp", "server"): UDP_PARAMETERS,
    ("udp", "server-template"): UDP_PARAMETERS,
    ("udp", "default-server"): UDP_DEFAULT_SERVER_PARAMETERS,
}


def server(reading: Reading, line: Line) -> None:
    """`server <name> <address>[:[port]] [parameters]`."""
    proxy = reading.section
    if not _may_have_servers(reading, proxy, line):
        return
    name, address = line.word(1), line.word(2)
    if not address:
        reading.say("ALERT", line.location, "'server' expects <name> and <addr>[:<port>] as arguments.", parsing=False)
        return
    bad = forbidden_character(name)
    if bad is not None:
        reading.say(
            "ALERT", line.location, f"character '{bad}' is not permitted in server name '{name}'.", parsing=False
        )
        return
    draft = ServerDraft(name, line.location, proxy.default_server.copy())
    label = f"'server {proxy.name}/{name}'"
    try:
        draft.target = reading.addresses.server(address)
    except ConfigError as error:
        reading.say("ALERT", line.location, f"{label} : {error}", parsing=False)
    _parameters(reading, draft.settings, line, 3, label)
    proxy.servers.append(draft)


def server_template(reading: Reading, line: Line) -> None:
    """`server-template <prefix> <count>|<first>-<last> <address>[:[port]] [parameters]`."""
    proxy = reading.section
    if not _may_have_servers(reading, proxy, line):
        return
    prefix, numbers, address = line.word(1), line.word(2), line.word(3)

    def alert(text: str) -> None:
        reading.say("ALERT", line.location, text, parsing=False)

    if not address:
        alert("'server-template' expects <prefix> <nb | range> <addr>[:<port>] as arguments.")
        return
    bad = _FORBIDDEN_IN_PREFIXES.search(prefix)
    if bad is not None:
        alert(f"character '{bad[0]}' is not permitted in server-template prefix '{prefix}'.")
        return
    match = _TEMPLATE_RANGE.fullmatch(numbers)
    first, last = (int(match[1]), int(match[2])) if match and match[2] else (1, int(match[1]) if match else 0)
    if first > last:
        alert(f"Wrong server-template number or range arg '{numbers}'.")
        return
    if last - first >= MOST_TEMPLATE_SERVERS:
        alert(f"'server-template' makes at most {MOST_TEMPLATE_SERVERS} servers (got '{numbers}').")
        return
    label = f"'server {proxy.name}/{prefix}'"
    settings = proxy.default_server.copy()
    target = None
    try:
        target = reading.addresses.server(address)
    except ConfigError as error:
        alert(f"{label} : {error}")
    _parameters(reading, settings, line, 4, label)
    for number in range(first, last + 1):
        proxy.servers.append(ServerDraft(f"{prefix}{number}", line.location, settings.copy(), target))
        settings.id = None


def default_server(reading: Reading, line: Line) -> None:
    """`default-server [parameters]`."""
    if _may_have_servers(reading, reading.section, line):
        _parameters(reading, reading.section.default_server, line, 1, "'default-server'")


def _may_have_servers(reading: Reading, proxy: ProxyDraft, line: Line) -> bool:
    if not proxy.is_a("backend"):
        text = f"'{line.word(0)}' not allowed because {proxy.noun} '{proxy.name}' has no backend capability."
        reading.say("ALERT", line.location, text)
        return False
    return True


def _parameters(reading: Reading, settings: ServerSettings, line: Line, at: int, label: str) -> None:
    siblings = tuple(reading.section.servers)
    table = _TABLES[reading.section.protocol, line.word(0)]

    def run(handler: ServerHandler, own: tuple[str, ...]) -> None:
        handler(Setting(settings, own, reading.addresses, siblings, line.location))

    read_parameters(line.words[at:], table, run, reading.about(line.location, label, parsing=False))
