"""UDP through natlb: real name servers asked with dig, streams, servers that go away, and what the wires show.

natlb balances the same servers over both address families, and each twice: with DNAT, and with full NAT at ports that
are higher by 10,000.
"""

import itertools
import json
import socket
import struct
from collections import Counter
from collections.abc import Iterator

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from netns.balancer import Entry, Natlb, ask, nat_table
from netns.build import Lab
from netns.capture import Capture
from netns.processes import Service
from netns.topology import SEED
from netns.web import endpoint
from tests.lab.datagrams import (
    MODES,
    Echo,
    Wire,
    activity,
    asked,
    client,
    echoes,
    noise,
    udp_lb,
)
from tests.lab.firewall import stateful_firewall
from tests.lab.support import shell, until
from tests.lab.ways import SOURCES, add_sources, full_nat

pytestmark = pytest.mark.root

_DNS, _ECHO, _CHECKED, _IPERF, _OWN, _NOBODY, _SILENT = 5353, 7000, 7001, 5201, 7002, 7003, 7004
"""The servers' ports."""

_SECTIONS = {
    "dns": (53, _DNS, ()),
    "dns-anew": (54, _DNS, ("proxy-responses 1",)),
    "echo": (8000, _ECHO, ()),
    "checked": (8001, _CHECKED, ("option udp-check", "default-server check inter 100ms fall 1 rise 1")),
    "nobody": (8002, _NOBODY, ()),
    "silent": (8004, _SILENT, ()),
}
"""Name of a section: its virtual port, the servers' port, and what else it says."""

_ONE_SERVER = {
    "iperf": (5201, {4: f"44.3.3.3:{_IPERF}", 6: f"[fd44::3]:{_IPERF}"}),
    "own": (8003, {4: f"127.0.0.1:{_OWN}", 6: f"[fd44::2]:{_OWN}"}),
}
"""The same, of one server: its addresses. No kernel lets a packet from outside in to ::1."""

_FULL = 10_000


def _config(lab: Lab) -> str:
    text = f"global\n    stats socket {lab.stats_socket} level admin\n"
    for full in MODES.values():
        for name, (port, to, lines) in _SECTIONS.items():
            text += udp_lb(lab, _section(name, full), port + _FULL * full, to, *lines, full=full)
        for name, (port, servers) in _ONE_SERVER.items():
            for version, everywhere in ((4, "*"), (6, "[::]")):
                for kind, bind in (("udp-lb", "dgram-bind"), ("listen", "bind")):
                    lines = [f"{kind} {_section(name, full)}{version}-{kind}"]
                    lines += [f"{bind} {everywhere}:{port + _FULL * full}", f"server only {servers[version]}"]
                    text += "\n    ".join([*lines, *([full_nat(version)] if full else [])]) + "\n"
    return text


def _section(name: str, full: bool) -> str:
    return f"{name}-{'full' if full else 'dnat'}-"


def _version(address: str) -> int:
    return 6 if ":" in address else 4


@pytest.fixture(scope="module")
def servers(lab: Lab) -> Iterator[list[Echo]]:
    add_sources(lab)
    for host in lab.topology.servers:
        # Else a kernel says once a second that a port is closed; whoever asks more often takes its silence for life.
        shell(lab, host.name, "sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0")
    with echoes(lab, _ECHO) as running:
        yield running


@pytest.fixture(scope="module")
def natlb(lab: Lab, servers: list[Echo]) -> Iterator[Natlb]:
    running = lab.start_natlb(_config(lab))
    yield running
    assert running.stop() == 0
    assert "internal error" not in running.log()


@pytest.fixture(params=MODES.values(), ids=MODES)
def full(request: pytest.FixtureRequest, natlb: Natlb) -> bool:
    """Whether it is full NAT."""
    return bool(request.param)


def _port(name: str, full: bool) -> int:
    return (_SECTIONS | _ONE_SERVER)[name][0] + _FULL * full


@pytest.fixture
def fresh(servers: list[Echo]) -> list[Echo]:
    """The servers, and nothing received yet."""
    for server in servers:
        server.received.clear()
        server.peers.clear()
    return servers


_OPENED = """\
-A FORWARD -i client -m conntrack --ctstate NEW -p udp -m multiport --dports {remote} -j ACCEPT
-A INPUT -i client -m conntrack --ctstate NEW -p udp --dport {own} -j ACCEPT
"""

