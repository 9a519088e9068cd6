"""From a configuration to the stats sockets.

As in `natlb.assembly`, the configuration says what was written and `natlb.runtime` has settings of its own; this module
translates.
"""

from collections.abc import Sequence

from natlb.config.defaults import STATS_MAXCONN, STATS_TIMEOUT
from natlb.config.model import Config, StatsSocket
from natlb.runtime.commands import LANGUAGE
from natlb.runtime.language import Level
from natlb.runtime.running import Running
from natlb.runtime.server import Access, RuntimeServer


def accesses(config: Config) -> list[Access]:
    """Return where the sockets are, and who may use them for what."""
    return [_access(each) for each in config.stats_sockets]


def server_for(sockets: Sequence[Access], config: Config, running: Running) -> RuntimeServer:
    """Make the server of all of them; `running` is what its commands work on."""
    return RuntimeServer(
        sockets,
        running,
        LANGUAGE,
        timeout=config.stats_timeout or STATS_TIMEOUT,
        most_clients=config.stats_maxconn or STATS_MAXCONN,
    )


def _access(stats: StatsSocket) -> Access:
    return Access(
        stats.path,
        None if stats.address is None or stats.port is None else (str(stats.address), stats.port),
        Level[stats.level.upper()],
        0o600 if stats.mode is None else stats.mode,
        stats.user,
        stats.group,
        stats.severity,
    )
