"""From a configuration's text to the journal's settings."""

from natlb.assembly import Assembly, assemble
from natlb.config.parser import parse
from natlb.journals import journal_for
from natlb.logs.journal import Journal, Settings
from natlb.logs.syslog import Target


def made(text: str) -> tuple[Assembly, Journal | None]:
    parsed = parse([("t.cfg", text.encode())], {})
    assert parsed.config is not None, parsed.diagnostics
    assembly = assemble(parsed.config)
    return assembly, journal_for(parsed.config, assembly.services)


WEB = """\
global
    log-tag lb
    log-send-hostname host.example
    log 192.0.2.9 len 200 format rfc5424 local1 err warning
frontend www
    bind :80
    log global
    option tcplog
    log-format-sd "[ex@1 ip=%ci]"
    option dontlognull
    option logasap
    default_backend nodes
    timeout client 10s
backend nodes
    timeout server 5s
    log stderr local0
    log-tag be
    server s 10.0.0.1:80
frontend quiet
    bind :81
    default_backend nodes
"""


def settings_of(journal: Journal) -> dict[str, Settings]:
    return {name: log.settings for name, log in journal._proxies.items()}


def test_nothing_is_made_and_written_down_where_nothing_is_logged() -> None:
    assembly, journal = made("global\n    log stderr local0\nlisten l\n    bind :80\n    server s 10.0.0.1:80\n")
    assert journal is None
    assert not any(service.logged for service in assembly.services)


def test_each_proxy_has_its_own_settings() -> None:
    assembly, journal = made(WEB)
    assert journal is not None
    assert {service.name: service.logged for service in assembly.services} == {"www": True, "quiet": False}
    settings = settings_of(journal)
    assert set(settings) == {"www", "nodes"}
    assert settings["www"].targets == [Target(("192.0.2.9", 514), 200, "rfc5424", 17, 3, 4)]
    assert settings["nodes"] == Settings([Target(2)], "be")
    [(service, log)] = journal._services.items()
    assert (service.name, log.origin.tag, log.origin.host) == ("www", "lb", "host.example")
    asked = log.settings
    assert (asked.skip_empty, asked.early, asked.skip_normal, asked.separate_errors) == (True, True, False, False)
    assert asked.format is not None
    assert asked.format[:3] == [("ci", frozenset()), ":", ("cp", frozenset())]
    assert asked.data == ["[ex@1 ip=", ("ci", frozenset()), "]"]


def test_the_host_names_itself_unless_it_is_named() -> None:
    _, journal = made(WEB.replace("log-send-hostname host.example", "log-send-hostname"))
    assert journal is not None
    [log] = journal._services.values()
    assert log.origin.host
