"""Settings that are switched on and put back, on a /proc/sys that behaves as the kernel's."""

import errno
import os
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pytest

from natlb.datapath import sysctl
from natlb.datapath.sysctl import (
    IPV4_FORWARDING,
    IPV6_FORWARDING,
    Setting,
    accept_local,
    loose_rp_filter,
    route_localnet,
)
from natlb.errors import DatapathError

_INTERFACES = ("all", "default", "eth0", "eth1.7")


class Kernel:
    """A /proc/sys of files. Its switches move others along, as `inet_forward_change` and its IPv6 twin do."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.written: list[str] = []
        for interface in _INTERFACES:
            for family in ("ipv4", "ipv6"):
                self.put(f"net/{family}/conf/{interface}/forwarding", "0")
            for switch in ("route_localnet", "accept_local", "rp_filter"):
                self.put(f"net/ipv4/conf/{interface}/{switch}", "0")
        self.put("net/ipv4/conf/all/accept_redirects", "1")
        self.put("net/ipv4/ip_forward", "0")

    def put(self, name: str, value: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")

    def get(self, name: str) -> str:
        return (self.root / name).read_text().strip()

    def write(self, name: str, value: str, *_: object) -> None:
        self.written.append(f"{name}={value}")
        changed = self.get(name) != value
        self.put(name, value)
        if changed and name in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
            family = name.split("/")[1]
            for interface in _INTERFACES:
                self.put(f"net/{family}/conf/{interface}/forwarding", value)
            if family == "ipv4":
                self.put("net/ipv4/conf/all/accept_redirects", "0" if value == "1" else "1")

    def state(self) -> dict[str, str]:
        return {str(path): path.read_text() for path in sorted(self.root.rglob("*")) if path.is_file()}


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    made = Kernel(tmp_path)
    monkeypatch.setattr(sysctl, "_ROOT", tmp_path)
    monkeypatch.setattr(sysctl, "_write", made.write)
    return made


_EVERYTHING = [
    *(IPV4_FORWARDING, IPV6_FORWARDING, route_localnet("eth0"), route_localnet("eth1.7")),
    *(accept_local("eth0"), accept_local("eth1.7"), loose_rp_filter("eth0"), loose_rp_filter("eth1.7")),
]


def _switched_on_and_put_back(settings: list[Setting]) -> None:
    changes = sysctl.to_change(settings)
    memory = sysctl.memory_of(changes)
    for setting in changes:
        sysctl.switch_on(setting)
    assert sysctl.to_change(settings) == []
    sysctl.restore(memory)


@pytest.mark.parametrize("odd", list(product("01", repeat=4)), ids="".join)
def test_whatever_stood_apart_before_stands_apart_again(kernel: Kernel, odd: tuple[str, ...]) -> None:
    kernel.put("net/ipv4/conf/eth0/forwarding", odd[0])
    kernel.put("net/ipv4/conf/all/accept_redirects", odd[1])
    kernel.put("net/ipv6/conf/eth1.7/forwarding", odd[2])
    kernel.put("net/ipv4/conf/eth0/route_localnet", odd[3])
    before = kernel.state()
    _switched_on_and_put_back(_EVERYTHING)
    assert kernel.state() == before


def test_a_setting_that_is_on_already_is_neither_changed_nor_remembered(kernel: Kernel) -> None:
    for name in ("net/ipv4/ip_forward", "net/ipv4/conf/all/forwarding"):
        kernel.put(name, "1")
    assert sysctl.to_change([IPV4_FORWARDING]) == []
    assert sysctl.memory_of([]) == []


def test_the_switch_is_remembered_first_and_what_it_moves_only_where_it_would_not_move_back(kernel: Kernel) -> None:
    assert sysctl.memory_of([IPV4_FORWARDING]) == ["net/ipv4/ip_forward=0"]
    kernel.put("net/ipv4/conf/eth0/forwarding", "1")
    kernel.put("net/ipv4/conf/all/accept_redirects", "0")
    assert sysctl.memory_of([IPV4_FORWARDING]) == [
        "net/ipv4/ip_forward=0",
        "net/ipv4/conf/eth0/forwarding=1",
        "net/ipv4/conf/all/accept_redirects=0",
    ]


def test_interfaces_with_dots_in_their_names_keep_them(kernel: Kernel) -> None:
    sysctl.switch_on(route_localnet("eth1.7"))
    assert kernel.get("net/ipv4/conf/eth1.7/route_localnet") == "1"


@pytest.mark.parametrize("everywhere", "012")
@pytest.mark.parametrize("here", "012")
def test_a_strict_rp_filter_becomes_loose_and_any_other_stays(kernel: Kernel, everywhere: str, here: str) -> None:
    """The kernel goes by the larger one of an interface's and that of `all`."""
    kernel.put("net/ipv4/conf/all/rp_filter", everywhere)
    kernel.put("net/ipv4/conf/eth0/rp_filter", here)
    strict = max(everywhere, here) == "1"
    assert sysctl.to_change([loose_rp_filter("eth0")]) == ([loose_rp_filter("eth0")] if strict else [])
    _switched_on_and_put_back([loose_rp_filter("eth0")])
    name = "net/ipv4/conf/eth0/rp_filter"
    assert kernel.written == ([f"{name}=2", f"{name}={here}"] if strict else [])


