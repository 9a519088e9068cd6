"""Which packets are diverted: natlb's iptables rules, as text.

Where the kernel is asked matters as much as for what. Six places, chosen so that the kernel's own connection
tracking, and a stateful firewall that relies on it, see one connection client <-> server and nothing INVALID:

    client -> VIP      rewritten before conntrack:   raw PREROUTING    from the network
                                                     raw OUTPUT        from this machine (the kernel routes it anew)
    server -> client   rewritten after conntrack:    mangle POSTROUTING   leaving this machine
                                                     mangle INPUT         from a remote server to a client here
    server -> SNAT     rewritten after conntrack,    mangle PREROUTING    from the network
     (full NAT)        and before it is routed:      mangle OUTPUT        from this machine (the kernel routes it anew)

Under full NAT conntrack has seen SNAT address -> server, so it must see the answer as server -> SNAT address, and that
packet must go to the client instead of into this machine: only the last two places lie between the one and the other.

With the packets of a connection go those about it. A fragment after the first has no ports, so fragments are asked for
by address and protocol. Where conntrack is at work the kernel has put them together before any of our places; where
it is not, they come one by one. An ICMP error about what a virtual or a SNAT address has sent is addressed to it. One
about what a client has sent goes to the client, from anywhere: which connection it means stands in the packet that it
quotes, where only the engine can read, so the engine gets them all. Errors are rare.

An error about a packet to a server, at a SNAT address that is a virtual address too, is left for the later place: it
is RELATED to what conntrack has seen, and would be INVALID once it speaks of client -> VIP.

A bound-but-silent port never sends, so a RST from a virtual address, or the news that a UDP port there is unreachable,
can only be the engine's own, and so can the answer to a ping of an address that this machine does not have: they are
exempted from tracking, since what they answer was taken out before conntrack saw it.

Everything stands in chains of our own, named after the queue: NATLB-<queue>-VIP, -SRV and -SNT, entered by one jump
per place; SNT only where there is full NAT. Another, NATLB-<queue>-NOTES, is never entered: its rules are comments that
say what else natlb has changed in this network namespace. So the memory of a crashed run lives and dies with what it
describes, and belongs to the right namespace. No rule has --queue-bypass: when natlb is not there, packets of its
connections are dropped and sent again, instead of being answered with a RST by a host that does not know them.

A rule whose server is local matters too: on the way from 127.0.0.1 to a remote client, POSTROUTING is the place.
This module is pure text; `diversion` runs it.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from natlb.core.wording import counted
from natlb.datapath.host import Address, Endpoint

JUMPS = {
    "raw": {"PREROUTING": "VIP", "OUTPUT": "VIP"},
    "mangle": {"PREROUTING": "SNT", "OUTPUT": "SNT", "POSTROUTING": "SRV", "INPUT": "SRV"},
}
"""Table -> built-in chain -> which of our chains it enters."""

_CHAIN = re.compile(r":(NATLB-([0-9]+)-(?:VIP|SRV|SNT|NOTES)) ")
_JUMP = re.compile(r"-A ((?!NATLB-).* -[jg] NATLB-([0-9]+)-(?:VIP|SRV|SNT|NOTES))")
"""A rule that enters one of our chains, whoever made it: while it is there the chain cannot be removed."""
_RULE = re.compile(r"-A (NATLB-([0-9]+)-(?:VIP|SRV|SNT|NOTES)) (.*)")
_NOTE = re.compile(r'-A NATLB-([0-9]+)-NOTES .*--comment "?([^"]*)"?')

_PROTOCOLS = {6: "tcp", 17: "udp"}

_FRAGMENT = {
    # Bytes 6 and 7: more fragments follow, or an offset that is not zero. iptables' own -f leaves the first one out.
    4: "-m u32 --u32 0x4&0x3fff=0x1:0x3fff",
    6: "-m ipv6header --header frag --soft",
}


@dataclass(frozen=True, slots=True)
class _Icmp:
    """How ICMP of one IP version is matched, by type."""

    match: str
    unreachable: int
    errors: tuple[int, ...]
    """Destination unreachable, (IPv6: packet too big,) time exceeded, parameter problem."""
    echo_request: int
    echo_reply: int


_ICMP = {
    4: _Icmp("-p icmp --icmp-type", 3, (3, 11, 12), 8, 0),
    6: _Icmp("-p icmpv6 --icmpv6-type", 1, (1, 2, 3, 4), 128, 129),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run of natlb diverts."""

    queue: int
    addresses: tuple[Endpoint, ...]
    """The virtual addresses."""
    servers: tuple[Endpoint, ...]
    """Where answers come from."""
    sources: tuple[Address, ...] = ()
    """The addresses of this machine that full NAT speaks from."""
    guarded: tuple[str, ...] = ()
    """Interfaces on which route_localnet was switched on: loopback addresses must not become reachable from there."""
    unmasked: tuple[str, ...] = ()
    """Interfaces on which accept_local was switched on: nobody out there may speak in the name of this machine."""
    notes: tuple[str, ...] = ()
    """What else was changed, one short ASCII text each."""


