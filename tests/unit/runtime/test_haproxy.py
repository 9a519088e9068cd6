"""HAProxy is the oracle: the same commands typed at it and at natlb, with the same configuration, get the same replies.

Each conversation is held in every framing: a command for each connection, all in one line, all in one write,
interactively, and in lines that do not end. Between them they have every command of the language. What natlb answers
otherwise on purpose stands in one table, each with its reason; what may differ because it is measured, in `comparing`.
Neither has any traffic here: that is what the tests of the lab make, and count.
"""

import re
import time
from collections.abc import Callable

import pytest

from natlb.runtime.commands import LANGUAGE

from .comparing import comparable
from .daemons import LEVELS, Ask, haproxy, natlb

_CONFIG = """\
global
    maxconn 940
    nbthread 1
{sockets}
defaults
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h
frontend www
    bind 127.0.0.1:{port}
    maxconn 500
    default_backend nodes
frontend other
    bind 127.0.0.1:{another}
    default_backend spare
backend nodes
    balance roundrobin
    server server1 127.0.0.1:14444 weight 10
    server server2 127.0.0.1:14445 disabled
backend spare
    balance roundrobin
    server s1 127.0.0.1:14446 weight 2
backend fixed
    balance source
    server s1 127.0.0.1:14446
backend checked
    server s1 127.0.0.1:14446 check inter 1h
backend four
    stick-table type ip size 100 expire 1h store conn_cnt,conn_rate(10s),gpc0,gpc0_rate(1m),sess_cnt,conn_cur
backend six
    stick-table type ipv6 size 2 store gpc0
backend num
    stick-table type integer size 100 expire 30s store gpc0
backend followed
    server s1 127.0.0.1:14446 check inter 1h
    server t 127.0.0.1:14447 track s1
    server u 127.0.0.1:14447 track t slowstart 1h
    server d 127.0.0.1:14447 track s1 disabled
    server w 127.0.0.1:14447 track s1 weight 0
    server b 127.0.0.1:14448 backup
    server slow 127.0.0.1:14449 slowstart 1h
backend behind
    server first 127.0.0.1:14446 track off
    server off 127.0.0.1:14446 check inter 1h disabled
    server second 127.0.0.1:14446 track off
    server third 127.0.0.1:14446 track second
    server fourth 127.0.0.1:14446
"""

