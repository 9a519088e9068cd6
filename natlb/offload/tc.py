"""Where the program runs: at tc ingress of each interface that packets come in by, as one filter among others.

Others may have filters there too, and a qdisc. Nothing of theirs is touched: our filter stands behind all of them, with
a preference of its own, and hands on what it does not carry. It needs a qdisc called clsact; the older kind, `ingress`,
serves as well. Where there is neither, one is made, and taken away again at the end, unless others have begun to use
it: at the end only, because the kernel drops what leaves by an interface in the moment in which such a qdisc comes or
goes (net/sched/sch_api.c, qdisc_graft, deactivates the device). Whether it is ours stands in the name of the filter, so
that the next run of natlb knows it as well if this one cannot clean up. The name also says to which queue a filter
belongs, since two natlbs may run beside each other.

All of this asks the kernel by pyroute2, takes milliseconds, and must not be called where an event loop runs: pyroute2
runs one of its own. It is for threads, and for the time before and after.
"""

import contextlib
from collections.abc import Iterator
from itertools import islice
from socket import AF_INET, AF_INET6
from typing import Any, Final, NamedTuple

from natlb.errors import OffloadError

_INGRESS: Final = 0xFFFFFFF2
"""linux/pkt_sched.h: TC_H_CLSACT, TC_H_MIN_INGRESS."""
_EGRESS: Final = 0xFFFFFFF3
_PREFERENCE: Final = 65000
"""Filters run in the order of their preferences. The kernel itself gives away no higher ones than 49152."""
_ALL_PROTOCOLS: Final = 3
"""linux/if_ether.h, ETH_P_ALL."""
_ETHERNET: Final = 1
"""linux/if_arp.h, ARPHRD_ETHER."""
_LOOPBACK: Final = 0x8
"""linux/if.h, IFF_LOOPBACK."""
_UNICAST: Final = 1
"""linux/rtnetlink.h: a route to somewhere."""
_MOST_ROUTES: Final = 10_000
_QDISCS: Final = ("clsact", "ingress")
_MADE: Final = "+clsact"


class Filter(NamedTuple):
    """A filter of a run of natlb."""

    interface: int
    made: bool
    """Whether the qdisc was made for it."""
    program: int
    """The kernel's number of the program."""