@dataclass(slots=True)
class Found:
    """What one queue's run has in the rules of one address family."""

    notes: list[str] = field(default_factory=list)
    jumps: list[tuple[str, str]] = field(default_factory=list)
    """Table and rule, without its -A."""
    chains: list[tuple[str, str]] = field(default_factory=list)
    """Table and chain."""
    rules: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """By table and chain, what stands in it, as the kernel tells it."""

    def lost(self, now: "Found") -> list[str]:
        """Return, in words, what of this is not so any more; nothing if all is as it was."""
        lost = []
        for table, chain in self.chains:
            before, left = self.rules.get((table, chain), []), now.rules.get((table, chain), [])
            if (table, chain) not in now.chains:
                lost.append(f"chain {chain} of {table}")
            elif left != before:
                gone, strange = (Counter(before) - Counter(left)).total(), (Counter(left) - Counter(before)).total()
                lost += [f"{counted(gone, 'rule')} in {chain} of {table}"] * bool(gone)
                lost += [f"{chain} of {table} without {counted(strange, 'rule')} not natlb's own"] * bool(strange)
                lost += [f"the order of rules in {chain} of {table}"] * (not gone and not strange)
        ways = [(table, rule) for table, rule in self.jumps if (table, rule) not in now.jumps]
        return lost + [f"the way from {rule.split()[0]} of {table}" for table, rule in ways]

    def removal(self) -> str:
        """Return the iptables-restore input that takes all of it away, each table atomically."""
        lines = []
        for table in JUMPS:
            chains = [chain for at, chain in self.chains if at == table]
            lines += [f"*{table}"]
            lines += [f"-D {rule}" for at, rule in self.jumps if at == table]
            lines += [f"-F {chain}" for chain in chains] + [f"-X {chain}" for chain in chains]
            lines += ["COMMIT"]
        return "\n".join([*lines, ""])


def installation(plan: Plan, version: int, there: Found | None = None) -> str:
    """Return the iptables-restore input that installs the plan for IP version 4 or 6, each table atomically.

    What is `there` of the same queue, of this version, is replaced, whichever run and whichever plan has put it there:
    no packet finds the one gone and the other not yet there.
    """
    there = there or Found()
    notes = [f'-m comment --comment "{note}"' for note in plan.notes]
    chains = {
        "raw": {"VIP": _to_virtual_addresses(plan, version), "NOTES": notes},
        "mangle": {"SRV": _from_servers(plan, version)},
    }
    if _sources(plan, version) or ("mangle", f"NATLB-{plan.queue}-SNT") in there.chains:
        chains["mangle"]["SNT"] = _to_sources(plan, version)
    lines = []
    for table, own in chains.items():
        # What comes in on lo was already seen going out.
        jumps = [
            f"{builtin} {'! -i lo ' if builtin == 'PREROUTING' else ''}-j NATLB-{plan.queue}-{suffix}"
            for builtin, suffix in JUMPS[table].items()
            if suffix in own
        ]
        lines += [f"*{table}"]
        lines += [f"-D {rule}" for at, rule in there.jumps if at == table and rule not in jumps]
        lines += [f":NATLB-{plan.queue}-{suffix} - [0:0]" for suffix in own]
        # A dictionary, because what two endpoints have in common is asked for once.
        lines += [f"-A NATLB-{plan.queue}-{suffix} {rule}" for suffix in own for rule in dict.fromkeys(own[suffix])]
        lines += [f"-I {rule}" for rule in jumps if (table, rule) not in there.jumps]
        lines += ["COMMIT"]
    return "\n".join([*lines, ""])


