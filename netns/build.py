"""Makes the lab real, and takes it away again.

`Lab` is the door. Everything it makes carries its prefix, so that two labs can stand side by side:

    /run/netns/<prefix>client, lb, server1, server2    the namespaces
    /etc/netns/<prefix>...                             their hosts files
    /run/<prefix>lab/                                  configurations, logs, captures, natlb's stats socket

Three rules make it safe to run on anybody's machine. **Closed:** the veth pairs are born inside the namespaces; no
interface, address, route, rule or sysctl of the machine itself is touched, and no packet can get out. **Proved:** `up`
ends with a ping between all neighbours in both address families, and undoes everything when one fails. **Its own
only:** what the lab is about to make is written down first, `down` removes what was written down and nothing else;
hence it can run twice, or after a kill -9 in the middle of `up`. Processes are found as those that live in the
namespaces.

Forwarding is off in a new lab. That is on purpose: turning it on is the balancer's business, and part of what is
tested.

Checksum and segmentation offload of the links are off unless asked for. With them a veth pair passes 64 KiB packets
with unfinished checksums, which no wire has ever seen; without them a capture shows what a network card would send.
"""

import array
import contextlib
import fcntl
import itertools
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from netns import balancer, names
from netns.capture import LONGEST, LONGEST_ON_A_WIRE, Capture
from netns.errors import LabError
from netns.processes import NAMESPACES, PYTHON, Resident, Service, end_all_in, every, living_in
from netns.topology import LINK, SEED, Host, Topology

PREFIX = "natlb-"

PREFIXES = "lower-case letters, digits and hyphens, at most 31 of them and no hyphen first, such as 'mine-'"
"""What a prefix may be."""

_IFA_F_NODAD = 0x02
_RTNH_F_ONLINK = 0x04
_SIOCETHTOOL = 0x8946
_OFFLOADS = {"tx-checksum": 0x17, "tso": 0x1F, "gso": 0x24, "gro": 0x2C}
"""ETHTOOL_S... commands of linux/ethtool.h, each taking 0 or 1."""

_SETTINGS = {
    # A new namespace may inherit what its machine has set: where docker runs, forwarding is on.
    "ipv4/conf/all/forwarding": "0",
    "ipv6/conf/all/forwarding": "0",
    "ipv6/conf/all/disable_ipv6": "0",
    "ipv6/conf/default/disable_ipv6": "0",
    # No duplicate address detection: link-local addresses, too, are usable at once.
    "ipv6/conf/default/accept_dad": "0",
}
"""The known state that every host begins from."""

OFFLOADS = "LAB_OFFLOADS"
"""Variable of the environment: 1 lets links pass packets on unfinished, up to 64 KB in one, as they do between
containers. Unless told so they send what a wire would carry."""


def may_be_prefix(text: str) -> bool:
    """Whether names of namespaces can begin with it."""
    return re.fullmatch(r"[a-z0-9][a-z0-9-]{0,30}", text, re.A) is not None


_AnyService = TypeVar("_AnyService", bound=Service)


