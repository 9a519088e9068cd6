"""The rules as text, both ways: what is installed, and what is recognised afterwards."""

from dataclasses import replace
from ipaddress import ip_address

import pytest

from natlb.datapath.host import Endpoint
from natlb.datapath.rules import Found, Plan, find, installation


def at(address: str, port: int, interface: str | None = None, *, foreign: bool = False, protocol: int = 6) -> Endpoint:
    return Endpoint(ip_address(address), port, interface, foreign, protocol)


PLAN = Plan(
    2391,
    addresses=(
        at("0.0.0.0", 8888),
        at("44.2.2.2", 80),
        at("44.2.2.2", 81, "client"),
        at("::", 8888),
        at("fd44::2", 80),
    ),
    servers=(at("44.4.4.4", 5555), at("44.3.3.3", 4444), at("127.0.0.1", 4446), at("fd44::3", 4444)),
    guarded=("client", "wan0"),
    notes=("sysctl net/ipv4/ip_forward=0", "table ipv4/raw"),
)

IPV4 = """\
*raw
:NATLB-2391-VIP - [0:0]
:NATLB-2391-NOTES - [0:0]
-A NATLB-2391-VIP -i client -d 127.0.0.0/8 -j DROP
-A NATLB-2391-VIP -i wan0 -d 127.0.0.0/8 -j DROP
-A NATLB-2391-VIP -p tcp --dport 8888 -m addrtype --dst-type LOCAL -j NFQUEUE --queue-num 2391
-A NATLB-2391-VIP -p tcp --sport 8888 --tcp-flags RST RST -m addrtype --src-type LOCAL -j CT --notrack
-A NATLB-2391-VIP -p tcp -m u32 --u32 0x4&0x3fff=0x1:0x3fff -m addrtype --dst-type LOCAL -j NFQUEUE --queue-num 2391
-A NATLB-2391-VIP -p icmp --icmp-type 3 -m addrtype --dst-type LOCAL -j NFQUEUE --queue-num 2391
-A NATLB-2391-VIP -p icmp --icmp-type 11 -m addrtype --dst-type LOCAL -j NFQUEUE --queue-num 2391
-A NATLB-2391-VIP -p icmp --icmp-type 12 -m addrtype --dst-type LOCAL -j NFQUEUE --queue-num 2391
-A NATLB-2391-VIP -p tcp --dport 80 -d 44.2.2.2 -j NFQUEUE --queue-num 2391
-A NATLB-2391-VIP -p tcp --sport 80 --tcp-flags RST RST -s 44.2.2.2 -j CT --notrack
-A NATLB-2391-VIP -p tcp -m u32 --u32 0x4&0x3fff=0x1:0x3fff -d 44.2.2.2 -j NFQUEUE --queue-num 2391
-A NATLB-2391-VIP -p icmp --icmp-type 3 -d 44.2.2.2 -j NFQUEUE --queue-num 2391
-A NATLB-2391-VIP -p icmp --icmp-type 11 -d 44.2.2.2 -j NFQUEUE --queue-num 2391
-A NATLB-2391-VIP -p icmp --icmp-type 12 -d 44.2.2.2 -j NFQUEUE --queue-num 2391
-A NATLB-2391-VIP -i client -p tcp --dport 81 -d 44.2.2.2 -j NFQUEUE --queue-num 2391
-A NATLB-2391-VIP -p tcp --sport 81 --tcp-flags RST RST -s 44.2.2.2 -j CT --notrack
-A NATLB-2391-VIP -i client -p tcp -m u32 --u32 0x4&0x3fff=0x1:0x3fff -d 44.2.2.2 -j NFQUEUE --queue-num 2391
-A NATLB-2391-VIP -i client -p icmp --icmp-type 3 -d 44.2.2.2 -j NFQUEUE --queue-num 2391
-A NATLB-2391-VIP -i client -p icmp --icmp-type 11 -d 44.2.2.2 -j NFQUEUE --queue-num 2391
-A NATLB-2391-VIP -i client -p icmp --icmp-type 12 -d 44.2.2.2 -j NFQUEUE --queue-num 2391
-A NATLB-2391-NOTES -m comment --comment "sysctl net/ipv4/ip_forward=0"
-A NATLB-2391-NOTES -m comment --comment "table ipv4/raw"
-I PREROUTING ! -i lo -j NATLB-2391-VIP
-I OUTPUT -j NATLB-2391-VIP
COMMIT
*mangle
:NATLB-2391-SRV - [0:0]
-A NATLB-2391-SRV -s 44.3.3.3 -p tcp --sport 4444 -j NFQUEUE --queue-num 2391
-A NATLB-2391-SRV -s 44.3.3.3 -p tcp -m u32 --u32 0x4&0x3fff=0x1:0x3fff -j NFQUEUE --queue-num 2391
-A NATLB-2391-SRV -p icmp --icmp-type 3 -j NFQUEUE --queue-num 2391
-A NATLB-2391-SRV -p icmp --icmp-type 11 -j NFQUEUE --queue-num 2391
-A NATLB-2391-SRV -p icmp --icmp-type 12 -j NFQUEUE --queue-num 2391
-A NATLB-2391-SRV -s 44.4.4.4 -p tcp --sport 5555 -j NFQUEUE --queue-num 2391
-A NATLB-2391-SRV -s 44.4.4.4 -p tcp -m u32 --u32 0x4&0x3fff=0x1:0x3fff -j NFQUEUE --queue-num 2391
-A NATLB-2391-SRV -s 127.0.0.1 -p tcp --sport 4446 -j NFQUEUE --queue-num 2391
-A NATLB-2391-SRV -s 127.0.0.1 -p tcp -m u32 --u32 0x4&0x3fff=0x1:0x3fff -j NFQUEUE --queue-num 2391
-I POSTROUTING -j NATLB-2391-SRV
-I INPUT -j NATLB-2391-SRV
COMMIT
"""