@pytest.mark.parametrize("switch", [route_localnet, accept_local])
def test_what_is_on_for_all_interfaces_is_on_for_each(kernel: Kernel, switch: Callable[[str], Setting]) -> None:
    name = switch("eth0").name
    assert sysctl.to_change([switch("eth0")]) == [switch("eth0")]
    kernel.put(name.replace("eth0", "all"), "1")
    assert sysctl.to_change([switch("eth0")]) == []


def test_an_interface_that_has_gone_is_passed_over(kernel: Kernel) -> None:
    sysctl.restore(["net/ipv4/conf/gone0/route_localnet=0", "net/ipv4/conf/eth0/route_localnet=1"])
    assert kernel.written == ["net/ipv4/conf/eth0/route_localnet=1"]


def test_what_is_in_its_place_already_is_not_written(kernel: Kernel) -> None:
    sysctl.restore(["net/ipv4/ip_forward=0", "net/ipv4/conf/eth0/forwarding=0"])
    assert kernel.written == []


def test_the_interfaces_that_were_opened_are_those_remembered() -> None:
    conf = "net/ipv4/conf"
    memory = ["net/ipv4/ip_forward=0", f"{conf}/eth1.7/route_localnet=0", f"{conf}/eth0/forwarding=1"]
    memory += [f"{conf}/eth0/accept_local=0", f"{conf}/eth0/rp_filter=1"]
    assert sysctl.opened("route_localnet", memory) == ["eth1.7"]
    assert sysctl.opened("accept_local", memory) == ["eth0"]


def test_a_setting_that_the_kernel_does_not_have_is_one_line(kernel: Kernel) -> None:
    (kernel.root / "net/ipv4/ip_forward").unlink()
    with pytest.raises(DatapathError, match=r"^cannot read the kernel setting net/ipv4/ip_forward \(No such file.*\)$"):
        sysctl.to_change([IPV4_FORWARDING])


def test_a_setting_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysctl, "_ROOT", tmp_path)
    (tmp_path / "net/ipv4/ip_forward").mkdir(parents=True)
    with pytest.raises(
        DatapathError, match=r"^cannot set the kernel setting net/ipv4/ip_forward to 1 \(Is a directory\)$"
    ):
        sysctl.switch_on(IPV4_FORWARDING)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_where_settings_are_read_only_the_message_says_how_to_set_them_beforehand(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.undo()
    monkeypatch.setattr(sysctl, "_ROOT", kernel.root)
    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(DatapathError) as refused:
        sysctl.switch_on(route_localnet("eth1.7"), later=[loose_rp_filter("eth0"), accept_local("eth0")])
    name = "net/ipv4/conf/eth1.7/route_localnet"
    assert str(refused.value) == (
        f"cannot set the kernel setting {name} to 1 ({os.strerror(code)}): run natlb where /proc/sys is writable, or "
        f"set it there beforehand: sysctl -w {name}=1 net/ipv4/conf/eth0/rp_filter=2 net/ipv4/conf/eth0/accept_local=1"
    )


def test_switching_on_writes_the_file_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(tmp_path)
    monkeypatch.setattr(sysctl, "_ROOT", tmp_path)
    sysctl.switch_on(IPV4_FORWARDING)
    assert kernel.get("net/ipv4/ip_forward") == "1"
