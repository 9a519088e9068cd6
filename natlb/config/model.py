"""What a configuration says, once read: a tree of frozen values.

A `Config` is whole or it does not exist: the parser makes one only when it found no error, so whoever holds it need
not check it again. It is immutable and swapped whole on a reload. Names, numbers and their meaning are HAProxy's: a
frontend owns the addresses that clients connect to, a backend owns the servers, and a `listen` section is one of each
with the same name and the same id. So is a `udp-lb` section, whose protocol is UDP; all others are TCP's.

Times are seconds. None says that the configuration is silent; what natlb does then stands in `natlb.config.defaults`,
with the reason, and not here: a model that filled them in could no longer tell a choice from a default.

What it never holds: anything that changes while natlb runs. Live weights, health and counters are the engine's.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from natlb.config.rule_model import Condition, ConnectionRule, StickRule, StickTable, UseBackend, UseServer
from natlb.questions import CONNECT, Question

Address = IPv4Address | IPv6Address
Level = Literal["user", "operator", "admin"]
Protocol = Literal["tcp", "udp"]
LogHeader = Literal["rfc3164", "rfc5424", "short", "raw", "timed", "iso", "local", "priority"]
Severity = Literal["none", "number", "string"]
OnError = Literal["fastinter", "fail-check", "sudden-death", "mark-down"]


@dataclass(frozen=True, slots=True)
class Location:
    """Where something was said."""

    file: str
    """The file, as it was named on the command line (with the directory before it when a directory was named)."""
    line: int
    """The line in it, from 1."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class LogTarget:
    """One place that log lines go to."""

    destination: tuple[str, int] | str | int
    """The address and UDP port of a syslog server; the path of a Unix datagram socket; a file descriptor."""
    length: int
    """Bytes of the longest line; longer ones are cut."""
    header: LogHeader | None
    """What stands before each line; None is `rfc3164`, without the host's name unless `log-send-hostname` says it."""
    facility: int
    """syslog's, 0 to 23."""
    level: int
    """Lines of this level and of more urgent (lower) ones are sent."""
    least_level: int
    """Lines more urgent than this are sent as if they were of this level."""
    location: Location
    """The `log` line."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of a log format."""

    name: str
    """HAProxy's, without the `%`."""
    flags: frozenset[str] = frozenset()
    """Of `Q`, `X` and `E`."""


LogFormat = tuple[str | Variable, ...]


@dataclass(frozen=True, slots=True)
class Logging:
    """What a proxy logs, and where to."""

    targets: tuple[LogTarget, ...] = ()
    """None logs nothing."""
    tag: str | None = None
    """The program's name in each line; None is that of the whole process."""
    format: LogFormat | None = None
    """What a connection's line says; None is that it was made, and no more."""
    options: frozenset[str] = frozenset()
    """Of `dontlognull`, `dontlog-normal`, `log-separate-errors` and `logasap`."""
    structured_data: LogFormat | None = None
    """What stands in the headers of those lines, where they have such a place (`log-format-sd`)."""


@dataclass(frozen=True, slots=True)
class Bind:
    """One address and port that a frontend answers on: one VIP. Lists and port ranges are expanded to many of these."""

    address: Address
    """Where packets come to. 0.0.0.0 is every IPv4 address of the host, `::` every IPv6 one and no IPv4."""
    port: int
    """The port, 1 to 65535, of its frontend's protocol."""
    location: Location
    """The `bind` or `dgram-bind` line."""
    interface: str | None = None
    """Only packets that came in here (`interface`)."""
    transparent: bool = False
    """The address need not be the host's own: packets merely pass through it (`transparent`)."""
    maxconn: int | None = None
    """Most connections through this address and port at a time; None is no limit of its own."""
    name: str | None = None
    """A name for the reader of statistics (`name`)."""
    id: int | None = None
    """The listener's number, where one was given (`id`)."""