IPV6 = """\
*raw
:NATLB-2391-VIP - [0:0]
:NATLB-2391-NOTES - [0:0]
-A NATLB-2391-VIP -p tcp --dport 8888 -m addrtype --dst-type LOCAL -j NFQUEUE --queue-num 2391
-A NATLB-2391-VIP -p tcp --sport 8888 --tcp-flags RST RST -m addrtype --src-type LOCAL -j CT --notrack
-A NATLB-2391-VIP -p tcp -m ipv6header --header frag --soft -m addrtype --dst-type LOCAL -j NFQUEUE --queue-num 2391
-A NATLB-2391-VIP -p icmpv6 --icmpv6-type 1 -m addrtype --dst-type LOCAL -j NFQUEUE --queue-num 2391
-A NATLB-2391-VIP -p icmpv6 --icmpv6-type 2 -m addrtype --dst-type LOCAL -j NFQUEUE --queue-num 2391
-A NATLB-2391-VIP -p icmpv6 --icmpv6-type 3 -m addrtype --dst-type LOCAL -j NFQUEUE --queue-num 2391
-A NATLB-2391-VIP -p icmpv6 --icmpv6-type 4 -m addrtype --dst-type LOCAL -j NFQUEUE --queue-num 2391
-A NATLB-2391-VIP -p tcp --dport 80 -d fd44::2 -j NFQUEUE --queue-num 2391
-A NATLB-2391-VIP -p tcp --sport 80 --tcp-flags RST RST -s fd44::2 -j CT --notrack
-A NATLB-2391-VIP -p tcp -m ipv6header --header frag --soft -d fd44::2 -j NFQUEUE --queue-num 2391
-A NATLB-2391-VIP -p icmpv6 --icmpv6-type 1 -d fd44::2 -j NFQUEUE --queue-num 2391
-A NATLB-2391-VIP -p icmpv6 --icmpv6-type 2 -d fd44::2 -j NFQUEUE --queue-num 2391
-A NATLB-2391-VIP -p icmpv6 --icmpv6-type 3 -d fd44::2 -j NFQUEUE --queue-num 2391
-A NATLB-2391-VIP -p icmpv6 --icmpv6-type 4 -d fd44::2 -j NFQUEUE --queue-num 2391
-A NATLB-2391-NOTES -m comment --comment "sysctl net/ipv4/ip_forward=0"
-A NATLB-2391-NOTES -m comment --comment "table ipv4/raw"
-I PREROUTING ! -i lo -j NATLB-2391-VIP
-I OUTPUT -j NATLB-2391-VIP
COMMIT
*mangle
:NATLB-2391-SRV - [0:0]
-A NATLB-2391-SRV -s fd44::3 -p tcp --sport 4444 -j NFQUEUE --queue-num 2391
-A NATLB-2391-SRV -s fd44::3 -p tcp -m ipv6header --header frag --soft -j NFQUEUE --queue-num 2391
-A NATLB-2391-SRV -p icmpv6 --icmpv6-type 1 -j NFQUEUE --queue-num 2391
-A NATLB-2391-SRV -p icmpv6 --icmpv6-type 2 -j NFQUEUE --queue-num 2391
-A NATLB-2391-SRV -p icmpv6 --icmpv6-type 3 -j NFQUEUE --queue-num 2391
-A NATLB-2391-SRV -p icmpv6 --icmpv6-type 4 -j NFQUEUE --queue-num 2391
-I POSTROUTING -j NATLB-2391-SRV
-I INPUT -j NATLB-2391-SRV
COMMIT
"""


