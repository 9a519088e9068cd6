"""A balancer with some of everything, for whatever is to be tried against a whole one.

Services over TCP and UDP, over IPv4 and IPv6, with full NAT that is told, full NAT for neighbours and without it; rules
that count, reject and choose; servers with limits, checks and a backup. It is read once, and assembled as often as
wanted: an input begins with a new engine, or it would not be the only cause of what it finds.
"""

from functools import cache
from ipaddress import ip_address, ip_network
from random import Random

from natlb.assembly import Assembly, Machine, assemble
from natlb.config.model import Config
from natlb.config.parser import parse
from natlb.core.engine import NatEngine

TEXT = b"""
global
    maxconn 24

defaults
    mode tcp
    timeout connect 4s
    timeout client 60s
    timeout server 50s
    timeout client-fin 8s
    timeout queue 3s
    retries 2
    option redispatch

backend counted
    stick-table type ip size 4 expire 40s store conn_cur,conn_rate(10s),gpc0,conn_cnt

frontend web
    bind 44.2.2.2:80,44.2.2.3:80
    bind fd44:2::2:80
    acl known src 44.1.0.0/16 fd44:1::/32
    acl busy be_conn(nodes) gt 8
    tcp-request connection track-sc0 src table counted
    tcp-request connection track-sc1 src_port,mod(3) table ports if known
    tcp-request connection reject if { sc_conn_cur(0,counted) gt 6 } !known
    tcp-request connection reject if { src_port 9 }
    tcp-request connection reject if { src_inc_gpc0(counted) gt 40 } or { sc1_conn_rate(ports) gt 90 }
    tcp-request connection accept if { src,ipmask(24,64),in_table(counted) } busy
    use_backend other if { src 44.1.1.7 fd44:1::7 } { nbsrv(other) ge 1 }
    use_backend other if { queue(nodes) gt 1 } { srv_is_up(other/one) } || { avg_queue(nodes) gt 3 }
    default_backend nodes

backend ports
    stick-table type integer size 3 expire 20s store conn_rate(5s),sess_cnt nopurge

backend nodes
    balance leastconn
    stick match dst table stuck if { fe_conn(mail) gt 2 }
    stick on src table stuck
    use-server two if { src_port 40001 } { srv_conn(nodes/two) lt 2 }
    server one 44.3.3.3:4444 check inter 2s weight 3 maxconn 3
    server two 44.4.4.4:4444 maxconn 2 slowstart 4s
    server six fd44:3::3:4444 maxconn 2 minconn 1
    server seven fd44:4::4:4444 maxconn 2 maxqueue 2
    server spare 44.3.3.9:4444 backup

backend stuck
    stick-table type ipv6 size 4 expire 30s

frontend mail
    bind 44.2.2.2:25
    bind fd44:2::2:25
    maxconn 6
    default_backend other

backend other
    balance source
    default-server source 44.5.5.5:5000-5003
    server one 44.3.3.3
    server six [fd44:3::3] source fd44:5::5:5000-5003
    server off 44.4.4.4 disabled

udp-lb names
    dgram-bind 44.2.2.2:53
    dgram-bind fd44:2::2:53
    timeout client 5s
    timeout server 5s
    proxy-requests 2
    proxy-responses 2
    server one 44.3.3.3:53
    server six fd44:3::3:53

udp-lb games
    dgram-bind 44.2.2.2:7001
    dgram-bind fd44:2::2:7001
    server one 44.3.3.3:7001 source 44.5.5.6:6000-6003
    server six fd44:3::3:7001 source fd44:5::6:6000-6003
"""

MACHINE = Machine(
    networks=(
        (ip_network("44.3.3.0/24"), ip_address("44.3.3.1")),
        (ip_network("fd44:3::/64"), ip_address("fd44:3::1")),
    ),
    own_addresses=frozenset(map(ip_address, ("44.2.2.2", "fd44:2::2", "44.3.3.1", "fd44:3::1"))),
    preferred_source=lambda address: ip_address("44.3.3.1" if address.version == 4 else "fd44:3::1"),
)


@cache
def configuration() -> Config:
    """Return the configuration."""
    config = parse([("balancer.cfg", TEXT)], {}).config
    if config is None:
        raise AssertionError([each.render(1) for each in parse([("balancer.cfg", TEXT)], {}).diagnostics])
    return config


def balancer() -> Assembly:
    """Return the balancer, new."""
    return assemble(configuration(), MACHINE, choose=Random(0).randrange)


def bounded(made: Assembly, capacity: int) -> NatEngine:
    """Return an engine for the same services with a table of so many entries, of which a third may be half-open."""
    full = made.engine
    engine = NatEngine(
        full.addresses,
        max_connections=full.admission.max_connections,
        capacity=capacity,
        half_open_capacity=-(-capacity // 3),
        choose_port=Random(0).randrange,
    )
    engine.own_addresses.update(full.own_addresses)
    return engine