_SURROUNDINGS = ["alone", "beside a firewall"]


@pytest.fixture(params=_SURROUNDINGS)
def surroundings(lab: Lab, natlb: Natlb, request: pytest.FixtureRequest) -> Iterator[None]:
    """A stateful firewall on the balancer that opens the servers' ports alone, and must find nothing INVALID; or none.

    With connection tracking at work, natlb sees a datagram whole that has come in fragments.
    """
    if request.param == "alone":
        yield
        return
    remote = ",".join(map(str, (_DNS, _ECHO, _CHECKED, _NOBODY)))
    with stateful_firewall(lab, _OPENED.format(remote=remote, own=_OWN)):
        yield


# Name servers

_LONG = ["a" * 250, *(f"{number}" * 250 for number in range(10)), "z" * 250]
"""A text that takes two packets."""


@pytest.fixture(scope="module")
def dns(lab: Lab, natlb: Natlb) -> Iterator[None]:
    running = []
    for host in lab.topology.servers:
        options = [f"--port={_DNS}", f"--txt-record=who.lab,{host.name}", f"--txt-record=long.lab,{','.join(_LONG)}"]
        plain = ["-k", "-C", "/dev/null", "--no-resolv", "--no-hosts", "--user=root", "--pid-file", "--log-facility=-"]
        command = lab.command(host.name, ["dnsmasq", *plain, "--edns-packet-max=4096", *options], names=False)
        running.append(Service(f"dnsmasq on {host.name}", command, lab.directory / f"dnsmasq-{host.name}.log"))
        running[-1].wait_for("started, version")
    yield
    for service in running:
        assert service.stop() == 0


def _dig(lab: Lab, address: str, port: int, *questions: str, own_port: int = 0) -> list[list[str]]:
    """Ask for texts, all from one port if it is given; return the answers. dig hears no address but the asked one."""
    asking_host = lab.topology.client
    own = ["-b", f"{asking_host.ipv6 if ':' in address else asking_host.ipv4}#{own_port}"] if own_port else []
    options = ["+noall", "+answer", "+time=3", "+tries=1", "+bufsize=4096", "+ignore"]
    asking = [word for question in questions for word in (f"@{address}", "-p", str(port), "-t", "TXT", question)]
    said = shell(lab, "client", " ".join(["dig", *options, *own, *asking]))
    return [
        [text.strip('"') for text in line.split("TXT", 1)[1].split()] for line in said.splitlines() if "TXT" in line
    ]


_own_ports = itertools.count(20_001)

_EITHER_FIRST = ([["server1"], ["server2"]] * 3, [["server2"], ["server1"]] * 3)


@pytest.mark.usefixtures("dns", "surroundings")
def test_name_servers_answer_in_turn(lab: Lab, vip: str, full: bool) -> None:
    # A port of its own for each: one that an earlier query had would still be that query's flow.
    asked = [_dig(lab, vip, _port("dns", full), "who.lab", own_port=next(_own_ports)) for _ in range(6)]
    assert [answer for answers in asked for answer in answers] in _EITHER_FIRST


@pytest.mark.usefixtures("dns")
def test_many_queries_from_one_socket_stay_with_one_server(lab: Lab, vip: str, full: bool) -> None:
    answers = _dig(lab, vip, _port("dns", full), *["who.lab"] * 20, own_port=next(_own_ports))
    assert answers in ([["server1"]] * 20, [["server2"]] * 20)


@pytest.mark.usefixtures("dns", "surroundings")
def test_queries_from_one_socket_are_spread_where_each_has_one_response(lab: Lab, vip: str, full: bool) -> None:
    own_port = next(_own_ports)
    assert _dig(lab, vip, _port("dns-anew", full), *["who.lab"] * 6, own_port=own_port) in _EITHER_FIRST
    assert not _entries(lab, vip, _port("dns-anew", full), own_port), "nothing is left of flows that are over"


@pytest.mark.usefixtures("dns", "surroundings")
def test_an_answer_larger_than_a_packet_comes_whole(lab: Lab, vip: str, full: bool) -> None:
    assert _dig(lab, vip, _port("dns", full), "long.lab") == [_LONG]


# Streams


@pytest.fixture(scope="module")
def iperf(lab: Lab, natlb: Natlb) -> Iterator[None]:
    command = lab.command("server1", ["iperf3", "-s", "-p", str(_IPERF), "--forceflush"], names=False)
    running = Service("iperf3 on server1", command, lab.directory / "iperf.log")
    running.wait_for("Server listening")
    yield
    running.kill()