@pytest.mark.parametrize(("version", "text"), [(4, IPV4), (6, IPV6)])
def test_each_family_gets_its_own_rules_and_all_notes(version: int, text: str) -> None:
    assert installation(PLAN, version) == text


FULL_NAT = Plan(
    7,
    addresses=(at("44.2.2.2", 53, protocol=17), at("44.2.2.2", 53), at("fd44::2", 53, protocol=17)),
    servers=(at("44.3.3.3", 5353, protocol=17), at("44.3.3.3", 5353), at("fd44::3", 5353, protocol=17)),
    sources=(ip_address("44.3.3.1"), ip_address("fd44::1")),
    unmasked=("client", "server"),
)

FULL_NAT_IPV4 = """\
*raw
:NATLB-7-VIP - [0:0]
:NATLB-7-NOTES - [0:0]
-A NATLB-7-VIP -i client -m addrtype --src-type LOCAL -j DROP
-A NATLB-7-VIP -i server -m addrtype --src-type LOCAL -j DROP
-A NATLB-7-VIP -p icmp --icmp-type 3 -d 44.3.3.1 -m u32 --u32 0>>22&0x3C@24=0x2c030303 -j RETURN
-A NATLB-7-VIP -p icmp --icmp-type 11 -d 44.3.3.1 -m u32 --u32 0>>22&0x3C@24=0x2c030303 -j RETURN
-A NATLB-7-VIP -p icmp --icmp-type 12 -d 44.3.3.1 -m u32 --u32 0>>22&0x3C@24=0x2c030303 -j RETURN
-A NATLB-7-VIP -p tcp --dport 53 -d 44.2.2.2 -j NFQUEUE --queue-num 7
-A NATLB-7-VIP -p tcp --sport 53 --tcp-flags RST RST -s 44.2.2.2 -j CT --notrack
-A NATLB-7-VIP -p tcp -m u32 --u32 0x4&0x3fff=0x1:0x3fff -d 44.2.2.2 -j NFQUEUE --queue-num 7
-A NATLB-7-VIP -p icmp --icmp-type 3 -d 44.2.2.2 -j NFQUEUE --queue-num 7
-A NATLB-7-VIP -p icmp --icmp-type 11 -d 44.2.2.2 -j NFQUEUE --queue-num 7
-A NATLB-7-VIP -p icmp --icmp-type 12 -d 44.2.2.2 -j NFQUEUE --queue-num 7
-A NATLB-7-VIP -p udp --dport 53 -d 44.2.2.2 -j NFQUEUE --queue-num 7
-A NATLB-7-VIP -p icmp --icmp-type 3 -s 44.2.2.2 \
-m u32 --u32 0>>22&0x3C@16>>16&0xFF=17&&0>>22&0x3C@8>>22&0x3C@8&0xFFFF=53 -j CT --notrack
-A NATLB-7-VIP -p udp -m u32 --u32 0x4&0x3fff=0x1:0x3fff -d 44.2.2.2 -j NFQUEUE --queue-num 7
-I PREROUTING ! -i lo -j NATLB-7-VIP
-I OUTPUT -j NATLB-7-VIP
COMMIT
*mangle
:NATLB-7-SRV - [0:0]
:NATLB-7-SNT - [0:0]
-A NATLB-7-SRV -s 44.3.3.3 -p tcp --sport 5353 -j NFQUEUE --queue-num 7
-A NATLB-7-SRV -s 44.3.3.3 -p tcp -m u32 --u32 0x4&0x3fff=0x1:0x3fff -j NFQUEUE --queue-num 7
-A NATLB-7-SRV -p icmp --icmp-type 3 -j NFQUEUE --queue-num 7
-A NATLB-7-SRV -p icmp --icmp-type 11 -j NFQUEUE --queue-num 7
-A NATLB-7-SRV -p icmp --icmp-type 12 -j NFQUEUE --queue-num 7
-A NATLB-7-SRV -s 44.3.3.3 -p udp --sport 5353 -j NFQUEUE --queue-num 7
-A NATLB-7-SRV -s 44.3.3.3 -p udp -m u32 --u32 0x4&0x3fff=0x1:0x3fff -j NFQUEUE --queue-num 7
-A NATLB-7-SNT -s 44.3.3.3 -d 44.3.3.1 -p tcp --sport 5353 -j NFQUEUE --queue-num 7
-A NATLB-7-SNT -s 44.3.3.3 -d 44.3.3.1 -p tcp -m u32 --u32 0x4&0x3fff=0x1:0x3fff -j NFQUEUE --queue-num 7
-A NATLB-7-SNT -s 44.3.3.3 -d 44.3.3.1 -p udp --sport 5353 -j NFQUEUE --queue-num 7
-A NATLB-7-SNT -s 44.3.3.3 -d 44.3.3.1 -p udp -m u32 --u32 0x4&0x3fff=0x1:0x3fff -j NFQUEUE --queue-num 7
-A NATLB-7-SNT -p icmp --icmp-type 3 -d 44.3.3.1 -j NFQUEUE --queue-num 7
-A NATLB-7-SNT -p icmp --icmp-type 11 -d 44.3.3.1 -j NFQUEUE --queue-num 7
-A NATLB-7-SNT -p icmp --icmp-type 12 -d 44.3.3.1 -j NFQUEUE --queue-num 7
-I PREROUTING ! -i lo -j NATLB-7-SNT
-I OUTPUT -j NATLB-7-SNT
-I POSTROUTING -j NATLB-7-SRV
-I INPUT -j NATLB-7-SRV
COMMIT
"""

