"""Commands about frontends, and about the limits of the whole process."""

import re
from typing import Final

from natlb.core.service import Intake, Service
from natlb.log import Level, status
from natlb.runtime.console import Console
from natlb.runtime.language import Refused, Severity, Words
from natlb.runtime.running import Running

_RATES: Final = (
    "'set rate-limit' only supports :\n"
    "   - 'connections global' to set the per-process maximum connection rate\n"
    "   - 'sessions global' to set the per-process maximum session rate\n"
    "   - 'ssl-sessions global' to set the per-process maximum SSL session rate\n"
    "   - 'http-compression global' to set the per-process maximum compression speed in kB/s"
)
_NO_RATES: Final = {
    "ssl-sessions": "natlb forwards packets, encrypted or not, and has no TLS sessions.",
    "http-compression": "natlb forwards packets and compresses nothing.",
}

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)


def enable_frontend(console: Console, words: Words) -> str:
    """`enable frontend <frontend>`."""
    service = console.running.service(words)
    if service.intake is Intake.STOPPED:
        raise Refused("Frontend was previously shut down, cannot enable.")
    if service.intake is Intake.OPEN:
        raise Refused("All sockets are already enabled.", Severity.NOTICE)
    service.intake = Intake.OPEN
    _tell(console.running, service, "Resumed")
    return ""


def disable_frontend(console: Console, words: Words) -> str:
    """`disable frontend <frontend>`: new connections are refused."""
    service = console.running.service(words)
    if service.intake is Intake.STOPPED:
        raise Refused("Frontend was previously shut down, cannot disable.", Severity.NOTICE)
    if service.intake is Intake.PAUSED:
        raise Refused("All sockets are already disabled.", Severity.NOTICE)
    service.intake = Intake.PAUSED
    _tell(console.running, service, "Paused")
    return ""


def shutdown_frontend(console: Console, words: Words) -> str:
    """`shutdown frontend <frontend>`: it answers no more, and its ports are anybody's."""
    running = console.running
    service = running.service(words)
    if service.intake is Intake.STOPPED:
        raise Refused("Frontend was already shut down.", Severity.NOTICE)
    service.intake = Intake.STOPPED
    running.engine.addresses.release(service)
    running.on_shutdown(service)
    return ""


def set_maxconn_frontend(console: Console, words: Words) -> str:
    """`set maxconn frontend <frontend> <value>`."""
    service = console.running.service(words)
    limit = _integer(words[1:], "Integer value expected.")
    if limit < 0:
        raise Refused("Value out of range.")
    service.max_connections = limit
    return ""


def set_maxconn_global(console: Console, words: Words) -> str:
    """`set maxconn global <value>`: up to what natlb was started with; 0 is that."""
    running = console.running
    limit = _integer(words, "Expects an integer value.")
    if limit > running.most_connections:
        raise Refused("Value out of range.")
    running.engine.admission.max_connections = limit if limit > 0 else running.most_connections
    return ""


def set_rate_limit(console: Console, words: Words) -> str:
    """`set rate-limit connections|sessions global <value>`: how many there may be in a second; 0 is any number."""
    what = words[0] if words[1:2] == ["global"] else ""
    if what in _NO_RATES:
        raise Refused(f"'set rate-limit {what}' is not available: {_NO_RATES[what]}")
    if what not in ("connections", "sessions"):
        raise Refused(_RATES)
    limit = _integer(words[2:], "Expects an integer value.")
    if limit < 0:
        raise Refused("Value out of range.")
    engine = console.running.engine
    if what == "connections":
        engine.admission.connection_limit = limit or None
    else:
        engine.admission.session_limit = limit or None
    return ""


def _tell(running: Running, service: Service, what: str) -> None:
    alone = (service, None) in running.proxies
    status(service.name, Level.WARNING, f"{what} {'frontend' if alone else 'proxy'} {service.name}.")


def _integer(words: Words, otherwise: str) -> int:
    """Return the first word's number. HAProxy reads what is none as 0; here it is refused."""
    if not words or not _INTEGER.fullmatch(words[0]):
        raise Refused(otherwise)
    return int(words[0])
