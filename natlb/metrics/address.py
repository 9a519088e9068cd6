"""Where metrics are to be read: the argument of `--metrics`, `[ADDRESS:]PORT`."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from natlb.digits import whole_number

LOOPBACK: Final = IPv4Address("127.0.0.1")
"""Where they are read if no address is named: by programs of this machine alone."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen."""

    address: IPv4Address | IPv6Address
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


def parse(text: str) -> Address:
    """Read `PORT`, `ADDRESS:PORT`, `[IPV6]:PORT` or `*:PORT`. Raises ValueError with what is wrong with it."""
    written, colon, digits = text.rpartition(":")
    port = whole_number(digits)
    if port is None or not 1 <= port <= 65535:
        raise ValueError(f"'{text}' has no port from 1 to 65535; write [ADDRESS:]PORT")
    if not colon:
        return Address(LOOPBACK, port)
    if written == "*":
        written = "0.0.0.0"  # noqa: S104 - that is what it asks for
    bare = written[1:-1] if written.startswith("[") and written.endswith("]") else written
    try:
        address = ip_address(bare)
    except ValueError:
        raise ValueError(f"'{written}' is not an IP address; write [ADDRESS:]PORT") from None
    if address.version == 4 and bare != written:
        raise ValueError(f"'{written}' is not an IPv6 address, and only those stand in brackets; write {bare}:{digits}")
    if address.version == 6 and bare == written:
        raise ValueError(f"'{text}' is ambiguous; write an IPv6 address in brackets: [{bare}]:{digits}")
    return Address(address, port)