FULL_NAT_IPV6 = """\
*raw
:NATLB-7-VIP - [0:0]
:NATLB-7-NOTES - [0:0]
-A NATLB-7-VIP -p icmpv6 --icmpv6-type 1 -d fd44::1 -m u32 --u32 72=0xfd440000&&76=0x0&&80=0x0&&84=0x3 -j RETURN
-A NATLB-7-VIP -p icmpv6 --icmpv6-type 2 -d fd44::1 -m u32 --u32 72=0xfd440000&&76=0x0&&80=0x0&&84=0x3 -j RETURN
-A NATLB-7-VIP -p icmpv6 --icmpv6-type 3 -d fd44::1 -m u32 --u32 72=0xfd440000&&76=0x0&&80=0x0&&84=0x3 -j RETURN
-A NATLB-7-VIP -p icmpv6 --icmpv6-type 4 -d fd44::1 -m u32 --u32 72=0xfd440000&&76=0x0&&80=0x0&&84=0x3 -j RETURN
-A NATLB-7-VIP -p udp --dport 53 -d fd44::2 -j NFQUEUE --queue-num 7
-A NATLB-7-VIP -p icmpv6 --icmpv6-type 1 -s fd44::2 -m u32 --u32 52>>8&0xFF=17&&88&0xFFFF=53 -j CT --notrack
-A NATLB-7-VIP -p udp -m ipv6header --header frag --soft -d fd44::2 -j NFQUEUE --queue-num 7
-A NATLB-7-VIP -p icmpv6 --icmpv6-type 1 -d fd44::2 -j NFQUEUE --queue-num 7
-A NATLB-7-VIP -p icmpv6 --icmpv6-type 2 -d fd44::2 -j NFQUEUE --queue-num 7
-A NATLB-7-VIP -p icmpv6 --icmpv6-type 3 -d fd44::2 -j NFQUEUE --queue-num 7
-A NATLB-7-VIP -p icmpv6 --icmpv6-type 4 -d fd44::2 -j NFQUEUE --queue-num 7
-I PREROUTING ! -i lo -j NATLB-7-VIP
-I OUTPUT -j NATLB-7-VIP
COMMIT
*mangle
:NATLB-7-SRV - [0:0]
:NATLB-7-SNT - [0:0]
-A NATLB-7-SRV -s fd44::3 -p udp --sport 5353 -j NFQUEUE --queue-num 7
-A NATLB-7-SRV -s fd44::3 -p udp -m ipv6header --header frag --soft -j NFQUEUE --queue-num 7
-A NATLB-7-SRV -p icmpv6 --icmpv6-type 1 -j NFQUEUE --queue-num 7
-A NATLB-7-SRV -p icmpv6 --icmpv6-type 2 -j NFQUEUE --queue-num 7
-A NATLB-7-SRV -p icmpv6 --icmpv6-type 3 -j NFQUEUE --queue-num 7
-A NATLB-7-SRV -p icmpv6 --icmpv6-type 4 -j NFQUEUE --queue-num 7
-A NATLB-7-SNT -s fd44::3 -d fd44::1 -p udp --sport 5353 -j NFQUEUE --queue-num 7
-A NATLB-7-SNT -s fd44::3 -d fd44::1 -p udp -m ipv6header --header frag --soft -j NFQUEUE --queue-num 7
-A NATLB-7-SNT -p icmpv6 --icmpv6-type 1 -d fd44::1 -j NFQUEUE --queue-num 7
-A NATLB-7-SNT -p icmpv6 --icmpv6-type 2 -d fd44::1 -j NFQUEUE --queue-num 7
-A NATLB-7-SNT -p icmpv6 --icmpv6-type 3 -d fd44::1 -j NFQUEUE --queue-num 7
-A NATLB-7-SNT -p icmpv6 --icmpv6-type 4 -d fd44::1 -j NFQUEUE --queue-num 7
-I PREROUTING ! -i lo -j NATLB-7-SNT
-I OUTPUT -j NATLB-7-SNT
-I POSTROUTING -j NATLB-7-SRV
-I INPUT -j NATLB-7-SRV
COMMIT
"""


