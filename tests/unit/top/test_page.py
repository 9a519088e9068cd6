"""What docs/top.md shows is what `natlb top` draws."""

import re
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from natlb.top.rates import Sample
from natlb.top.replies import Kind
from natlb.top.screen import draw
from natlb.top.state import HELP, ORDERS, State, View
from tests.unit.top.samples import INFO, row, session

PAGE = (Path(__file__).parents[3] / "docs" / "top.md").read_text(encoding="utf-8")

_CARRIED = {"total": 9127, "octets_in": 0, "octets_out": 0}
_WWW = row(Kind.FRONTEND, "www", "FRONTEND", status="OPEN", current=412, limit=940, **_CARRIED)
_NODES = row(Kind.BACKEND, "nodes", "BACKEND", current=412, queued=0, active=2, backup=1, **_CARRIED)
_SERVERS = [
    row(Kind.SERVER, "nodes", name, status=status, check=check, weight=weight, current=current, total=total, queued=0,
        octets_in=0, octets_out=0, address=address)
    for name, status, check, weight, current, total, address in (
        ("server1", "UP", "L4OK", 10, 301, 6085, "44.3.3.3:4444"),
        ("server2", "UP", "L4OK", 5, 111, 3042, "44.4.4.4:5555"),
        ("spare", "DOWN", "L4CON", 1, 0, 0, "44.5.5.5:5555"),
    )
]  # fmt: skip
_SESSIONS = [
    session(n, client=f"44.1.1.{n}:4{n}112", server=server, age=age, octets_in=0, octets_out=0)
    for n, server, age in ((7, "server1", "2m11s"), (3, "server2", "8s"), (9, "server1", "41s"))
]
_BEFORE = Sample(0.0, INFO, [_WWW, _NODES, *_SERVERS], _SESSIONS)
_NOW = Sample(
    1.0,
    INFO,
    [
        replace(_WWW, total=9145, octets_in=213_400, octets_out=7_912_000),
        replace(_NODES, total=9145, octets_in=213_400, octets_out=7_912_000),
        replace(_SERVERS[0], total=6097, octets_in=142_300, octets_out=5_280_000),
        replace(_SERVERS[1], total=3048, octets_in=71_100, octets_out=2_632_000),
        _SERVERS[2],
    ],
    [
        replace(_SESSIONS[0], octets_in=31_200, octets_out=1_810_000),
        replace(_SESSIONS[1], octets_in=2100, octets_out=96_000),
        replace(_SESSIONS[2], octets_in=120, octets_out=4300),
    ],
)


@pytest.mark.parametrize("view", View)
def test_each_screen_of_the_page_is_drawn(view: View) -> None:
    out = StringIO()
    console = Console(file=out, width=80, highlight=False, markup=False, color_system=None)
    console.print(draw(State(view), _NOW, _BEFORE, 80, 9, ""), end="")
    drawn = "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())
    assert f"```text\n{drawn}```" in PAGE, f"docs/top.md needs:\n{drawn}"


def test_the_page_names_all_keys_and_orders() -> None:
    for keys, meaning in HELP.items():
        assert f"| `{keys}` | {meaning} |" in PAGE
    for orders in ORDERS.values():
        for order in orders:
            assert re.search(rf"\b{order}\b", PAGE)
