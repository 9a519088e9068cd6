"""The language of natlb's stats socket: one table of all commands, and one of HAProxy's that it refuses by name.

What the commands do stands by subject: `servers`, `frontends`, `sessions`, `process`, `clients`, `tables`, `stat`,
`profiling`, `offload`.
"""

from typing import Final

from natlb.runtime import (
    clients,
    counters,
    frontends,
    info,
    offload,
    process,
    profiling,
    servers,
    sessions,
    stat,
    state,
    tables,
)
from natlb.runtime.language import Command, Language, Level

_ADMIN, _OPERATOR, _USER = Level.ADMIN, Level.OPERATOR, Level.USER


_COMMANDS: Final = (
    Command(("help",), _USER, "", "", clients.show_help),
    Command(("prompt",), _USER, "", "", clients.toggle_prompt),
    Command(("quit",), _USER, "", "", clients.leave),
    Command(("experimental-mode",), _ADMIN, "", "", clients.set_experimental),
    Command(("expert-mode",), _ADMIN, "", "", clients.set_expert),
    Command(("user",), _USER, "user", "lower the level of the current CLI session to user", clients.become_user),
    Command(
        ("operator",),
        _OPERATOR,
        "operator",
        "lower the level of the current CLI session to operator",
        clients.become_operator,
    ),
    Command(
        ("show", "cli", "level"),
        _USER,
        "show cli level",
        "display the level of the current CLI session",
        clients.show_level,
    ),
    Command(("set", "timeout"), _USER, "set timeout [cli] <delay>", "change a timeout setting", clients.set_timeout),
    Command(
        ("set", "severity-output"),
        _USER,
        "set severity-output [none|number|string]",
        "set presence of severity level in feedback information",
        clients.set_severity_output,
    ),
    Command(("show", "version"), _USER, "show version", "show version of the current process", process.show_version),
    Command(
        ("show", "env"),
        _OPERATOR,
        "show env [var]",
        "dump environment variables known to the process",
        process.show_env,
    ),
    Command(
        ("show", "errors"),
        _OPERATOR,
        "show errors [<px>] [request|response]",
        "report last request and/or response errors for each proxy",
        process.show_errors,
    ),
    Command(
        ("show", "backend"),
        _USER,
        "show backend",
        "list backends in the current running config",
        process.show_backend,
    ),
    Command(
        ("show", "cli", "sockets"), _USER, "show cli sockets", "dump list of cli sockets", process.show_cli_sockets
    ),
    Command(("show", "activity"), _USER, "show activity", "report what packets met", process.show_activity),
    Command(
        ("show", "profiling"),
        _ADMIN,
        "show profiling [<what>]",
        "show profiling state (all,status,packets)",
        profiling.show_profiling,
    ),
    Command(
        ("set", "profiling"),
        _ADMIN,
        "set profiling <what> {on|off}",
        "enable/disable resource profiling (packets)",
        profiling.set_profiling,
    ),
    Command(
        ("show", "servers", "conn"),
        _USER,
        "show servers conn [<backend>]",
        "dump server connections status (all or for a single backend)",
        process.show_servers_conn,
    ),
    Command(
        ("show", "table"),
        _USER,
        "show table <table> [<filter>]*",
        "report table usage stats or dump this table's contents (filter: data/key)",
        tables.show_table,
    ),
    Command(
        ("clear", "table"),
        _USER,
        "clear table <table> [<filter>]*",
        "remove an entry from a table (filter: data/key)",
        tables.clear_table,
    ),
    Command(
        ("set", "table"),
        _USER,
        "set table <table> key <k> [data.* <v>]*",
        "update or create a table entry's data",
        tables.set_table,
    ),
    Command(
        ("show", "sess", "recent"),
        _OPERATOR,
        "show sess recent <number>",
        "report the sessions heard last",
        sessions.show_sess_recent,
    ),
    Command(
        ("show", "sess"),
        _OPERATOR,
        "show sess [id]",
        "report the list of current sessions or dump this exact session",
        sessions.show_sess,
    ),
    Command(
        ("shutdown", "session"),
        _ADMIN,
        "shutdown session [id]",
        "kill a specific session",
        sessions.shutdown_session,
    ),
    Command(
        ("shutdown", "sessions", "server"),
        _ADMIN,
        "shutdown sessions server <bk>/<srv>",
        "kill sessions on a server",
        sessions.shutdown_sessions_server,
    ),
    Command(
        ("enable", "frontend"),
        _ADMIN,
        "enable frontend <frontend>",
        "re-enable specific frontend",
        frontends.enable_frontend,
    ),
    Command(
        ("disable", "frontend"),
        _ADMIN,
        "disable frontend <frontend>",
        "temporarily disable specific frontend",
        frontends.disable_frontend,
    ),
    Command(
        ("shutdown", "frontend"),
        _ADMIN,
        "shutdown frontend <frontend>",
        "stop a specific frontend",
        frontends.shutdown_frontend,
    ),
    Command(
        ("set", "maxconn", "frontend"),
        _ADMIN,
        "set maxconn frontend <frontend> <value>",
        "change a frontend's maxconn setting",
        frontends.set_maxconn_frontend,
    ),
    Command(
        ("set", "maxconn", "global"),
        _ADMIN,
        "set maxconn global <value>",
        "change the per-process maxconn setting",
        frontends.set_maxconn_global,
    ),
    Command(
        ("show", "offload"),
        _USER,
        "show offload",
        "report what packets the kernel carries by itself",
        offload.show_offload,
    ),
    Command(
        ("set", "offload"),
        _ADMIN,
        "set offload [on|off]",
        "have the kernel carry packets of established connections, or not",
        offload.set_offload,
    ),
    Command(
        ("set", "rate-limit"),
        _ADMIN,
        "set rate-limit <setting> <value>",
        "change a rate limiting value",
        frontends.set_rate_limit,
    ),
    Command(
        ("set", "maxconn", "server"),
        _ADMIN,
        "set maxconn server <bk>/<srv>",
        "change a server's maxconn setting",
        servers.set_maxconn_server,
    ),
    Command(("get", "weight"), _USER, "get weight <bk>/<srv>", "report a server's current weight", servers.get_weight),
    Command(
        ("set", "weight"),
        _ADMIN,
        "set weight <bk>/<srv>  (DEPRECATED)",
        "change a server's weight (use 'set server' instead)",
        servers.set_weight,
    ),
    Command(
        ("set", "server"),
        _ADMIN,
        "set server <bk>/<srv> [opts]",
        "change a server's state, weight, address or ssl",
        servers.set_server,
    ),
    Command(
        ("enable", "server"),
        _ADMIN,
        "enable server  (DEPRECATED)",
        "enable a disabled server (use 'set server' instead)",
        servers.enable_server,
    ),
    Command(
        ("disable", "server"),
        _ADMIN,
        "disable server (DEPRECATED)",
        "disable a server for maintenance (use 'set server' instead)",
        servers.disable_server,
    ),
    Command(("enable", "health"), _ADMIN, "enable health", "enable health checks", servers.enable_health),
    Command(("disable", "health"), _ADMIN, "disable health", "disable health checks", servers.disable_health),
    Command(("enable", "agent"), _ADMIN, "enable agent", "enable agent checks", servers.enable_agent),
    Command(("disable", "agent"), _ADMIN, "disable agent", "disable agent checks", servers.disable_agent),
    Command(("add", "server"), _ADMIN, "add server <bk>/<srv>", "create a new server", servers.add_server),
    Command(
        ("del", "server"), _ADMIN, "del server <bk>/<srv>", "remove a dynamically added server", servers.del_server
    ),
    Command(
        ("show", "info"),
        _USER,
        "show info [desc|json|typed]*",
        "report information about the running process",
        info.show_info,
    ),
    Command(
        ("show", "stat"),
        _USER,
        "show stat [desc|json|no-maint|typed|up]*",
        "report counters for each proxy and server",
        stat.show_stat,
    ),
    Command(
        ("show", "servers", "state"),
        _USER,
        "show servers state [<backend>]",
        "dump volatile server information (all or for a single backend)",
        state.show_servers_state,
    ),
    Command(
        ("clear", "counters"),
        _OPERATOR,
        "clear counters [all]",
        "clear max statistics counters (or all counters)",
        counters.clear_counters,
    ),
)

