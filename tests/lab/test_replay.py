"""A capture that was really made, replayed: byte for byte what the live natlb has sent.

Captures run at the balancer, at all of its interfaces at once, and at every host. What `natlb replay` makes of the
first, without root and in no namespace, has to be what came to the hosts.
"""

import contextlib
import json
import socket
import struct
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import IPv6
from scapy.utils import RawPcapReader, checksum

from netns.build import Lab
from netns.capture import Capture
from netns.processes import PYTHON
from netns.topology import SEED
from netns.web import endpoint, pattern
from tests.lab.datagrams import Wire, asked, client, datagram, echoes, noise, udp_lb
from tests.lab.support import Client, download, upload
from tests.lab.ways import add_sources, full_nat

pytestmark = pytest.mark.root

_ETHERNET = 14
_WEB = {False: 8001, True: 8002}
_UDP = {False: 7007, True: 7008}
"""Virtual ports, by whether it is full NAT."""
_NOBODY, _REFUSED = 8003, 8004
_CHANCE = 8005
"""Full NAT from the address that the balancer's own programs speak from: natlb leaves their ports alone, which are the
clients' as well, and draws others."""
_VIPS = {4: SEED.balancer.ipv4, 6: SEED.balancer.ipv6}


def _configuration(lab: Lab) -> str:
    text = f"global\n    stats socket {lab.stats_socket} level admin\n"
    text += "defaults\n    timeout connect 10s\n    timeout client 30s\n    timeout server 30s\n"
    for version, vip in _VIPS.items():
        for full, port in _WEB.items():
            servers = [
                f"    server {host.name} {endpoint(host.ipv4 if version == 4 else host.ipv6, 4460)}"
                for host in SEED.servers
            ]
            source = [f"    {full_nat(version)}"] if full else []
            head = [f"listen web{version}-{full}", f"    bind {endpoint(vip, port)}"]
            text += "\n".join([*head, *source, *servers, ""])
        own = f"[{vip}]" if version == 6 else vip
        head = [f"listen chance{version}", f"    bind {endpoint(vip, _CHANCE)}", f"    source {own}"]
        text += "\n".join([*head, *servers, ""])
        text += f"frontend nobody{version}\n    bind {endpoint(vip, _NOBODY)}\n"
        host = SEED.servers[0]
        place = endpoint(host.ipv4 if version == 4 else host.ipv6, 9)
        text += f"listen refused{version}\n    bind {endpoint(vip, _REFUSED)}\n    server server1 {place}\n"
    for full, port in _UDP.items():
        text += udp_lb(lab, f"echo-{full}-", port, 7000, full=full)
    return text + udp_lb(lab, "closed-", 7009, 9)


@pytest.fixture(scope="module")
def captured(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path, list[bytes]]]:
    """A capture at the balancer, its configuration, and what came to the hosts meanwhile."""
    add_sources(lab)
    configuration = tmp_path_factory.mktemp("replay") / "lab.cfg"
    configuration.write_text(_configuration(lab))
    for host in SEED.servers:
        lab.start_web(host.name, 4460)
    natlb = lab.start_natlb(configuration.read_text())
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(echoes(lab, 7000))
        assert len(running) == 2
        # Each packet comes by twice, and no transfer has more of them than there is room for, if they are short.
        at_all = stack.enter_context(lab.capture("lb", "any", longest=lab.longest))
        at_hosts = {host: stack.enter_context(lab.capture(host.name, "eth0")) for host in SEED.neighbours}
        for vip in _VIPS.values():
            _talk(lab, vip, tmp_path_factory.getbasetemp())
        for capture in (at_all, *at_hosts.values()):
            capture.settle()
    assert natlb.stop() == 0
    received = [packet for host, capture in at_hosts.items() for packet in _received(capture, (host.ipv4, host.ipv6))]
    yield at_all.path, configuration, received


def _talk(lab: Lab, vip: str, directory: Path) -> None:
    """Let the client say much: web pages, large files both ways, resets, refusals, datagrams, fragments."""
    file = directory / "upload"
    file.write_bytes(b"".join(pattern(70_000)))
    for port in (*_WEB.values(), _CHANCE):
        for _ in range(3):
            first, second = Client(lab, "client", vip, port), Client(lab, "client", vip, port)
            for each in (first, second, first):
                each.ask()
            second.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            second.close()
            first.close()
        download(lab, "client", vip, 300_000, port=port)
        upload(lab, "client", vip, file, port=port)
    for port in (_NOBODY, _REFUSED):
        with pytest.raises(ConnectionRefusedError):
            Client(lab, "client", vip, port)
    for port in _UDP.values():
        for _ in range(3):
            with client(lab, vip, port) as speaker:
                assert asked(speaker).startswith(b"server")
                for size in (1, 1000, 3000, 9000):
                    payload = noise(size)
                    assert asked(speaker, payload) == payload
    with client(lab, vip, _UDP[False]) as speaker, Wire(lab) as wire:
        # The last of a datagram's fragments first: it waits for the first one.
        wire.send(datagram(speaker, noise(3000)).pieces()[::-1])
        assert len(speaker.recv(65536)) == 3000
    with client(lab, vip, 7009) as speaker, pytest.raises(ConnectionRefusedError):
        asked(speaker)


