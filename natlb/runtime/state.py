"""`show servers state`: where each server stands, as HAProxy writes it down for its next start."""

from collections.abc import Iterator
from typing import Final

from natlb.core.pool import AdminState, Pool, Server
from natlb.runtime.addresses import written
from natlb.runtime.console import Console
from natlb.runtime.language import Words
from natlb.runtime.running import Running, Written

_VERSION: Final = 1
COLUMNS: Final = (
    "be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight "
    "srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state "
    "bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr "
    "srv_agent_addr srv_agent_port"
)

_ADMIN: Final = {AdminState.READY: 0, AdminState.MAINT: 1, AdminState.DRAIN: 8}
_WRITTEN: Final = 4
"""Bits of `srv_admin_state`. That a server was written to start in maintenance is remembered for ever."""
_STARTING: Final = 1
_RUNNING: Final = 2
"""`srv_op_state` of a server that is up: in its slow start, and else."""
_PAUSED: Final = 8
"""A bit of `srv_check_state`: HAProxy pauses the checks of such a server, and for ever those that it has not."""


def show_servers_state(console: Console, words: Words) -> Iterator[str]:
    """`show servers state [<backend>]`."""
    return _lines(console.running, console.running.backends(words))


def _lines(running: Running, pools: list[Pool]) -> Iterator[str]:
    yield f"{_VERSION}\n# {COLUMNS}\n"
    for pool in pools:
        for server in list(pool.servers.values()):
            if server.pool is not None:  # else it has gone while others were shown
                yield _row(running, pool, server)


def _row(running: Running, pool: Pool, server: Server) -> str:
    name = f"{pool.name}/{server.name}"
    written_of = running.written.get(name, Written())
    known = running.checks[name].state()
    address, _, port = written(*server.endpoint(0)).rpartition(":")
    values: dict[str, object] = dict.fromkeys(COLUMNS.split(), 0) | {
        "be_id": pool.id,
        "be_name": pool.name,
        "srv_id": server.id,
        "srv_name": server.name,
        "srv_addr": address.strip("[]"),
        "srv_uweight": server.weight,
        "srv_iweight": server.initial_weight,
        "bk_f_forced_id": int(written_of.backend_id),
        "srv_f_forced_id": int(written_of.id),
        "srv_fqdn": "-",
        "srv_port": port,
        "srvrecord": "-",
        **dict(zip(("srv_check_port", "srv_check_addr"), running.checked_at(name), strict=True)),
        # HAProxy's agent, which natlb has not, would be asked where the checks were written to ask.
        "srv_agent_port": written_of.check_port,
        "srv_agent_addr": written_of.check_address,
        **known,
        "srv_admin_state": known.get("srv_admin_state", 0)
        | _ADMIN[server.admin]
        | (_WRITTEN if written_of.disabled else 0),
        "srv_time_since_last_change": int(running.clock() - server.changed),
    }
    if server.started is not None and values["srv_op_state"] == _RUNNING:
        values["srv_op_state"] = _STARTING
    if written_of.disabled and not values["srv_check_state"]:
        values["srv_check_state"] = _PAUSED
    return f"{' '.join(map(str, values.values()))}\n"