@pytest.mark.parametrize(("version", "text"), [(4, FULL_NAT_IPV4), (6, FULL_NAT_IPV6)])
def test_full_nat_comes_home_by_a_chain_of_its_own(version: int, text: str) -> None:
    assert installation(FULL_NAT, version) == text


def test_a_family_without_full_nat_has_no_chain_for_it() -> None:
    ipv4_alone = replace(FULL_NAT, sources=FULL_NAT.sources[:1])
    assert "SNT" in installation(ipv4_alone, 4)
    assert "SNT" not in installation(ipv4_alone, 6)


@pytest.mark.parametrize("plan", [PLAN, FULL_NAT], ids=["nat", "full nat"])
@pytest.mark.parametrize("version", [4, 6])
def test_rules_do_not_depend_on_the_order_of_the_configuration_or_on_repetitions(plan: Plan, version: int) -> None:
    other = replace(
        plan,
        addresses=plan.addresses[::-1] * 2,
        servers=plan.servers[::-1] * 2,
        sources=plan.sources[::-1] * 2,
    )
    assert installation(other, version) == installation(plan, version)


@pytest.mark.parametrize("plan", [PLAN, FULL_NAT], ids=["nat", "full nat"])
@pytest.mark.parametrize("version", [4, 6])
def test_no_rule_stands_there_twice(plan: Plan, version: int) -> None:
    rules = [line for line in installation(plan, version).splitlines() if line.startswith("-")]
    assert len(rules) == len(set(rules))


@pytest.mark.parametrize("plan", [PLAN, FULL_NAT], ids=["route_localnet", "accept_local"])
def test_the_guard_stands_before_every_rule_that_could_let_a_packet_through(plan: Plan) -> None:
    lines = [line for line in installation(plan, 4).splitlines() if f"-A NATLB-{plan.queue}-VIP" in line]
    assert [line.endswith("-j DROP") for line in lines] == [True, True] + [False] * (len(lines) - 2)


def virtual_rules(*addresses: Endpoint, version: int = 4) -> list[str]:
    """Return what is asked for at these virtual addresses, without the chain's name."""
    lines = installation(Plan(7, addresses, ()), version).splitlines()
    return [line.removeprefix("-A NATLB-7-VIP ") for line in lines if line.startswith("-A NATLB-7-VIP ")]


def test_a_bind_to_an_interface_takes_packets_errors_and_fragments_from_there_alone() -> None:
    rules = virtual_rules(at("44.2.2.2", 53, "client", protocol=17))
    assert len(rules) == 6
    assert all(rule.startswith("-i client ") for rule in rules if "NFQUEUE" in rule)


_PINGS = {
    4: ("44.9.9.9", "-p icmp --icmp-type 8 -d", "-p icmp --icmp-type 0 -s"),
    6: ("fd44::9", "-p icmpv6 --icmpv6-type 128 -d", "-p icmpv6 --icmpv6-type 129 -s"),
}


@pytest.mark.parametrize(("version", "case"), _PINGS.items())
def test_an_address_of_others_is_pinged_for_through_natlb(version: int, case: tuple[str, str, str]) -> None:
    address, request, reply = case
    rules = virtual_rules(at(address, 80, foreign=True), version=version)
    assert f"{request} {address} -j NFQUEUE --queue-num 7" in rules
    assert f"{reply} {address} -j CT --notrack" in rules


@pytest.mark.parametrize("address", [at("44.2.2.2", 80), at("0.0.0.0", 80, foreign=True)], ids=["own", "wildcard"])
def test_an_own_address_is_pinged_without_natlb(address: Endpoint) -> None:
    assert not [rule for rule in virtual_rules(address) if "--icmp-type 8" in rule or "--icmp-type 0" in rule]