def _received(capture: Capture, own: tuple[str, ...]) -> Iterator[bytes]:
    """Return the packets that came to a host, without what hosts say of their links."""
    for _, frame in capture.packets():
        kind = frame[12:14]
        if kind not in (b"\x08\x00", b"\x86\xdd"):
            continue
        packet = (IP if kind == b"\x08\x00" else IPv6)(frame[_ETHERNET:])
        if packet.src in own or (packet.version == 6 and packet.nh == 58 and packet.payload.type >= 128):
            continue
        if packet.dst.startswith("ff") or (ICMP in packet and packet[ICMP].type in (0, 8)):
            continue
        size = packet.len if packet.version == 4 else 40 + packet.plen
        yield frame[_ETHERNET : _ETHERNET + size]


def _before_its_hop(packet: bytes) -> bytes:
    """Return a packet as it was before the balancer's kernel has lowered its hop limit."""
    made = bytearray(packet)
    if made[0] >> 4 == 6:
        made[7] += 1
        return bytes(made)
    made[8] += 1
    made[10:12] = b"\0\0"
    made[10:12] = checksum(bytes(made[: (made[0] & 15) * 4])).to_bytes(2, "big")
    return bytes(made)


def _replay(*arguments: object) -> "subprocess.CompletedProcess[str]":
    # Nobody, in no namespace of the lab: setpriv takes away what a replay must not need.
    argv = ["setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", *PYTHON, "natlb", "replay"]
    return subprocess.run([*argv, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120)


def _written(path: Path) -> list[bytes]:
    with RawPcapReader(str(path)) as reader:
        return [data for data, _ in reader]


def test_a_replay_sends_byte_for_byte_what_natlb_sent(captured: tuple[Path, Path, list[bytes]], tmp_path: Path) -> None:
    capture, configuration, received = captured
    out = tmp_path / "out.pcap"
    done = _replay(capture, "-f", configuration, "-w", out, "--json")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout[-2000:] + done.stderr
    made, came = Counter(_written(out)), Counter(received)
    own = made & came  # natlb's own answers begin at the balancer: no hop lowers their limit
    left = came - own
    assert made - own == Counter({_before_its_hop(packet): number for packet, number in left.items()})
    assert len(own) >= 2, "a RST of each family, at least"
    kinds = {(packet[0] >> 4, packet[9] if packet[0] >> 4 == 4 else packet[6]) for packet in made}
    assert kinds >= {(4, 6), (4, 17), (4, 1), (6, 6), (6, 17), (6, 58), (6, 44)}


def test_the_capture_has_each_packet_that_the_replay_sends(captured: tuple[Path, Path, list[bytes]]) -> None:
    capture, configuration, _ = captured
    done = _replay(capture, "-f", configuration, "--json")
    end = _end(done.stdout)
    assert (end["different"], end["strays"]) == (None, 0)
    assert end["seen"] == end["sent"] > 500
    assert end["fates"]["copy"] == end["sent"]
    assert end["closed"].keys() >= {"finished", "reset"}


def test_a_replay_is_the_same_each_time(captured: tuple[Path, Path, list[bytes]], tmp_path: Path) -> None:
    capture, configuration, _ = captured
    outs = [tmp_path / "one.pcap", tmp_path / "other.pcap"]
    told = [_replay(capture, "-f", configuration, "-w", out).stdout for out in outs]
    assert told[0] == told[1]
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_another_configuration_than_the_one_that_ran_is_found_out(
    captured: tuple[Path, Path, list[bytes]], tmp_path: Path
) -> None:
    capture, configuration, _ = captured
    other = tmp_path / "other.cfg"
    other.write_text(configuration.read_text().replace("server server1 44.3.3.3:4460", "server server1 44.3.3.3:4461"))
    done = _replay(capture, "-f", other, "--json")
    assert done.returncode == 2
    assert _end(done.stdout)["different"] is not None
    done = _replay(capture, "-f", configuration, "--down", "web4-False/server1", "-q")
    assert done.returncode == 2
    assert "natlb's work by their looks, and not what was made here" in done.stdout


def _end(stdout: str) -> dict[str, Any]:
    end = json.loads(stdout.splitlines()[-1])
    assert end["event"] == "end"
    return dict(end)