def _dropped_by_sockets(lab: Lab, host: str) -> int:
    """Return how many datagrams have arrived at a host and found no room, because their program did not read on."""
    text = shell(lab, host, "cat /proc/net/snmp /proc/net/snmp6")
    names, values = (line.split() for line in text.splitlines() if line.startswith("Udp:"))
    (ipv6,) = [line.split()[1] for line in text.splitlines() if line.startswith("Udp6RcvbufErrors")]
    return int(values[names.index("RcvbufErrors")]) + int(ipv6)


@pytest.mark.usefixtures("iperf")
def test_iperf_loses_nothing_of_20_megabits_per_second_each_way(lab: Lab, vip: str, full: bool) -> None:
    """Nothing on its way, that is: where iperf itself gets no processor for 50 ms, its socket is full."""
    options = f"-c {vip} -p {_port('iperf', full)} -u -b 20M -l 1200 -t 1 --bidir -J --connect-timeout 3000"
    receivers = ("server1", "client")
    before = [_dropped_by_sockets(lab, host) for host in receivers]
    end = json.loads(shell(lab, "client", f"iperf3 {options}"))["end"]
    unread = [_dropped_by_sockets(lab, host) - count for host, count in zip(receivers, before, strict=True)]
    received = [end[way] for way in ("sum_received", "sum_received_bidir_reverse")]
    for each, most in zip(received, unread, strict=True):
        assert each["lost_packets"] <= most, received
    assert all(each["packets"] > 1500 for each in received)


def test_a_stream_of_datagrams_comes_back_complete_in_order_and_byte_for_byte(lab: Lab, vip: str, full: bool) -> None:
    sent = [struct.pack("!I", number) + noise(number % 1400) for number in range(3000)]
    with client(lab, vip, _port("echo", full)) as opened:
        for start in range(0, len(sent), 50):
            for each in sent[start : start + 50]:
                opened.send(each)
            assert [opened.recv(2048) for _ in range(50)] == sent[start : start + 50]


# Servers that go away


def _entries(lab: Lab, vip: str, port: int, own_port: int) -> list[Entry]:
    """The flows in the table that a port of the client speaks in to a virtual address and port."""
    own = endpoint(SEED.client.ipv6 if ":" in vip else SEED.client.ipv4, own_port), endpoint(vip, port)
    return [entry for entry in nat_table(_ask(lab, "show sess")) if entry.original == own]


def _ask(lab: Lab, command: str) -> str:
    return ask(lab.stats_socket, command)


@pytest.mark.usefixtures("servers", "surroundings")
def test_a_flow_whose_server_is_found_dead_goes_on_with_another(lab: Lab, vip: str, full: bool) -> None:
    section = f"{_section('checked', full)}{_version(vip)}"
    with echoes(lab, _CHECKED) as running, client(lab, vip, _port("checked", full)) as opened:
        until(lambda: _usable(lab, section) == {"server1", "server2"}, "both are up")
        served = asked(opened).decode()
        assert asked(opened).decode() == served
        (dead,) = (echo for echo in running if echo.name == served)
        dead.close()
        until(lambda: served not in _usable(lab, section), "its check finds it dead")
        assert {asked(opened).decode() for _ in range(3)} == {"server1", "server2"} - {served}


def _usable(lab: Lab, section: str) -> set[str]:
    """Names of the servers of a section that are up, by what natlb tells."""
    rows = [line.split(",") for line in _ask(lab, "show stat").splitlines()]
    return {row[1] for row in rows if row[0] == section and row[17] == "UP"} - {"BACKEND"}


def test_a_flow_leaves_a_server_that_is_put_into_maintenance_with_its_next_datagram(
    lab: Lab, servers: list[Echo], vip: str, full: bool
) -> None:
    section = f"{_section('echo', full)}{_version(vip)}"
    with client(lab, vip, _port("echo", full)) as opened:
        first = asked(opened).decode()
        assert _ask(lab, f"set server {section}/{first} state maint").strip() == ""
        second = asked(opened).decode()
        assert {first, second} == {"server1", "server2"}
        _ask(lab, f"set server {section}/{first} state ready")
        assert asked(opened).decode() == second, "it does not wander back"