@pytest.mark.parametrize("kind", ["-p icmp --icmp-type 4", "-p icmp --icmp-type 5", "-p icmpv6 --icmpv6-type 137"])
def test_neither_source_quench_nor_redirects_are_asked_for(kind: str) -> None:
    """RFC 6633 has done away with the one; the other concerns the next hop alone."""
    assert f"{kind} " not in installation(FULL_NAT, 4) + installation(FULL_NAT, 6)


def test_no_packet_bypasses_a_natlb_that_is_not_there() -> None:
    assert "bypass" not in installation(PLAN, 4) + installation(PLAN, 6)


# -- recognising: the output of iptables-save v1.8.9 after the above, among the rules of others

SAVED = """\
# Generated by iptables-save v1.8.9 (nf_tables) on Tue Nov 24 04:56:37 2026
*mangle
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [12:3456]
:NATLB-2391-SNT - [0:0]
:NATLB-2391-SRV - [0:0]
-A PREROUTING ! -i lo -j NATLB-2391-SNT
-A INPUT -j NATLB-2391-SRV
-A OUTPUT -j NATLB-2391-SNT
-A POSTROUTING -j NATLB-2391-SRV
-A NATLB-2391-SNT -d 44.3.3.1/32 -p icmp -m icmp --icmp-type 3 -j NFQUEUE --queue-num 2391
-A NATLB-2391-SRV -s 44.3.3.3/32 -p tcp -m tcp --sport 4444 -j NFQUEUE --queue-num 2391
-A NATLB-2391-SRV -s 44.3.3.3/32 -p udp -m u32 --u32 "0x4&0x3fff=0x1:0x3fff" -j NFQUEUE --queue-num 2391
COMMIT
# Completed on Tue Nov 24 04:56:37 2026
# Generated by iptables-save v1.8.9 (nf_tables) on Tue Nov 24 04:56:37 2026
*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:NATLB-2391-NOTES - [0:0]
:NATLB-2391-VIP - [0:0]
-A PREROUTING ! -i lo -j NATLB-2391-VIP
-A PREROUTING -p udp -m udp --dport 9 -j DROP
-A OUTPUT -j NATLB-2391-VIP
-A NATLB-2391-NOTES -m comment --comment "sysctl net/ipv4/ip_forward=0"
-A NATLB-2391-NOTES -m comment --comment "table ipv4/raw"
-A NATLB-2391-NOTES -m comment --comment oneword
-A NATLB-2391-VIP -d 127.0.0.0/8 -i client -j DROP
-A NATLB-2391-VIP -p tcp -m tcp --dport 8888 -m addrtype --dst-type LOCAL -j NFQUEUE --queue-num 2391
-A NATLB-2391-VIP -p tcp -m tcp --sport 8888 --tcp-flags RST RST -m addrtype --src-type LOCAL -j CT --notrack
COMMIT
# Completed on Tue Nov 24 04:56:37 2026
"""

REMOVAL = """\
*raw
-D PREROUTING ! -i lo -j NATLB-2391-VIP
-D OUTPUT -j NATLB-2391-VIP
-F NATLB-2391-NOTES
-F NATLB-2391-VIP
-X NATLB-2391-NOTES
-X NATLB-2391-VIP
COMMIT
*mangle
-D PREROUTING ! -i lo -j NATLB-2391-SNT
-D INPUT -j NATLB-2391-SRV
-D OUTPUT -j NATLB-2391-SNT
-D POSTROUTING -j NATLB-2391-SRV
-F NATLB-2391-SNT
-F NATLB-2391-SRV
-X NATLB-2391-SNT
-X NATLB-2391-SRV
COMMIT
"""


def test_what_was_installed_is_found_and_removed_and_nothing_else() -> None:
    found = find(SAVED)
    assert set(found) == {2391}
    assert found[2391].removal() == REMOVAL


def test_notes_are_read_back_as_they_were_written() -> None:
    assert find(SAVED)[2391].notes == ["sysctl net/ipv4/ip_forward=0", "table ipv4/raw", "oneword"]


def test_two_runs_are_told_apart_by_their_queues() -> None:
    found = find(SAVED + SAVED.replace("2391", "12"))
    assert set(found) == {12, 2391}
    assert found[12].removal() == REMOVAL.replace("2391", "12")
    assert found[2391].removal() == REMOVAL


def test_nothing_is_found_where_nothing_is() -> None:
    assert find("") == {}
    assert find("*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j DROP\nCOMMIT\n") == {}