_CONVERSATIONS = {
    "weights": """
        get weight
        get weight nodes/server1
        get weight nodes/server9
        get weight x/server1
        get weight nodes
        get weight /server1
        get weight nodes/
        get weight #4/#1
        get weight #4/#9
        get weight #9/#1
        set weight
        set weight nodes/server1
        set weight nodes/server1 abc
        set weight nodes/server1 257
        set weight nodes/server1 -1
        set weight nodes/server1 5
        get weight nodes/server1
        set weight nodes/server1 50%
        get weight nodes/server1
        set weight nodes/server1 300%
        get weight nodes/server1
        set weight nodes/server1 3000%
        get weight nodes/server1
        set weight nodes/server1 -1%
        set weight nodes/server1 0%
        get weight nodes/server1
        set weight nodes/server1 5x
        set weight nodes/server1 5 6
        set weight x/s1 4
        set weight nodes/x 4
        set server nodes/server1 weight
        set server nodes/server1 weight 300
        set server nodes/server1 weight 7
        get weight nodes/server1
        set weight fixed/s1 5
        set weight fixed/s1 50%
        set weight fixed/s1 0
        set server fixed/s1 weight 1
        get weight fixed/s1
    """,
    "states": """
        set server
        set server nodes/server1
        set server nodes/server1 foo
        set server nodes/server1 state
        set server nodes/server1 state up
        set server nodes/server1 state MAINT
        set server nodes/server1 state drain
        set server nodes/server1 state ready
        set server nodes/server1 state maint
        set server x/server1 state ready
        set server nodes/x state ready
        set server nodes state ready
        enable server
        enable server nodes/server2
        enable server nodes/x
        enable server x/y
        disable server nodes/server2
        disable server
        set server nodes/server1 agent
        set server nodes/server1 agent up
        set server nodes/server1 agent-addr 127.0.0.1
        set server nodes/server1 agent-port 80
        set server nodes/server1 agent-send x
        set server nodes/server1 fqdn
        set server nodes/server1 fqdn foo.example
        set server nodes/server1 ssl on
        enable agent nodes/server1
        disable agent nodes/server1
        enable agent nodes/x
        enable foo
    """,
    "health": """
        set server nodes/server1 health
        set server nodes/server1 health foo
        set server nodes/server1 health down
        set server nodes/server1 health stopping
        set server nodes/server1 health up
        set server checked/s1 health down
        set server nodes/x health up
        enable health
        enable health checked/s1
        enable health nodes/server1
        enable health nodes/x
        disable health
        disable health checked/s1
        disable health nodes/server1
        enable health checked/s1
        set server checked/s1 check-port
        set server checked/s1 check-port x
        set server checked/s1 check-port 0
        set server checked/s1 check-port 70000
        set server checked/s1 check-port 8080
        set server nodes/server1 check-port 8080
        set server checked/s1 check-addr
        set server checked/s1 check-addr x
        set server checked/s1 check-addr 127.0.0.9
        set server checked/s1 check-addr 127.0.0.9 port 99
        set server nodes/server1 check-addr 127.0.0.9
    """,
    "addresses": """
        set server nodes/server1 addr
        set server nodes/server1 addr x
        set server nodes/server1 addr 127.0.0.1
        set server nodes/server1 addr 127.0.0.2
        set server nodes/server1 addr 127.0.0.2 port
        set server nodes/server1 addr 127.0.0.2 port 14447
        set server nodes/server1 addr 127.0.0.3 port 14448
        set server nodes/server1 addr 127.0.0.3 port 14448
        set server nodes/server1 addr 127.0.0.1 port +10
        set server nodes/server1 addr 127.0.0.1 port x
        set server nodes/server1 addr 127.0.0.1 foo 12
        set server nodes/server1 addr ::1
        set server nodes/server1 addr 127.0.0.1 port 14444
        set server checked/s1 addr 127.0.0.1 port +0
        set server checked/s1 check-port 8080
        set server checked/s1 addr 127.0.0.1 port +0
        show servers state checked
        set server checked/s1 addr 127.0.0.1 port -0
        set server checked/s1 addr 127.0.0.2 port +10
        show servers state checked
        set server checked/s1 addr 127.0.0.2 port +10
        set server checked/s1 addr 127.0.0.1 port -10
        show servers state checked
        set server checked/s1 addr 127.0.0.3
        set server checked/s1 addr 127.0.0.1 port +70000
        set server checked/s1 addr 127.0.0.1 port x
        set server checked/s1 addr 127.0.0.1 port 33
        show servers state checked
    """,
    "frontends": """
        enable frontend
        enable frontend x
        enable frontend www
        disable frontend www
        disable frontend www
        enable frontend www
        enable frontend www
        disable frontend x
        disable frontend
        disable frontend nodes
        shutdown frontend
        shutdown frontend x
        shutdown frontend other
        shutdown frontend other
        enable frontend other
        disable frontend other
    """,
    "limits": """
        set maxconn
        set maxconn foo
        set maxconn global
        set maxconn global 0
        set maxconn global -1
        set maxconn global 500
        set maxconn global 940
        set maxconn global 941
        set maxconn frontend
        set maxconn frontend x 10
        set maxconn frontend www
        set maxconn frontend www 10
        set maxconn frontend www 0
        set maxconn frontend www -5
        set maxconn frontend www 99999
        set maxconn server
        set maxconn server nodes/server1
        set maxconn server nodes/server1 x
        set maxconn server nodes/server1 5x
        set maxconn server nodes/server1 10
        set maxconn server nodes/server1 0
        set maxconn server nodes/server1 -1
        set maxconn server x/y 10
        set maxconn server nodes/y 10
    """,
    "sessions": """
        show sess 0x1
        show sess 1
        shutdown session
        shutdown session x
        shutdown session 0x0
        shutdown session 0x1
        shutdown sessions
        shutdown sessions foo
        shutdown sessions server
        shutdown sessions server nodes/server1
        shutdown sessions server nodes/x
        shutdown sessions server x/y
        shutdown sessions server nodes
    """,
    "servers that come and go": """
        add server
        add server nodes
        add server nodes/new
        add server nodes/new 127.0.0.1:9999
        get weight nodes/new
        add server nodes/new 127.0.0.1:9999
        add server nodes/server1 127.0.0.1:9999
        add server x/new 127.0.0.1:9999
        add server fixed/new 127.0.0.1:9999
        add server fixed/new
        del server
        del server nodes
        del server nodes/x
        del server x/new
        enable server nodes/new
        del server nodes/new
        disable server nodes/new
        del server nodes/new
        get weight nodes/new
        del server nodes/server2
        show servers conn
    """,
    "what there is": """
        show backend
        show backend nodes
        show errors
        show errors nope
        show errors nodes
        show errors www
        show errors nodes request
        show errors 3
        show errors 99 response
        show errors -1
        show errors 3x
        show errors 0
        show errors x3
        show errors -
        show env NOPE
        show env A\\;B
        show servers conn
        show servers conn nodes
        show servers conn nope
        show cli sockets
        show cli level
        show cli level foo
    """,
    "the client": """
        show cli level
        set timeout
        set timeout cli
        set timeout cli x
        set timeout cli 10
        set timeout cli 10s
        set timeout cli 5m
        set timeout cli 5x
        set timeout cli 0
        set timeout cli -1
        set timeout cli 99999999999
        set timeout foo 10
        experimental-mode
        experimental-mode on
        experimental-mode
        expert-mode
        expert-mode on
        expert-mode
        experimental-mode off
        experimental-mode
        expert-mode x
        expert-mode
        set severity-output
        set severity-output x
        set severity-output none
    """,
    "what there is not": """
        foo
        sho
        show foo
        sh sess
        SHOW SESS
        show
        set
        show cli
        disable
        shutdown
        help
        help show
        help foo
        help set server
        help quit
        help help
        show servers
    """,
    "empty words and backslashes": r"""
        get weight nodes/ser\ver1
        get weight nodes/server1\ x
        get weight nodes/\\server1
        get weight nodes\;x/server1
        show   backend
    """,
    "stick tables": """
        show table
        show table four
        show table nope
        show table four key 9.9.9.9
        show table four key
        show table four foo
        set table four key 1.2.3.4 data.conn_cnt 5 data.gpc0 2
        show table four
        set table four key 1.2.3.5 data.conn_rate 7 data.gpc0_rate 8
        show table four key 1.2.3.4
        show table four key 1.2.3.9
        show table four data.conn_cnt gt 1
        show table four data.conn_cnt gt 1 data.gpc0 eq 2
        show table four data.conn_cnt gt 1 data.gpc0 eq 3
        show table four data.conn_rate ge 7
        show table four data.conn_cnt gt
        show table four data.conn_cnt
        show table four data.conn_cnt xx 1
        show table four data.conn_cnt gt x
        show table four data.bytes_in_rate gt 1
        show table four data.foo gt 1
        show table four data.gpc0 gt 1 data.gpc0 gt 1 data.gpc0 gt 1 data.gpc0 gt 1 data.gpc0 gt 1
        set table
        set table nope
        set table four foo
        set table four data.conn_cnt gt 1
        set table four key
        set table four key 1.2.3.4 foo 1
        set table four key 1.2.3.4 data.foo 1
        set table four key 1.2.3.4 data.bytes_out_cnt 1
        set table four key 1.2.3.4 data.conn_cnt
        set table four key 1.2.3.4 data.conn_cnt x
        set table six key ::1 data.gpc0 1
        set table six key 1.2.3.4 data.gpc0 1
        set table six key ::ffff:44.1.1.0 data.gpc0 1
        show table six
        set table num key 5 data.gpc0 1
        set table num key abc data.gpc0 1
        set table num key -5
        show table num
        clear table
        clear table nope
        clear table four foo
        clear table four key
        clear table four key 1.2.3.5
        clear table four key 1.2.3.5
        clear table four data.foo gt 1
        clear table four data.conn_cnt gt 5
        show table four
        clear table four data.conn_cnt gt 4
        show table four
        clear table num
        show table num
    """,
    "statistics": """
        show stat
        show stat typed
        show stat json
        show stat nodes 7 -1
        show stat nodes 1 0
        show stat checked 4 -1 typed
        show stat #4 4 -1
        show stat 4 4 2
        show stat 4 4 9
        show stat nope 7 -1
        show stat 99 7 -1
        show stat up
        show stat no-maint
        show stat typed up
        show stat json no-maint
        show stat nonsense
        show stat www 1
        show backend
        show servers state
        show servers state nodes
        show servers state checked
        show servers state #4
        show servers state nope
        show servers conn
        clear counters
        clear counters all
        clear counters nonsense
        show stat
    """,
    "the process": """
        show info
        show info typed
        show info json
        show info nonsense
        show info typed json
        show info json typed
    """,
    "what states look like": """
        set server nodes/server1 state drain
        show stat nodes 7 -1
        show servers state nodes
        set server nodes/server1 state maint
        show stat nodes 7 -1
        show stat nodes 7 -1 no-maint
        show servers state nodes
        set server nodes/server1 state ready
        set server nodes/server2 state ready
        show stat nodes 7 -1 typed
        show servers state nodes
        set server nodes/server1 weight 0
        show stat nodes 7 -1
        show servers state nodes
        set server nodes/server1 weight 5
        set maxconn server nodes/server1 7
        set server nodes/server2 addr 127.0.0.9 port 14999
        show stat nodes 7 -1
        disable server nodes/server1
        disable server nodes/server2
        show stat nodes 7 -1
        enable server nodes/server1
        show stat nodes 7 -1
        show servers state nodes
        add server nodes/new 127.0.0.1:9999 weight 3
        show stat nodes 2 -1
        show servers state nodes
        enable server nodes/new
        show stat nodes 2 -1
        show servers state nodes
        disable server nodes/new
        del server nodes/new
        show stat nodes 7 -1
    """,
    "what health looks like": """
        show stat checked 7 -1
        show servers state checked
        set server checked/s1 health up
        show stat checked 7 -1
        show servers state checked
        set server checked/s1 health stopping
        show stat checked 7 -1
        show servers state checked
        set server checked/s1 health down
        show stat checked 7 -1 json
        disable health checked/s1
        show stat checked 7 -1
        show servers state checked
        set server checked/s1 health up
        show stat checked 7 -1
        enable health checked/s1
        show stat checked 7 -1
        show servers state checked
        set server checked/s1 check-port 8080
        show servers state checked
        set server checked/s1 check-addr 127.0.0.9
        show servers state checked
        set server nodes/server1 health stopping
        show stat nodes 7 -1
        show servers state nodes
        set server nodes/server1 health down
        show stat nodes 7 -1
        clear counters all
        show stat checked 7 -1
    """,
    "what those look like that track": """
        show stat followed 7 -1
        show servers state followed
        set server followed/s1 health up
        show stat followed 7 -1
        show servers state followed
        set server followed/s1 state drain
        show stat followed 7 -1
        show servers state followed
        set server followed/t state drain
        show servers state followed
        set server followed/s1 state ready
        show stat followed 7 -1
        show servers state followed
        set server followed/t state ready
        show stat followed 7 -1
        show servers state followed
        disable health followed/s1
        show stat followed 7 -1
        set server followed/s1 state maint
        show stat followed 7 -1
        show servers state followed
        set server followed/t state drain
        show stat followed 7 -1
        show servers state followed
        set server followed/s1 state ready
        show stat followed 7 -1
        show servers state followed
        set server followed/t state maint
        set server followed/s1 state drain
        show stat followed 7 -1
        show servers state followed
        set server followed/t state ready
        show stat followed 7 -1
        show servers state followed
        set server followed/s1 state maint
        show servers state followed
        set server followed/s1 state drain
        show stat followed 7 -1
        show servers state followed
        set server followed/s1 health stopping
        show stat followed 7 -1
        show servers state followed
        set server followed/d state ready
        show stat followed 7 -1
        show servers state
        set server followed/s1 health down
        show stat followed 7 -1
        set server followed/s1 health up
        show stat followed 7 -1
        show servers state
        set server followed/s1 state ready
        show stat followed 7 -1
        show servers state
    """,
    "what those look like that track one that is disabled": """
        show stat behind 7 -1
        show servers state behind
        set server behind/fourth state drain
        show stat behind 7 -1
        disable health behind/off
        set server behind/off state drain
        show stat behind 7 -1
        set server behind/off state ready
        show stat behind 7 -1
    """,
    "what slow starts look like": """
        show servers state followed
        disable server followed/slow
        show servers state followed
        enable server followed/slow
        show servers state followed
        show stat followed 4 -1
        set server followed/slow state drain
        show servers state followed
        show stat followed 4 -1
        set server followed/slow state ready
        show servers state followed
        show stat followed 4 -1
        set server followed/slow health stopping
        show servers state followed
    """,
    "what frontends look like": """
        show stat other 1 0
        disable frontend other
        show stat other 1 0
        show stat other 1 0 typed
        show info
        enable frontend other
        show stat other 1 0
        set maxconn global 400
        show stat other 1 0
        set maxconn frontend other 12
        show stat other 1 0
        set maxconn frontend other 0
        show stat other 1 0
        set maxconn global 500
        show stat
        show info
        shutdown frontend other
        show stat other 1 0
        show info
    """,
    "limits of rates": """
        set rate-limit
        set rate-limit foo
        set rate-limit connections
        set rate-limit connections foo
        set rate-limit connections global
        set rate-limit connections global -1
        set rate-limit connections global 5
        set rate-limit sessions global
        set rate-limit sessions global -1
        set rate-limit sessions global 7
        set rate-limit sessions frontend www 7
        show info
        set rate-limit connections global 0
        set rate-limit sessions global 0
        show info typed
    """,
}


