"""What may differ between two replies to the same command, taken out of them.

That is: what is measured, the columns that only HAProxy has, the words of descriptions and of `help`.
"""

import json
import re

from natlb.runtime.columns import COLUMNS

MEASURED = frozenset({"lastchg", "downtime", "check_duration", "need_conn_est"})
"""Columns of `show stat` that are times, or a guess: HAProxy's counts the connections that checks have made."""

_NAMES = """
    Version Release_date Pid Uptime Uptime_sec PoolAlloc_MB PoolUsed_MB Ulimit-n Maxsock Hard_maxconn CumConns CumReq
    ConnRate MaxConnRate SessRate MaxSessRate Maxpipes Tasks Run_queue Idle_pct Jobs TotalBytesOut BytesOutRate
    PoolAlloc_bytes PoolUsed_bytes Start_time_sec
"""
_OTHERS = frozenset([*_NAMES.split(), "Build info"])
"""Lines of `show info` that are of the process, or count connections to the stats sockets, as HAProxy does."""

_STATE = re.compile(r"(\d+ \S+ \d+ \S+ \S+ \d+ \d+ \d+ \d+) \d+ (\d+ \d+ \d+ \d+ \d+ \d+ \d+ \S+ \d+ .*)")
_TYPED = re.compile(r'([FBS])\.(\d+)\.(\d+)\.(\d+)\.(\w+)\.1:(\w+):(\w+):(.*?)(:"[^"]*")?')
_TYPED_INFO = re.compile(r'(\d+\.([\w -]+)\.1:\w+:\w+):(.*?)(:"[^"]*")?')
_INFO = re.compile(r'([A-Z][\w -]*|node): (.*?)(:"[^"]*")?')
_SHOWN = len(COLUMNS)


def comparable(reply: bytes) -> list[str]:
    """Return the lines of a reply without what may differ."""
    text = re.sub(r"/tmp/[^/]+/", "/tmp/", reply.decode())
    text = re.sub(r"events captured on \[.*?\]", "events captured on []", text)
    text = re.sub(r"(?m)^(\S+/\S+ \d+/\d+ \S+ \d+ - \d+) \d+ \d+ \d+ ", r"\1 ", text)  # show servers conn: checks count
    text = re.sub(r"(?m)^0x[0-9a-f]+: key=(.*) exp=\d+", r"0x0: key=\1 exp=0", text)  # show table
    lines = [_line(line) for line in text.split("\n")]
    # The commands that there are.
    return [line for line in lines if line is not None and not re.match(r"  .{40}: |  .*\]\*?: ", line)]


def _line(line: str) -> str | None:
    """Return a line without what may differ, or None for one that only HAProxy has."""
    if line.startswith("> ") and line != "> ":  # after a prompt
        rest = _line(line[2:])
        return None if rest is None else f"> {rest}"
    if line.startswith("# pxname,"):
        return ",".join(line.split(",")[:_SHOWN])
    if line.count(",") >= _SHOWN and not line.startswith("["):
        values = line.split(",")[:_SHOWN]
        return ",".join("" if column.name in MEASURED else value for column, value in zip(COLUMNS, values, strict=True))
    if line.startswith("[") and line.endswith("]") and '"field"' in line:
        return json.dumps(_objects(json.loads(line)))
    if found := _STATE.fullmatch(line):
        return f"{found[1]} {found[2]}"
    if found := _TYPED.fullmatch(line):
        head = ".".join(found.group(1, 2, 3, 4, 5))
        if int(found[4]) >= _SHOWN:
            return None
        return f"{head}:{found[6]}:{found[7]}:{'' if found[5] in MEASURED else found[8]}"
    if found := _TYPED_INFO.fullmatch(line):
        return f"{found[1]}:{'' if found[2] in _OTHERS else found[3]}"
    if (found := _INFO.fullmatch(line)) and found[1] in _OTHERS:
        return f"{found[1]}: "
    return line


def _objects(found: list[object]) -> list[object]:
    """Return what JSON says, without what may differ."""
    kept: list[object] = []
    for each in found:
        if isinstance(each, list):
            kept.append(_objects(each))
            continue
        assert isinstance(each, dict)
        name, value = each["field"]["name"], each["value"]
        if "objType" in each and each["field"]["pos"] >= _SHOWN:
            continue
        if name in MEASURED or ("objType" not in each and name in _OTHERS):
            value = {"type": value["type"]}
        kept.append({**each, "value": value})
    return kept
