"""What a packet may have become, by the RFCs and by nothing of natlb's.

A NAT changes addresses, ports and the checksums over them, and not a byte besides. `allowed` says where those stand, as
another reading of the headers has it, and `judge_rewrite` that all other bytes are as they came, that every checksum
which was right is right, and that one which was wrong is wrong by as much. All checksums here are sums of words, modulo
0xFFFF (RFC 1071): what they come to is the same number however it is written, so two packets can be compared by it.
"""

from dataclasses import dataclass

from tests.unit.core import packets as p

SYN = p.SYN


def total(data: bytes) -> int:
    """Return the sum of the words of something, modulo 0xFFFF."""
    return p.ones_sum(data) % 0xFFFF


@dataclass(frozen=True)
class Layout:
    """Where things stand in a packet, as far as they matter to a NAT."""

    version: int
    protocol: int
    start: int
    """Of the transport header."""
    end: int
    """Of the IP packet; behind it is what a link has padded."""
    is_fragment: bool
    is_later: bool
    """Whether it is a fragment other than the first, and so has no ports."""

    @property
    def addresses(self) -> range:
        return range(12, 20) if self.version == 4 else range(8, 40)

    @property
    def ports(self) -> range:
        return range(self.start, self.start + 4)

    @property
    def checksum(self) -> int:
        """Where the transport's checksum stands."""
        return self.start + {p.TCP: 16, p.UDP: 6}.get(self.protocol, 2)


def layout(packet: bytes, base: int = 0) -> Layout:
    """Return the layout of the IP packet that begins at `base`."""
    if packet[base] >> 4 == 4:
        word = int.from_bytes(packet[base + 6 : base + 8], "big")
        start, end = base + (packet[base] & 15) * 4, base + int.from_bytes(packet[base + 2 : base + 4], "big")
        return Layout(4, packet[base + 9], start, end, word & 0x3FFF != 0, word & 0x1FFF != 0)
    end = base + 40 + int.from_bytes(packet[base + 4 : base + 6], "big")
    protocol, start, is_fragment = packet[base + 6], base + 40, False
    while protocol in p.EXTENSIONS and start + 8 <= len(packet):
        size = 8 + (0 if protocol == p.FRAGMENT else packet[start + 1] * 8)
        if protocol == p.FRAGMENT:
            word = int.from_bytes(packet[start + 2 : start + 4], "big")
            is_fragment |= word & 0xFFF9 != 0
            if word & 0xFFF8:
                return Layout(6, packet[start], start + size, end, True, True)
        protocol, start = packet[start], start + size
    return Layout(6, protocol, start, end, is_fragment, False)


def key(packet: bytes, at: Layout, base: int = 0) -> bytes:
    """Return addresses, ports and protocol as they stand in a packet."""
    addresses = packet[base + at.addresses.start : base + at.addresses.stop]
    return bytes(addresses + packet[at.start : at.start + 4]) + bytes((at.protocol,))


def judge_rewrite(before: bytes, after: bytes, *, unfinished: bool, limited: bool) -> None:
    """Assert that one packet is the other one, translated.

    `unfinished` is whether its transport checksum was; `limited` whether the largest segment of a SYN may be lowered.
    """
    assert len(after) == len(before), "the packet has another length"
    at = layout(before)
    judge_whole(before, at)
    allowed = {*at.addresses, *((10, 11) if at.version == 4 else ())}
    if at.version == 4:
        assert total(after[: at.start]) == total(before[: at.start]), "the IP checksum is wrong"
    if at.is_later:
        pass
    elif at.protocol in (p.TCP, p.UDP):
        allowed |= {*at.ports, at.checksum, at.checksum + 1}
        if limited and at.protocol == p.TCP and before[at.start + 13] & SYN:
            allowed |= largest_segment(before, at)
        _judge_transport(before, after, at, unfinished=unfinished)
    else:
        assert at.protocol == (p.ICMP if at.version == 4 else p.ICMPV6), "a packet without ports was rewritten"
        allowed |= {at.checksum, at.checksum + 1} | _judge_error(before, after, at)
    changed = {place for place, (one, other) in enumerate(zip(before, after, strict=True)) if one != other}
    assert changed <= allowed, f"bytes {sorted(changed - allowed)} were changed"


def judge_whole(packet: bytes, at: Layout) -> None:
    """Assert that a packet has all the bytes that its headers speak of: else it is to be dropped."""
    assert at.start >= (20 if at.version == 4 else 40), "a header length that is impossible"
    assert at.start <= at.end <= len(packet), "a packet that is shorter than it says"
    if at.is_later:
        return
    if at.protocol == p.TCP:
        size = (packet[at.start + 12] >> 4) * 4 if at.start + 20 <= at.end else 20
        assert size >= 20, "a TCP header length that is impossible"
        assert at.start + size <= at.end, "a packet that is shorter than its TCP header"
    elif at.protocol == p.UDP:
        assert at.start + 8 <= at.end, "a packet that is shorter than a UDP header"
        size = int.from_bytes(packet[at.start + 4 : at.start + 6], "big")
        assert at.is_fragment or 8 <= size <= at.end - at.start, "a datagram that is shorter than it says"