def _each(commands: list[str]) -> list[bytes]:
    return [f"{command}\n".encode() for command in commands]


_FRAMINGS: dict[str, Callable[[list[str]], list[bytes]]] = {
    "a command for each connection": _each,
    "all in one line": lambda commands: [f"{';'.join(commands)}\n".encode()],
    "all in one write, as Windows ends lines": lambda commands: ["".join(f"{c}\r\n" for c in commands).encode()],
    "interactive": lambda commands: ["".join(f"{c}\n" for c in ["prompt", *commands, "quit"]).encode()],
    "interactive in one line": lambda commands: [f"prompt;{';'.join(commands)};prompt;get weight x\n".encode()],
    "a command for each connection, and no end of a line": lambda commands: [
        f"{command};".encode() for command in commands
    ],
    "all in one line that does not end": lambda commands: [f"{';'.join(commands)};".encode()],
    "interactive in one line that does not end": lambda commands: [f"prompt;{';'.join(commands)};quit;".encode()],
    "numbers before messages": lambda commands: [f"set severity-output number;{';'.join(commands)}\n".encode()],
    "names before messages": lambda commands: [
        f"set severity-output string;prompt;{';'.join(commands)};quit\n".encode()
    ],
}


def _lines(conversation: str) -> list[str]:
    return [line.strip() for line in conversation.strip().splitlines()]


