"""Leaving no empty tables behind.

The iptables command, on kernels where it drives nftables, creates its tables and built-in chains when they are first
used and never removes them, so that a machine without a single rule looks different after natlb than before. This
module removes the ones that were not there: a chain or a table, each only while it is empty, which the kernel itself
checks. Where iptables does not drive nftables there is nothing to do, and nothing is done.
"""

import socket
from collections.abc import Iterable, Mapping
from typing import Final

# Not when it is needed: by then natlb may be a user who cannot read it.
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.nftables.main import NFTables

from natlb.errors import DatapathError

_FAMILIES: Final = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}

_NLM_F_ACK: Final = 0x04
_NLM_F_NONREC: Final = 0x100
"""Do not delete what it contains: a table or chain in use is refused."""

Inventory = frozenset[str]
"""`family/table` and `family/table/chain`, for all that exist."""


def inventory() -> Inventory:
    """Return the nftables tables and chains of this network namespace; nothing where there is no nftables."""
    found: set[str] = set()
    for name, family in _FAMILIES.items():
        try:
            with NFTables(nfgen_family=family) as nft:
                found.update(f"{name}/{table.get_attr('NFTA_TABLE_NAME')}" for table in nft.get_tables())
                found.update(
                    f"{name}/{chain.get_attr('NFTA_CHAIN_TABLE')}/{chain.get_attr('NFTA_CHAIN_NAME')}"
                    for chain in nft.get_chains()
                )
        except (NetlinkError, OSError):
            return frozenset()
    return frozenset(found)


def absent(before: Inventory, used: Mapping[str, Iterable[str]]) -> list[str]:
    """Return those of the used tables and chains (chains by table) that do not exist, chains first."""
    wanted = [f"{family}/{table}/{chain}" for family in _FAMILIES for table in used for chain in used[table]]
    wanted += [f"{family}/{table}" for family in _FAMILIES for table in used]
    return [name for name in wanted if name not in before]


def remove(names: Iterable[str]) -> None:
    """Remove tables and chains, in the given order, as far as they exist and are empty.

    Raises DatapathError where there is no nftables.
    """
    here = inventory()
    for name in names:
        family, table, *chain = name.split("/")
        if name not in here:
            continue
        try:
            with NFTables(nfgen_family=_FAMILIES[family]) as nft:
                flags = _NLM_F_ACK | _NLM_F_NONREC
                if chain:
                    nft.chain("del", table=table, name=chain[0], flags=flags)
                else:
                    nft.table("del", name=table, flags=flags)
        except NetlinkError:
            continue  # somebody else uses it by now: it stays
        except OSError as error:
            raise DatapathError(f"cannot reach nftables ({error.strerror})") from error
