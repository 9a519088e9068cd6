"""Addresses and tuples as text, as HAProxy writes them: `44.1.1.1:40312`, `[fd44::1]:40312`, `::ffff:44.1.1.1`."""

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

from natlb.core.flow import FlowKey, ends


def read(word: str) -> IPv4Address | IPv6Address:
    """Return the address that a word is. Raises ValueError if it is none, or names a link besides (`fe80::1%eth0`)."""
    address = ip_address(word)
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise ValueError(f"'%{address.scope_id}' is no part of an address")
    return address


def endpoints(key: FlowKey) -> tuple[str, str]:
    """Return a tuple's two ends as text, source first."""
    source, destination = ends(key)
    return written(*source), written(*destination)


def written(address: bytes, port: bytes) -> str:
    """Return an endpoint as text; `address` is 4 or 16 bytes, `port` 2."""
    number = int.from_bytes(port, "big")
    return f"[{plain(address)}]:{number}" if len(address) == 16 else f"{plain(address)}:{number}"


def plain(address: bytes) -> str:
    """Return an address, 4 or 16 bytes, as text: as C's library writes it, an IPv4 address within an IPv6 one as such.

    `ipaddress` writes that as hexadecimal, in some versions of Python.
    """
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)
