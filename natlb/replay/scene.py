"""What a replay begins with: a configuration, and what its command line says of the machine and of the servers.

A live natlb looks at its machine: which addresses are its own, and which networks it shares with servers, since answers
to clients there would pass it by and it has to speak for them (docs/nat.md). Here the command line says it. Without a
word of that the own addresses are not known: then what is bound to `*` answers wherever it is called, and nobody is a
neighbour.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface
from random import Random

from natlb.assembly import Assembly, Machine, MakePolicy, assemble
from natlb.config.model import Address, Config
from natlb.core.pool import AdminState, Pool, Server
from natlb.errors import ConfigError
from natlb.policy import Policy

Interface = IPv4Interface | IPv6Interface


@dataclass(frozen=True, slots=True)
class Scene:
    """What the command line says."""

    own: tuple[Interface, ...] = ()
    """The balancer's addresses, each with its network."""
    down: tuple[str, ...] = ()
    """Servers, as `backend/server`, that checks have found down; all others are up."""
    drain: tuple[str, ...] = ()
    maint: tuple[str, ...] = ()
    weights: tuple[tuple[str, int], ...] = ()
    """Servers with weights other than the configuration's."""
    loads: tuple[tuple[str, int], ...] = ()
    """Servers with so many connections that they have already."""
    seed: int = 0
    """What the numbers begin with that chance would draw."""
    make_policy: MakePolicy = field(default=Policy)


def prepare(config: Config, scene: Scene) -> Assembly:
    """Make the engine. Raises ConfigError where the scene names what the configuration does not have."""
    made = assemble(config, _machine(scene.own), choose=Random(scene.seed).randrange, make_policy=scene.make_policy)  # noqa: S311
    for name in scene.down:
        pool, server = _find(made, name)
        pool.set_health(server, healthy=False, now=0.0)
    for names, admin in ((scene.drain, AdminState.DRAIN), (scene.maint, AdminState.MAINT)):
        for name in names:
            pool, server = _find(made, name)
            pool.set_admin(server, admin, 0.0)
    for name, weight in scene.weights:
        pool, server = _find(made, name)
        if not pool.dynamic and weight not in (0, server.initial_weight):
            raise ConfigError(
                f"'balance {pool.algorithm}' of backend '{pool.name}' takes no weights but the configuration's and 0"
            )
        pool.set_weight(server, weight, 0.0)
    for name, load in scene.loads:
        _, server = _find(made, name)
        server.count(load)
    for pool in made.pools.values():
        while pool.work():  # nobody waits
            pass
    return made


def _machine(own: Sequence[Interface]) -> Machine:
    return Machine(
        networks=tuple((each.network, each.ip) for each in own if each.network.num_addresses > 1),
        own_addresses=frozenset(each.ip for each in own),
        preferred_source=lambda address: _nearest(own, address),
    )


def _nearest(own: Iterable[Interface], address: Address) -> Address | None:
    """Return the own address on the smallest of the networks that an address is in."""
    near = [each for each in own if address in each.network]
    return max(near, key=lambda each: each.network.prefixlen).ip if near else None


def _find(made: Assembly, name: str) -> tuple[Pool, Server]:
    backend, _, server = name.partition("/")
    pool = made.pools.get(backend)
    if pool is None:
        known = ", ".join(made.pools) or "none"
        raise ConfigError(f"'{name}': the configuration has no backend '{backend}'; it has {known}")
    if server not in pool.servers:
        known = ", ".join(pool.servers) or "none"
        raise ConfigError(f"'{name}': backend '{backend}' has no server '{server}'; it has {known}")
    return pool, pool.servers[server]
