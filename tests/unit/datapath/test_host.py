"""What natlb wants to know of the machine before it starts."""

from ipaddress import ip_address, ip_network
from pathlib import Path
from types import TracebackType
from typing import Self

import pyroute2
import pytest
from pyroute2.netlink.exceptions import NetlinkError

from natlb.datapath import host
from natlb.datapath.host import (
    Endpoint,
    addresses_by_interface,
    check_privileges,
    connected_networks,
    ephemeral_ports,
    is_local,
    preferred_source,
)
from natlb.errors import DatapathError

_INTERFACES = {"lo": {ip_address("127.0.0.1")}, "eth0": {ip_address("192.0.2.1"), ip_address("2001:db8::1")}}


@pytest.mark.parametrize(
    ("address", "local"),
    [
        *(("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("192.0.2.1", True), ("2001:db8::1", True)),
        *(("192.0.2.2", False), ("2001:db8::2", False)),
    ],
)
def test_own_and_loopback_addresses_are_local(address: str, local: bool) -> None:
    assert is_local(ip_address(address), _INTERFACES) is local


@pytest.mark.parametrize(("address", "text"), [("127.0.0.1", "127.0.0.1:80"), ("::1", "[::1]:80")])
def test_an_endpoint_is_written_as_in_a_configuration(address: str, text: str) -> None:
    assert str(Endpoint(ip_address(address), 80)) == text


def test_an_endpoint_speaks_tcp_unless_it_is_told_otherwise() -> None:
    assert Endpoint(ip_address("::1"), 80).protocol == 6


class FakeRoute:
    """A namespace with a few links, as pyroute2 shows it."""

    def get_links(self) -> list[dict[str, object]]:
        return [{"index": index, "ifname": name} for index, name in enumerate(("lo", "wan0", "tun0"), 1)]

    def get_addr(self) -> list[dict[str, object]]:
        return [
            {"index": 1, "prefixlen": 8, "address": "127.0.0.1", "local": "127.0.0.1"},
            {"index": 1, "prefixlen": 128, "address": "::1"},
            {"index": 2, "prefixlen": 24, "address": "192.0.2.1", "local": "192.0.2.1"},
            {"index": 2, "prefixlen": 64, "address": "2001:db8::1"},
            {"index": 3, "prefixlen": 30, "address": "10.9.0.2", "local": "10.9.0.1"},
        ]

    def route(self, command: str, *, dst: str) -> list[dict[str, object]]:
        assert command == "get"
        if dst == "198.51.100.1":
            raise NetlinkError(101)
        return [{"prefsrc": {"192.0.2.9": "192.0.2.1", "2001:db8::9": "2001:db8::1"}.get(dst)}]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


@pytest.fixture
def _links(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyroute2, "IPRoute", FakeRoute)


@pytest.mark.usefixtures("_links")
def test_addresses_are_those_of_this_end() -> None:
    assert addresses_by_interface() == {
        "lo": {ip_address("127.0.0.1"), ip_address("::1")},
        "wan0": {ip_address("192.0.2.1"), ip_address("2001:db8::1")},
        "tun0": {ip_address("10.9.0.1")},
    }


@pytest.mark.usefixtures("_links")
def test_connected_networks_are_those_around_the_other_end_and_none_is_on_loopback() -> None:
    assert connected_networks() == [
        (ip_network("192.0.2.0/24"), ip_address("192.0.2.1"), "wan0"),
        (ip_network("2001:db8::/64"), ip_address("2001:db8::1"), "wan0"),
        (ip_network("10.9.0.0/30"), ip_address("10.9.0.1"), "tun0"),
    ]


@pytest.mark.usefixtures("_links")
@pytest.mark.parametrize(
    ("towards", "source"), [("192.0.2.9", "192.0.2.1"), ("2001:db8::9", "2001:db8::1"), ("198.51.100.1", None)]
)
def test_the_source_towards_a_server_is_the_kernels_choice_and_none_without_a_route(
    towards: str, source: str | None
) -> None:
    assert preferred_source(ip_address(towards)) == (ip_address(source) if source else None)


@pytest.mark.usefixtures("_links")
def test_a_route_that_names_no_source_gives_none() -> None:
    assert preferred_source(ip_address("203.0.113.1")) is None


def test_ephemeral_ports_are_read_from_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = tmp_path / "ip_local_port_range"
    setting.write_text("32768\t60999\n")
    monkeypatch.setattr(host, "Path", lambda _: setting)
    assert ephemeral_ports() == (32768, 60999)


def _process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capabilities: int, programs: bool = True) -> None:
    status = tmp_path / "status"
    status.write_text(f"Name:\tnatlb\nCapPrm:\t0000000000000000\nCapEff:\t{capabilities:016x}\nSeccomp:\t0\n")
    monkeypatch.setattr(host, "Path", lambda _: status)
    monkeypatch.setattr(host.shutil, "which", lambda name: f"/sbin/{name}" if programs else None)


_NET_ADMIN, _NET_RAW = 1 << 12, 1 << 13


@pytest.mark.parametrize(
    ("capabilities", "lacking"),
    [
        (0, "CAP_NET_ADMIN and CAP_NET_RAW"),
        (_NET_RAW, "CAP_NET_ADMIN"),
        (_NET_ADMIN, "CAP_NET_RAW"),
        (~(_NET_ADMIN | _NET_RAW) & (1 << 41) - 1, "CAP_NET_ADMIN and CAP_NET_RAW"),
    ],
)
def test_what_is_lacking_is_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capabilities: int, lacking: str
) -> None:
    _process(monkeypatch, tmp_path, capabilities)
    with pytest.raises(DatapathError) as refused:
        check_privileges()
    assert str(refused.value) == f"natlb needs root ({lacking}) to divert packets: run it with sudo"


def test_the_two_capabilities_are_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _process(monkeypatch, tmp_path, _NET_ADMIN | _NET_RAW)
    check_privileges()


def test_without_iptables_the_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _process(monkeypatch, tmp_path, _NET_ADMIN | _NET_RAW, programs=False)
    with pytest.raises(DatapathError, match=r"^the program 'iptables-save' is missing: install the package iptables$"):
        check_privileges()
