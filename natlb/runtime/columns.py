"""The columns of `show stat`: HAProxy's names, in HAProxy's order, with HAProxy's tags, and what natlb means by them.

The tags say what kind of number stands there: where it comes from (a metric, a status, a key, the configuration), of
which nature it is (a gauge, a counter, a limit ...) and what it speaks of (the service or the process). `typed` and
`json` print them, for programs that do not want to know the columns by name.

docs/statistics.md says more about each.
"""

from dataclasses import dataclass
from typing import Final, Literal

Type = Literal["str", "u32", "u64", "s32"]

ORIGINS: Final = {"M": "Metric", "S": "Status", "K": "Key", "C": "Config", "P": "Product"}
NATURES: Final = {
    "G": "Gauge",
    "C": "Counter",
    "L": "Limit",
    "M": "Max",
    "R": "Rate",
    "a": "Avg",
    "A": "Age",
    "D": "Duration",
    "N": "Name",
    "O": "Output",
    "S": "Service",
    "P": "Product",
}
SCOPES: Final = {"S": "Service", "P": "Process"}


@dataclass(frozen=True, slots=True)
class Field:
    """One column, or one line of `show info`."""

    name: str
    tags: str
    """A letter each for origin, nature and scope."""
    type: Type
    meaning: str


_UNUSED = "nothing: it works on data that natlb does not read"
_AGENT = "nothing: there are no agents"


def _unused(names: str, meaning: str = _UNUSED) -> list[Field]:
    return [Field(name, "MCP", "u64", meaning) for name in names.split()]