@pytest.mark.usefixtures("servers", "surroundings")
def test_with_no_server_usable_a_client_is_refused_and_served_again_when_there_is_one(
    lab: Lab, servers: list[Echo], vip: str, full: bool
) -> None:
    section = f"{_section('echo', full)}{_version(vip)}"
    names = [host.name for host in lab.topology.servers]
    with client(lab, vip, _port("echo", full)) as opened:
        assert asked(opened).decode() in names
        refused = activity(lab)["refused"]
        try:
            for name in names:
                _ask(lab, f"set server {section}/{name} state maint")
            with pytest.raises(ConnectionRefusedError):
                asked(opened)
            assert activity(lab)["refused"] - refused == 1
            assert not _entries(lab, vip, _port("echo", full), opened.getsockname()[1])
        finally:
            for name in names:
                _ask(lab, f"set server {section}/{name} state ready")
        assert asked(opened).decode() in names


@pytest.mark.usefixtures("servers", "surroundings")
def test_a_client_is_told_by_the_server_itself_that_nobody_listens_there(lab: Lab, vip: str, full: bool) -> None:
    refused = activity(lab)["refused"]
    with client(lab, vip, _port("nobody", full)) as opened, pytest.raises(ConnectionRefusedError):
        asked(opened)
    assert activity(lab)["refused"] == refused, "it was not natlb that did"


# What the servers see, and what natlb tells


def test_the_table_shows_both_tuples_and_what_each_side_sent(lab: Lab, fresh: list[Echo], vip: str, full: bool) -> None:
    version = _version(vip)
    with client(lab, vip, _port("echo", full), own_port=next(_own_ports)) as opened:
        own = endpoint(*opened.getsockname()[:2])
        opened.send(b"")
        assert opened.recv(9) == b""
        for size in (1, 10, 1400):
            assert asked(opened, noise(size)) == noise(size)
        (served,) = (server for server in fresh if server.received)
        (entry,) = _entries(lab, vip, _port("echo", full), opened.getsockname()[1])
        served.send(b"unasked")
        assert opened.recv(9) == b"unasked"
        (later,) = _entries(lab, vip, _port("echo", full), opened.getsockname()[1])
    host = lab.topology.host(served.name)
    seen = endpoint(SOURCES[version], int(own.rpartition(":")[2])) if full else own
    assert set(served.peers) == {seen}
    assert entry.original == (own, endpoint(vip, _port("echo", full)))
    assert entry.reply == (endpoint(host.ipv6 if version == 6 else host.ipv4, _ECHO), seen)
    assert (entry.protocol, entry.server, entry.state) == (f"udpv{version}", served.name, "BOTH_WAYS")
    assert entry.frontend == entry.backend == f"{_section('echo', full)}{version}"
    assert (entry.original_packets, entry.original_bytes) == (4, 1411)
    assert (entry.reply_packets, entry.reply_bytes) == (4, 1411)
    assert (later.original_packets, later.original_bytes) == (4, 1411)
    assert (later.reply_packets, later.reply_bytes) == (5, 1411 + len(b"unasked"))


def test_a_flow_is_one_way_until_the_server_has_spoken(lab: Lab, vip: str, full: bool) -> None:
    with client(lab, vip, _port("silent", full)) as opened:
        opened.send(b"is anybody there?")
        own_port = opened.getsockname()[1]
        until(lambda: len(_entries(lab, vip, _port("silent", full), own_port)) == 1, "the flow is in the table")
        (entry,) = _entries(lab, vip, _port("silent", full), own_port)
    assert (entry.state, entry.original_packets, entry.reply_packets) == ("ONE_WAY", 1, 0)


_CLIENTS = ["client", "lb"]


@pytest.mark.parametrize("host", _CLIENTS)
@pytest.mark.usefixtures("surroundings")
def test_a_server_on_the_balancer_answers(lab: Lab, vip: str, full: bool, host: str) -> None:
    """Over IPv4 it is at 127.0.0.1."""
    address = SEED.balancer.ipv6 if ":" in vip else "127.0.0.1"
    with Echo(lab, "lb", _OWN, address) as own, client(lab, vip, _port("own", full), host) as opened:
        assert asked(opened, noise(20_000)) == noise(20_000)
        seen = SOURCES[_version(vip)] if full else opened.getsockname()[0]
        assert own.peers == [endpoint(seen, opened.getsockname()[1])]


