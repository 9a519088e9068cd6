"""A configuration being read: mutable, perhaps wrong, not yet checked as a whole.

Line by line the handlers write into these; `natlb.config.validity` then checks them against one another and makes the
frozen model of them. A draft keeps where each thing was said, so that whatever turns out wrong later can be shown at
its line.

A `defaults` section is a draft like any other proxy, and a proxy that inherits from it starts as its copy.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from natlb.config import defaults
from natlb.config.addresses import AddressReader, ServerAddress
from natlb.config.check_rules import CheckRules
from natlb.config.diagnostics import Diagnostic, Severity
from natlb.config.model import (
    Address,
    Bind,
    Hashing,
    Location,
    LogFormat,
    LogTarget,
    OnError,
    Protocol,
    Source,
    StatsSocket,
)
from natlb.config.rule_model import Condition, ConnectionRule, StickRule, StickTable, Test, UseBackend, UseServer

ProxyKind = Literal["defaults", "frontend", "backend", "listen", "udp-lb"]
Side = Literal["frontend", "backend"]


@dataclass(slots=True)
class Timer:
    """One `timeout` of a section."""

    seconds: float | None
    """None for `0`, which is infinity to HAProxy and silence to natlb."""
    location: Location


@dataclass(slots=True)
class ServerSettings:
    """The parameters of a `server`, or of `default-server` for the servers below it."""

    weight: int = defaults.WEIGHT
    backup: bool = False
    disabled: bool = False
    check: bool = False
    inter: float = defaults.CHECK_INTER
    fastinter: float | None = None
    downinter: float | None = None
    rise: int = defaults.CHECK_RISE
    fall: int = defaults.CHECK_FALL
    port: int | None = None
    address: Address | None = None
    id: int | None = None
    shutdown_on_down: bool = False
    shutdown_backups_on_up: bool = False
    track: str | None = None
    """As written: `[backend/]server`."""
    observed: bool = False
    error_limit: int = defaults.ERROR_LIMIT
    on_error: OnError = defaults.ON_ERROR
    sources: tuple[Source, ...] | None = None
    maxconn: int = 0
    minconn: int = 0
    maxqueue: int = 0
    slowstart: float = 0.0
    sticks: bool = True

    def copy(self) -> "ServerSettings":
        """The settings that the next server starts with."""
        return replace(self)


@dataclass(slots=True)
class ServerDraft:
    """One `server` line."""

    name: str
    location: Location
    settings: ServerSettings
    target: ServerAddress | None = None
    """None when the line's address was wrong."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Something that a rule names, to be looked for when all sections are known."""

    what: Literal["frontend", "backend", "server", "table", "key", "stick"]
    """What it is; `key` and `stick` are tables that the rule makes keys for."""
    name: str
    """Its name; of a server, with that of its backend."""
    location: Location
    word: str
    """The word that names it, or the rule's own name."""
    needs: str = ""
    """What a table has to store; for `key` and `stick`, the kind of sample that its keys are made of."""


