"""The machine that natlb runs on, seen from the network namespace that it runs in."""

import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path

from natlb.errors import DatapathError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_CAPABILITIES = {12: "CAP_NET_ADMIN", 13: "CAP_NET_RAW"}
_PROGRAMS = ("iptables-save", "iptables-restore", "ip6tables-save", "ip6tables-restore")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address and a port. An all-zero address stands for all addresses of this machine, of its family."""

    address: Address
    port: int
    interface: str | None = None
    """Only for packets that come in there."""
    foreign: bool = False
    """The address need not be one of this machine's: packets to it are on their way through."""
    protocol: int = 6
    """Of the IP header: 6 is TCP, 17 is UDP."""

    def __str__(self) -> str:
        """As it is written in messages: 127.0.0.1:80, [::1]:80."""
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


def check_privileges() -> None:
    """Raise DatapathError, naming the remedy, unless this process may divert packets."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    effective = int(status.split("CapEff:")[1].split()[0], 16)
    lacking = [name for bit, name in _CAPABILITIES.items() if not effective >> bit & 1]
    if lacking:
        raise DatapathError(f"natlb needs root ({' and '.join(lacking)}) to divert packets: run it with sudo")
    absent = next((program for program in _PROGRAMS if shutil.which(program) is None), None)
    if absent:
        raise DatapathError(f"the program '{absent}' is missing: install the package iptables")


def addresses_by_interface() -> dict[str, set[Address]]:
    """Return the addresses of each interface of this network namespace; interfaces without any are left out."""
    found: dict[str, set[Address]] = {}
    for _, own, interface in _assigned():
        found.setdefault(interface, set()).add(own)
    return found


def connected_networks() -> list[tuple[Network, Address, str]]:
    """Return the networks that are reached without a router, each with the own address on it, and by which interface.

    Those of the loopback interface are left out: from there nothing reaches a client without passing this machine.
    """
    return [found for found in _assigned() if found[2] != "lo"]


def _assigned() -> list[tuple[Network, Address, str]]:
    # Imported here because it is large and needed once: a balancer that only runs should not carry it in mind.
    from pyroute2 import IPRoute  # noqa: PLC0415

    found: list[tuple[Network, Address, str]] = []
    with IPRoute() as route:
        names = {link["index"]: link.get("ifname") for link in route.get_links()}
        for entry in route.get_addr():
            # With two ends, `local` is this one, and the network is the one around the other.
            end = entry.get("address") or entry.get("local")
            network = ip_network(f"{end}/{entry['prefixlen']}", strict=False)
            found.append((network, ip_address(entry.get("local") or end), names[entry["index"]]))
    return found


def preferred_source(address: Address) -> Address | None:
    """Return the source address that this machine would use towards `address`; None where there is no route."""
    from pyroute2 import IPRoute  # noqa: PLC0415 (as in _assigned)
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415

    with IPRoute() as route:
        try:
            chosen = next((way.get("prefsrc") for way in route.route("get", dst=str(address))), None)
        except NetlinkError:
            return None
    return ip_address(chosen) if chosen else None


def ephemeral_ports() -> tuple[int, int]:
    """Return the first and the last port that the kernel gives to sockets of its own accord, in both IP versions."""
    low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()
    return int(low), int(high)


def is_local(address: Address, interfaces: Mapping[str, Collection[Address]]) -> bool:
    """Whether packets to `address` stay on this machine."""
    return address.is_loopback or any(address in addresses for addresses in interfaces.values())
