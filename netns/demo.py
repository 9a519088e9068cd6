"""The guided tour: what the notes on layer-4 balancing say, seen on real packets, and checked.

Every step says in plain words what will be seen, shows it, and ends in claims. A claim is a check, not a sentence: the
first that does not hold ends the tour with what was seen and what was expected. So the tour can be trusted, and it is a
test of natlb from the outside.

What is shown is read off the wire by captures at every place that a packet passes. natlb itself is asked for one thing,
its NAT table, and what it answers is compared with the wire.

In a lab that is up already natlb may have been told `source`: then the tour tells of full NAT.
"""

import re
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence

from netns import balancer, draw
from netns.build import Lab
from netns.claims import Claim, drawn, shown
from netns.draw import Pen
from netns.errors import LabError
from netns.observe import PLACES, Observation, Visitor, everywhere, way
from netns.topology import LINK, Host
from netns.walk import Sighting, Walk, changed, follow, of_connection
from netns.web import endpoint

_TITLES = ("client wire", "balancer in", "balancer out", "server wire")
_TITLES_BACK = ("server wire", "balancer in", "balancer out", "client wire")
_LONG_ANSWER = 20_000
"""Bytes: some fifteen segments at an MTU of 1500."""


_End = Sequence[tuple[bool, Sighting]]
"""What was seen at one end of a connection, each with whether it goes to the server."""


def _first_number(end: _End, flags: str) -> int | str:
    return next((sighting.seq for _, sighting in end if sighting.flags == flags), "not seen")


_FACTS: Mapping[str, Callable[[_End], object]] = {
    "client's first sequence number": lambda end: _first_number(end, "S"),
    "server's first sequence number": lambda end: _first_number(end, "SA"),
    "segments to the server": lambda end: sum(to_server for to_server, _ in end),
    "segments to the client": lambda end: sum(not to_server for to_server, _ in end),
    "payload bytes": lambda end: sum(len(sighting.payload) for _, sighting in end),
}
"""What one end of a connection can tell of it."""


