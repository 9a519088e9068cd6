"""A real HAProxy on the lab's balancer, beside natlb: the other half of every comparison.

Its configuration begins with the layer-7 example of the notes, word for word but for the servers' addresses. In the
notes all servers are 127.0.0.1, and the last one has the frontend's own port: there it would forward to itself. Here
each server is the host of its name.

What follows is beyond the notes: the same servers behind a cache, behind a header that names the client, behind a proxy
that reads nothing (`mode tcp`), and behind TLS that ends at the balancer.
"""

import socket

from netns.build import Lab
from netns.certificates import certificate
from netns.processes import Service, every
from netns.topology import Topology

PATHS, CACHE, HEADER, TCP, TLS = 9999, 9998, 9997, 9996, 9443
"""Ports of its frontends. The first is the notes' own."""

APP2 = {"server1": 8888, "server2": 9999}
"""Ports of the second application on each server, as in the notes."""


def notes(topology: Topology) -> str:
    """The notes' layer-7 example, with the lab's addresses."""
    one, two = topology.servers
    return f"""\
    frontend localnodes

    bind *:{PATHS}
        mode http
        acl app1 path_end -i /app1
        acl app2 path_end -i /app2
        use_backend app1servers if app1
        use_backend app2servers if app2

    backend app1servers
        mode http
        server {one.name} {one.ipv4}:{one.port} check
        server {two.name} {two.ipv4}:{two.port} check


    backend app2servers
        mode http
        server {one.name} {one.ipv4}:{APP2[one.name]} check
        server {two.name} {two.ipv4}:{APP2[two.name]} check
"""


def configuration(topology: Topology, pem: str) -> str:
    """All of it; `pem` is the file with the balancer's certificate and key."""
    servers = "\n".join(f"    server {host.name} {host.ipv4}:{host.port} check" for host in topology.servers)
    return f"""\
# The layer-7 example of the notes, with the lab's addresses.
{notes(topology)}
# Beyond the notes.
defaults
    timeout connect 5s
    timeout client 1m
    timeout server 1m

cache pages
    total-max-size 4
    max-age 60

frontend cached
    mode http
    bind *:{CACHE}
    http-request cache-use pages
    http-response cache-store pages
    default_backend app1servers

frontend forwarded
    mode http
    bind *:{HEADER}
    option forwardfor
    default_backend app1servers

frontend ended
    mode http
    bind *:{TLS} ssl crt {pem}
    default_backend app1servers

frontend proxied
    mode tcp
    bind *:{TCP}
    default_backend tcpservers

backend tcpservers
    mode tcp
{servers}
"""


def start(lab: Lab) -> Service:
    """Start it, with the configuration in the lab's directory where there is one already, and the servers it needs."""
    running = {resident.command.partition(" -m ")[2] for resident in lab.residents()}
    for name, port in APP2.items():
        if not any(f"--name {name}-app2 " in command for command in running):
            lab.start_web(name, port, f"{name}-app2")
    path = lab.directory / "haproxy.cfg"
    if not path.exists():
        path.write_text(configuration(lab.topology, str(certificate(lab, "balancer"))), "ascii")
    haproxy = lab.start("haproxy", "lb", ["haproxy", "-db", "-f", str(path)])
    for _ in every(0.05, 5.0):
        if not haproxy.alive:
            break
        with lab.open_socket("lb", socket.AF_INET, socket.SOCK_STREAM) as probe:
            if probe.connect_ex(("127.0.0.1", PATHS)) == 0:
                return haproxy
    haproxy.kill()
    raise haproxy.failure("does not listen")
