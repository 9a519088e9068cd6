"""A ping is answered: by the kernel where an address is the balancer's own, by natlb where it is natlb's alone."""

import re
from collections.abc import Iterator

import pytest

from netns.balancer import Natlb
from netns.build import Lab
from tests.lab.support import shell

pytestmark = pytest.mark.root

_FOREIGN = {"ipv4": "198.51.100.7", "ipv6": "2001:db8::7"}
"""Addresses that the balancer does not have. The client's way to them leads to it, as its way to everywhere does."""

_FOREIGN_TO_UDP = {"ipv4": "198.51.100.8", "ipv6": "2001:db8::8"}

_CONFIG = f"""\
global
    stats socket {{socket}} level admin
listen own
    bind *:8888
    bind [::]:8888
    server server1 44.3.3.3:4444
    server server1-6 [fd44::3]:4444
listen foreign
    bind {_FOREIGN["ipv4"]}:80 transparent
    bind [{_FOREIGN["ipv6"]}]:80 transparent
    server server1 44.3.3.3:4444
    server server1-6 [fd44::3]:4444
udp-lb foreign-udp
    dgram-bind {_FOREIGN_TO_UDP["ipv4"]}:53 transparent
    dgram-bind [{_FOREIGN_TO_UDP["ipv6"]}]:53 transparent
    timeout client 1m
    timeout server 1m
    server server1 44.3.3.3:4444
    server server1-6 [fd44::3]:4444
"""

_RULES = {
    "alone": "",
    # A packet that connection tracking has not seen the cause of must be let out all the same.
    "beside a firewall": "{0} -P OUTPUT DROP; {0} -A OUTPUT -m conntrack --ctstate INVALID -j DROP;"
    "{0} -A OUTPUT -m conntrack --ctstate RELATED,ESTABLISHED,UNTRACKED -j ACCEPT;"
    "{0} -A OUTPUT -p icmpv6 --icmpv6-type neighbour-solicitation -j ACCEPT;"
    "{0} -A OUTPUT -p icmpv6 --icmpv6-type neighbour-advertisement -j ACCEPT",
}


@pytest.fixture(scope="module")
def natlb(lab: Lab) -> Iterator[Natlb]:
    running = lab.start_natlb(_CONFIG.format(socket=lab.stats_socket))
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module", params=_RULES)
def firewall(lab: Lab, request: pytest.FixtureRequest) -> Iterator[None]:
    script = _RULES[request.param]
    for command in ("iptables", "ip6tables"):
        rules = [rule for rule in script.split(";") if command == "ip6tables" or "icmpv6" not in rule]
        shell(lab, "lb", ";".join(rules).format(command) or "true")
    yield
    invalid = []
    for command in ("iptables", "ip6tables"):
        listing = shell(lab, "lb", f"{command} -vxnL OUTPUT; {command} -F OUTPUT; {command} -P OUTPUT ACCEPT")
        invalid += [line.split()[0] for line in listing.splitlines() if "INVALID" in line]
    assert invalid == (["0", "0"] if script else [])


def _lost(lab: Lab, address: str, size: int, patience: float = 2) -> int:
    """Ping three times from the client; return how many answers did not come. Each must be what was sent."""
    options = ["-n", "-c", "3", "-i", "0.01", "-W", str(patience), "-s", str(size), address]
    said = str(lab.run("client", ["ping", *options], names=False).stdout)
    assert "wrong data byte" not in said, said
    received = re.search(r"3 packets transmitted, (\d) received", said)
    assert received, said
    answers = re.findall(rf"(?m)^(\d+) bytes from {re.escape(address)}: icmp_seq=\d+ ttl=64 ", said)
    assert answers == [str(size + 8)] * int(received[1]), said
    return 3 - int(received[1])


@pytest.mark.parametrize("address", [*_FOREIGN.values(), *_FOREIGN_TO_UDP.values()])
def test_without_natlb_nobody_answers_for_its_addresses(lab: Lab, address: str) -> None:
    # It stands before all that start natlb, which then runs to the end.
    assert _lost(lab, address, 56, patience=0.3) == 3


@pytest.mark.usefixtures("natlb", "firewall")
@pytest.mark.parametrize("size", [56, 1400])
def test_an_address_of_the_balancer_answers_pings_while_natlb_has_a_port_of_it(lab: Lab, vip: str, size: int) -> None:
    assert _lost(lab, vip, size) == 0


@pytest.mark.usefixtures("natlb", "firewall")
@pytest.mark.parametrize("size", [56, 1400])
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
@pytest.mark.parametrize("addresses", [_FOREIGN, _FOREIGN_TO_UDP], ids=["tcp", "udp"])
def test_an_address_that_only_natlb_has_answers_pings(
    lab: Lab, addresses: dict[str, str], family: str, size: int
) -> None:
    assert _lost(lab, addresses[family], size) == 0


@pytest.mark.parametrize("address", ["198.51.100.9", "2001:db8::9"])
def test_an_address_that_nobody_has_does_not(lab: Lab, natlb: Natlb, address: str) -> None:
    assert _lost(lab, address, 56, patience=0.3) == 3
