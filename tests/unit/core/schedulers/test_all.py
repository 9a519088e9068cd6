"""What is true of every algorithm, whatever happens to its servers."""

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from natlb.core.pool import AdminState, Pool, Server
from natlb.core.schedulers.base import Scheduler
from natlb.core.schedulers.draw import RandomDraws
from natlb.core.schedulers.first import First
from natlb.core.schedulers.hashes import HASHES, hash_by
from natlb.core.schedulers.leastconn import LeastConnections
from natlb.core.schedulers.maglev import Consistent
from natlb.core.schedulers.mapbased import MapBased
from natlb.core.schedulers.roundrobin import RoundRobin, StaticRoundRobin
from tests.effort import examples
from tests.unit.core.schedulers.support import CRITICAL, built, by_weight, chi_square, connect, flow, server, servers

HASH = hash_by("src", "sdbm", stirred=False)

ALL: dict[str, Callable[[], Scheduler]] = {
    "roundrobin": RoundRobin,
    "static-rr": StaticRoundRobin,
    "leastconn": LeastConnections,
    "first": First,
    "random": lambda: RandomDraws(Random(3).randrange),
    "map-based": lambda: MapBased(HASH),
    "consistent": lambda: Consistent(HASH),
    "bounded": lambda: Consistent(HASH, 125),
}


@pytest.mark.random
@pytest.mark.usefixtures("small_tables")
@pytest.mark.parametrize("kind", ALL)
@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_happens_only_usable_servers_are_picked_and_always_one_if_there_is_one(kind, data):
    pool = Pool("web", [server(f"s{n}", n + 1, id=n + 1, backup=n == 4, slowstart=n) for n in range(5)], ALL[kind])
    spare = [server(f"x{n}", 2, id=10 + n) for n in range(2)]
    now = 0.0
    for _ in range(30):
        now += data.draw(st.sampled_from((0.0, 0.4, 3.0)))
        each = data.draw(st.sampled_from(list(pool.servers.values())))
        match data.draw(st.integers(0, 8)):
            case 0:
                pool.set_health(each, data.draw(st.booleans()), now)
            case 1:
                pool.set_admin(each, data.draw(st.sampled_from(AdminState)), now)
            case 2:
                pool.set_weight(each, data.draw(st.integers(0, 9)), now)
            case 3 if spare:
                pool.add(spare.pop())
            case 4 if len(pool.servers) > 1:
                pool.remove(each)
                spare.append(each)
            case 5:
                pool.step(now)
            case 6:
                pool.work()
            case 7 if each.live:
                each.count(-1)
        asked = flow(data.draw(st.integers(0, 2**32 - 1)))
        avoid = data.draw(st.sampled_from([None, *pool.servers.values()]))
        usable = [one for one in pool.servers.values() if one.usable]
        active = [one for one in usable if not one.backup] or usable[:1]
        picked = pool.pick(asked, now, avoid)
        assert picked in (active or [None])
        if len(active) > 1:
            assert picked is not avoid
        if picked is not None:
            picked.count(1)
        assert pool.live == sum(one.live for one in pool.servers.values())


@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 2, 3, 4), (7,) * 10], ids=str)
@pytest.mark.parametrize("kind", ["map-based", "consistent"])
@pytest.mark.parametrize("function", HASHES)
def test_random_clients_are_hashed_to_servers_by_weight(kind, function, weights):
    among = servers(*weights)
    hash_of = hash_by("src", function, stirred=True)
    scheduler = built(MapBased(hash_of) if kind == "map-based" else Consistent(hash_of), among)
    clients = Random(7).sample(range(2**32), 6000)
    picked = [scheduler.pick(flow(client)) for client in clients]
    # A table of 65537 entries gives shares that are up to half a percent off themselves.
    assert chi_square(picked, by_weight(among, 6000)) < CRITICAL[len(weights) - 1] * 1.05


@pytest.mark.parametrize("kind", ["roundrobin", "static-rr", "leastconn"])
@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 2, 3, 4), (7,) * 10], ids=str)
def test_turns_and_loads_are_shared_out_exactly(kind, weights):
    among = servers(*weights)
    counted: Counter[Server] = Counter(connect(built(ALL[kind](), among), 10 * sum(weights)))
    for each in among:
        assert abs(counted[each] - 10 * each.weight) <= 1
