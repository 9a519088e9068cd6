"""The keyword table: every keyword of HAProxy 2.6, and what natlb does about it.

`GLOBAL`, `PROXY` and, for `udp-lb` sections, `UDP_LB` are what the parser obeys; the parameters of `bind`, `server` and
`stats socket` lines have tables beside the code that reads those lines. `TABLE` is all of them, by section, for whoever
writes a reference. A `udp-lb` section is HAProxy Enterprise's; what works on TCP alone is refused in it.

A name may be two words, and is looked up as two first: `timeout client` is one keyword, `timeout` with anything else is
another, which knows what to say. What is in no table is unknown to HAProxy as well.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from natlb.config import (
    acl,
    balancing,
    bind,
    checks,
    global_section,
    log_lines,
    process_keywords,
    proxy_section,
    rule_section,
    server,
    source,
    stick_section,
)
from natlb.config.drafts import Reading, Side
from natlb.config.entries import (
    CONTENT,
    FOREIGN,
    HTTP,
    LUA,
    NO_BUFFERS,
    NO_PEERS,
    NO_RESOLVERS,
    NO_SOCKETS,
    NO_THREADS,
    ONE_CONNECTION,
    REMOVED,
    SCRIPTED,
    TCP_ONLY,
    TLS,
    UDP_ONLY,
    VARIABLES,
    Arguments,
    Keyword,
    Refuse,
    Warn,
    integer,
    nothing,
    refuse,
    switch,
    time,
)
from natlb.config.lexer import Line

LineHandler = Callable[[Reading, Line], None]
LineKeyword = Keyword[LineHandler]


def _tune(arguments: Arguments, syntax: str, names: str) -> Iterable[LineKeyword]:
    for name in names.split(","):
        keyword = f"tune.{name.strip()}"
        yield Keyword(keyword, Warn(NO_BUFFERS, arguments), f"{keyword} {syntax}".rstrip())


def _option(side: Side | None, names: str, *, negatable: bool = True) -> Iterable[LineKeyword]:
    for name in names.split(","):
        keyword = f"option {name.strip()}"
        yield Keyword(keyword, Warn(NO_SOCKETS, nothing), keyword, side=side, negatable=negatable)


_TIMEOUT_HELP: Final = {
    "client": ("Idle time. One TCP connection has one idle timer: the smaller of this and the server's.", "2h4m"),
    "server": ("Idle time, as `timeout client`.", "2h4m"),
    "connect": ("How long a server may take to answer a SYN.", "4m"),
    "check": ("How long a check that has connected may wait for its answer.", "inter"),
    "queue": ("How long a connection may wait for a place at a server before it is refused.", "timeout connect"),
    "tunnel": ("Idle time, in place of `timeout client` and `timeout server`.", ""),
    "client-fin": ("Idle time once the client has closed its direction.", "the idle time"),
    "server-fin": ("Idle time once the server has closed its direction.", "the idle time"),
}


def _timeouts() -> Iterable[LineKeyword]:
    for name, side in proxy_section.TIMEOUTS.items():
        text, default = _TIMEOUT_HELP[name]
        keyword = f"timeout {name}"
        yield Keyword(keyword, proxy_section.timeout, f"{keyword} <time>", text, default, side=side)


_ALGORITHMS: Final = {
    "roundrobin": ("Each server in turn, as often as its weight says.", ""),
    "static-rr": ("The same by a map made once, HAProxy's; weights cannot change while it runs.", ""),
    "leastconn": ("The server with the fewest connections for its weight.", ""),
    "first": ("The first server by `id` that has room; only with `maxconn` on servers.", ""),
    "source": ("Each client address has its server, see `hash-type`.", ""),
    "random": ("The least loaded of so many servers drawn by weight, two if not said.", "[(<draws>)]"),
    "hash": ("As `source`, by another part of the tuple.", " src|dst|src_port|dst_port"),
}


def _algorithms() -> Iterable[LineKeyword]:
    handlers = {"random": balancing.random, "hash": balancing.balance_hash}
    for name, (text, syntax) in _ALGORITHMS.items():
        handler = handlers.get(name, balancing.algorithm)
        yield Keyword(f"balance {name}", handler, f"balance {name}{syntax}", text, "roundrobin", side="backend")


def _table(*keywords: LineKeyword) -> dict[str, LineKeyword]:
    return {keyword.name: keyword for keyword in keywords}


def _logging() -> Iterable[LineKeyword]:
    yield Keyword(
        "log",
        log_lines.log,
        "log global | <target> [len <bytes>] [format <header>] <facility> [<level> [<least level>]]",
        "Where log lines go: `<host>[:<port>]` over UDP, the path of a Unix datagram socket, `stdout`, `stderr` or "
        "`fd@<n>`. Several lines add up; `no log` takes them away. `log global` is the global section's lines.",
        "none",
        negatable=True,
        undo=log_lines.no_log,
    )
    yield Keyword("log-tag", log_lines.log_tag, "log-tag <text>", "The program's name in log lines.", "natlb")


def _process() -> list[LineKeyword]:
    return [
        Keyword("daemon", process_keywords.daemon, "daemon", "Run in the background, as with `-D`.", "foreground"),
        Keyword(
            "pidfile",
            process_keywords.pidfile,
            "pidfile <path>",
            "Where the process number is written when it runs in the background; `-p` comes before it.",
            "none",
        ),
        Keyword(
            "user",
            process_keywords.user,
            "user <name>",
            "Become this user once everything is set up. What packets need is kept, and nothing else.",
            "whoever started it",
        ),
        Keyword("uid", process_keywords.uid, "uid <number>", "As `user`, by number."),
        Keyword("group", process_keywords.group, "group <name>", "Become of this group, as `user`."),
        Keyword("gid", process_keywords.gid, "gid <number>", "As `group`, by number."),
        Keyword("quiet", process_keywords.quiet, "quiet", "Say nothing but errors, as with `-q`."),
        Keyword("zero-warning", process_keywords.zero_warning, "zero-warning", "Warnings are errors, as with `-dW`."),
        Keyword(
            "hard-stop-after",
            process_keywords.hard_stop_after,
            "hard-stop-after <time>",
            "How long a soft stop may take; then the connections that are still open are ended.",
            "as long as they go on",
        ),
        Keyword(
            "grace",
            process_keywords.grace,
            "grace <time>",
            "How long new connections are still taken after the signal for a soft stop.",
            "0",
        ),
        Keyword("setenv", process_keywords.setenv, "setenv <name> <value>", "Set a variable for the lines below."),
        Keyword(
            "presetenv", process_keywords.setenv, "presetenv <name> <value>", "As `setenv`, unless it is set already."
        ),
        Keyword("unsetenv", process_keywords.unsetenv, "unsetenv <name> ...", "Unset variables."),
        Keyword("resetenv", process_keywords.resetenv, "resetenv [<name> ...]", "Unset all variables but these."),
        *refuse(_CHROOT, "chroot"),
        *refuse(_ONE_PROCESS, "stats bind-process"),
        *refuse(HTTP, "close-spread-time"),
    ]


_CHROOT: Final = (
    "would lock natlb out of iptables, which it needs to take its rules away at the end; 'user' and 'group' take its "
    "privileges instead."
)
_ONE_PROCESS: Final = "divides work among processes; natlb is one. Remove it."

_NO_FAILED_HANDSHAKES: Final = (
    "is for connections on which TLS or the PROXY protocol fails before they begin; natlb has none. Remove it."
)
_ONE_TIMER: Final = (
    "gives each direction an idle time of its own; natlb has one for both, as it is one TCP connection. Remove it."
)
_TO_ANYWHERE: Final = (
    "sends connections on to where they were bound for anyway; the kernel does that with all that no 'bind' line "
    "claims. Remove it, and the addresses on the 'bind' lines that are to pass."
)

_LOG_OPTIONS: Final = {
    "dontlognull": "No line for a connection on which the client sent no data.",
    "dontlog-normal": "No line for a connection that ended as it should.",
    "log-separate-errors": "Lines of connections that did not end as they should have level `err`.",
    "logasap": "A connection's line is written once it is established; what is not known then has a `+` before it.",
}


def _log_options() -> Iterable[LineKeyword]:
    for name, text in _LOG_OPTIONS.items():
        keyword = f"option {name}"
        on, off = log_lines.log_option(name, on=True), log_lines.log_option(name, on=False)
        yield Keyword(keyword, on, keyword, text, side="frontend", negatable=True, undo=off)
    yield Keyword(
        "option tcplog",
        log_lines.tcplog,
        "option tcplog",
        "A connection's log line says how it went, when it has ended.",
        "it says that there was one",
        side="frontend",
    )
    yield Keyword(
        "log-format",
        log_lines.log_format,
        "log-format <format>",
        "What a connection's log line says.",
        "see `option tcplog`",
        side="frontend",
    )
    yield Keyword(
        "log-format-sd",
        log_lines.log_format_sd,
        "log-format-sd <format>",
        "The structured data in the header of a connection's log line, for targets with `format rfc5424`.",
        "none",
        side="frontend",
    )


GLOBAL: Final[Mapping[str, LineKeyword]] = _table(
    Keyword(
        "maxconn",
        global_section.maxconn,
        "maxconn <number>",
        "Most connections of the whole process at a time. Said once.",
        "0, as many as the table holds",
    ),
    *_logging(),
    Keyword(
        "maxconnrate",
        global_section.maxconnrate,
        "maxconnrate <number>",
        "Most new connections per second of the whole process; further ones wait, and no rule is asked about them.",
        "0, no limit",
    ),
    Keyword(
        "maxsessrate",
        global_section.maxsessrate,
        "maxsessrate <number>",
        "Most new connections per second of the whole process that rules let in; further ones wait.",
        "0, no limit",
    ),
    Keyword(
        "log-send-hostname",
        log_lines.log_send_hostname,
        "log-send-hostname [<name>]",
        "Give the host's name in log lines.",
        "it is left out",
    ),
    Keyword("node", global_section.node, "node <name>", "The name of this host in `show info`.", "the host name"),
    Keyword("description", global_section.description, "description <text>", "A text for `show info`."),
    Keyword("stats", global_section.stats, "stats socket|timeout|maxconn ..."),
    Keyword(
        "stats socket",
        global_section.stats_socket,
        "stats socket <path>|<address>:<port> [mode <octal>] [user <name>] [group <name>] "
        "[level user|operator|admin] [severity-output none|number|string]",
        "A Unix socket, or a TCP socket, that speaks the Runtime API. Any program that reaches a TCP one may use it.",
        "none",
    ),
    Keyword(
        "stats timeout",
        global_section.stats_timeout,
        "stats timeout <time>",
        "How long a client of the Runtime API may be silent.",
        "10s",
    ),
    Keyword(
        "stats maxconn",
        global_section.stats_maxconn,
        "stats maxconn <number>",
        "Clients of the Runtime API at a time; further ones wait.",
        "10",
    ),
    Keyword(
        "spread-checks",
        global_section.spread_checks,
        "spread-checks <0..50>",
        "By how many percent the time between two checks varies at random.",
        "0",
    ),
    Keyword(
        "max-spread-checks",
        global_section.max_spread_checks,
        "max-spread-checks <time>",
        "Most time from the first server's first check to the last server's.",
        "the interval between two checks",
    ),
    Keyword("nbthread", Warn(NO_THREADS, integer(1, 64)), "nbthread <number>"),
    *_tune(integer(0), "<number>", "buffers.limit, buffers.reserve, maxaccept, maxpollevents, maxrewrite"),
    *_tune(integer(0), "<number>", "pattern.cache-size, pipesize, rcvbuf.client, rcvbuf.server, recv_enough"),
    *_tune(integer(0), "<number>", "runqueue-depth, sndbuf.client, sndbuf.server, http.cookielen, http.logurilen"),
    *_tune(integer(0), "<number>", "h2.initial-window-size, h2.max-concurrent-streams, lua.forced-yield, lua.maxmem"),
    *_tune(integer(0), "<number>", "ssl.cachesize, ssl.capture-buffer-size"),
    *_tune(integer(0), "<number>", "ssl.ssl-ctx-cache-size, vars.global-max-size, vars.proc-max-size"),
    *_tune(integer(0), "<number>", "vars.check-max-size, vars.reqres-max-size, vars.sess-max-size, vars.txn-max-size"),
    *_tune(integer(0, 16384), "<number>", "ssl.hard-maxrecord, ssl.maxrecord"),
    *_tune(integer(0, 65535), "<number>", "idletimer"),
    *_tune(integer(0, 100), "<percent>", "pool-high-fd-ratio, pool-low-fd-ratio"),
    *_tune(integer(1), "<number>", "peers.max-updates-at-once"),
    *_tune(integer(1, 9), "<number>", "comp.maxlevel"),
    *_tune(integer(101, 32767), "<number>", "http.maxhdr"),
    *_tune(integer(1024), "<number>", "ssl.default-dh-param"),
    *_tune(integer(4096, 65535), "<number>", "h2.header-table-size"),
    *_tune(integer(4096, 1 << 20), "<number>", "bufsize"),
    *_tune(integer(16384, 16777215), "<number>", "h2.max-frame-size"),
    *_tune(time, "<time>", "lua.service-timeout, lua.session-timeout, lua.task-timeout, ssl.lifetime"),
    *_tune(switch, "on|off", "idle-pool.shared, listener.multi-queue, sched.low-latency, ssl.keylog"),
    *_tune(nothing, "", "ssl.force-private-cache"),
    *_process(),
    *refuse(TLS, "ca-base, crt-base, issuers-chain-path, maxsslconn, maxsslrate, ssl-default-bind-ciphers"),
    *refuse(TLS, "ssl-default-bind-ciphersuites, ssl-default-bind-curves, ssl-default-bind-options"),
    *refuse(TLS, "ssl-default-server-ciphers, ssl-default-server-ciphersuites, ssl-default-server-options"),
    *refuse(TLS, "ssl-dh-param-file, ssl-load-extra-del-ext, ssl-load-extra-files, ssl-mode-async, ssl-propquery"),
    *refuse(TLS, "ssl-provider, ssl-provider-path, ssl-server-verify, ssl-skip-self-issued-ca, ssl-engine"),
    *refuse(LUA, "lua-load, lua-load-per-thread, lua-prepend-path"),
    *refuse(HTTP, "h1-accept-payload-with-any-method, h1-case-adjust, h1-case-adjust-file, maxcomprate"),
    *refuse(HTTP, "httpclient.resolvers.id, httpclient.resolvers.prefer, httpclient.ssl.ca-file"),
    *refuse(HTTP, "httpclient.ssl.verify, maxcompcpuusage, maxzlibmem, pp2-never-send-local"),
    *refuse(VARIABLES, "set-var, set-var-fmt"),
    *refuse(FOREIGN, "busy-polling, cluster-secret, cpu-map, default-path, expose-experimental-directives"),
    *refuse(FOREIGN, "external-check, insecure-fork-wanted, insecure-setuid-wanted, localpeer, master-worker"),
    *refuse(FOREIGN, "maxpipes, mworker-max-reloads, no-memory-trimming, noepoll, noevports, nogetaddrinfo"),
    *refuse(FOREIGN, "nokqueue, nopoll, noreuseport, nosplice, numa-cpu-mapping, profiling.tasks, server-state-base"),
    *refuse(FOREIGN, "server-state-file, set-dumpable, strict-limits, thread-group, thread-groups, ulimit-n"),
    *refuse(FOREIGN, "module-load, module-path, unix-bind, wurfl-data-file, tune.fail-alloc, tune.fd.edge-triggered"),
    *refuse(REMOVED, "nbproc, tune.chksize, tune.ssl.capture-cipherlist-size"),
)

PROXY: Final[Mapping[str, LineKeyword]] = _table(
    Keyword(
        "bind",
        bind.bind,
        "bind [ipv4@|ipv6@][<host>]:<port>[-<port>][,...] [parameters]",
        "Addresses and ports to answer on. An address comes before `*` at the same port.",
        side="frontend",
        in_defaults=False,
    ),
    Keyword(
        "server",
        server.server,
        "server <name> [ipv4@|ipv6@]<host>[:[<port>|+<n>|-<n>]] [parameters]",
        "A server. Without a port it keeps the client's, `:+<n>` and `:-<n>` shift it.",
        in_defaults=False,
    ),
    Keyword(
        "server-template",
        server.server_template,
        "server-template <prefix> <count>|<first>-<last> <host>[:[<port>|+<n>|-<n>]] [parameters]",
        "As many servers, which differ by the number after the prefix in their names.",
        in_defaults=False,
    ),
    Keyword("default-server", server.default_server, "default-server [parameters]", "What servers below start with."),
    Keyword("mode", proxy_section.mode, "mode tcp", "natlb's only mode.", "tcp"),
    Keyword("id", proxy_section.set_id, "id <number>", "Its number.", "the next free one", in_defaults=False),
    Keyword(
        "description", proxy_section.description, "description <text>", "A text for its reader.", in_defaults=False
    ),
    Keyword("disabled", proxy_section.disabled, "disabled", "Take no connections.", "enabled"),
    Keyword("enabled", proxy_section.enabled, "enabled", "Undo `disabled` of a defaults section."),
    Keyword(
        "maxconn",
        proxy_section.maxconn,
        "maxconn <number>",
        "Most connections of the frontend at a time.",
        "0, the global limit alone",
        side="frontend",
    ),
    Keyword(
        "default_backend",
        proxy_section.default_backend,
        "default_backend <name>",
        "Where the frontend's connections go.",
        "itself for `listen`; a frontend refuses them",
        side="frontend",
    ),
    Keyword("balance", balancing.balance, "balance [<algorithm>]", side="backend"),
    *_algorithms(),
    Keyword(
        "hash-type",
        balancing.hash_type,
        "hash-type map-based|consistent [sdbm|djb2|crc32|wt6 [avalanche]]",
        "How `balance source` and `balance hash` find the server. `consistent`: when a server comes or goes, hardly "
        "any client moves but those that must. `map-based`: most do.",
        "map-based sdbm",
        side="backend",
    ),
    Keyword(
        "hash-balance-factor",
        balancing.hash_balance_factor,
        "hash-balance-factor <percent>",
        "With `hash-type consistent`: a client whose server has more than so many percent of its share of the "
        "connections goes on to the next one.",
        "0, no bound",
        side="backend",
    ),
    Keyword(
        "fullconn",
        balancing.fullconn,
        "fullconn <number>",
        "With so many connections in the section, servers with a `minconn` may have their `maxconn`.",
        "a tenth of the `maxconn` of all frontends that lead here",
        side="backend",
    ),
    Keyword(
        "retries",
        balancing.retries,
        "retries <number>",
        "How often a client sends its SYN again until `option redispatch` has it try another server.",
        "3",
        side="backend",
    ),
    Keyword(
        "option redispatch",
        balancing.redispatch,
        "option redispatch [<interval>]",
        "A connection that its server does not answer goes to another at every so many of the client's retries, or, "
        "negative, counted back from `retries`; `roundrobin`, `static-rr` and `random` change at every retry.",
        "-1, at the last retry; without the option never",
        side="backend",
        negatable=True,
        undo=balancing.no_redispatch,
    ),
    Keyword(
        "option allbackups",
        balancing.all_backups,
        "option allbackups",
        "All backup servers share the connections when no other server is usable.",
        "the first usable backup server takes all",
        side="backend",
        negatable=True,
        undo=balancing.no_all_backups,
    ),
    Keyword(
        "option persist",
        balancing.persist,
        "option persist",
        "A client that a stick table leads to a server is sent there even when that is down.",
        "another server is chosen",
        side="backend",
        negatable=True,
        undo=balancing.no_persist,
    ),
    Keyword(
        "source",
        source.source,
        "source <host>[:<port>] | source 0.0.0.0|[::] usesrc clientip|client",
        "Full NAT: servers see this address (from this port) as the client's; several lines add up, and the first one "
        "of a section replaces what was inherited. With `usesrc clientip` or `usesrc client` they always see the "
        "client's own address and port. A range of ports may stand on `server` and `default-server` lines. Checks do "
        "not use it.",
        "natlb decides for each flow, and leaves the client's address where it can; HAProxy's default is the other way "
        "round: servers see its own address",
        side="backend",
    ),
    *_logging(),
    *_log_options(),
    Keyword(
        "option tcp-check",
        checks.option_tcp_check,
        "option tcp-check",
        "`check` does what the `tcp-check` rules say.",
        "`check` is a TCP connect",
        side="backend",
    ),
    Keyword(
        "tcp-check",
        checks.tcp_check,
        "tcp-check connect|send|send-binary|expect|comment ...",
        "A step of the check: connect [port <p>] [addr <a>] [linger] [default]; send <text>; send-binary <hex>; "
        "expect [min-recv <n>] [!] string|rstring|binary|rbinary <pattern> [ok-status <s>] [error-status <s>] "
        "[tout-status <s>] [on-success <text>] [on-error <text>]; each with [comment <text>].",
        side="backend",
    ),
    Keyword(
        "option httpchk",
        checks.option_httpchk,
        "option httpchk [[<method>] <uri> [<version>]]",
        "`check` sends an HTTP request; a status from 200 to 399 passes, unless `http-check expect` says otherwise.",
        "`check` is a TCP connect; OPTIONS / HTTP/1.0",
        side="backend",
    ),
    Keyword(
        "http-check",
        checks.http_check,
        "http-check send|expect|connect|comment|disable-on-404 ...",
        "A step of the check: send [meth <m>] [uri <u>] [ver <v>] [hdr <name> <value>]... [body <text>]; expect [!] "
        "status <codes>|rstatus <regex>|string <text>|rstring <regex>, with more as for tcp-check; connect as there. "
        "`disable-on-404`: a server that answers 404 gets no new connections, and is not down.",
        side="backend",
    ),
    Keyword(
        "option log-health-checks",
        checks.log_health_checks,
        "option log-health-checks",
        "Log each check that comes to something else than the one before, or moves the server up or down.",
        "what changes the server's state",
        side="backend",
        negatable=True,
        undo=checks.no_log_health_checks,
    ),
    Keyword("timeout", proxy_section.timeout, "timeout <name> <time>"),
    *_timeouts(),
    Keyword("tcp-request", proxy_section.tcp_request, "tcp-request connection ..."),
    Keyword(
        "acl",
        acl.acl,
        "acl <name> <fetch>[,<converter>...] [-i] [-n] [-m <method>] [-u <id>] [-M] [-f <file>] [--] [<pattern>...]",
        "A name for what a connection may match.",
        "TRUE, FALSE and LOCALHOST are there",
        in_defaults=False,
    ),
    Keyword(
        "use_backend",
        rule_section.use_backend,
        "use_backend <name> [if|unless <condition>]",
        "Where connections go for which the condition holds; the first such line decides.",
        "`default_backend`",
        side="frontend",
        in_defaults=False,
    ),
    Keyword(
        "tcp-request connection",
        rule_section.connection,
        "tcp-request connection accept|reject|silent-drop|track-sc<n> <key> [table <name>]|sc-inc-gpc0(<n>) "
        "[if|unless <condition>]",
        "Who is let in; and who is counted in a stick table.",
        "everybody",
        in_defaults=False,
    ),
    Keyword(
        "rate-limit",
        rule_section.rate_limit,
        "rate-limit sessions <number>",
        "Most new connections per second of the frontend; further ones wait.",
        "0, no limit",
        side="frontend",
    ),
    Keyword(
        "use-server",
        rule_section.use_server,
        "use-server <name> if|unless <condition>",
        "Connections that belong to one server, while that is up.",
        side="backend",
        in_defaults=False,
    ),
    Keyword(
        "force-persist",
        rule_section.force_persist,
        "force-persist if|unless <condition>",
        "Clients that a rule or a stick table leads to a server are sent there even when that is down.",
        "another server is chosen, see `option persist`",
        side="backend",
        in_defaults=False,
    ),
    Keyword(
        "stick-table",
        stick_section.stick_table,
        "stick-table type ip|ipv6|integer size <number>[k|m] [expire <time>] [nopurge] [store <data>[,<data>...]]",
        "What is remembered of clients: their servers, and counts and rates. The table has the section's name.",
        "none",
        in_defaults=False,
    ),
    Keyword(
        "stick",
        stick_section.stick,
        "stick on|match|store-request <key> [table <name>] [if|unless <condition>]",
        "Keep clients at the server that they had: `match` sends them there, `store-request` remembers it, `on` both.",
        side="backend",
        in_defaults=False,
    ),
    # Sockets that natlb does not have.
    Keyword("backlog", Warn(NO_SOCKETS, integer()), "backlog <number>", side="frontend"),
    Keyword("clitcpka-cnt", Warn(NO_SOCKETS, integer()), "clitcpka-cnt <number>", side="frontend"),
    Keyword("clitcpka-idle", Warn(NO_SOCKETS, time), "clitcpka-idle <time>", side="frontend"),
    Keyword("clitcpka-intvl", Warn(NO_SOCKETS, time), "clitcpka-intvl <time>", side="frontend"),
    Keyword("srvtcpka-cnt", Warn(NO_SOCKETS, integer()), "srvtcpka-cnt <number>", side="backend"),
    Keyword("srvtcpka-idle", Warn(NO_SOCKETS, time), "srvtcpka-idle <time>", side="backend"),
    Keyword("srvtcpka-intvl", Warn(NO_SOCKETS, time), "srvtcpka-intvl <time>", side="backend"),
    *_option(None, "tcpka", negatable=False),
    *_option(None, "splice-auto, splice-request, splice-response"),
    *_option("frontend", "clitcpka, tcp-smart-accept"),
    Keyword(
        "option contstats",
        Warn("natlb always counts every packet when it passes.", nothing),
        "option contstats",
        side="frontend",
        negatable=True,
    ),
    *refuse("counts by listener; natlb counts by frontend. Remove it.", "option socket-stats"),
    *_option("backend", "srvtcpka, abortonclose, tcp-smart-connect"),
    *_option(None, "nolinger"),
    *refuse(_NO_FAILED_HANDSHAKES, "error-log-format"),
    *refuse(_ONE_TIMER, "option independent-streams, option independant-streams"),
    *refuse(ONE_CONNECTION, "max-session-srv-conns"),
    *refuse(_TO_ANYWHERE, "transparent, option transparent"),
    *refuse("sends clients to an address that is no server; write 'server <name> <address>:<port>'.", "dispatch"),
    *refuse(HTTP, "ignore-persist"),
    *refuse(HTTP, "mode http, http-request, http-response, http-after-response, http-error, http-reuse"),
    *refuse(HTTP, "http-send-name-header, redirect, cookie, dynamic-cookie-key, capture, compression, declare"),
    *refuse(HTTP, "errorfile, errorfiles, errorloc, errorloc302, errorloc303, stats, monitor, monitor-uri"),
    *refuse(HTTP, "unique-id-format, unique-id-header, use-fcgi-app, max-keep-alive-queue, retry-on"),
    *refuse(HTTP, "timeout http-request, timeout http-keep-alive, timeout tarpit"),
    *refuse(HTTP, "balance uri, balance url_param, balance hdr"),
    *refuse(HTTP, "option httplog, option httpslog, option httpclose, option http-server-close"),
    *refuse(HTTP, "option http-keep-alive, option forceclose, option http-tunnel, option forwardfor"),
    *refuse(HTTP, "option originalto, option accept-invalid-http-request, option accept-invalid-http-response"),
    *refuse(HTTP, "option checkcache, option disable-h2-upgrade, option h1-case-adjust-bogus-client"),
    *refuse(HTTP, "option h1-case-adjust-bogus-server, option http-buffer-request, option http-ignore-probes"),
    *refuse(HTTP, "option http-no-delay, option http-pretend-keepalive, option http-use-proxy-header"),
    *refuse(HTTP, "option http-use-htx, option idle-close-on-response, option prefer-last-server"),
    *refuse(HTTP, "option http-restrict-req-hdr-names, option http_proxy"),
    *refuse(CONTENT, "balance rdp-cookie, persist, filter, tcp-response, tcp-request content"),
    *refuse("is one and the same as 'tcp-request connection' here; write that.", "tcp-request session"),
    *refuse(CONTENT, "tcp-request inspect-delay"),
    *refuse(SCRIPTED, "option mysql-check, option pgsql-check, option redis-check, option smtpchk, option ldap-check"),
    *refuse(SCRIPTED, "option spop-check"),
    *refuse(TLS, "option ssl-hello-chk"),
    *refuse("only allowed after a 'source' statement.", "usesrc"),
    *refuse(FOREIGN, "email-alert, external-check, option external-check, load-server-state-from-file"),
    *refuse(FOREIGN, "server-state-file-name"),
    *refuse(UDP_ONLY, "dgram-bind, proxy-requests, proxy-responses, option udp-check"),
    *refuse(REMOVED, "appsession, bind-process, block, clitimeout, contimeout, srvtimeout, grace, monitor-net"),
    *refuse(REMOVED, "redisp, redispatch, mode health, cliexp, srvexp, reqrep, reqdel, reqdeny, reqpass, reqallow"),
    *refuse(REMOVED, "reqtarpit, reqirep, reqidel, reqideny, reqipass, reqiallow, reqitarpit, reqadd, rsprep"),
    *refuse(REMOVED, "rspdel, rspdeny, rspirep, rspidel, rspideny, rspadd"),
)

_NO_TCP_CHECK: Final = "checks over TCP; did you mean 'option udp-check'? 'check' without that is a TCP connect."
_OWN_SERVERS: Final = "chooses another section's servers; a 'udp-lb' section has its own. Remove it."
_TWO_TIMERS: Final = "times a TCP connection; a 'udp-lb' section has 'timeout client', 'server' and 'check'."
_NO_RULES: Final = "is not a keyword of HAProxy Enterprise's 'udp-lb' section. Remove it."
_NO_BUFFER: Final = "sizes a buffer; natlb forwards datagrams of any size and has none. Remove it."
_SHARED: Final = (
    "server, server-template, default-server, id, description, disabled, enabled, balance, source, timeout, "
    "hash-type, hash-balance-factor, fullconn, option allbackups, option persist, log, log-tag, log-format, "
    "option dontlognull, option dontlog-normal, option logasap, option log-separate-errors, "
    "log-format-sd, timeout check, option log-health-checks, " + ", ".join(f"balance {name}" for name in _ALGORITHMS)
)

_UDP_OWN: Final[Mapping[str, LineKeyword]] = _table(
    Keyword(
        "dgram-bind",
        bind.dgram_bind,
        "dgram-bind [ipv4@|ipv6@][<host>]:<port>[-<port>][,...] [parameters]",
        "Addresses and UDP ports to answer on. An address comes before `*` at the same port.",
    ),
    Keyword(
        "maxconn",
        proxy_section.maxconn,
        "maxconn <number>",
        "Most flows of the section at a time.",
        "0, the global limit alone",
    ),
    Keyword(
        "proxy-requests",
        proxy_section.proxy_requests,
        "proxy-requests <number>",
        "How many datagrams a client may send to one server; then its flow is balanced anew.",
        "0, without end",
    ),
    Keyword(
        "proxy-responses",
        proxy_section.proxy_responses,
        "proxy-responses <number>",
        "How many datagrams a server sends for each one of the client; a flow that has had them all may end. 0 is "
        "none at all, as for syslog.",
        "not known; `timeout client` and `timeout server` end a flow",
    ),
    Keyword(
        "option udp-check",
        proxy_section.udp_check,
        "option udp-check",
        "`check` sends a datagram, and a server passes unless the network says that nobody is there (ICMP port "
        "unreachable).",
        "`check` is a TCP connect, to the server's port or to that of `port`",
    ),
    Keyword(
        "timeout client",
        proxy_section.timeout,
        "timeout client <time>",
        "Idle time of a flow that both sides have been seen of: the smaller of this and the server's.",
        "5m",
    ),
    Keyword(
        "timeout server",
        proxy_section.timeout,
        "timeout server <time>",
        "Idle time, as `timeout client`; and alone while the server has not answered.",
        "2m until the server has answered, then 5m",
    ),
)

_UDP_REFUSED: Final[Mapping[str, LineKeyword]] = _table(
    *refuse("takes TCP connections; did you mean 'dgram-bind'? A 'udp-lb' section takes UDP datagrams.", "bind"),
    *refuse("chooses between TCP and HTTP; a 'udp-lb' section forwards UDP datagrams. Remove it.", "mode, mode http"),
    *refuse(_OWN_SERVERS, "default_backend, use_backend, dispatch"),
    *refuse(_NO_TCP_CHECK, "option tcp-check, option httpchk, tcp-check, http-check, option mysql-check"),
    *refuse(_NO_TCP_CHECK, "option pgsql-check, option redis-check, option smtpchk, option ldap-check"),
    *refuse(_NO_TCP_CHECK, "option spop-check, option ssl-hello-chk"),
    *refuse(_TWO_TIMERS, "timeout connect, timeout tunnel, timeout queue, timeout client-fin, timeout server-fin"),
    *refuse(_NO_RULES, "acl, use-server, force-persist, stick-table, stick, rate-limit"),
    *refuse(TCP_ONLY, "tcp-request content, tcp-request session, tcp-request inspect-delay, tcp-response"),
    *refuse(TCP_ONLY, "option tcplog, option redispatch, option nolinger, option transparent, transparent"),
    *refuse(TCP_ONLY, "option independent-streams, max-session-srv-conns"),
    *refuse(_NO_BUFFER, "accepted-payload-size"),
)


def _first_of(*tables: Mapping[str, LineKeyword]) -> dict[str, LineKeyword]:
    """All entries, each from the first of the tables that has it."""
    merged: dict[str, LineKeyword] = {}
    for table in tables:
        for name, each in table.items():
            merged.setdefault(name, each)
    return merged


UDP_LB: Final[Mapping[str, LineKeyword]] = _first_of(
    _UDP_OWN,
    {name: PROXY[name] for name in _SHARED.split(", ")},
    _UDP_REFUSED,
    {name: each for name, each in PROXY.items() if isinstance(each.action, Refuse)},
    _table(*refuse(TCP_ONLY, ", ".join(PROXY))),  # what is left is what natlb does for TCP
)

FOREIGN_SECTIONS: Final[Mapping[str, str]] = {
    "resolvers": NO_RESOLVERS,
    "peers": NO_PEERS,
    "userlist": HTTP,
    "cache": HTTP,
    "http-errors": HTTP,
    "fcgi-app": HTTP,
    "crt-store": TLS,
    "log-forward": FOREIGN,
    "mailers": FOREIGN,
    "program": FOREIGN,
    "ring": FOREIGN,
}
"""Sections that are refused whole: their lines are not read."""


DIRECTIVES: Final[frozenset[str]] = frozenset(
    (".if", ".elif", ".else", ".endif", ".alert", ".warning", ".notice", ".diag")
)
"""HAProxy's conditional directives: refused."""