def _held(written: list[bytes]) -> Callable[[Ask], list[bytes]]:
    """Say all that as soon as the one server that is checked has been found to be down."""

    def hold(ask: Ask) -> list[bytes]:
        until = time.monotonic() + 60
        while b",* " in (shown := ask("admin", b"show stat checked 4 -1\n")) or b",L4CON," not in shown:
            assert time.monotonic() < until, shown
            time.sleep(0.01)
        return [ask("admin", each) for each in written]

    return hold


@pytest.mark.parametrize("framing", _FRAMINGS.values(), ids=_FRAMINGS)
@pytest.mark.parametrize("conversation", _CONVERSATIONS.values(), ids=_CONVERSATIONS)
def test_the_same_commands_get_the_same_replies(conversation: str, framing: Callable[[list[str]], list[bytes]]) -> None:
    written = framing(_lines(conversation))
    hold = _held(written)
    with haproxy(_CONFIG) as ask:
        theirs = hold(ask)
    for each, one, other in zip(written, natlb(_CONFIG, hold), theirs, strict=True):
        assert comparable(one) == comparable(other), each


_NOT_HERE = r"'[a-z- ]+' is not available: [^\n]+\."

_OTHERWISE = {
    "show version": (r"natlb [0-9.]+\n", "each tells its own"),
    "show profiling": (
        r"Per-packet CPU profiling +: off +# set profiling packets \{on\|off\}\nPackets activity: 0 packets in .*",
        "HAProxy's is of its tasks and its memory, natlb's of packets",
    ),
    "show profiling status": (r"Per-packet CPU profiling +: off +# set [^\n]*\n", "the same"),
    "show profiling x": (r"Expects either 'all', 'status' or 'packets'.", "the same"),
    "set profiling": (r"Expects 'packets'.", "the same"),
    "set profiling x on": (r"Expects 'packets'.", "the same"),
    "show activity": (r"packets: 0\n.*", "HAProxy's is of its threads and tasks"),
    "show sess": ("", "HAProxy's own clients are sessions as well"),
    "show sess all": ("", "HAProxy's own clients are sessions as well"),
    "show sess recent 9": ("", "HAProxy passes over the words and shows all"),
    "show sess recent": (r"'show sess recent' expects how many.", "HAProxy passes over the words and shows all"),
    "show env": (r"(\w+=.*\n)+", "HAProxy adds variables of its own"),
    "show offload": (r"state: off\nreason: it was not asked for\n.*", "HAProxy forwards no packets"),
    "set offload maybe": (r"'set offload' expects 'on' or 'off'\.", "HAProxy forwards no packets"),
    "show info desc": (r"Name: HAProxy:.*", "descriptions are natlb's own"),
    "show stat typed desc": (r"F\.2\..*", "descriptions are natlb's own"),
    "set maxconn global x": ("Expects an integer value.", "HAProxy takes what is no number for 0"),
    "set maxconn frontend www x": ("Integer value expected.", "HAProxy takes what is no number for 0"),
    "set maxconn frontend www 10x": ("Integer value expected.", "HAProxy passes over the rest"),
    "set rate-limit sessions global x": ("Expects an integer value.", "HAProxy takes what is no number for 0"),
    "set rate-limit sessions global 5x": ("Expects an integer value.", "HAProxy passes over the rest"),
    "set rate-limit ssl-sessions global 3": (_NOT_HERE, "natlb has no TLS"),
    "set rate-limit http-compression global 3": (_NOT_HERE, "natlb compresses nothing"),
    "add server nodes/new 127.0.0.1:9 weight 3;show stat nodes 4 3": (
        r"New server registered.\n\n# pxname,.*,MAINT,3,.*",
        "HAProxy does not show the weight of a new server before it is enabled, but shows that it has no idle ones",
    ),
    "add server nodes/newer 127.0.0.1:9 ssl": (r"[^\n]+", "natlb has no TLS"),
    "set table four key 1.2.3.4 <<": (r"Payloads \('<<'\) are not accepted: [^\n]+", "no command takes one"),
}
"""What natlb answers to some commands, as an expression, and why not what HAProxy does."""