@dataclass(frozen=True, slots=True)
class Check:
    """How a server's health is checked."""

    inter: float
    """Seconds between two checks."""
    fastinter: float | None
    """The same while the server is on its way up or down; None is `inter`."""
    downinter: float | None
    """The same while the server is down; None is `inter`."""
    rise: int
    """Good checks in a row that bring it up."""
    fall: int
    """Failed checks in a row that bring it down."""
    port: int | None
    """The port to check; None is the server's own."""
    address: Address | None
    """The address to check; None is the server's own."""
    question: Question = CONNECT
    """What to ask."""
    observed: bool = False
    """Whether clients' connections count as well (`observe layer4`)."""
    error_limit: int = 10
    """Connections in a row that failed, until `on_error`."""
    on_error: OnError = "fail-check"
    """What is done then."""


@dataclass(frozen=True, slots=True)
class Source:
    """One address for full NAT: flows are given it as theirs on the way to the servers."""

    address: Address
    """What servers see in place of the client's address: one of the balancer's own."""
    first_port: int | None
    """The first port that flows are given; None is any."""
    last_port: int | None
    """The last one; None is any, and `first_port` is None as well."""
    location: Location
    """The line that says so."""


@dataclass(frozen=True, slots=True)
class Server:
    """One server of a backend."""

    name: str
    """Its name, unique in the backend."""
    id: int
    """Its number (`sid`), unique in the backend, numbered as HAProxy does."""
    address: Address
    """Where packets go."""
    port: int | None
    """The port there; None keeps the port that the client asked for, shifted by `port_offset`."""
    port_offset: int
    """What is added to the client's port when `port` is None: `:+N` and `:-N`."""
    weight: int
    """Its share of the connections against the others', 0 to 256; 0 gets none."""
    backup: bool
    """Used only when no other server is usable."""
    disabled: bool
    """Starts in maintenance."""
    check: Check | None
    """How its health is checked; None is not at all."""
    location: Location
    """The `server` line."""
    has_given_id: bool = False
    """Whether `id` was written, and not counted."""
    shutdown_on_down: bool = False
    """Its connections end at once when it goes down (`on-marked-down shutdown-sessions`), instead of on their own."""
    shutdown_backups_on_up: bool = False
    """Connections to backup servers end when it comes up (`on-marked-up shutdown-backup-sessions`)."""
    sticks: bool = True
    """Whether stick tables remember it as a client's server; not with `non-stick`."""
    track: str | None = None
    """The server (`backend/server`) whose health it shares, instead of being checked; always one that is there."""
    sources: tuple[Source, ...] | None = None
    """As the backend's, and in place of them; None says nothing, and the backend's hold."""
    maxconn: int | None = None
    """Most connections at a time; further ones wait. None is no limit."""
    minconn: int | None = None
    """The same while the backend has no connection: it grows to `maxconn` as those come near the `fullconn`. None is
    `maxconn` always."""
    maxqueue: int | None = None
    """Most connections that wait for this server and no other. None is no limit."""
    slowstart: int = 0
    """Seconds over which its weight and its `maxconn` grow when it has come back; 0 is at once."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """What a section says about time, in seconds. None is what it does not say (or says as 0)."""

    client: float | None = None
    """Idle time. One TCP connection has one, and a UDP flow two: see `connection_timeouts` and `flow_timeouts` in
    `natlb.config.defaults`."""
    server: float | None = None
    """Idle time, as above."""
    connect: float | None = None
    """From a SYN sent on to the server until its SYN-ACK."""
    tunnel: float | None = None
    """Idle time, in place of both of the first."""
    check: float | None = None
    """Until a check that has connected must have been answered."""
    queue: float | None = None
    """How long a SYN may be held back before it is refused."""
    client_fin: float | None = None
    """Idle time once the client has closed its direction."""
    server_fin: float | None = None
    """Idle time once the server has closed its direction."""


@dataclass(frozen=True, slots=True)
class Frontend:
    """Addresses that clients connect to, and where those connections go."""

    name: str
    """Its name, unique among frontends."""
    id: int
    """Its number (`iid`), unique among frontends and backends; the two halves of a `listen` share one."""
    position: int
    """Its place among all frontends and backends as written, from 1; the two halves of a `listen` share one."""
    binds: tuple[Bind, ...]
    """What it answers on, in the order written."""
    default_backend: str | None
    """The backend that its connections go to; None refuses them. Of the same protocol."""
    maxconn: int | None
    """Most connections at a time; None is the global limit alone."""
    timeouts: Timeouts
    """Only `client` and `client_fin` are ever set."""
    disabled: bool
    """Answers on nothing."""
    description: str | None
    """For the reader of statistics."""
    location: Location
    """The line that opens the section."""
    connection_rules: tuple[ConnectionRule, ...] = ()
    """Who is let in (`tcp-request connection`), in the order written."""
    use_backends: tuple[UseBackend, ...] = ()
    """Which connections go elsewhere than to `default_backend`, in the order written."""
    rate_limit: int | None = None
    """Most new connections per second (`rate-limit sessions`); None is no limit."""
    stick_table: StickTable | None = None
    """Its table, for all rules; of the two halves of a `listen` this one has it."""
    protocol: Protocol = "tcp"
    """`udp` for the front half of a `udp-lb` section: its "connections" are flows, and its `binds` UDP ports."""
    logging: Logging = Logging()
    """Of its connections, and of what becomes of it."""


@dataclass(frozen=True, slots=True)
class Hashing:
    """How `balance source` and `balance hash` go from a connection to a server."""

    fetch: str | None = None
    """What `balance hash` takes of the connection: `src`, `dst`, `src_port` or `dst_port`."""
    consistent: bool = False
    """Whether hardly anything moves when a server comes or goes, or else the plainest map serves."""
    function: str = "sdbm"
    """The hash function: `sdbm`, `djb2`, `crc32` or `wt6`. `balance source` has its own."""
    avalanche: bool = False
    """Whether the hash is stirred."""
    balance_factor: int = 0
    """Consistent: how many percent of its share a server may have at most; 0 is no bound."""


@dataclass(frozen=True, slots=True)
class Backend:
    """Servers, and how connections are shared out among them."""

    name: str
    """Its name, unique among backends."""
    id: int
    """Its number (`iid`), as a frontend's."""
    position: int
    """Its place as written, as a frontend's."""
    servers: tuple[Server, ...]
    """In the order written."""
    balance: str
    """The name of the algorithm: `roundrobin`, `static-rr`, `leastconn`, `first`, `source`, `random` or `hash`."""
    retries: int
    """How many more SYNs of a client may find the server silent after the first one did."""
    timeouts: Timeouts
    """All but `client` and `client_fin`."""
    disabled: bool
    """Takes no connection."""
    description: str | None
    """For the reader of statistics."""
    location: Location
    """The line that opens the section."""
    sources: tuple[Source, ...] | None = None
    """What servers see as the source of a flow. None says nothing: natlb decides for each flow. Empty is the client's
    own address and port, always (`usesrc clientip`). Else it is full NAT from these, for servers of their families;
    for a server of another family nothing is said."""
    use_servers: tuple[UseServer, ...] = ()
    """Which connections belong to which server, in the order written."""
    stick_rules: tuple[StickRule, ...] = ()
    """Which connections stay with the server that they had, in the order written."""
    stick_table: StickTable | None = None
    """Its table, for all rules."""
    has_given_id: bool = False
    """Whether `id` was written, and not counted."""
    protocol: Protocol = "tcp"
    """`udp` for the back half of a `udp-lb` section."""
    question: Question = CONNECT
    """What its checks ask servers."""
    log_health_checks: bool = False
    """Whether checks are logged, and not only what they change."""
    requests: int | None = None
    """After so many datagrams of a client its flow is balanced anew, perhaps to another server (`proxy-requests`).
    None is never, and so for every TCP backend."""
    responses: int | None = None
    """How many datagrams the server sends for each one of the client (`proxy-responses`): a flow that has had all of
    them may end. 0 is none at all. None is not known, and so for every TCP backend."""
    logging: Logging = Logging()
    """Of what becomes of it and of its servers."""
    draws: int | None = None
    """Of `balance random`: how many servers to draw, of which the least loaded is taken. None is the default."""
    hashing: Hashing = field(default_factory=Hashing)
    """Of `balance source` and `balance hash`."""
    fullconn: int | None = None
    """With so many connections, servers with a `minconn` may have their `maxconn`. None is a tenth of what may come."""
    redispatch: int = 0
    """At which of a client's retries another server is tried: at every so many, or, negative, counted back from
    `retries`; 0 is never."""
    all_backups: bool = False
    """Whether all backup servers share the connections when no other server is usable, and not the first alone."""
    persist: bool = False
    """Whether a client that belongs to a server is sent there even when that is down (`option persist`)."""
    forced_persistence: tuple[Condition, ...] = ()
    """The same for clients for which one of these holds (`force-persist`)."""


