r"""Who there is in the lab: hosts, addresses, ports. Data alone; nothing here touches the machine.

The picture is the one that every lesson on layer-4 balancing draws, with its addresses:

    client 44.1.1.1 ---- balancer 44.2.2.2 ---- server1 44.3.3.3
                                        \------ server2 44.4.4.4

A star of three point-to-point links: no two hosts share a subnet, so a packet between a client and a server *must*
pass the balancer, in both directions. That is the one thing a NAT balancer asks of a network: who changes the
destination on the way in has to see the reply, to change its source back. (A server with another way to the client
would answer with its own address, and the client would not know the sender.)

Inside the balancer each link is named after the host at its other end; every other host calls its only link `eth0`.
"""

from dataclasses import dataclass

from netns.errors import LabError

LINK = "eth0"


@dataclass(frozen=True, slots=True)
class Host:
    """One host; `name` is also the second half of its namespace's name."""

    name: str
    ipv4: str
    ipv6: str
    port: int = 0
    """TCP port that it serves on; 0 for the client, which serves nothing."""
    aliases: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All that it answers to, its own name first."""
        return (self.name, *self.aliases)


@dataclass(frozen=True, slots=True)
class Topology:
    """A client, a balancer and its servers."""

    client: Host
    balancer: Host
    servers: tuple[Host, ...]

    @property
    def hosts(self) -> tuple[Host, ...]:
        """Everyone, in the order in which a request meets them."""
        return (self.client, self.balancer, *self.servers)

    @property
    def neighbours(self) -> tuple[Host, ...]:
        """The hosts that have a link to the balancer: all others."""
        return (self.client, *self.servers)

    def host(self, name: str) -> Host:
        """Find a host by name or alias; LabError names the choices."""
        for host in self.hosts:
            if name in host.names:
                return host
        choices = ", ".join(name for host in self.hosts for name in host.names)
        raise LabError(f"there is no host '{name}' in the lab; the hosts are {choices}")


SEED = Topology(
    client=Host("client", "44.1.1.1", "fd44::1"),
    balancer=Host("lb", "44.2.2.2", "fd44::2", port=8888, aliases=("balancer", "vip")),
    servers=(
        Host("server1", "44.3.3.3", "fd44::3", port=4444),
        Host("server2", "44.4.4.4", "fd44::4", port=5555),
    ),
)
"""The lab of the lessons: the addresses are from the notes on layer-4 balancing that natlb grew from."""