def find(table: Mapping[str, LineKeyword], line: Line) -> LineKeyword | None:
    """The entry for a line: by its first two words (the second one without `(...)`), else by its first."""
    second = line.word(1).partition("(")[0]
    return table.get(f"{line.word(0)} {second}") or table.get(line.word(0))


def _reference() -> dict[tuple[str, str], Keyword[Any]]:
    sections: dict[str, Mapping[str, Keyword[Any]]] = {
        "global": GLOBAL,
        "bind": bind.PARAMETERS,
        "server": server.PARAMETERS,
        "default-server": server.DEFAULT_SERVER_PARAMETERS,
        "stats socket": global_section.STATS_SOCKET_PARAMETERS,
        "defaults": {name: each for name, each in PROXY.items() if each.in_defaults},
        "frontend": {
            name: each
            for name, each in PROXY.items()
            if each.side in (None, "frontend") and name not in ("server", "server-template", "default-server")
        },
        "backend": {name: each for name, each in PROXY.items() if each.side in (None, "backend")},
        "listen": PROXY,
        "udp-lb": UDP_LB,
        "dgram-bind": bind.DGRAM_PARAMETERS,
        "udp-lb server": server.UDP_PARAMETERS,
        "udp-lb default-server": server.UDP_DEFAULT_SERVER_PARAMETERS,
    }
    return {(section, name): each for section, table in sections.items() for name, each in table.items()}


TABLE: Final[Mapping[tuple[str, str], Keyword[Any]]] = _reference()
"""All keywords, by section (or by the line that they are parameters of) and name."""