_LEFTOVERS = {
    "an empty chain": (
        "*mangle\n:NATLB-7-SRV - [0:0]\nCOMMIT\n",
        "*raw\nCOMMIT\n*mangle\n-F NATLB-7-SRV\n-X NATLB-7-SRV\nCOMMIT\n",
    ),
    "a chain for full NAT and one of its jumps": (
        "*mangle\n:NATLB-7-SNT - [0:0]\n-A OUTPUT -j NATLB-7-SNT\nCOMMIT\n",
        "*raw\nCOMMIT\n*mangle\n-D OUTPUT -j NATLB-7-SNT\n-F NATLB-7-SNT\n-X NATLB-7-SNT\nCOMMIT\n",
    ),
    "notes alone": (
        '*raw\n:NATLB-7-NOTES - [0:0]\n-A NATLB-7-NOTES -m comment --comment "a b"\nCOMMIT\n',
        "*raw\n-F NATLB-7-NOTES\n-X NATLB-7-NOTES\nCOMMIT\n*mangle\nCOMMIT\n",
    ),
    "one of two jumps": (
        "*raw\n:NATLB-7-VIP - [0:0]\n-A OUTPUT -j NATLB-7-VIP\nCOMMIT\n",
        "*raw\n-D OUTPUT -j NATLB-7-VIP\n-F NATLB-7-VIP\n-X NATLB-7-VIP\nCOMMIT\n*mangle\nCOMMIT\n",
    ),
    "a jump that somebody else made, which would keep the chain": (
        '*raw\n:NATLB-7-VIP - [0:0]\n-A PREROUTING -i wan0 -m comment --comment "mine too" -g NATLB-7-VIP\nCOMMIT\n',
        '*raw\n-D PREROUTING -i wan0 -m comment --comment "mine too" -g NATLB-7-VIP\n'
        "-F NATLB-7-VIP\n-X NATLB-7-VIP\nCOMMIT\n*mangle\nCOMMIT\n",
    ),
}


@pytest.mark.parametrize(("saved", "removal"), _LEFTOVERS.values(), ids=_LEFTOVERS)
def test_what_a_removal_that_was_cut_short_has_left_is_removed(saved: str, removal: str) -> None:
    assert find(saved)[7].removal() == removal


_FOREIGN = {
    "a chain whose name begins like ours": ":NATLB-2391-VIP-OLD - [0:0]",
    "a chain whose name ends like ours": ":MY-NATLB-2391-VIP - [0:0]",
    "a chain without a queue": ":NATLB-VIP - [0:0]",
    "a chain of another purpose": ":NATLB-2391-LOG - [0:0]",
    "a jump to a chain whose name begins like ours": "-A PREROUTING -j NATLB-2391-VIP-OLD",
    "a jump to a chain whose name ends like ours": "-A PREROUTING -j MY-NATLB-2391-VIP",
    "a rule in a chain whose name begins like ours": '-A NATLB-2391-VIP-OLD -m comment --comment "sysctl x=1"',
    "a comment that names our chain": "-A PREROUTING -m comment --comment NATLB-2391-VIP -j ACCEPT",
    "a comment that reads like a jump": '-A PREROUTING -m comment --comment "before -j NATLB-2391-VIP" -j ACCEPT',
    "a comment that ends like a jump": '-A PREROUTING -m comment --comment "x -j NATLB-2391-VIP"',
    "a comment in a chain of ours that holds no notes": '-A NATLB-2391-VIP -m comment --comment "sysctl x=1" -j DROP',
}


@pytest.mark.parametrize("line", _FOREIGN.values(), ids=_FOREIGN)
def test_what_only_resembles_ours_is_left_alone(line: str) -> None:
    assert find(f"*raw\n{line}\nCOMMIT\n") == {}
    beside_ours = SAVED.replace("-A PREROUTING -p udp", f"{line}\n-A PREROUTING -p udp")
    [(queue, beside)] = find(beside_ours).items()
    alone = find(SAVED)[queue]
    assert (beside.notes, beside.jumps, beside.chains) == (alone.notes, alone.jumps, alone.chains)


