"""The Internet checksum: one's-complement arithmetic on 16-bit words (RFC 1071), updated in place (RFC 1624).

One's-complement addition of 16-bit words is addition modulo 0xFFFF: 0x10000 leaves the remainder 1, which is just the
end-around carry. So the sum of a whole packet is one remainder of one large integer, and the change that a rewrite
makes to a checksum is a difference that can be computed once per connection and added to every packet.

The residue 0 has two spellings, 0x0000 and 0xFFFF. A sum of anything but zeroes folds to 0xFFFF, never to 0x0000;
that is what RFC 1624 set right in RFC 1141, and what `fold` keeps.
"""

Buffer = bytes | bytearray | memoryview


def fold(data: Buffer) -> int:
    """Return the one's-complement sum of `data` as 16-bit big-endian words, odd lengths padded with a zero byte.

    The result is 0..0xFFFF; the checksum field of a header is its complement (RFC 1071, section 1).
    """
    number = int.from_bytes(data, "big")
    if len(data) & 1:
        number <<= 8
    return number % 0xFFFF or (0xFFFF if number else 0)


def difference(old: Buffer, new: Buffer) -> int:
    """Return what replacing `old` by `new` adds to a one's-complement sum: ~m + m' of RFC 1624, equation 3.

    Both must start at an even offset of the packet. The result is 0..0xFFFE, and differences add up modulo 0xFFFF.
    """
    return (fold(new) - fold(old)) % 0xFFFF


def adjust(checksum: int, delta: int) -> int:
    """Return the checksum field after a change of `delta` in what it covers: HC' = ~(~HC + ~m + m') of RFC 1624.

    Complemented twice, that is the field less `delta`, with an end-around borrow.
    """
    return checksum - delta if checksum >= delta else checksum - delta + 0xFFFF


def pseudo_header(source: Buffer, destination: Buffer, protocol: int, length: int) -> bytes:
    """Return the pseudo-header that transport checksums cover: RFC 9293, section 3.1, and RFC 8200, section 8.1.

    `source` and `destination` are 4 or 16 bytes, `length` is that of the transport header and its data in bytes.
    The IPv6 layout serves IPv4 as well: it sums the same words.
    """
    return bytes(source) + bytes(destination) + length.to_bytes(4, "big") + protocol.to_bytes(4, "big")
