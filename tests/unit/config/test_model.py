"""The model is frozen, and explains itself."""

import ast
import dataclasses
import inspect

import pytest

from natlb.config import model
from natlb.config.model import Backend, Config, Frontend, Location, Timeouts

HERE = Location("t.cfg", 1)


def frontend(name: str, position: int, disabled: bool = False) -> Frontend:
    return Frontend(name, position, position, (), None, None, Timeouts(), disabled, None, HERE)


def backend(name: str, position: int) -> Backend:
    return Backend(name, position, position, (), "roundrobin", 3, Timeouts(), False, None, HERE)


def test_halves_are_of_tcp_unless_said_and_say_nothing_of_udp() -> None:
    front, back = frontend("f", 1), backend("b", 2)
    assert (front.protocol, back.protocol) == ("tcp", "tcp")
    assert (back.sources, back.requests, back.responses) == (None, None, None)


def classes() -> list[ast.ClassDef]:
    tree = ast.parse(inspect.getsource(model))
    return [node for node in tree.body if isinstance(node, ast.ClassDef)]


@pytest.mark.parametrize("node", classes(), ids=lambda node: node.name)
def test_each_field_has_its_docstring(node: ast.ClassDef) -> None:
    for statement, following in zip(node.body, node.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign):
            assert isinstance(following, ast.Expr), f"{node.name}.{ast.unparse(statement.target)} has no docstring"
    assert not isinstance(node.body[-1], ast.AnnAssign)


@pytest.mark.parametrize("node", classes(), ids=lambda node: node.name)
def test_nothing_in_it_can_be_changed(node: ast.ClassDef) -> None:
    made = getattr(model, node.name)
    assert made.__dataclass_params__.frozen
    assert "__slots__" in vars(made)


def test_proxies_come_in_the_order_written_and_a_listen_once() -> None:
    fronts = (frontend("f", 1), frontend("l", 3))
    backs = (backend("b", 2), backend("l", 3))
    config = Config(frontends=fronts, backends=backs)
    assert list(config.proxies()) == [(fronts[0], None), (None, backs[0]), (fronts[1], backs[1])]


def test_a_backend_is_found_by_its_name() -> None:
    config = Config(backends=(backend("b", 1), backend("c", 2)))
    assert config.backend("c") is config.backends[1]
    assert config.backend("d") is None


def test_a_location_reads_as_file_and_line() -> None:
    assert str(Location("t.cfg", 7)) == "t.cfg:7"


def test_a_configuration_can_be_replaced_but_not_edited() -> None:
    config = Config(maxconn=10)
    assert dataclasses.replace(config, maxconn=20).maxconn == 20
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.maxconn = 20  # type: ignore[misc]
