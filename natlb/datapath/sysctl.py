"""Kernel settings that natlb changes while it runs.

A router needs forwarding, and servers on 127.0.0.1 need `route_localnet` on the interfaces that clients come in by.
Under full NAT a packet that has come in speaks in the name of this machine from there on, and so does the answer that
goes back to the client; the IPv4 kernel takes either for forged. It lets them through with `accept_local`, and, where
it looks for the way back by `rp_filter`, if that is loose (2): the strict way (1) to an own address never leads out.
IPv6 has neither check.

A host takes its IPv6 default route from router advertisements (`accept_ra`), a router does not: the moment forwarding
is switched on the kernel throws such a route away, and no advertisement brings it back, unless `accept_ra` is 2. So
what an interface has heeded until then it is made to heed before: else clients beyond that router would be lost, which
may be all there are. On the way back forwarding goes first. Interfaces that come later begin with what `default` says.

Whatever is changed is remembered as text, `name=value`, so that it can be put back by this run or, after a crash, by
the next one. Some switches move others along: writing ip_forward rewrites every interface's `forwarding` and
`accept_redirects` of `all`. Those that had stood apart are remembered too, and are put back last.
"""

import contextlib
import errno
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from natlb.errors import DatapathError

_ROOT = Path("/proc/sys")

_NOT_WRITABLE: Final = {errno.EROFS, errno.EACCES, errno.EPERM}


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting, the value that it needs, and why."""

    name: str
    """Below /proc/sys, with slashes: interface names may hold dots."""
    reason: str
    value: str = "1"
    """What it is set to."""
    fine: tuple[str, ...] = ("1",)
    """The values with which it is left alone."""

    @property
    def dotted(self) -> str:
        """As sysctl(8) writes it, and messages."""
        return self.name.replace("/", ".")

    @property
    def interface(self) -> str | None:
        """The interface that it is of, if it is of one."""
        *_, owner, _ = self.name.split("/")
        return None if owner in ("ipv4", "all", "default") else owner


IPV4_FORWARDING: Final = Setting("net/ipv4/ip_forward", "servers are reached through this machine")
IPV6_FORWARDING: Final = Setting("net/ipv6/conf/all/forwarding", "servers are reached through this machine")

_FULL_NAT = "full NAT gives what comes in an address of this machine"

_MOVED_ALONG = {
    IPV4_FORWARDING.name: ("net/ipv4/conf/*/forwarding", "net/ipv4/conf/all/accept_redirects"),
    IPV6_FORWARDING.name: ("net/ipv6/conf/*/forwarding",),
}


def route_localnet(interface: str) -> Setting:
    """Return the switch that lets packets from `interface` reach 127.0.0.0/8."""
    return Setting(f"net/ipv4/conf/{interface}/route_localnet", "servers are on loopback addresses")


def accept_local(interface: str) -> Setting:
    """Return the switch that lets packets with an address of this machine as their source in from `interface`."""
    return Setting(f"net/ipv4/conf/{interface}/accept_local", _FULL_NAT)


def loose_rp_filter(interface: str) -> Setting:
    """Return the setting with which the way back to a source need not lead through `interface`, if it must now."""
    return Setting(f"net/ipv4/conf/{interface}/rp_filter", _FULL_NAT, value="2", fine=("0", "2"))


def accept_ra(interface: str) -> Setting:
    """Return the setting with which router advertisements at `interface` count on a router too, if they count now."""
    reason = "an IPv6 route that routers advertise is to stay when this machine forwards"
    return Setting(f"net/ipv6/conf/{interface}/accept_ra", reason, value="2", fine=("0", "2"))


def heeding(memory: Iterable[str]) -> list[str]:
    """Return the interfaces, with `default`, that do not forward IPv6 of their own accord; a host's, not a router's.

    `memory` is what is remembered of settings that were changed: where forwarding was, it tells how it had been.
    """
    before = dict(entry.split("=", 1) for entry in memory)
    found = []
    for path in sorted(_ROOT.glob("net/ipv6/conf/*/forwarding")):
        name = str(path.relative_to(_ROOT))
        interface = path.parent.name
        with contextlib.suppress(OSError):  # an interface that has just gone
            now = path.read_text(encoding="ascii").strip()
            own = before.get(name, "0" if IPV6_FORWARDING.name in before else now)
            if interface not in ("all", "lo") and own == "0":
                found.append(interface)
    return found


def opened(switch: str, memory: Iterable[str]) -> list[str]:
    """Return the interfaces on which a switch (such as `route_localnet`) was changed, by what is remembered of it."""
    names = (entry.partition("=")[0].split("/") for entry in memory)
    return [parts[-2] for parts in names if parts[-1] == switch]


def to_change(settings: Iterable[Setting]) -> list[Setting]:
    """Return those settings that are not as needed. Raises DatapathError for one that this kernel does not have."""
    return [setting for setting in settings if _in_force(setting.name) not in setting.fine]


def memory_of(settings: Iterable[Setting]) -> list[str]:
    """Return, as `name=value` texts in the order to put them back, what changing these settings will change.

    What moves others along is put back before them, and forwarding before what an interface does while that is on.
    """
    settings = sorted(settings, key=lambda each: each.name not in _MOVED_ALONG)
    memory = [f"{setting.name}={_read(setting.name)}" for setting in settings]
    for setting in settings:
        for pattern in _MOVED_ALONG.get(setting.name, ()):
            for path in sorted(_ROOT.glob(pattern)):
                name = str(path.relative_to(_ROOT))
                # Putting the switch back to 0 sets accept_redirects to 1 and the others to 0 by itself.
                moved_back = "1" if name.endswith("accept_redirects") else "0"
                if name != setting.name and (value := _read(name)) != moved_back:
                    memory.append(f"{name}={value}")
    return memory


def switch_on(setting: Setting, later: Iterable[Setting] = ()) -> None:
    """Set a setting to what is needed. Raises DatapathError when the kernel refuses.

    Where one setting is refused all are: the remedy names those that were to come `later` too.
    """
    _write(setting.name, setting.value, later)


def restore(memory: Iterable[str]) -> None:
    """Put back what `memory_of` has returned; what is gone meanwhile, such as an interface, is passed over.

    What is in its place is not written: where /proc/sys is read-only, as in many containers, nothing was changed.
    """
    for entry in memory:
        name, _, value = entry.partition("=")
        if (_ROOT / name).exists() and _read(name) != value:
            _write(name, value)


def _in_force(name: str) -> str:
    """Return the value that counts: of an interface's IPv4 setting and the one of `all`, the larger."""
    value, path = _read(name), PurePosixPath(name)
    if not path.is_relative_to("net/ipv4/conf"):
        return value
    return max(value, _read(str(path.parent.with_name("all") / path.name)), key=int)


def _read(name: str) -> str:
    try:
        return (_ROOT / name).read_text(encoding="ascii").strip()
    except OSError as error:
        raise DatapathError(f"cannot read the kernel setting {name} ({error.strerror})") from error


def _write(name: str, value: str, later: Iterable[Setting] = ()) -> None:
    try:
        (_ROOT / name).write_text(value, encoding="ascii")
    except OSError as error:
        wanted = " ".join([f"{name}={value}", *(f"{setting.name}={setting.value}" for setting in later)])
        remedy = f": run natlb where /proc/sys is writable, or set it there beforehand: sysctl -w {wanted}"
        raise DatapathError(
            f"cannot set the kernel setting {name} to {value} ({error.strerror})"
            + (remedy if error.errno in _NOT_WRITABLE else "")
        ) from error