def _judge_transport(before: bytes, after: bytes, at: Layout, *, unfinished: bool) -> None:
    said, says = (each[at.checksum : at.checksum + 2] for each in (before, after))
    if unfinished:
        assert total(says) - total(pseudo(after, at)) == total(said) - total(pseudo(before, at)), (
            "unfinished, and wrong"
        )
        return
    if at.protocol == p.UDP:
        assert any(said) == any(says), "a datagram without a checksum is another one than that with one"
        if not any(said):
            return
    covered = slice(at.start, at.end)
    if at.protocol == p.UDP and not at.is_fragment:
        covered = slice(at.start, at.start + int.from_bytes(before[at.start + 4 : at.start + 6], "big"))
    was, is_ = (total(pseudo(each, at)) + total(each[covered]) for each in (before, after))
    assert was % 0xFFFF == is_ % 0xFFFF, "the transport's checksum is wrong"


def _judge_error(before: bytes, after: bytes, at: Layout) -> set[int]:
    """Judge an ICMP error; return where the packet that it quotes may be changed."""
    assert icmp_is_sound(before, at), "an ICMP error with a wrong checksum was translated"
    assert icmp_is_sound(after, at), "the checksum of an ICMP error is wrong"
    base = at.start + 8
    quote = layout(before, base)
    first = base + quote.addresses.start
    inner = {*range(first, first + len(quote.addresses)), *quote.ports}
    if quote.version == 4:
        inner |= {base + 10, base + 11}
        assert total(after[base : quote.start]) == total(before[base : quote.start]), "the quote's IP checksum is wrong"
    if quote.checksum + 2 <= at.end:
        said, says = (each[quote.checksum : quote.checksum + 2] for each in (before, after))
        if quote.protocol == p.UDP and not any(said):
            assert not any(says), "a quoted datagram without a checksum has one"
        else:
            inner |= {quote.checksum, quote.checksum + 1}
            was, is_ = (
                total(each[first : first + len(quote.addresses)]) + total(each[quote.start : quote.start + 4])
                for each in (before, after)
            )
            assert (was + total(said)) % 0xFFFF == (is_ + total(says)) % 0xFFFF, "the quote's checksum is wrong"
    return inner


def pseudo(packet: bytes, at: Layout) -> bytes:
    """Return what a checksum covers besides the transport's own bytes, less the length, which a NAT leaves alone."""
    return bytes(packet[at.addresses.start : at.addresses.stop]) + bytes((0, at.protocol))


def icmp_is_sound(packet: bytes, at: Layout) -> bool:
    """Whether the checksum of an ICMP message is right."""
    message = packet[at.start : at.end]
    covered = b"" if at.version == 4 else p.pseudo(packet[8:24], packet[24:40], len(message), p.ICMPV6)
    return total(covered + message) == 0


def largest_segment(packet: bytes, at: Layout) -> set[int]:
    """Return where the largest segment size stands, as an option of a SYN: RFC 9293, section 3.2."""
    place, end = at.start + 20, min(at.end, at.start + (packet[at.start + 12] >> 4) * 4)
    while place < end and packet[place] != 0:
        if packet[place] == 1:
            place += 1
        elif place + 1 < end and packet[place + 1] >= 2:
            if packet[place : place + 2] == b"\x02\x04" and place + 4 <= end:
                return {place + 2, place + 3}
            place += packet[place + 1]
        else:
            break
    return set()


def judge_own(packet: bytes) -> Layout:
    """Assert that a packet of the engine's own is whole and sound; return its layout."""
    at = layout(packet)
    assert at.end == len(packet), "a packet of its own has another length than it says"
    if at.version == 4:
        assert total(packet[: at.start]) == 0, "the IP checksum of a packet of its own is wrong"
    if at.protocol == p.TCP:
        size = (at.end - at.start).to_bytes(2, "big")
        assert total(pseudo(packet, at) + size + packet[at.start :]) == 0, "the checksum of a RST is wrong"
        assert packet[at.start + 13] & p.RST, "a segment of its own is no RST"
    else:
        assert icmp_is_sound(packet, at), "the checksum of an ICMP message of its own is wrong"
    return at


def judge_reply(before: bytes, answer: bytes) -> None:
    """Assert that a packet was answered as by the host that it was sent to, and that it may be answered at all."""
    at, heard = judge_own(answer), layout(before)
    judge_whole(before, heard)
    middle = at.addresses.start + len(at.addresses) // 2
    source, destination = answer[at.addresses.start : middle], answer[middle : at.addresses.stop]
    assert destination + source == before[heard.addresses.start : heard.addresses.stop], "answered to somebody else"
    assert not heard.is_later, "a later fragment was answered"
    if heard.protocol == p.TCP:
        assert not before[heard.start + 13] & p.RST, "a RST was answered"
        ports = before[heard.start + 2 : heard.start + 4] + before[heard.start : heard.start + 2]
        assert answer[at.start : at.start + 4] == ports, "a RST with other ports"
    elif heard.protocol == p.UDP:
        quote = answer[at.start + 8 :]
        assert before.startswith(quote), "an error about another packet"
        assert len(quote) >= min(len(before), 28), "an error that quotes too little"
        assert len(answer) <= (576 if at.version == 4 else 1280), "an error that is too large"
    else:
        assert before[heard.start] in (8, 128), "an ICMP message was answered that is no request"
        assert answer[at.start + 4 :] == before[heard.start + 4 : heard.end], "another echo"