class Lab:
    """One lab. As a context manager it is up inside the block and gone after it."""

    def __init__(self, topology: Topology = SEED, prefix: str = PREFIX, *, offloads: bool | None = None) -> None:
        """Describe a lab; `offloads` is whether its links leave checksums and cutting up to others, see `OFFLOADS`."""
        if not may_be_prefix(prefix):
            raise LabError(f"'{prefix}' cannot be a prefix: that is {PREFIXES}")
        self.topology = topology
        self.prefix = prefix
        self.offloads = os.environ.get(OFFLOADS) == "1" if offloads is None else offloads
        self.directory = Path(f"/run/{prefix}lab")
        self.stats_socket = self.directory / "natlb.sock"
        self._claims = self.directory / "namespaces"
        self._services: list[Service] = []

    @property
    def longest(self) -> int:
        """Bytes of the longest packet on its links, for a capture."""
        return LONGEST if self.offloads else LONGEST_ON_A_WIRE

    def advice(self, words: str) -> str:
        """Return the command line that does `words` with this lab."""
        option = "" if self.prefix == PREFIX else f"--prefix {self.prefix} "
        return f"sudo scripts/lab.sh {option}{words}"

    # -- up and down

    @property
    def namespaces(self) -> list[str]:
        """The names of all its namespaces."""
        return [self.namespace(host.name) for host in self.topology.hosts]

    def namespace(self, host: str) -> str:
        """Name of a host's namespace; the host may be named by an alias."""
        return self.prefix + self.topology.host(host).name

    @property
    def is_up(self) -> bool:
        """Whether it stands: wholly built, or left half built by one that was killed."""
        return self.directory.exists()

    def up(self, *, cables: bool = True) -> None:
        """Build it and prove that neighbours reach each other; on any failure nothing is left.

        Without `cables` there are the hosts alone, each with nothing but its loopback interface.
        """
        from pyroute2 import NetlinkError  # noqa: PLC0415 - see _netlink
        from pyroute2.netns import create  # noqa: PLC0415

        if not Path("/proc/sys/net/ipv6").exists():
            raise LabError("this kernel runs without IPv6 (ipv6.disable=1?); the lab needs both address families")
        is_ours = False
        try:
            with uninterrupted():  # an interruption comes when it is known whose the directory is
                self._make_directory()
                is_ours = True
            self._claim()
            for namespace in self.namespaces:
                with uninterrupted():  # it forks, and the child must not take an interruption for its own
                    create(namespace)
                names.publish(namespace, self.topology)
                self._prepare(namespace)
            if cables:
                for host in self.topology.neighbours:
                    self._join(host)
                self._prove()
        except (OSError, NetlinkError) as error:
            self.down()
            raise LabError(f"the lab could not be built: {error}") from error
        except BaseException:
            if is_ours:
                self.down()
            raise

    def _make_directory(self) -> None:
        """Make the directory, by which a lab is known to be there; LabError when it is already."""
        try:
            self.directory.mkdir()
        except FileExistsError:
            raise LabError(
                f"the lab is up already ({self.directory} exists): {self.advice('down')} takes it away"
            ) from None
        except OSError as error:
            raise LabError(f"the lab could not be built: {error}") from error

    def down(self) -> None:
        """Take it away, with all that runs in it. Nothing there: nothing done."""
        with uninterrupted():
            ours = self._claims.read_text("ascii").split() if self._claims.exists() else []
            try:
                end_all_in(ours)
            finally:
                for service in self._services:
                    service.process.poll()
                for namespace in ours:
                    if (NAMESPACES / namespace).exists():
                        from pyroute2.netns import remove  # noqa: PLC0415 - see _netlink

                        remove(namespace)
                    names.withdraw(namespace)
                self._forget()

    def _forget(self) -> None:
        """Remove the directory, what was written down last: whoever is killed here can begin again.

        What a user keeps in it goes, too, folders and all; a link goes, and not what it points to. A directory of that
        name in which nothing was written down is not a lab's, unless it is empty.
        """
        if self._claims.exists():
            try:
                for path in self.directory.iterdir():
                    if path.is_dir() and not path.is_symlink():
                        shutil.rmtree(path)
                    elif path != self._claims:
                        path.unlink(missing_ok=True)
                self._claims.unlink()
            except OSError as error:
                again = f"remove it by hand, then {self.advice('down')}"
                raise LabError(f"{error.filename} cannot be removed: {error.strerror}; {again}") from error
        with contextlib.suppress(OSError):
            self.directory.rmdir()

    def traces(self) -> list[Path]:
        """Everything in the file system that tells of it; empty when it is gone."""
        hosts = [path for name in self.namespaces for path in (NAMESPACES / name, names.directory(name))]
        return [path for path in (*hosts, self.directory) if path.exists()]

    def residents(self) -> list[Resident]:
        """Every process that lives in it, whoever started it."""
        return living_in(self.namespaces)

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def _claim(self) -> None:
        """Write down what is about to be ours, after a look that it is nobody else's."""
        for path in self.traces():
            if path != self.directory:
                raise LabError(f"{path} exists and is not this lab's; remove it, or take another --prefix")
        self._claims.write_text("\n".join(self.namespaces), "ascii")

    def _prepare(self, namespace: str) -> None:
        with _inside(namespace):
            for setting, value in _SETTINGS.items():
                (Path("/proc/sys/net") / setting).write_text(value)
            with _netlink() as kernel:
                kernel.link("set", index=1, state="up")

    def _join(self, host: Host) -> None:
        """Lay the link between the balancer and one host, and give both ends their addresses."""
        centre = self.topology.balancer
        ends = ((centre, host, host.name), (host, centre, LINK))
        with _inside(self.namespace(centre.name)), _netlink() as kernel:
            peer = {"ifname": LINK, "net_ns_fd": self.namespace(host.name)}
            kernel.link("add", kind="veth", ifname=host.name, peer=peer)
        for near, _, interface in ends:
            with _inside(self.namespace(near.name)), _netlink() as kernel:
                if not self.offloads:
                    _turn_off_offloads(interface)
                kernel.link("set", index=_index(kernel, interface), state="up")
        for near, far, interface in ends:
            with _inside(self.namespace(near.name)), _netlink() as kernel:
                index = _index(kernel, interface)
                kernel.addr("add", index=index, local=near.ipv4, address=far.ipv4, prefixlen=32)
                kernel.addr(
                    "add",
                    index=index,
                    family=socket.AF_INET6,
                    local=near.ipv6,
                    address=far.ipv6,
                    prefixlen=128,
                    flags=_IFA_F_NODAD,
                )
                if near is not centre:
                    for family, gateway in ((socket.AF_INET, far.ipv4), (socket.AF_INET6, far.ipv6)):
                        kernel.route(
                            "add", dst="default", family=family, gateway=gateway, oif=index, flags=_RTNH_F_ONLINK
                        )

    def _prove(self) -> None:
        """Ping between all neighbours, in both address families; the replies prove the way back."""
        centre = self.topology.balancer
        ways = [(host, address) for host in self.topology.neighbours for address in (centre.ipv4, centre.ipv6)]
        for _ in every(0.1, 5.0):
            pings = [
                self.popen(host.name, ["ping", "-n", "-q", "-c", "1", "-W", "1", address], names=False, **_QUIET)
                for host, address in ways
            ]
            ways = [way for way, ping in zip(ways, pings, strict=True) if ping.wait() != 0]
            if not ways:
                return
        host, address = ways[0]
        raise LabError(f"the lab was built, but {host.name} gets no answer to its ping from {address}")

    def addresses(self, host: str) -> list[str]:
        """A host's addresses as its kernel tells them: IPv4 first, without loopback and link-local ones."""
        with _inside(self.namespace(host)), _netlink() as kernel:
            found = [
                message.get("local") or message.get("address")
                for family in (socket.AF_INET, socket.AF_INET6)
                for message in kernel.get_addr(family=family, scope=0)
            ]
        return list(dict.fromkeys(found))

    def interfaces(self, host: str) -> list[str]:
        """Names of a host's interfaces, as its kernel tells them."""
        with _inside(self.namespace(host)), _netlink() as kernel:
            return [message.get("ifname") for message in kernel.get_links()]

    # -- running things in it

    def command(self, host: str, argv: Sequence[str], *, names: bool = True) -> list[str]:
        """Return the command that runs `argv` on a host.

        With `names` the host's own hosts file is in force, at the price of a mount namespace with a fresh /sys;
        without, only the network namespace is entered.
        """
        namespace = self.namespace(host)
        handle = _handle(namespace)
        if names:
            return ["ip", "netns", "exec", namespace, *argv]
        return ["nsenter", f"--net={handle}", *argv]

    def run(
        self, host: str, argv: Sequence[str], *, names: bool = True, **options: Any
    ) -> subprocess.CompletedProcess[Any]:
        """Run a program on a host, as `subprocess.run`; unless told otherwise, output is kept, as text, for 60 s."""
        if not {"stdout", "stderr", "capture_output"} & options.keys():
            options["capture_output"] = True
        if not {"stdin", "input"} & options.keys():
            options["stdin"] = subprocess.DEVNULL
        options = {"text": True, "timeout": 60, "check": False} | options
        return subprocess.run(self.command(host, argv, names=names), **options)  # noqa: PLW1510 - it is among them

    def popen(self, host: str, argv: Sequence[str], *, names: bool = True, **options: Any) -> subprocess.Popen[Any]:
        """Start a program on a host, as `subprocess.Popen`."""
        return subprocess.Popen(self.command(host, argv, names=names), **options)

    def open_socket(
        self, host: str, family: socket.AddressFamily, kind: socket.SocketKind, protocol: int = 0
    ) -> socket.socket:
        """Return a socket of this process that lives on a host."""
        with _inside(self.namespace(host)):
            return socket.socket(family, kind, protocol)

    # -- the lab's own programs

    def start_all(self) -> balancer.Natlb:
        """Start what the lessons need: every server, and natlb between the client and them."""
        for server in self.topology.servers:
            self.start_web(server.name)
        return self.start_natlb(balancer.configuration(self.topology, self.stats_socket))

    def start_web(
        self,
        host: str,
        port: int | None = None,
        name: str | None = None,
        address: str = "::",
        certificate: Path | None = None,
    ) -> Service:
        """Start the web server on a host; by default under the host's name, on its port, in both families.

        With a certificate, a PEM file that holds its key, too, it speaks TLS.
        """
        found = self.topology.host(host)
        name, port = name or found.name, port or found.port
        argv = [*PYTHON, "netns.web", "--name", name, "--port", str(port), "--address", address]
        argv += ["--certificate", str(certificate)] if certificate else []
        return self.start(f"web server {name}", host, argv, "listens")

    def start_natlb(
        self,
        config: str | Path,
        extra_args: Sequence[str] = (),
        *,
        host: str = "lb",
        wait: bool = True,
        stats_socket: Path | None = None,
    ) -> balancer.Natlb:
        """Start natlb, with a configuration given as text or as a file; unless told otherwise, wait until it is ready.

        LabError, with its last words, when it is not ready in time. Only the network namespace is entered.
        """
        if isinstance(config, str):
            path = self.new_file("natlb", "cfg")
            path.write_text(config, "utf-8")
        else:
            path = config
        argv = self.command(host, balancer.command(path, extra_args, state=self.directory), names=False)
        natlb = balancer.Natlb("natlb", argv, self.new_file("natlb", "log"), stats_socket or self.stats_socket)
        return self._await(natlb, host, balancer.READY if wait else "")

    def start(self, name: str, host: str, argv: Sequence[str], ready: str = "") -> Service:
        """Start any program on a host and wait until its log contains `ready`; LabError when it never does.

        Only the network namespace is entered; `residents` shows it as soon as this returns.
        """
        argv = self.command(host, argv, names=False)
        return self._await(Service(name, argv, self.new_file(name.replace(" ", "-"), "log")), host, ready)

    def capture(self, host: str, interface: str, expression: str = "", **options: Any) -> Capture:
        """Start a capture at one of a host's interfaces; see `netns.capture`, also for the options."""
        if interface not in ("any", "lo"):
            options = {"longest": self.longest} | options
        enter = self.command(host, [], names=False)
        path = self.new_file(f"{host}-{interface}", "pcap")
        return Capture(enter, f"{host}:{interface}", interface, expression, path, **options)

    def _await(self, service: _AnyService, host: str, text: str) -> _AnyService:
        self._services.append(service)
        try:
            service.wait_to_live_in(self.namespace(host))
            service.wait_for(text)
        except BaseException:
            with contextlib.suppress(LabError):
                service.stop(seconds=5)
            raise
        return service

    def new_file(self, stem: str, suffix: str) -> Path:
        """Name a file in the lab's directory that is not there yet: natlb.log, then natlb-2.log, and so on."""
        for number in itertools.count(1):
            path = self.directory / f"{stem}{f'-{number}' if number > 1 else ''}.{suffix}"
            if not path.exists():
                return path
        raise AssertionError


_QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def _handle(namespace: str) -> Path:
    """Return the file that stands for a namespace; LabError when it is not there (pyroute2 would make it)."""
    path = NAMESPACES / namespace
    if not path.exists():
        raise LabError(f"there is no namespace {namespace}: the lab is not up, or only half")
    return path


@contextlib.contextmanager
def _inside(namespace: str) -> Iterator[None]:
    """Move the calling thread into a network namespace for the length of the block.

    `pushns` of pyroute2 remembers where the process's main thread is, and all threads share what it remembers: of two
    that are inside at the same time, one would come back to the namespace of the other.
    """
    from pyroute2.netns import setns  # noqa: PLC0415 - see _netlink

    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        target = os.open(_handle(namespace), os.O_RDONLY)
        try:
            setns(target)
        finally:
            os.close(target)
        try:
            yield
        finally:
            setns(home)
    finally:
        os.close(home)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let no Ctrl-C and no polite end come in between; one that comes is served afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _netlink() -> Any:
    """Speak to the kernel about links, addresses and routes, in the namespace where the caller is.

    pyroute2 takes a fifth of a second to import: whatever only looks at a lab, or runs a program in it, does without.
    """
    from pyroute2 import IPRoute  # noqa: PLC0415

    return IPRoute()


def _index(kernel: Any, interface: str) -> int:
    index: int = kernel.link_lookup(ifname=interface)[0]
    return index


def _turn_off_offloads(interface: str) -> None:
    """What `ethtool -K` does; to be called inside the interface's namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for command in _OFFLOADS.values():
            value = array.array("I", [command, 0])
            request = struct.pack("16sP16x", interface.encode(), value.buffer_info()[0])
            fcntl.ioctl(any_socket, _SIOCETHTOOL, request)