def _to_virtual_addresses(plan: Plan, version: int) -> list[str]:
    queue, icmp = f"-j NFQUEUE --queue-num {plan.queue}", _ICMP[version]
    rules = []
    if version == 4:
        # What natlb itself gives an address of this machine does not come by here: its verdict leaves the chain.
        rules += [f"-i {interface} -d 127.0.0.0/8 -j DROP" for interface in plan.guarded]
        rules += [f"-i {interface} -m addrtype --src-type LOCAL -j DROP" for interface in plan.unmasked]
    for source in _sources(plan, version):
        for server in _of_version(plan.servers, version):
            quoting = _quoting_destination(server.address)
            rules += [f"{icmp.match} {error} -d {source} {quoting} -j RETURN" for error in icmp.errors]
    for endpoint in _of_version(plan.addresses, version):
        protocol = _PROTOCOLS[endpoint.protocol]
        wild = endpoint.address.is_unspecified
        to = "-m addrtype --dst-type LOCAL" if wild else f"-d {endpoint.address}"
        of = "-m addrtype --src-type LOCAL" if wild else f"-s {endpoint.address}"
        entrance = f"-i {endpoint.interface} " if endpoint.interface else ""
        rules += [f"{entrance}-p {protocol} --dport {endpoint.port} {to} {queue}"]
        if protocol == "tcp":
            rules += [f"-p tcp --sport {endpoint.port} --tcp-flags RST RST {of} -j CT --notrack"]
        else:
            quoting = _quoting_udp_port(endpoint.port, version)
            rules += [f"{icmp.match} {icmp.unreachable} {of} {quoting} -j CT --notrack"]
        rules += [f"{entrance}-p {protocol} {_FRAGMENT[version]} {to} {queue}"]
        rules += [f"{entrance}{icmp.match} {error} {to} {queue}" for error in icmp.errors]
        if endpoint.foreign and not wild:
            rules += [f"{entrance}{icmp.match} {icmp.echo_request} {to} {queue}"]
            rules += [f"{icmp.match} {icmp.echo_reply} {of} -j CT --notrack"]
    return rules


def _from_servers(plan: Plan, version: int) -> list[str]:
    queue, icmp = f"-j NFQUEUE --queue-num {plan.queue}", _ICMP[version]
    rules = []
    for server in _of_version(plan.servers, version):
        way = f"-s {server.address} -p {_PROTOCOLS[server.protocol]}"
        rules += [f"{way} --sport {server.port} {queue}", f"{way} {_FRAGMENT[version]} {queue}"]
        rules += [f"{icmp.match} {error} {queue}" for error in icmp.errors]
    return rules


def _to_sources(plan: Plan, version: int) -> list[str]:
    queue, icmp = f"-j NFQUEUE --queue-num {plan.queue}", _ICMP[version]
    rules = []
    for source in _sources(plan, version):
        for server in _of_version(plan.servers, version):
            way = f"-s {server.address} -d {source} -p {_PROTOCOLS[server.protocol]}"
            rules += [f"{way} --sport {server.port} {queue}", f"{way} {_FRAGMENT[version]} {queue}"]
        rules += [f"{icmp.match} {error} -d {source} {queue}" for error in icmp.errors]
    return rules


def _quoting_destination(address: Address) -> str:
    """Match an ICMP error about a packet to `address`."""
    if address.version == 4:
        # Past the IP header, whatever its length, and the eight bytes of ICMP's: the destination of the one quoted.
        return f"-m u32 --u32 0>>22&0x3C@24={int(address):#x}"
    # Extension headers before an ICMP error are not looked for: routers and hosts send none.
    words = (int.from_bytes(address.packed[at : at + 4]) for at in range(0, 16, 4))
    return "-m u32 --u32 " + "&&".join(f"{at}={word:#x}" for at, word in zip(range(72, 88, 4), words, strict=True))


def _quoting_udp_port(port: int, version: int) -> str:
    """Match an ICMP error about a UDP datagram to `port`."""
    if version == 4:
        return f"-m u32 --u32 0>>22&0x3C@16>>16&0xFF=17&&0>>22&0x3C@8>>22&0x3C@8&0xFFFF={port}"
    return f"-m u32 --u32 52>>8&0xFF=17&&88&0xFFFF={port}"


def _sources(plan: Plan, version: int) -> list[Address]:
    return sorted({source for source in plan.sources if source.version == version}, key=int)


def _of_version(endpoints: Iterable[Endpoint], version: int) -> list[Endpoint]:
    """Return those of an IP version, each once, in a fixed order."""
    return sorted(
        {endpoint for endpoint in endpoints if endpoint.address.version == version},
        key=lambda each: (int(each.address), each.port, each.protocol, each.interface or "", each.foreign),
    )


def find(saved: str) -> Mapping[int, Found]:
    """Return, by queue, what natlb has in the output of iptables-save, whoever of its runs put it there."""
    found: dict[int, Found] = {}
    table = ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:]
        if chain := _CHAIN.match(line):
            found.setdefault(int(chain[2]), Found()).chains.append((table, chain[1]))
        elif rule := _RULE.match(line):
            if note := _NOTE.fullmatch(line):
                found.setdefault(int(note[1]), Found()).notes.append(note[2])
            if own := found.get(int(rule[2])):
                own.rules.setdefault((table, rule[1]), []).append(rule[3])
        elif jump := _JUMP.fullmatch(line):
            found.setdefault(int(jump[2]), Found()).jumps.append((table, jump[1]))
    return found
