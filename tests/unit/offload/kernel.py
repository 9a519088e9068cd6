"""A network namespace to try the program in, and the kernel's own way to run it on one packet (BPF_PROG_TEST_RUN)."""

import ctypes
import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_int, c_size_t, c_uint32, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pyroute2 import IPRoute, netns

from natlb.offload import libbpf

UNSPEC, SHOT, REDIRECT = 0xFFFFFFFF, 2, 7
"""linux/pkt_cls.h: what a tc program says of a packet."""

MAC = bytes.fromhex("020000000001")
"""Of the interface that packets come in by."""
NEIGHBOUR = bytes.fromhex("020000000002")
"""Of whoever they are sent on to."""
GATEWAY = {4: "44.254.0.1", 6: "fd44:ffff::1"}
OWN = {4: "44.254.0.2", 6: "fd44:ffff::2"}

ETHERTYPE = {4: b"\x08\x00", 6: b"\x86\xdd"}

LARGEST = 3500
"""Bytes of a packet that the kernel's test takes, whatever its page size and its need for room besides."""

_numbers = itertools.count()


class _Options(ctypes.Structure):
    """bpf/bpf.h, struct bpf_test_run_opts."""

    _fields_ = (
        ("sz", c_size_t),
        ("data_in", c_void_p),
        ("data_out", c_void_p),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("ctx_in", c_void_p),
        ("ctx_out", c_void_p),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("retval", c_uint32),
        ("repeat", c_int),
        ("duration", c_uint32),
        ("flags", c_uint32),
        ("cpu", c_uint32),
        ("batch_size", c_uint32),
    )


class _Context(ctypes.Structure):
    """linux/bpf.h, struct __sk_buff, as far as a test may set it."""

    _fields_ = (
        ("before", c_uint32 * 10),
        ("ifindex", c_uint32),
        ("between", c_uint32 * 30),
        ("gso_segs", c_uint32),
        ("sk", ctypes.c_uint64),
        ("gso_size", c_uint32),
        ("after", c_uint32),
    )


class Result(NamedTuple):
    verdict: int
    frame: bytes
    nanoseconds: int
    """For one packet."""


def run(program: int, frame: bytes, interface: int, *, gso_size: int = 0, repeat: int = 1) -> Result:
    """Run a program, a descriptor, on a frame that comes in by an interface of this namespace."""
    bpf = libbpf.library()
    bpf.bpf_prog_test_run_opts.argtypes = (c_int, c_void_p)
    context = _Context(ifindex=interface, gso_size=gso_size)
    out = ctypes.create_string_buffer(len(frame) + 256)
    options = _Options(
        sz=ctypes.sizeof(_Options),
        data_in=ctypes.cast(ctypes.c_char_p(frame), c_void_p),
        data_out=ctypes.cast(out, c_void_p),
        data_size_in=len(frame),
        data_size_out=len(out),
        ctx_in=ctypes.cast(ctypes.byref(context), c_void_p),
        ctx_size_in=ctypes.sizeof(context),
        repeat=repeat,
    )
    result = bpf.bpf_prog_test_run_opts(program, ctypes.byref(options))
    if result:
        raise OSError(-result, os.strerror(-result))
    return Result(options.retval, out.raw[: options.data_size_out], options.duration)


def framed(packet: bytes, *, to: bytes = MAC) -> bytes:
    """Return a packet as it comes in."""
    return to + NEIGHBOUR + ETHERTYPE.get(packet[0] >> 4, b"\x08\x00") + packet


@contextmanager
def setting(name: str, value: str) -> Iterator[None]:
    """Have a setting of the kernel's networking at another value for a while."""
    at = Path("/proc/sys/net", name)
    before = at.read_text()
    at.write_text(value)
    yield
    at.write_text(before)


@dataclass
class Arena:
    """A namespace with a router's one interface: what comes in by it leaves by it, towards the gateway."""

    name: str
    interface: int

    def set_mtu(self, mtu: int) -> None:
        with IPRoute() as route:
            route.link("set", index=self.interface, mtu=mtu)

    @contextmanager
    def without_neighbour(self, family: int) -> Iterator[None]:
        with IPRoute() as route:
            route.neigh("del", dst=GATEWAY[family], ifindex=self.interface)
        yield
        self.meet(family)

    def meet(self, family: int) -> None:
        """Know the gateway's link-layer address for good."""
        with IPRoute() as route:
            lladdr = NEIGHBOUR.hex(":")
            route.neigh("replace", dst=GATEWAY[family], lladdr=lladdr, ifindex=self.interface, state="permanent")


@contextmanager
def arena() -> Iterator[Arena]:
    """Make a namespace, and be in it; everything in it is gone afterwards."""
    name = f"offload-{os.getpid()}-{next(_numbers)}"
    netns.create(name)
    netns.pushns(name)
    try:
        for setting in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            Path("/proc/sys/net", setting).write_text("1")
        with IPRoute() as route:
            route.link("add", ifname="in0", kind="veth", address=MAC.hex(":"), peer={"ifname": "out0"})
            interface = route.link_lookup(ifname="in0")[0]
            for each in (1, interface, route.link_lookup(ifname="out0")[0]):
                route.link("set", index=each, state="up")
            until_carried(route, "in0", "out0")
            made = Arena(name, interface)
            for family, prefix in (4, 24), (6, 64):
                Path("/proc/sys/net/ipv6/conf/in0/accept_dad").write_text("0")
                flags = {"flags": 2} if family == 6 else {}  # no duplicate address detection
                route.addr("add", index=interface, address=OWN[family], prefixlen=prefix, **flags)
                made.meet(family)
                route.route("add", dst="default", gateway=GATEWAY[family], oif=interface)
        yield made
    finally:
        netns.popns()
        netns.remove(name)


def until_carried(route: IPRoute, *names: str) -> None:
    """Wait until interfaces whose other end is up carry packets.

    A thread of the kernel sees to that, and tells of it, once it gets to it: one end is idle until then.
    """
    deadline = time.monotonic() + 60
    while {link.get_attr("IFLA_OPERSTATE") for link in route.get_links() if link.get_attr("IFLA_IFNAME") in names} != {
        "UP"
    }:
        assert time.monotonic() < deadline, f"{names} do not come up"
        time.sleep(0.005)