_VISIBLE = 65_531
"""Bytes of a packet, its headers included, that the kernel shows to a program."""


def test_on_the_loopback_interface_what_cannot_be_seen_whole_is_dropped_and_counted(
    lab: Lab, vip: str, full: bool
) -> None:
    """Datagrams of this size come in one packet there."""
    largest = _VISIBLE - (48 if ":" in vip else 28)
    before = activity(lab)
    address = SEED.balancer.ipv6 if ":" in vip else "127.0.0.1"
    with Echo(lab, "lb", _OWN, address) as own, client(lab, vip, _port("own", full), "lb") as opened:
        assert asked(opened, noise(largest)) == noise(largest)
        opened.send(noise(largest + 1))
        assert asked(opened, b"behind") == b"behind"
    assert own.received == [noise(largest), b"behind"]
    assert activity(lab)["drop_truncated"] - before["drop_truncated"] == 1


@pytest.mark.usefixtures("servers", "surroundings")
def test_a_client_on_the_balancer_is_answered(lab: Lab, vip: str, full: bool) -> None:
    with client(lab, vip, _port("echo", full), "lb") as opened:
        assert asked(opened, noise(20_000)) == noise(20_000)


# On the wires

_IP_OPTIONS, _IPV6_TCLASS, _IPV6_DSTOPTS, _SO_NO_CHECK = 4, 67, 59, 11
_DESTINATION_OPTIONS = 60
"""What tells of them in an IPv6 header."""
_EXPEDITED = 0xB8 | 0x01
"""A class of traffic, and that congestion may be notified."""


def _with_options(opened: socket.socket) -> None:
    """Let a socket's packets have more in their headers than they need."""
    if opened.family == socket.AF_INET:
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _EXPEDITED)
        opened.setsockopt(socket.IPPROTO_IP, _IP_OPTIONS, b"\x01\x01\x01\x00")
    else:
        opened.setsockopt(socket.IPPROTO_IPV6, _IPV6_TCLASS, _EXPEDITED)
        opened.setsockopt(socket.IPPROTO_IPV6, _IPV6_DSTOPTS, b"\0\0\x01\x04\0\0\0\0")


def _captures(lab: Lab, full: bool) -> tuple[Capture, list[Capture]]:
    """Start one at the client, and one at each server, for what clients say to `echo`, and are answered."""

    def capture(host: str, port: int) -> Capture:
        # tcpdump does not look for UDP behind options of IPv6: those packets it takes by their options.
        return lab.capture(host, "eth0", f"udp port {port} or ip6[6] = {_DESTINATION_OPTIONS}")

    return capture("client", _port("echo", full)), [capture(host.name, _ECHO) for host in lab.topology.servers]


def _seen(*captures: Capture) -> list[IP | IPv6]:
    packets = []
    for capture in captures:
        capture.stop()
        for _, frame in capture.packets():
            network = Ether(frame).payload
            size = network.len if network.version == 4 else 40 + network.plen
            packets.append(type(network)(bytes(network)[:size]))
    return packets


def _udp_at(packet: IP | IPv6) -> int:
    return len(packet) - len(packet[UDP])


def _untouchable(packet: IP | IPv6) -> bytes:
    """A packet without its addresses and ports, checksums, and time to live."""
    left = bytearray(bytes(packet))
    for first, last in [(8, 9), (10, 20)] if packet.version == 4 else [(7, 40)]:
        left[first:last] = bytes(last - first)
    at = _udp_at(packet)
    for first, last in [(at, at + 4), (at + 6, at + 8)]:
        left[first:last] = bytes(last - first)
    return bytes(left)


def _ends(packet: IP | IPv6) -> tuple[str, str]:
    return endpoint(packet.src, packet[UDP].sport), endpoint(packet.dst, packet[UDP].dport)


def _as_computed(packet: IP | IPv6) -> bytes:
    """The packet with the checksums that scapy comes to."""
    again = packet.copy()
    del again[UDP].chksum
    if packet.version == 4:
        del again.chksum
    return bytes(again)


