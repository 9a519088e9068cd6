"""From a configuration to the journal of its connections and proxies.

As in `natlb.assembly`, the configuration says what was written and `natlb.logs` has settings of its own; this module
translates. Without a `log` line there is no journal, and nothing is written down for one.
"""

from collections.abc import Iterable

from natlb.config.model import Backend, Config, Frontend, LogFormat, Logging, LogTarget
from natlb.core.service import Service
from natlb.logs.journal import Journal, Settings
from natlb.logs.line import Part, hostname
from natlb.logs.syslog import Target

TAG = "natlb"
"""The program's name in log lines, where no other is given."""


def journal_for(config: Config, services: Iterable[Service]) -> Journal | None:
    """Make the journal, and have the services that it is about write their accounts; None where nothing is logged."""
    host = config.log_hostname
    journal = Journal(hostname() if host == "" else host)
    frontends = {frontend.name: frontend for frontend in config.frontends}
    logged: dict[str, Settings] = {}
    proxies: list[Frontend | Backend] = [*config.frontends, *config.backends]
    for proxy in proxies:
        if proxy.logging.targets:
            logged[proxy.name] = _settings(config, proxy.logging)
    if not logged:
        return None
    journal.log_proxies(logged)
    for service in services:
        frontend = frontends[service.name]
        if frontend.logging.targets:
            journal.log_connections(service, _settings(config, frontend.logging))
    return journal


def _settings(config: Config, logging: Logging) -> Settings:
    return Settings(
        targets=[_target(each) for each in logging.targets],
        tag=logging.tag or config.log_tag or TAG,
        format=None if logging.format is None else _format(logging.format),
        data=None if logging.structured_data is None else _format(logging.structured_data),
        skip_empty="dontlognull" in logging.options,
        skip_normal="dontlog-normal" in logging.options,
        separate_errors="log-separate-errors" in logging.options,
        early="logasap" in logging.options,
    )


def _target(target: LogTarget) -> Target:
    return Target(target.destination, target.length, target.header, target.facility, target.level, target.least_level)


def _format(written: LogFormat) -> list[Part]:
    return [each if isinstance(each, str) else (each.name, each.flags) for each in written]