COLUMNS: Final = (
    Field("pxname", "KNS", "str", "name of the proxy"),
    Field("svname", "KNS", "str", "FRONTEND, BACKEND, or the name of the server"),
    Field("qcur", "MGP", "u32", "connections that wait: their SYN is held back"),
    Field("qmax", "MMP", "u32", "the most that waited at a time"),
    Field("scur", "MGP", "u32", "connections that are open, half-open ones included"),
    Field("smax", "MMP", "u32", "the most that were open at a time"),
    Field("slim", "CLP", "u32", "the most that may be open at a time; of a backend, its fullconn"),
    Field("stot", "MCP", "u64", "connections so far"),
    Field("bin", "MCP", "u64", "bytes of payload from clients to servers, up to the last packet"),
    Field("bout", "MCP", "u64", "bytes of payload from servers to clients, up to the last packet"),
    Field("dreq", "MCP", "u64", "requests that a rule refused: none, since natlb reads none"),
    Field("dresp", "MCP", "u64", "answers that a rule refused: none, since natlb reads none"),
    Field("ereq", "MCP", "u64", "requests that were not valid: none, since natlb reads none"),
    Field("econ", "MCP", "u64", "connections that no server took: refused, not answered, or no server there"),
    Field("eresp", "MCP", "u64", "connections that the server reset after it had answered"),
    Field("wretr", "MCP", "u64", "SYNs that clients sent again while the server was silent"),
    Field("wredis", "MCP", "u64", "connections that went to another server because this one did not answer"),
    Field("status", "SGP", "str", "of a frontend OPEN, PAUSED or STOP; of the others UP, DOWN and so on"),
    Field("weight", "MaP", "u32", "weight in force; of a backend, the sum of its usable servers'"),
    Field("act", "SGP", "u32", "usable servers that are no backups; of a server, whether it is none"),
    Field("bck", "SGP", "u32", "usable servers that are backups; of a server, whether it is one"),
    Field("chkfail", "MCP", "u64", "checks that failed while the server was up"),
    Field("chkdown", "MCP", "u64", "how often it went down"),
    Field("lastchg", "MAP", "u32", "seconds since its state changed"),
    Field("downtime", "MCP", "u32", "seconds that it was down in all"),
    Field("qlimit", "CGS", "u32", "the most that may wait for it (maxqueue)"),
    Field("pid", "KGP", "u32", "number of the process: 1"),
    Field("iid", "KGS", "u32", "number of the proxy"),
    Field("sid", "KGS", "u32", "number of the server in its proxy"),
    Field("throttle", "MaP", "u32", "per cent of its weight that slowstart gives it now"),
    Field("lbtot", "MCP", "u64", "connections that were given to it by the algorithm"),
    Field("tracked", "CNS", "str", "the server whose health it shares"),
    Field("type", "CGS", "u32", "0 is a frontend, 1 a backend, 2 a server"),
    Field("rate", "MRP", "u32", "connections in the last second"),
    Field("rate_lim", "CLP", "u32", "the most new connections in a second (rate-limit sessions)"),
    Field("rate_max", "MMP", "u32", "the most new connections that came in a second"),
    Field("check_status", "MOP", "str", "outcome of the last check, behind a star while another runs"),
    Field("check_code", "MOP", "u32", "the answer's code, where a check reads one"),
    Field("check_duration", "MDP", "u64", "milliseconds that the last check took"),
    *_unused("hrsp_1xx hrsp_2xx hrsp_3xx hrsp_4xx hrsp_5xx hrsp_other"),
    Field("hanafail", "MCP", "u64", "failures seen in traffic"),
    Field("req_rate", "MRP", "u32", "HTTP requests in the last second: none"),
    Field("req_rate_max", "MMP", "u32", "the most HTTP requests in a second: none"),
    Field("req_tot", "MCP", "u64", "HTTP requests: none"),
    Field("cli_abrt", "MCP", "u64", "connections that the client reset or fell silent in"),
    Field("srv_abrt", "MCP", "u64", "connections that the server reset or fell silent in, once it had answered"),
    Field("comp_in", "MCP", "u64", "bytes before compression: none"),
    Field("comp_out", "MCP", "u64", "bytes after compression: none"),
    Field("comp_byp", "MCP", "u64", "bytes that were not compressed: none"),
    Field("comp_rsp", "MCP", "u64", "answers that were compressed: none"),
    Field("lastsess", "MAP", "s32", "seconds since the last connection came; -1 is never"),
    Field("last_chk", "MOP", "str", "what the last check met with, in words"),
    *_unused("last_agt", _AGENT),
    Field("qtime", "MaP", "u32", "milliseconds that a connection waits, on average"),
    Field("ctime", "MaP", "u32", "milliseconds from a SYN to the server's SYN-ACK, on average"),
    Field("rtime", "MaP", "u32", "milliseconds until an HTTP answer: 0"),
    Field("ttime", "MaP", "u32", "milliseconds that a connection is open, on average"),
    *_unused("agent_status agent_code agent_duration", _AGENT),
    Field("check_desc", "MOP", "str", "the outcome of the last check in words"),
    *_unused("agent_desc", _AGENT),
    Field("check_rise", "CGS", "u32", "good checks in a row that bring it up"),
    Field("check_fall", "CGS", "u32", "failed checks in a row that take it down"),
    Field("check_health", "CGS", "u32", "0 to rise + fall - 1; it is up from rise on"),
    *_unused("agent_rise agent_fall agent_health", _AGENT),
    Field("addr", "CGS", "str", "address and port of the server"),
    *_unused("cookie"),
    Field("mode", "CGS", "str", "tcp, or udp for a udp-lb section"),
    Field("algo", "CGS", "str", "the algorithm that shares connections out"),
    Field("conn_rate", "MRP", "u32", "connections in the last second, those that a rule refused included"),
    Field("conn_rate_max", "MMP", "u32", "the most of these in a second"),
    Field("conn_tot", "MCP", "u64", "connections, those that a rule refused included"),
    *_unused("intercepted"),
    Field("dcon", "MCP", "u64", "connections that a rule refused"),
    Field("dses", "MCP", "u64", "sessions that a rule refused: none, a session is a connection"),
    Field("wrew", "MCP", "u64", "headers that could not be rewritten: none, since natlb reads none"),
    Field("connect", "MCP", "u64", "SYNs and first datagrams sent to servers, those sent again included"),
    Field("reuse", "MCP", "u64", "connections used again: none, each is its client's own"),
    *_unused("cache_lookups cache_hits"),
    Field("srv_icur", "MGP", "u32", "idle connections kept for later: none"),
    *_unused("src_ilim"),
    Field("qtime_max", "MMP", "u32", "the longest time that a connection waited, in milliseconds"),
    Field("ctime_max", "MMP", "u32", "the longest time to a SYN-ACK, in milliseconds"),
    Field("rtime_max", "MMP", "u32", "the longest time to an HTTP answer: 0"),
    Field("ttime_max", "MMP", "u32", "the longest time that a connection was open, in milliseconds"),
    Field("eint", "MCP", "u64", "connections that failed or ended for want of a port or of room in the table"),
    Field("idle_conn_cur", "MGP", "u32", "idle connections: none"),
    Field("safe_conn_cur", "MGP", "u32", "idle connections that any client may use: none"),
    Field("used_conn_cur", "MGP", "u32", "connections to the server that are in use"),
    Field("need_conn_est", "MGP", "u32", "connections needed next, as far as can be guessed"),
    Field("uweight", "MaP", "u32", "weight as set; of a backend, the sum of its usable servers'"),
)

POSITIONS: Final = {column.name: place for place, column in enumerate(COLUMNS)}

OF_BACKENDS: Final = {"act": "MGP", "bck": "MGP", "rate": "MGP", "rate_max": "MGP"}
"""Tags that are others in the rows of backends."""