@pytest.mark.parametrize("options", [False, True], ids=["plain", "with options"])
@pytest.mark.usefixtures("servers")
def test_nothing_changes_on_the_way_but_addresses_ports_checksums_and_ttl(
    lab: Lab, vip: str, full: bool, options: bool
) -> None:
    at_client, at_servers = _captures(lab, full)
    with client(lab, vip, _port("echo", full)) as opened:
        own = endpoint(*opened.getsockname()[:2])
        if options:
            _with_options(opened)
        for size in (0, 1, 2, 3, 500, 1400):
            opened.send(noise(size))
            assert opened.recv(2048) == noise(size)
    near, far = _seen(at_client), _seen(*at_servers)
    assert len(near) == len(far) == 12
    more = (4 if ":" not in vip else 8) if options else 0
    assert {_udp_at(packet) for packet in near if _ends(packet)[0] == own} == {(40 if ":" in vip else 20) + more}
    for here, there in zip(sorted(near, key=_untouchable), sorted(far, key=_untouchable), strict=True):
        assert bytes(here) == _as_computed(here)
        assert bytes(there) == _as_computed(there)
        assert _untouchable(here) == _untouchable(there)
        lives = [packet.ttl if packet.version == 4 else packet.hlim for packet in (here, there)]
        assert lives == ([64, 63] if _ends(here)[0] == own else [63, 64])
    vip_end = endpoint(vip, _port("echo", full))
    seen = endpoint(SOURCES[_version(vip)], int(own.rpartition(":")[2])) if full else own
    assert Counter(map(_ends, near)) == {(own, vip_end): 6, (vip_end, own): 6}
    assert len({ends for packet in far for ends in _ends(packet)} - {seen}) == 1, "there is one server and one client"


def test_a_checksum_that_comes_out_as_zero_is_not_sent_as_none(
    lab: Lab, fresh: list[Echo], vip: str, full: bool
) -> None:
    at_client, at_servers = _captures(lab, full)
    with client(lab, vip, _port("echo", full)) as opened:
        asked(opened)
        (served,) = (server for server in fresh if server.received)
        host = lab.topology.host(served.name)
        client_as_seen = SOURCES[_version(vip)] if full else opened.getsockname()[0]
        assert served.peers == [endpoint(client_as_seen, opened.getsockname()[1])]
        header = (
            IPv6(src=client_as_seen, dst=host.ipv6) if ":" in vip else IP(src=client_as_seen, dst=host.ipv4)
        ) / UDP(sport=opened.getsockname()[1], dport=_ECHO)
        # What is missing from a sum of all ones, added to it.
        payload = type(header)(bytes(header / b"\0\0"))[UDP].chksum.to_bytes(2, "big")
        assert asked(opened, payload) == payload
    assert served.received[1:] == [payload]
    arrived = [packet[UDP].chksum for packet in _seen(*at_servers) if packet[UDP].dport == _ECHO]
    assert arrived[1:] == [0xFFFF]
    assert all(bytes(packet) == _as_computed(packet) for packet in _seen(at_client))


def test_a_datagram_over_ipv4_without_a_checksum_stays_without_one(lab: Lab, fresh: list[Echo], full: bool) -> None:
    at_client, at_servers = _captures(lab, full)
    for server in fresh:
        server.socket.setsockopt(socket.SOL_SOCKET, _SO_NO_CHECK, 1)
    try:
        with client(lab, SEED.balancer.ipv4, _port("echo", full)) as opened:
            opened.setsockopt(socket.SOL_SOCKET, _SO_NO_CHECK, 1)
            assert asked(opened, b"unchecked") == b"unchecked"
    finally:
        for server in fresh:
            server.socket.setsockopt(socket.SOL_SOCKET, _SO_NO_CHECK, 0)
    assert [each for server in fresh for each in server.received] == [b"unchecked"]
    assert [packet[UDP].chksum for packet in _seen(at_client, *at_servers)] == [0] * 4


def test_a_datagram_over_ipv6_without_a_checksum_is_dropped_and_counted(
    lab: Lab, fresh: list[Echo], full: bool
) -> None:
    before = activity(lab)
    with client(lab, SEED.balancer.ipv6, _port("echo", full)) as opened, Wire(lab) as wire:
        ports = {"sport": opened.getsockname()[1], "dport": _port("echo", full)}
        header = IPv6(src=SEED.client.ipv6, dst=SEED.balancer.ipv6)
        for _ in range(2):  # as the first of a flow, and within one
            wire.send([bytes(header / UDP(chksum=0, **ports) / b"unchecked")])
            assert asked(opened, b"checked") == b"checked"
    assert [each for server in fresh for each in server.received] == [b"checked"] * 2
    assert activity(lab)["drop_bad_checksum"] - before["drop_bad_checksum"] == 2