class Filters:
    """The filters of one queue's natlb in the network namespace of the caller."""

    def __init__(self, queue: int) -> None:
        self._name = f"natlb-{queue}"
        self._handle = queue + 1

    def interfaces(self) -> dict[int, str]:
        """Return the interfaces that the program is for, name by index.

        Those are of Ethernet's kind, and stand for themselves: what a bridge or a bond consists of hands its packets
        on to that before it is known whose they are.
        """
        with _route() as route:
            return {
                link["index"]: link.get_attr("IFLA_IFNAME")
                for link in route.get_links()
                if link["ifi_type"] == _ETHERNET
                and not link["flags"] & _LOOPBACK
                and link.get_attr("IFLA_MASTER") is None
            }

    @staticmethod
    def narrowest_routes() -> tuple[int, int]:
        """Return the smallest MTU that a route sets for itself, over IPv4 and over IPv6; 0 where none does.

        Of a router with a great many routes only the first ones are looked at: who sets an MTU does it by hand.
        """
        with _route() as route:
            return _narrowest(route, AF_INET), _narrowest(route, AF_INET6)

    def find(self) -> list[Filter]:
        """Return all filters of this queue, whichever run has left them."""
        with _route() as route:
            indices = {qdisc["index"] for qdisc in route.get_qdiscs() if qdisc.get_attr("TCA_KIND") in _QDISCS}
            return [found for index in sorted(indices) for found in self._on(route, index)]

    def attach(self, interface: int, program: int, *, made: bool = False) -> bool:
        """Have `program`, a descriptor, run on an interface, in the place of the filter that may be there.

        Return whether the qdisc is ours: it was `made` for that filter, or had to be made now. OffloadError, with the
        kernel's reason, if it refuses.
        """
        from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415

        with _route() as route:
            try:
                if not _has_qdisc(route, interface):
                    route.tc("add", "clsact", index=interface)
                    made = True
                self._check_place(route, interface)
                name = self._name + _MADE if made else self._name
                route.tc("replace-filter", "bpf", fd=program, name=name, direct_action=True, **self._which(interface))
            except NetlinkError as error:
                raise OffloadError(
                    f"tc refuses the program on interface {interface} ({error.args[-1]}): the kernel needs sch_ingress "
                    f"and cls_bpf, and nobody else's filter at preference {_PREFERENCE}"
                ) from error
        return made

    def detach(self, interface: int) -> None:
        """Take the filter away; the qdisc stays."""
        from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415

        # When the interface is gone, or somebody was faster, what is to be taken away is not there.
        with _route() as route, contextlib.suppress(NetlinkError):
            route.tc("del-filter", "bpf", **self._which(interface))

    def tidy(self, interface: int) -> None:
        """Take a qdisc away that was made for the filter, unless somebody else uses it."""
        from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415

        with _route() as route, contextlib.suppress(NetlinkError):
            if not any(_filters(route, interface, parent) for parent in (_INGRESS, _EGRESS)):
                route.tc("del", "clsact", index=interface)

    def _check_place(self, route: Any, interface: int) -> None:
        """Raise OffloadError if there is a filter of somebody else's in the place of ours."""
        for found in _filters(route, interface, _INGRESS):
            name = found.get_attr("TCA_OPTIONS").get_attr("TCA_BPF_NAME")
            if found["info"] >> 16 == _PREFERENCE and found["handle"] == self._handle and not self._is_ours(name):
                raise OffloadError(
                    f"interface {interface} has a filter of somebody else's, {name}, at the preference of natlb's, "
                    f"{_PREFERENCE}: move that one"
                )

    def _is_ours(self, name: str | None) -> bool:
        return name in (self._name, self._name + _MADE)

    def _which(self, interface: int) -> dict[str, int]:
        return {
            "index": interface,
            "parent": _INGRESS,
            "handle": self._handle,
            "prio": _PREFERENCE,
            "protocol": _ALL_PROTOCOLS,
        }

    def _on(self, route: Any, interface: int) -> Iterator[Filter]:
        for found in _filters(route, interface, _INGRESS):
            options = found.get_attr("TCA_OPTIONS")
            name = options.get_attr("TCA_BPF_NAME")
            if self._is_ours(name):
                yield Filter(interface, name != self._name, options.get_attr("TCA_BPF_ID"))


def _route() -> Any:
    """Open a socket to the kernel; pyroute2 is imported here, because it is large and needed by few (see host.py)."""
    from pyroute2 import IPRoute  # noqa: PLC0415
    from pyroute2.netlink.rtnl.tcmsg.sched_bpf import options  # noqa: PLC0415

    # pyroute2 0.9 stops before the attributes of linux/pkt_cls.h that say which program a filter runs.
    if not any(name == "TCA_BPF_ID" for name, _ in options.nla_map):
        options.nla_map += (("TCA_BPF_FLAGS_GEN", "uint32"), ("TCA_BPF_TAG", "hex"), ("TCA_BPF_ID", "uint32"))
    return IPRoute()


def _narrowest(route: Any, family: int) -> int:
    mtus = []
    for each in islice(route.get_routes(family=family), _MOST_ROUTES):
        metrics = each.get_attr("RTA_METRICS")
        if each["type"] == _UNICAST and metrics is not None:
            mtus.append(metrics.get_attr("RTAX_MTU") or 0)
    return min(filter(None, mtus), default=0)


def _has_qdisc(route: Any, interface: int) -> bool:
    return any(
        qdisc["index"] == interface and qdisc.get_attr("TCA_KIND") in _QDISCS
        for qdisc in route.get_qdiscs(index=interface)
    )


def _filters(route: Any, interface: int, parent: int) -> list[Any]:
    """Return the filters at one place of an interface, without the lines that the kernel puts above them."""
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415

    try:
        found = list(route.get_filters(index=interface, parent=parent))
    except NetlinkError:  # the interface is gone, or has no such qdisc
        return []
    return [each for each in found if each.get_attr("TCA_OPTIONS") is not None]
