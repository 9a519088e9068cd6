"""What commands about frontends and limits change."""

import pytest

from natlb.core.engine import NatEngine
from natlb.core.service import Intake, Service
from natlb.core.verdict import Accept, Reply, Rewrite
from natlb.runtime.running import Running

from .conftest import syn
from .consoles import answer


def test_a_disabled_frontend_refuses_new_connections_and_keeps_those_it_has(
    running: Running, engine: NatEngine
) -> None:
    assert answer(running, "disable frontend www") == ""
    assert isinstance(engine.handle_packet(syn("44.1.1.1", 5000, "44.2.2.2", 8888), 104.0), Reply)
    assert isinstance(engine.handle_packet(syn("44.1.1.1", 40312, "44.2.2.2", 8888), 104.0), Rewrite)
    assert isinstance(engine.handle_packet(syn("fd44::1", 5000, "fd44::2", 8888), 104.0), Rewrite)
    assert answer(running, "enable frontend www") == ""
    assert isinstance(engine.handle_packet(syn("44.1.1.1", 5000, "44.2.2.2", 8888), 104.0), Rewrite)


def test_a_frontend_that_was_shut_down_stays_so(running: Running, services: list[Service]) -> None:
    assert answer(running, "shutdown frontend www") == ""
    answer(running, "enable frontend www")
    assert services[0].intake is Intake.STOPPED


def test_the_ports_of_a_frontend_that_was_shut_down_are_left_to_the_kernel(running: Running, engine: NatEngine) -> None:
    told: list[Service] = []
    running.on_shutdown = told.append
    assert answer(running, "shutdown frontend www") == ""
    assert [service.name for service in told] == ["www"]
    assert isinstance(engine.handle_packet(syn("44.1.1.1", 5000, "44.2.2.2", 8888), 104.0), Accept)
    assert isinstance(engine.handle_packet(syn("44.1.1.1", 40312, "44.2.2.2", 8888), 104.0), Rewrite), "it goes on"
    assert isinstance(engine.handle_packet(syn("fd44::1", 5000, "fd44::2", 8888), 104.0), Rewrite)
    assert answer(running, "shutdown frontend www") == "Frontend was already shut down.\n"
    assert [service.name for service in told] == ["www"]


@pytest.mark.parametrize(("setting", "line"), [("connections", "ConnRateLimit"), ("sessions", "SessRateLimit")])
def test_what_may_come_in_a_second_is_limited(running: Running, engine: NatEngine, setting: str, line: str) -> None:
    def is_let_in(port: int, now: float) -> bool:
        return isinstance(engine.handle_packet(syn("44.1.1.1", port, "44.2.2.2", 8888), now), Rewrite)

    assert answer(running, f"set rate-limit {setting} global 2") == ""
    assert f"\n{line}: 2\n" in answer(running, "show info")
    assert [is_let_in(5000 + each, 110.0) for each in range(4)] == [True, True, False, False]
    assert answer(running, f"set rate-limit {setting} global 0") == ""
    assert f"\n{line}: 0\n" in answer(running, "show info")
    assert is_let_in(5009, 110.0)


@pytest.mark.parametrize("setting", ["ssl-sessions", "http-compression"])
def test_rates_of_what_there_is_not_are_refused_by_name(running: Running, setting: str) -> None:
    assert answer(running, f"set rate-limit {setting} global 2").startswith(f"'set rate-limit {setting}' is not avail")


def test_a_limit_of_0_is_shown_as_it_is(running: Running) -> None:
    answer(running, "set maxconn frontend www 0")
    assert answer(running, "show stat www 1 0").splitlines()[1].split(",")[6] == "0"


def test_the_limit_of_a_frontend_is_set(running: Running, services: list[Service]) -> None:
    assert answer(running, "set maxconn frontend www 5") == ""
    assert services[0].max_connections == 5


def test_the_limit_of_all_is_set_up_to_what_natlb_was_started_with(running: Running, engine: NatEngine) -> None:
    assert answer(running, "set maxconn global 5") == ""
    assert engine.admission.max_connections == 5
    assert answer(running, f"set maxconn global {engine.capacity + 1}") == "Value out of range.\n"
    assert answer(running, "set maxconn global 0") == ""
    assert engine.admission.max_connections == engine.capacity


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("set maxconn global x", "Expects an integer value.\n"),
        ("set maxconn global 10x", "Expects an integer value.\n"),
        ("set maxconn frontend www x", "Integer value expected.\n"),
        ("set rate-limit sessions global x", "Expects an integer value.\n"),
        ("set rate-limit connections global 5x", "Expects an integer value.\n"),
    ],
)
def test_what_is_no_number_is_refused_and_not_taken_for_0(running: Running, line: str, reply: str) -> None:
    assert answer(running, line) == reply
