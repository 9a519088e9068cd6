"""What was not there before is what natlb may remove afterwards."""

from natlb.datapath.nftables import absent
from natlb.datapath.rules import JUMPS

_ALL = [
    *("ipv4/raw/PREROUTING", "ipv4/raw/OUTPUT"),
    *("ipv4/mangle/PREROUTING", "ipv4/mangle/OUTPUT", "ipv4/mangle/POSTROUTING", "ipv4/mangle/INPUT"),
    *("ipv6/raw/PREROUTING", "ipv6/raw/OUTPUT"),
    *("ipv6/mangle/PREROUTING", "ipv6/mangle/OUTPUT", "ipv6/mangle/POSTROUTING", "ipv6/mangle/INPUT"),
    *("ipv4/raw", "ipv4/mangle", "ipv6/raw", "ipv6/mangle"),
]


def test_on_a_machine_without_rules_everything_used_is_absent_and_chains_come_first() -> None:
    assert absent(frozenset(), JUMPS) == _ALL


def test_what_is_there_is_never_named() -> None:
    before = frozenset(["ipv4/raw", "ipv4/raw/PREROUTING", "ipv6/mangle"])
    assert absent(before, JUMPS) == [name for name in _ALL if name not in before]


def test_what_natlb_does_not_use_does_not_matter() -> None:
    assert absent(frozenset(["ipv4/filter", "ipv4/filter/INPUT", "inet/firewalld"]), JUMPS) == _ALL
    assert absent(frozenset(_ALL), JUMPS) == []
