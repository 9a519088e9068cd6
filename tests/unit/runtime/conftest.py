"""An engine with two connections, one of each address family, at times that are round numbers."""

from datetime import datetime
from ipaddress import ip_address

import pytest

from natlb.core.engine import NatEngine
from natlb.core.pool import Pool, Server
from natlb.core.service import Service, VirtualAddresses
from natlb.core.verdict import Rewrite
from natlb.runtime.running import Running

from .consoles import Doctor, Recruits


def syn(client: str, client_port: int, vip: str, vip_port: int) -> bytearray:
    """A SYN with good checksums, as its client would send it."""
    source, destination = ip_address(client).packed, ip_address(vip).packed
    tcp = client_port.to_bytes(2, "big") + vip_port.to_bytes(2, "big") + bytes(8) + b"\x50\x02\xff\xff" + bytes(4)
    tcp = tcp[:16] + _sum(source + destination + (6).to_bytes(2, "big") + len(tcp).to_bytes(2, "big") + tcp) + tcp[18:]
    if len(source) == 16:
        return bytearray(b"\x60\0\0\0" + len(tcp).to_bytes(2, "big") + b"\x06\x40" + source + destination + tcp)
    ip = b"\x45\0" + (20 + len(tcp)).to_bytes(2, "big") + bytes(4) + b"\x40\x06\0\0" + source + destination
    return bytearray(ip[:10] + _sum(ip) + ip[12:] + tcp)


def _sum(data: bytes) -> bytes:
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (total ^ 0xFFFF).to_bytes(2, "big")


@pytest.fixture
def services() -> list[Service]:
    made = []
    for number, (name, server) in enumerate((("www", "44.3.3.3"), ("www6", "fd44::3")), start=1):
        pool = Pool(f"{name}-nodes", [Server("server1", ip_address(server).packed, 4444)], id=10 * number)
        made.append(Service(name, pool, id=number))
    return made


@pytest.fixture
def engine(services: list[Service]) -> NatEngine:
    addresses = VirtualAddresses()
    for service, vip in zip(services, ("44.2.2.2", "fd44::2"), strict=True):
        addresses.bind(ip_address(vip).packed, 8888, service)
    made = NatEngine(addresses)
    assert isinstance(made.handle_packet(syn("44.1.1.1", 40312, "44.2.2.2", 8888), 100.0), Rewrite)
    assert isinstance(made.handle_packet(syn("fd44::1", 40313, "fd44::2", 8888), 103.0), Rewrite)
    return made


@pytest.fixture
def running(engine: NatEngine, services: list[Service]) -> Running:
    pools = {service.pool.name: service.pool for service in services if service.pool}
    return Running(
        engine,
        services,
        pools,
        lambda: 107.0,
        Recruits(),
        Doctor(),
        counters=lambda: {"packets": 2},
        today=lambda: datetime(2026, 11, 26, 8, 59, 52, 500000),
    )
