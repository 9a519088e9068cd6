"""What is to be known of an address without a look at any connection: whether it is a host's, and whether it is ours.

A source that no single host has, such as a multicast address, must not be answered (RFC 1122, section 3.2.1.3): whoever
sends from one wants many others to be hit by the answer. A loopback address never leaves its machine, so nobody
elsewhere can answer it. And what is sent to an address of the balancer's own comes here anyway, whichever way.
"""


class OwnAddresses(set[bytes]):
    """The balancer's own addresses, 4 or 16 bytes each, as far as they are known. Loopback ones need not be told."""

    __slots__ = ()

    def is_local(self, address: bytes) -> bool:
        """Whether an address is this machine's."""
        return is_loopback(address) or address in self


def is_host(address: bytes) -> bool:
    """Whether an address can be that of a single host, which alone may be answered."""
    if len(address) == 4:
        return 0 < address[0] < 224
    return address[0] != 0xFF and any(address)


def is_loopback(address: bytes) -> bool:
    """Whether packets to an address stay on the machine that sends them."""
    return address[0] == 127 if len(address) == 4 else address == b"\0" * 15 + b"\1"