_DAMAGES: dict[str, tuple[str, str, list[str]]] = {
    "a rule is gone": (
        "-A NATLB-2391-SRV -s 44.3.3.3/32 -p tcp -m tcp --sport 4444 -j NFQUEUE --queue-num 2391\n",
        "",
        ["1 rule in NATLB-2391-SRV of mangle"],
    ),
    "a rule is another": (
        "-A NATLB-2391-SRV -s 44.3.3.3/32 -p tcp -m tcp --sport 4444 -j NFQUEUE",
        "-A NATLB-2391-SRV -s 44.3.3.3/32 -p tcp -m tcp --sport 4445 -j NFQUEUE",
        [
            "1 rule in NATLB-2391-SRV of mangle",
            "NATLB-2391-SRV of mangle without 1 rule not natlb's own",
        ],
    ),
    "a rule has come": (
        "-A NATLB-2391-SNT -d",
        "-A NATLB-2391-SNT -j ACCEPT\n-A NATLB-2391-SNT -d",
        ["NATLB-2391-SNT of mangle without 1 rule not natlb's own"],
    ),
    "rules stand in another order": (
        "-A NATLB-2391-SRV -s 44.3.3.3/32 -p tcp -m tcp --sport 4444 -j NFQUEUE --queue-num 2391\n"
        '-A NATLB-2391-SRV -s 44.3.3.3/32 -p udp -m u32 --u32 "0x4&0x3fff=0x1:0x3fff" -j NFQUEUE --queue-num 2391\n',
        '-A NATLB-2391-SRV -s 44.3.3.3/32 -p udp -m u32 --u32 "0x4&0x3fff=0x1:0x3fff" -j NFQUEUE --queue-num 2391\n'
        "-A NATLB-2391-SRV -s 44.3.3.3/32 -p tcp -m tcp --sport 4444 -j NFQUEUE --queue-num 2391\n",
        ["the order of rules in NATLB-2391-SRV of mangle"],
    ),
    "nothing leads there any more": (
        "-A POSTROUTING -j NATLB-2391-SRV\n",
        "",
        ["the way from POSTROUTING of mangle"],
    ),
    "rules of others have come": ("-A INPUT", "-A INPUT -j DROP\n-A INPUT", []),
}


@pytest.mark.parametrize(("before", "after", "lost"), _DAMAGES.values(), ids=_DAMAGES)
def test_what_is_lost_is_named(before: str, after: str, lost: list[str]) -> None:
    assert before in SAVED
    [now] = find(SAVED.replace(before, after)).values()
    assert find(SAVED)[2391].lost(now) == lost


def test_where_nothing_is_left_all_of_it_is_lost() -> None:
    assert find(SAVED)[2391].lost(Found()) == [
        *("chain NATLB-2391-SNT of mangle", "chain NATLB-2391-SRV of mangle"),
        *("chain NATLB-2391-NOTES of raw", "chain NATLB-2391-VIP of raw"),
        *(f"the way from {chain} of mangle" for chain in ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING")),
        *("the way from PREROUTING of raw", "the way from OUTPUT of raw"),
    ]


def test_a_removal_of_nothing_changes_nothing() -> None:
    assert Found().removal() == "*raw\nCOMMIT\n*mangle\nCOMMIT\n"


# -- in the place of another plan


def there(plan: Plan, version: int) -> Found:
    """What is found of a plan once it is installed."""
    return find(installation(plan, version).replace("-I ", "-A "))[plan.queue]


@pytest.mark.parametrize("version", [4, 6])
def test_a_plan_takes_the_place_of_one_before_without_leading_into_its_chains_again(version: int) -> None:
    again = installation(FULL_NAT, version, there(FULL_NAT, version))
    assert again == "".join(
        f"{line}\n" for line in installation(FULL_NAT, version).splitlines() if not line.startswith("-I ")
    )


@pytest.mark.parametrize("version", [4, 6])
def test_full_nat_that_comes_later_is_led_into_its_own_chain(version: int) -> None:
    before = replace(FULL_NAT, sources=())
    lines = installation(FULL_NAT, version, there(before, version)).splitlines()
    led = [line for line in lines if line.startswith("-I ")]
    assert [line.split()[-1] for line in led] == [f"NATLB-{FULL_NAT.queue}-SNT"] * 2


@pytest.mark.parametrize("version", [4, 6])
def test_full_nat_that_is_not_needed_any_more_leaves_its_chain_empty(version: int) -> None:
    lines = installation(replace(FULL_NAT, sources=()), version, there(FULL_NAT, version)).splitlines()
    assert f":NATLB-{FULL_NAT.queue}-SNT - [0:0]" in lines
    assert not any("-SNT" in line for line in lines if line.startswith("-"))


def test_a_way_in_that_is_not_ours_as_it_should_be_is_replaced_in_the_same_step() -> None:
    found = there(FULL_NAT, 4)
    queue = FULL_NAT.queue
    found.jumps[0] = ("raw", f"PREROUTING -j NATLB-{queue}-VIP")
    table = installation(FULL_NAT, 4, found).split("COMMIT")[0].splitlines()
    assert table[:2] == ["*raw", f"-D PREROUTING -j NATLB-{queue}-VIP"]
    assert [line for line in table if line.startswith("-I")] == [f"-I PREROUTING ! -i lo -j NATLB-{queue}-VIP"]
