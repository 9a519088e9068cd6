"""The parts of the datapath on a real kernel, by themselves: full NAT's rules and settings, held packets, the host."""

import json
import re
import sys
from collections.abc import Iterator

import pytest

from netns.build import Lab
from netns.topology import SEED
from tests.lab.support import shell, until

pytestmark = pytest.mark.root

_STATE = (
    "iptables-save; ip6tables-save; sysctl -a 2>/dev/null | grep -E 'forward|localnet|redirects|accept_local|rp_filter'"
)

_DIVERT = """\
import sys
from ipaddress import ip_address
from natlb.datapath.diversion import Diversion
from natlb.datapath.host import Endpoint

def at(address, port, **more):
    return [Endpoint(ip_address(address), port, protocol=protocol, **more) for protocol in (6, 17)]

addresses = [*at("0.0.0.0", 53), *at("::", 53), *at("192.0.2.7", 53, interface="client", foreign=True)]
addresses += at("2001:db8::7", 53, foreign=True)
servers = [*at("44.3.3.3", 5353), *at("44.4.4.4", 5353), *at("fd44::3", 5353), *at("127.0.0.1", 5353)]
sources = [ip_address("44.2.2.2"), ip_address("fd44::2")]
diverted = Diversion(7, addresses, servers, print, sources)
"""


def _python(lab: Lab, script: str) -> str:
    done = lab.run("lb", [sys.executable, "-c", script], names=False)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def _state(lab: Lab) -> str:
    """Return rules and settings of the balancer, byte for byte but for dates and what has been counted meanwhile."""
    return re.sub(r"(?m)^# .* on .*\n| \[\d+:\d+\]$", "", shell(lab, "lb", _STATE))


def _clear(lab: Lab) -> None:
    _python(lab, "from natlb.datapath.diversion import clear_leftovers; clear_leftovers(set(), print)")


@pytest.fixture(params=[0, 1, 2], ids=lambda value: f"rp_filter {value}")
def before(lab: Lab, request: pytest.FixtureRequest) -> Iterator[str]:
    """The state of the balancer with each way of looking for the way back."""
    shell(lab, "lb", f"for i in all client; do echo {request.param} > /proc/sys/net/ipv4/conf/$i/rp_filter; done")
    yield _state(lab)
    shell(lab, "lb", "for i in all client; do echo 0 > /proc/sys/net/ipv4/conf/$i/rp_filter; done")


def test_the_kernel_takes_every_rule_of_full_nat_and_all_of_it_is_undone(lab: Lab, before: str) -> None:
    told = _python(lab, _DIVERT + "diverted.close()")
    assert "set net.ipv4.conf.client.accept_local to 1 while natlb runs" in told
    assert ("set net.ipv4.conf.client.rp_filter to 2" in told) == ("net.ipv4.conf.client.rp_filter = 1" in before)
    assert _state(lab) == before


def test_what_a_crash_of_full_nat_has_left_is_undone(lab: Lab, before: str) -> None:
    _python(lab, _DIVERT)
    during = _state(lab)
    assert "-A PREROUTING ! -i lo -j NATLB-7-SNT" in during
    assert "-A OUTPUT -j NATLB-7-SNT" in during
    _clear(lab)
    assert _state(lab) == before


def test_what_a_run_has_left_is_taken_over_by_the_next_and_undone_by_the_last(lab: Lab, before: str) -> None:
    _python(lab, _DIVERT)
    during = _state(lab)
    _python(lab, _DIVERT)
    assert _state(lab) == during
    _python(lab, _DIVERT + "diverted.close()")
    assert _state(lab) == before


def test_rules_survive_being_saved_and_restored_and_are_still_found(lab: Lab) -> None:
    _python(lab, _DIVERT)
    during = _state(lab)
    for command in ("iptables", "ip6tables"):
        shell(lab, "lb", f'saved=$({command}-save); {command}-restore <<< "$saved"')
    assert _state(lab) == during
    _clear(lab)
    # Not compared with the state before: restoring makes tables and chains that natlb would not have made.
    assert "NATLB" not in _state(lab)


_SPOOF = """\
from ipaddress import ip_address
from natlb.datapath.injector import Injector
header = bytes.fromhex("4500001c0000000040110000") + ip_address("44.2.2.2").packed * 2
Injector().send(header + bytes.fromhex("0009000900080000"))
"""