@dataclass(slots=True)
class ProxyDraft:
    """One `defaults`, `frontend`, `backend`, `listen` or `udp-lb` section."""

    kind: ProxyKind
    name: str
    location: Location
    timers: dict[str, Timer] = field(default_factory=dict)
    inherited: dict[str, Timer] = field(default_factory=dict)
    """The timers as they were before the section's own lines."""
    maxconn: int | None = None
    balance: str = defaults.BALANCE
    draws: int | None = None
    """Of `balance random`; None is its default."""
    hashing: Hashing = field(default_factory=Hashing)
    fullconn: int | None = None
    retries: int = defaults.RETRIES
    redispatch: int = 0
    all_backups: bool = False
    persist: bool = False
    disabled: bool = False
    default_backend: tuple[str, Location] | None = None
    default_server: ServerSettings = field(default_factory=ServerSettings)
    sources: tuple[Source, ...] | None = None
    """As in the model: None says nothing, and none at all is the client's own address."""
    sources_said: Location | None = None
    """The section's own first `source` line; None while the sources are inherited."""
    description: str | None = None
    id: int | None = None
    binds: list[Bind] = field(default_factory=list)
    servers: list[ServerDraft] = field(default_factory=list)
    requests: int | None = None
    responses: int | None = None
    log_targets: list[LogTarget | Literal["global"]] = field(default_factory=list)
    log_tag: str | None = None
    log_format: LogFormat | None = None
    structured_data: LogFormat | None = None
    log_options: set[str] = field(default_factory=set)
    checks: CheckRules = field(default_factory=CheckRules)
    """What is asked of the servers that are checked."""
    rate_limit: int | None = None
    acls: dict[str, list[Test]] = field(default_factory=dict)
    use_backends: list[UseBackend] = field(default_factory=list)
    use_servers: list[UseServer] = field(default_factory=list)
    forced_persistence: list[Condition] = field(default_factory=list)
    connection_rules: list[ConnectionRule] = field(default_factory=list)
    stick_table: StickTable | None = None
    stick_rules: list[StickRule] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)
    """What rules name."""
    refused_acls: dict[str, str] = field(default_factory=dict)
    """ACLs that natlb will never have: what is said of a rule that names one."""
    registered: bool = True
    """False for a section that is read for its errors only, since its first line was one."""
    referenced: bool = False
    """For `defaults`: some section inherits from it by name."""
    implied: bool = False
    """For `defaults`: some section inherits from it by coming after it."""

    @property
    def noun(self) -> str:
        """What HAProxy calls it in messages."""
        return "proxy" if self.kind == "listen" else self.kind

    @property
    def protocol(self) -> Protocol:
        """What its packets are."""
        return "udp" if self.kind == "udp-lb" else "tcp"

    def is_a(self, side: Side) -> bool:
        """Whether it has that capability; `defaults` has both."""
        return self.kind in (side, "listen", "udp-lb", "defaults")

    def seconds(self, timeout: str) -> float | None:
        """What it says of a timeout, or inherited; None for nothing, and for 0."""
        timer = self.timers.get(timeout)
        return None if timer is None else timer.seconds

    def inherit(self, parent: "ProxyDraft") -> None:
        """Start from what a `defaults` section says."""
        self.timers = dict(parent.timers)
        self.inherited = dict(parent.timers)
        self.maxconn = parent.maxconn
        self.balance = parent.balance
        self.draws = parent.draws
        self.hashing = parent.hashing
        self.fullconn = parent.fullconn
        self.retries = parent.retries
        self.redispatch = parent.redispatch
        self.all_backups = parent.all_backups
        self.persist = parent.persist
        self.disabled = parent.disabled
        self.rate_limit = parent.rate_limit
        self.default_backend = parent.default_backend if self.is_a("frontend") else None
        self.default_server = parent.default_server.copy()
        self.sources = parent.sources
        self.log_targets = list(parent.log_targets)
        self.log_tag = parent.log_tag
        self.log_format = parent.log_format
        self.structured_data = parent.structured_data
        self.log_options = set(parent.log_options)
        self.checks = parent.checks.inherited()


@dataclass(slots=True)
class GlobalDraft:
    """The `global` sections."""

    maxconn: int | None = None
    maxconnrate: int | None = None
    maxsessrate: int | None = None
    node: str | None = None
    description: str | None = None
    stats_sockets: list[StatsSocket] = field(default_factory=list)
    stats_timeout: float | None = None
    log_targets: list[LogTarget] = field(default_factory=list)
    log_tag: str | None = None
    log_hostname: str | None = None
    daemon: bool = False
    quiet: bool = False
    zero_warning: bool = False
    pidfile: str | None = None
    uid: int | None = None
    gid: int | None = None
    hard_stop_after: float | None = None
    grace: float = 0.0
    stats_maxconn: int | None = None
    stats_place: int | None = None
    """How many proxies were read before the stats sockets were first spoken of; None if they never were."""
    spread_checks: int = 0
    max_spread_checks: float | None = None
    tuned: set[str] = field(default_factory=set)
    """The `tune.` keywords met: HAProxy takes some of them only once."""


@dataclass(slots=True)
class Reading:
    """All that has been read so far, in all files."""

    addresses: AddressReader
    environ: dict[str, str]
    """What variables stand for; `setenv` and its relatives change it."""
    settings: GlobalDraft = field(default_factory=GlobalDraft)
    proxies: list[ProxyDraft] = field(default_factory=list)
    defaults: list[ProxyDraft] = field(default_factory=list)
    proxy: ProxyDraft | None = None
    """The section that the current line belongs to, when that is one of a proxy."""
    pattern_ids: set[int] = field(default_factory=set)
    """Numbers given to ACLs (`-u`)."""
    diagnostics: list[Diagnostic] = field(default_factory=list)
    alerts: int = 0
    """How many of the diagnostics are errors."""
    incomplete: bool = False
    """Something was not read at all, so that what seems to be missing may be there."""

    def add(self, diagnostic: Diagnostic) -> None:
        """Report."""
        self.diagnostics.append(diagnostic)
        self.alerts += diagnostic.severity == "ALERT"

    def say(
        self,
        severity: Severity,
        location: Location | None,
        text: str,
        *,
        details: tuple[str, ...] = (),
        parsing: bool = True,
    ) -> None:
        """Report. `parsing` is False about a `server` or `default-server` line, where HAProxy leaves that word out."""
        self.add(Diagnostic(severity, location, text, details, parsing))

    def about(self, location: Location, subject: str, *, parsing: bool = True) -> Callable[[Severity, str], None]:
        """Return what reports, each time with its severity and a text, of one subject."""
        return lambda severity, text: self.say(severity, location, f"{subject} : {text}", parsing=parsing)

    @property
    def section(self) -> ProxyDraft:
        """The current proxy. Only for handlers of a proxy's keywords, which run in one."""
        if self.proxy is None:
            raise AssertionError("a proxy's keyword outside a proxy")
        return self.proxy