@dataclass(frozen=True, slots=True)
class StatsSocket:
    """One socket that speaks the Runtime API: a Unix socket, or a TCP socket, which has no owner and no mode."""

    path: str | None
    """Where the Unix socket is; None for a TCP socket."""
    mode: int | None
    """Its file mode; None leaves it to the umask."""
    user: str | int | None
    """Its owner, by name or by number; None leaves it to the process."""
    group: str | int | None
    """Its group, by name or by number; None leaves it to the process."""
    level: Level
    """What those who connect may do."""
    location: Location
    """The `stats socket` line."""
    address: Address | None = None
    """Where the TCP socket listens."""
    port: int | None = None
    """At which port."""
    severity: Severity = "none"
    """How messages are marked, until a client asks for it otherwise (`severity-output`)."""


@dataclass(frozen=True, slots=True)
class Process:
    """How natlb runs, and how it ends."""

    daemon: bool = False
    """In the background."""
    pidfile: str | None = None
    """Where its process number is written when it runs in the background."""
    uid: int | None = None
    """The user that it becomes once everything is set up; None stays who started it."""
    gid: int | None = None
    """The group, as above."""
    quiet: bool = False
    """Say nothing but errors."""
    zero_warning: bool = False
    """Do not start when there is a warning."""
    hard_stop_after: float | None = None
    """Seconds that a soft stop may take until the connections still open are ended; None is without end."""
    grace: float = 0.0
    """Seconds from the signal for a soft stop until no new connections are taken."""


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration, free of errors."""

    maxconn: int | None = None
    """Most connections of the whole process at a time; None leaves it to the engine."""
    maxconnrate: int | None = None
    """Most new connections per second, of the whole process, that are looked at at all; None is no limit."""
    maxsessrate: int | None = None
    """Most new connections per second, of the whole process, that rules let in; None is no limit."""
    node: str | None = None
    """The name of this host in `show info`; None is its host name."""
    description: str | None = None
    """For the reader of `show info`."""
    stats_sockets: tuple[StatsSocket, ...] = ()
    """Where the Runtime API is spoken."""
    stats_timeout: float | None = None
    """Seconds until a silent client of the Runtime API is closed on."""
    log_tag: str | None = None
    """The program's name in log lines; None is natlb."""
    log_hostname: str | None = None
    """The host's name in log lines: empty is this host's own, None is none."""
    process: Process = Process()
    """How natlb runs, and how it ends."""
    stats_maxconn: int | None = None
    """Clients of the Runtime API at a time, over all sockets; further ones wait."""
    spread_checks: int = 0
    """By how many percent, 0 to 50, the time between two checks varies at random."""
    max_spread_checks: float | None = None
    """Most seconds between the first checks of the first and the last server; None is the whole interval."""
    frontends: tuple[Frontend, ...] = ()
    """In the order written, with the front halves of `listen` sections."""
    backends: tuple[Backend, ...] = ()
    """In the order written, with the back halves of `listen` sections."""

    @property
    def listens(self) -> bool:
        """Whether there is anything to do: an address to answer on, or a stats socket to answer at."""
        return bool(self.stats_sockets) or any(f.binds and not f.disabled for f in self.frontends)

    def backend(self, name: str) -> Backend | None:
        """The backend of that name."""
        return next((backend for backend in self.backends if backend.name == name), None)

    def proxies(self) -> Iterator[tuple[Frontend | None, Backend | None]]:
        """Each section in the order written, a `listen` as both its halves: the order of `show stat`."""
        fronts = {frontend.position: frontend for frontend in self.frontends}
        backs = {backend.position: backend for backend in self.backends}
        for position in sorted(fronts.keys() | backs.keys()):
            yield fronts.get(position), backs.get(position)