def test_nobody_out_there_may_speak_in_the_name_of_this_machine(lab: Lab) -> None:
    """As without natlb: the kernel lets such packets in where full NAT has made it, so a rule drops them first."""
    _python(lab, _DIVERT)
    shell(lab, "lb", "iptables -I INPUT -p udp --dport 9 -j DROP")
    done = lab.run("client", [sys.executable, "-c", _SPOOF], names=False)
    assert done.returncode == 0, done.stderr

    def dropped() -> list[str]:
        listing = shell(lab, "lb", "iptables -t raw -vxnL NATLB-7-VIP").splitlines()
        return [line.split()[0] for line in listing if "client" in line and "src-type LOCAL" in line]

    until(lambda: dropped() == ["1"], "it is dropped", instead=dropped)
    came_in = shell(lab, "lb", "iptables -vxnL INPUT")
    shell(lab, "lb", "iptables -F INPUT")
    _clear(lab)
    assert [line.split()[0] for line in came_in.splitlines() if "dpt:9" in line] == ["0"]


_HOLD = """\
import select, socket, subprocess
from natlb.core.verdict import Accept, Hold
from natlb.datapath.nfqueue import PacketQueue

family, address, command = {family}, {address!r}, {command!r}
subprocess.run([command, "-A", "OUTPUT", "-p", "udp", "--dport", "9", "-j", "NFQUEUE", "--queue-num", "9"], check=True)
packets = PacketQueue(9, lambda packet, *_: Hold(packet[-1]), print)
server, client = socket.socket(family, socket.SOCK_DGRAM), socket.socket(family, socket.SOCK_DGRAM)
server.bind((address, 9))
server.settimeout(2)
client.connect((address, 9))
for number in range(1, 5):
    client.send(bytes([number]))
while packets.delivered < 4:
    select.select(packets.filenos(), [], [], 2)
    packets.process_batch()
for ticket in (3, 1):
    packets.release(ticket, Accept())
print([server.recv(9)[0] for _ in range(2)])
packets.close()
subprocess.run([command, "-F", "OUTPUT"], check=True)
server.settimeout(0.3)
try:
    print("came later:", server.recv(9))
except TimeoutError:
    print("nothing else came")
print(packets.failures, "failures")
"""

_LOOPBACKS = {"ipv4": ("socket.AF_INET", "127.0.0.1", "iptables"), "ipv6": ("socket.AF_INET6", "::1", "ip6tables")}


@pytest.mark.parametrize(("family", "address", "command"), _LOOPBACKS.values(), ids=_LOOPBACKS)
def test_packets_kept_back_go_on_when_they_are_released_and_never_if_not(
    lab: Lab, family: str, address: str, command: str
) -> None:
    said = _python(lab, _HOLD.format(family=family, address=address, command=command))
    assert said.splitlines() == ["[3, 1]", "nothing else came", "0 failures"]


_HOST = """\
import json
from ipaddress import ip_address
from natlb.datapath import host
print(json.dumps({
    "networks": [[str(part) for part in found] for found in host.connected_networks()],
    "sources": {to: str(host.preferred_source(ip_address(to))) for to in
        ("44.3.3.3", "fd44::3", "127.0.0.1", "203.0.113.1", "2001:db8::1", "44.2.2.2")},
    "ports": host.ephemeral_ports(),
}))
"""


def test_the_host_knows_its_networks_and_its_source_towards_each_server(lab: Lab) -> None:
    shell(lab, "lb", "ip route add blackhole 203.0.113.0/24")
    told = json.loads(_python(lab, _HOST))
    shell(lab, "lb", "ip route del blackhole 203.0.113.0/24")
    # The links of the lab have two ends and no subnet: the network is the other end.
    expected = [
        [f"{address}/{length}", own, host.name]
        for host in SEED.neighbours
        for address, length, own in ((host.ipv4, 32, SEED.balancer.ipv4), (host.ipv6, 128, SEED.balancer.ipv6))
    ]
    assert sorted(found for found in told["networks"] if found[0] != "fe80::/64") == sorted(expected)
    assert told["sources"] == {
        "44.3.3.3": "44.2.2.2",
        "fd44::3": "fd44::2",
        "44.2.2.2": "44.2.2.2",
        "127.0.0.1": "127.0.0.1",
        "203.0.113.1": "None",
        "2001:db8::1": "None",
    }
    assert told["ports"] == [int(port) for port in shell(lab, "lb", "sysctl -n net.ipv4.ip_local_port_range").split()]