_NEVER = {
    "show schema json": "natlb has its formats in its documentation",
    "show ssl cert": "natlb has no TLS",
    "show tls-keys": "natlb has no TLS",
    "show map": "natlb reads no contents",
    "show cache": "natlb reads no contents",
    "show acl": "ACLs are the configuration's",
    "show peers": "natlb has no peers",
    "show resolvers": "natlb resolves names at the start alone",
    "show events": "natlb keeps no events",
    "show startup-logs": "natlb keeps no log lines",
    "show fd": "it looks inside HAProxy",
    "show pools": "it looks inside HAProxy",
    "show profiling tasks": "it looks inside HAProxy",
    "show profiling memory": "it looks inside HAProxy",
    "set profiling tasks on": "it looks inside HAProxy",
    "set profiling memory on": "it looks inside HAProxy",
    "show tasks": "it looks inside HAProxy",
    "show threads": "it looks inside HAProxy",
    "show libs": "it looks inside HAProxy",
    "trace": "it looks inside HAProxy",
    "get map x y": "natlb reads no contents",
    "get var proc.x": "natlb has no variables",
    "set ssl cert x y": "natlb has no TLS",
}
"""Commands of HAProxy's that natlb refuses by name."""


def test_what_is_answered_otherwise_is_so_on_purpose() -> None:
    otherwise = _OTHERWISE | {command: (_NOT_HERE, why) for command, why in _NEVER.items()}
    # A payload ends with an empty line.
    written = [f"{command}\n".encode() + b"\n" * command.endswith("<<") for command in otherwise]
    with haproxy(_CONFIG) as ask:
        theirs = [ask("admin", each) for each in written]
    ours = natlb(_CONFIG, lambda ask: [ask("admin", each) for each in written])
    for (command, (expected, _)), own, its in zip(otherwise.items(), ours, theirs, strict=True):
        assert own != its, f"{command}: it need not be in the table"
        reply = own.decode().removesuffix("\n")
        assert re.fullmatch(f"(?:{expected})\n*", reply, re.DOTALL), (command, reply)