_NO_TLS: Final = "natlb forwards packets, encrypted or not, and has no certificates or keys."
_NO_CONTENT: Final = "natlb forwards packets and never reads what they carry."
_NO_DNS: Final = "natlb resolves names when it reads its configuration, and never again."
_INSIDE: Final = "it looks inside HAProxy; natlb has 'show activity'."
_NO_TASKS: Final = "it looks inside HAProxy; natlb has 'set profiling packets' and 'show profiling packets'."
_NO_SCHEMA: Final = "docs/statistics.md describes the replies of 'show stat json' and 'show info json'."


def _refusals(reason: str, names: str) -> dict[tuple[str, ...], str]:
    return {tuple(name.split()): reason for name in names.split(",")}


_REFUSED: Final = {
    **_refusals(_NO_TLS, "abort ssl, add ssl, commit ssl, del ssl, new ssl, set ssl, show ssl, show tls-keys"),
    **_refusals(_NO_CONTENT, "add map, clear map, commit map, del map, get map, prepare map, set map, show map"),
    **_refusals(_NO_CONTENT, "disable dynamic-cookie, enable dynamic-cookie, set dynamic-cookie-key, show cache"),
    **_refusals("ACLs are the configuration's.", "add acl, clear acl, commit acl, del acl, get acl, prepare acl"),
    **_refusals("ACLs are the configuration's.", "show acl"),
    **_refusals("natlb has no variables.", "get var, set var"),
    **_refusals("natlb has no peers.", "show peers"),
    **_refusals("natlb logs to the system and keeps no rings of events.", "show events, show startup-logs"),
    **_refusals(_NO_DNS, "show resolvers"),
    **_refusals(_INSIDE, "show fd, show libs, show pools, show tasks, show threads, show trace, trace"),
    **_refusals(_INSIDE, "debug, show dev"),
    **_refusals(_NO_SCHEMA, "show schema json"),
    **_refusals(_NO_TASKS, "show profiling tasks, show profiling memory, set profiling tasks, set profiling memory"),
}

LANGUAGE: Final = Language(_COMMANDS, _REFUSED)