class Tour:
    """One tour through one lab."""

    def __init__(self, lab: Lab, pen: Pen) -> None:
        self._lab = lab
        self._pen = pen
        self._topology = lab.topology
        self._own = not lab.is_up
        """Whether the lab is the tour's own, so that natlb's configuration is known."""
        self._steps = 0
        self._claims = 0

    def run(self) -> None:
        """Build a lab, show it, take it away; in a lab that is up already, leave it up. LabError: a claim failed."""
        began = time.monotonic()
        self._say(self._pen.bold("Layer-4 load balancing, seen packet by packet"))
        if not self._own:
            self._show()
            self._say("", "The lab was up before and stays up. To take it away:", f"    {self._lab.advice('down')}")
        else:
            self._say("building: four hosts, three links, two web servers, natlb between them ...")
            with self._lab:
                self._lab.start_all()
                self._show()
                residents = len(self._lab.residents())
            self._cleanup(residents)
        self._say("", self._pen.bold(f"{self._claims} claims, all of them hold ({time.monotonic() - began:.1f} s)."))

    def _show(self) -> None:
        try:
            self._map()
            self._requests()
            with everywhere(self._lab) as observation, Visitor(self._lab, self._topology.balancer.port) as visitor:
                server, request, reply = self._packet(observation, visitor)
                self._table(visitor.endpoint, server, request, reply)
                self._one_connection(observation, visitor, server)
        except LabError as error:
            raise LabError(f"{error}\n{self._last_words()}") from error

    # -- the steps

    def _map(self) -> None:
        self._heading(
            "The hosts",
            'The notes, "Load balancing: layer 4 versus layer 7", begin with four machines. Here each of them is a'
            " network namespace: a network stack of its own. The addresses below were read from the four stacks just"
            " now.",
        )
        addresses = {host.name: self._lab.addresses(host.name) for host in self._topology.hosts}
        self._picture(draw.lab_map(self._pen, self._topology, addresses))
        self._claim(
            "the addresses are those of the notes, in IPv4 and in IPv6",
            saw=addresses,
            expected={host.name: [host.ipv4, host.ipv6] for host in self._topology.hosts},
        )
        inner = {"lo", *(host.name for host in self._topology.neighbours)}
        self._claim(
            "no host has another link: no packet can leave this lab",
            saw={host.name: set(self._lab.interfaces(host.name)) for host in self._topology.hosts},
            expected={
                host.name: inner if host is self._topology.balancer else {"lo", LINK} for host in self._topology.hosts
            },
        )

    def _requests(self) -> None:
        self._heading(
            "Requests to one address, answers from two servers",
            "The client knows one address, the balancer's: the VIP, virtual IP. Every request is a connection of its"
            " own.",
        )
        servers = [server.name for server in self._topology.servers]
        full_nat = False
        for family, rounds in (("-4", 2), ("-6", 1)):
            answers = [self._curl(family) for _ in range(rounds * len(servers))]
            turns = [name for name, _ in answers]
            at = servers.index(turns[0]) if turns[0] in servers else 0
            self._claim(
                f"the servers take turns (IPv{family[1]})",
                saw=turns,
                expected=[servers[(at + turn) % len(servers)] for turn in range(len(turns))],
            )
            client, balancers = (
                host.ipv4 if family == "-4" else host.ipv6 for host in (self._topology.client, self._topology.balancer)
            )
            known_as = {seen.rpartition(":")[0].strip("[]") for _, seen in answers}
            hidden = not self._own and known_as == {balancers}
            full_nat |= hidden
            self._claim(
                "they see the balancer's address, not the client's" if hidden else "they see the client's own address",
                saw=known_as,
                expected={balancers if hidden else client},
            )
        self._tell(
            "With `source` natlb puts its own address in the source's place, too: full NAT. A server does not know its"
            " client then, as the notes say. Without it natlb changes the destination alone."
            if full_nat
            else "natlb changes the destination alone, so a server knows its client. (The notes say that it does not:"
            " so it is with full NAT, where the balancer puts its own address in the source's place, too.)"
        )

    def _packet(self, observation: Observation, visitor: Visitor) -> tuple[Host, Walk, Walk]:
        name, known_as = visitor.ask()
        server, client = self._topology.host(name), visitor.endpoint
        full_nat = known_as != client
        (source, vip), seen = (self._topology.client.ipv4, self._topology.balancer.ipv4), known_as.rpartition(":")[0]
        self._heading(
            "One packet's walk",
            "A fresh connection, and the one packet that carries its request, at the four places that it passes. In"
            f" the notes' words, {source}|Data|{vip} comes in, and {seen}|Data|{server.ipv4} goes out. A star marks"
            " what differs from the column before.",
        )
        sightings = observation.sightings()
        request = self._walk_of(sightings, client, server, b"GET / ")
        reply = self._walk_of(sightings, client, server, b"HTTP/1.1 200")
        self._picture(draw.packet_walk(self._pen, request.sightings, _TITLES))

        client_wire, balancer_in, balancer_out, server_wire = request.sightings
        besides = {"TTL", "IP checksum", "TCP checksum"}
        both = {"source", "destination"} if full_nat else set()
        self._claim(
            "a wire changes nothing",
            saw=changed(client_wire, balancer_in) | changed(balancer_out, server_wire),
            expected=set(),
        )
        self._claim(
            f"the balancer changes the {'source, the ' if full_nat else ''}destination, the TTL (it routes, too) and"
            " both checksums",
            saw=changed(balancer_in, balancer_out),
            expected={"destination", *both, *besides},
        )
        self._claim(
            f"the destination was the VIP and is {server.name} now: address and port",
            saw=(balancer_in.destination, server_wire.destination),
            expected=(self._vip, endpoint(server.ipv4, server.port)),
        )
        if full_nat:
            self._claim(
                f"the source was the client and is {known_as} now, whom {server.name} takes for the client",
                saw=(balancer_in.source, server_wire.source),
                expected=(client, known_as),
            )
        self._claim(
            f"the payload of {len(client_wire.payload)} bytes is the same at all four places",
            saw={sighting.payload for sighting in request.sightings},
            expected={client_wire.payload},
        )

        self._tell("And the answer, on its way back:")
        self._say("")
        self._picture(draw.packet_walk(self._pen, reply.sightings, _TITLES_BACK))
        server_wire, balancer_in, balancer_out, client_wire = reply.sightings
        self._claim(
            f"now the source changes, from {server.name}'s address to the VIP: whom the client asked",
            saw=(changed(balancer_in, balancer_out), server_wire.source, client_wire.source),
            expected=({"source", *both, *besides}, endpoint(server.ipv4, server.port), self._vip),
        )
        if full_nat:
            self._claim(
                "and the destination is the client again",
                saw=(server_wire.destination, client_wire.destination),
                expected=(known_as, client),
            )
        self._claim(
            "scapy, which shares no code with natlb, finds every checksum right",
            saw={sighting.checksums_right for walk in (request, reply) for sighting in walk.sightings},
            expected={True},
        )
        return server, request, reply

    def _table(self, client: str, server: Host, request: Walk, reply: Walk) -> None:
        self._heading(
            "The NAT table",
            "How does the answer find its way home? The notes: the balancer adds an entry to a lookup table (NAT). The"
            " connection of step 3 is still open, so its entry is there. It is nothing but two tuples: what packets"
            " look like as they come from the client, and as they come from the server.",
        )
        try:
            answer = balancer.ask(self._lab.stats_socket, "show sess")
        except OSError as error:
            raise LabError(f"natlb's stats socket {self._lab.stats_socket} does not answer: {error}") from error
        entries = [entry for entry in balancer.nat_table(answer) if entry.client == client]
        self._picture(draw.nat_table(self._pen, entries))
        came, went = request.sightings[1], reply.sightings[1]
        self._claim(
            "both tuples are what the wire showed coming in: the request's, and the answer's",
            saw=[(entry.original, entry.reply) for entry in entries],
            expected=[((came.source, came.destination), (went.source, went.destination))],
        )
        self._claim(
            f"the connection is established, and belongs to {server.name}",
            saw=[(entry.state, entry.server) for entry in entries],
            expected=[("ESTABLISHED", server.name)],
        )
        self._claim(
            "it counts the bytes of data, each way, that the wire showed",
            saw=[(entry.original_bytes, entry.reply_bytes) for entry in entries],
            expected=[(len(came.payload), len(went.payload))],
        )

    def _one_connection(self, observation: Observation, visitor: Visitor, server: Host) -> None:
        client = visitor.endpoint
        self._heading(
            "One single TCP connection",
            "The notes: client <-> balancer <-> server is one single TCP connection. Then its two ends must agree on"
            f" every number in it. On the connection of step 3: an answer of {_LONG_ANSWER} bytes, one more request,"
            " and the end.",
        )
        received = len(visitor.get(f"/bytes/{_LONG_ANSWER}"))
        again, _ = visitor.ask()
        visitor.close()
        sightings = observation.sightings()
        walks = follow(sightings, client, way(server))
        ends = [
            [(walk.towards_server, seen) for walk in walks for seen in walk.sightings if seen.place == place]
            for place in (way(server)[0], way(server)[-1])
        ]
        rows = [[title, *(str(fact(end)) for end in ends)] for title, fact in _FACTS.items()]
        rows.insert(0, ["", "at the client", f"at {server.name}"])
        heading, *lines = draw.table(rows, right=(1, 2), gap=3)
        self._picture("\n".join([self._pen.bold(heading), *lines]))
        self._claim(
            f"all {len(walks)} segments have the same sequence and acknowledgement numbers, timestamps and payload"
            " at both ends",
            saw=[len(walk.sightings) for walk in walks],
            expected=[PLACES] * len(walks),
        )
        self._claim("the long answer is complete", saw=received, expected=_LONG_ANSWER)
        self._claim(
            f"every segment went to {server.name}, no other server saw one; the second request, too",
            saw=(again, {sighting.place for _, sighting in of_connection(sightings, client)}),
            expected=(server.name, set(way(server))),
        )
        self._tell(
            "A proxy ends the client's connection and opens a second one to the server: other sequence numbers, other"
            " timestamps. Here there is nothing to end: packets pass."
        )

    def _cleanup(self, residents: int) -> None:
        self._heading("Gone", f"{len(self._topology.hosts)} namespaces and {residents} programs were here.")
        self._claim(
            "every process has ended, no namespace and no file is left",
            saw=[str(path) for path in self._lab.traces()],
            expected=[],
        )

    # -- what the steps are made of

    @property
    def _vip(self) -> str:
        return endpoint(self._topology.balancer.ipv4, self._topology.balancer.port)

    def _curl(self, family: str) -> tuple[str, str]:
        """Return who answered, and the client as the server sees it."""
        port = self._topology.balancer.port
        command = ["curl", family, "--silent", "--show-error", "--max-time", "5", f"http://vip:{port}/"]
        done = self._lab.run("client", command)
        found = re.fullmatch(r"(\S+)\nclient (\S+)\n", done.stdout)
        if found is None:
            raise LabError(f"`{' '.join(command)}` on the client: {done.stderr.strip() or repr(done.stdout)}")
        self._say(f"  client$ curl {family} http://vip:{port}/   {found[1]}, which sees client {found[2]}")
        return found[1], found[2]

    def _walk_of(self, sightings: Sequence[Sighting], client: str, server: Host, beginning: bytes) -> Walk:
        walks = [walk for walk in follow(sightings, client, way(server)) if walk.first.payload.startswith(beginning)]
        places = [[sighting.place for sighting in walk.sightings] for walk in walks]
        if [len(place) for place in places] != [PLACES]:
            raise LabError(f"expected one packet that begins with {beginning!r}, at four places; saw {places}")
        return walks[0]

    # -- how it speaks

    def _heading(self, title: str, text: str) -> None:
        self._steps += 1
        self._say("", self._pen.bold(f"{self._steps}. {title}"))
        self._say(textwrap.fill(text, draw.WIDTH), "")

    def _tell(self, text: str) -> None:
        self._say("", textwrap.fill(text, draw.WIDTH))

    def _picture(self, text: str) -> None:
        self._say(text, "")

    def _claim(self, text: str, *, saw: object, expected: object) -> None:
        claim = Claim(text, saw, expected)
        if not claim.holds:
            raise LabError(f"this does not hold: {text}\n  saw       {shown(saw)}\n  expected  {shown(expected)}")
        self._claims += 1
        self._say(drawn(self._pen, claim))

    def _say(self, *lines: str) -> None:
        print("\n".join(lines), flush=True)

    def _last_words(self) -> str:
        log = self._lab.directory / "natlb.log"
        lines = log.read_text("utf-8", "replace").splitlines()[-5:] if log.exists() else []
        return "\n".join(["natlb's log ends:", *(f"  {line}" for line in lines)] if lines else ["natlb has no log"])