def test_every_command_is_spoken_of() -> None:
    said = [tuple(line.split()) for each in _CONVERSATIONS.values() for line in _lines(each)]
    said += [tuple(line.split()) for line in _OTHERWISE] + [("prompt",), ("quit",), ("user",), ("operator",)]
    silent = [each.words for each in LANGUAGE.commands if all(line[: len(each.words)] != each.words for line in said)]
    assert silent == []


def test_the_same_levels_are_needed() -> None:
    commands = [" ".join(command.words) for command in LANGUAGE.commands]
    # Of these HAProxy's replies are long, and other ones, or there is no end to them.
    strange = ("prompt", "show activity", "set offload")  # the last one it does not have
    written = [f"{command}\n".encode() for command in commands if command not in strange]
    written += [b"clear counters all\n", b"show sess all\n", b"show sess 0x1\n"]

    def denied(ask: Ask) -> list[bytes]:
        return [
            level.encode() + b": " + each
            for level in LEVELS
            for each in written
            if ask(level, each) == b"Permission denied\n\n"
        ]

    with haproxy(_CONFIG) as ask:
        theirs = denied(ask)
    assert natlb(_CONFIG, denied) == theirs
    assert len(theirs) > 20


@pytest.mark.parametrize(
    "data",
    [
        b"user;show cli level;operator;show cli level\n",
        b"operator;show cli level;operator;user;show cli level\n",
        b"operator;enable server nodes/server1\n",
        b"experimental-mode on;experimental-mode;expert-mode on;add server nodes/new 127.0.0.1:9999;expert-mode\n",
        b"quit\n",
        b"quit;show backend\n",
        b"show backend;quit;show backend\n",
        b"\n",
        b" \n",
        b";;show backend;;\n",
        b"show backend\0x\n",
        b"\0\n",
        b"\xff\xfe\n",
        b"show backend " + b"a " * 100 + b"\n",
        b"prompt;prompt;show backend\n",
        b"show backend\nshow backend\n\nshow backend\n",
    ],
)
def test_what_clients_may_send(data: bytes) -> None:
    with haproxy(_CONFIG) as ask:
        theirs = ask("admin", data)
    (ours,) = natlb(_CONFIG, lambda ask: [ask("admin", data)])
    assert comparable(ours) == comparable(theirs)


def test_help_says_the_same_of_each_command() -> None:
    with haproxy(_CONFIG) as ask:
        theirs = ask("admin", b"help\n").decode().splitlines()
    (ours,) = natlb(_CONFIG, lambda ask: [ask("admin", b"help\n")])
    strangers = [line for line in ours.decode().splitlines() if line not in theirs]
    assert [line.split(":")[0].strip() for line in strangers] == [
        "set offload [on|off]",
        "set profiling <what> {on|off}",
        "show activity",
        "show info [desc|json|typed]*",
        "show offload",
        "show profiling [<what>]",
        "show sess recent <number>",
    ]
