"""What a NAT load balancer does, on one page: the specification that the engine is held against.

It is written another way than the engine, on purpose. There are no bytes, no sequence numbers, no table of states and
no queues: a flow is what has been seen of it, its state is what follows from that, and every look-up is a search.
Where the engine is free (which server, which free port, who of the equally silent gives way and after how little time,
when exactly a silent flow is forgotten) the model says what would be right.
"""

from dataclasses import dataclass, replace
from itertools import product

REFUSED, PASS = "refused", "pass"
"""What may become of a packet, besides the reason for a drop, and the source and destination with which it leaves."""


@dataclass(frozen=True)
class Packet:
    protocol: str
    source: tuple
    destination: tuple
    said: str
    sound: bool = True  # its checksum is right, as far as anybody can tell
    genuine: bool = True  # its sequence numbers are such that its receiver would take it


@dataclass(frozen=True)
class Flow:
    protocol: str
    client: tuple
    vip: tuple
    seen: tuple  # the client, as the server sees it
    server: tuple
    opened: float
    last: float
    heard: tuple = (0, 0)  # packets, of the client and of the server
    answered: bool = False
    proven: bool = False
    closed_by: tuple = ()
    cut: bool = False
    shut: bool = False
    ended: float = 0.0

    @property
    def over(self):
        return self.shut or self.cut or len(self.closed_by) == 2

    def after(self, side, said, genuine):
        """Return what is known of the flow when a packet has passed."""
        if self.protocol == "UDP":
            return replace(self, proven=self.proven or (side == "server" and genuine))
        if self.shut or (not genuine and said != "SYN"):
            return self
        if said == "RST":
            return replace(self, cut=len(self.closed_by) < 2)
        if self.cut:
            was_a_mistake = said == "ACK" and self.proven
            return replace(self, cut=False, closed_by=()) if was_a_mistake else self
        if side == "server" and said in ("SYN", "SYN+ACK"):
            return replace(self, answered=True)
        if side == "client" and said == "SYN":  # it begins anew: every SYN here has a number of its own
            return replace(self, answered=self.proven)
        proven = self.proven or (self.answered and side == "client" and said in ("ACK", "FIN"))
        closes = said == "FIN" and proven and side not in self.closed_by
        return replace(self, proven=proven, closed_by=(*self.closed_by, side) if closes else self.closed_by)

    def patience(self, timeouts):
        """Return how long it may be silent."""
        if self.protocol == "UDP":
            return timeouts["both ways" if self.proven else "one way"]
        if self.over:
            return timeouts["closing"]
        return timeouts[f"{self.closed_by[0]} fin" if self.closed_by else "idle" if self.proven else "opening"]


class Model:
    def __init__(self, services, limits, timeouts, servers, *, checksum_needed):
        self.services = services  # protocol and virtual address -> service: name, "most", "requests", "responses"
        self.limits = limits  # most "living" flows of all services, "entries" and "half-open" entries
        self.timeouts = timeouts
        self.servers = servers  # place -> whether it is "usable", "away", "backup"; client -> what it is "seen as"
        self.checksum_needed = checksum_needed  # of UDP: over IPv6 it is
        self.now, self.flows = 0.0, []

    def find(self, protocol, source, destination):
        """Return the flow of a packet, and which side sent it."""
        for flow in self.flows:
            for side, ends in ("client", (flow.client, flow.vip)), ("server", (flow.server, flow.seen)):
                if (protocol, (source, destination)) == (flow.protocol, ends):
                    return flow, side
        return None, None

    def receive(self, packet, became):
        """Return which flows there may be when a packet has become this; none at all if it must not."""
        return [flows for outcome, flows in self._fates(packet, became) if outcome == became]

    def _fates(self, packet, became):
        flow, side = self.find(packet.protocol, packet.source, packet.destination)
        if flow is None:
            return self._first(packet, self.flows, became)
        server, service = self.servers[flow.server], self.services[flow.protocol, flow.vip]
        others = without(flow, self.flows)
        if flow.protocol == "UDP":
            if packet.said == "bare" and self.checksum_needed:
                return [("BAD_CHECKSUM", self.flows)]
            spent = flow.heard[0] >= service["requests"]
            if side == "client" and (spent or server["away"]):
                again = not spent
                return self._first(packet, others, became, again) if packet.sound else [("BAD_CHECKSUM", self.flows)]
            return self._carry(packet, flow, side, others)
        if packet.said == "nonsense":
            return [("BAD_FLAGS", self.flows)]
        is_stuck = not flow.proven and not server["usable"]
        if side == "client" and packet.said == "SYN" and packet.sound and (flow.over or is_stuck):
            return self._first(packet, others, became, again=not flow.over)
        # A server that has another number now answers somebody who came to it directly; an answer may be late, too.
        is_answer = flow.over and side == "server" and packet.said == "SYN+ACK" and packet.sound
        directly = [(PASS, others)] if is_answer else []
        if flow.shut:
            refused = REFUSED if packet.sound else "BAD_CHECKSUM"
            return [("NO_CONNECTION" if packet.said == "RST" else refused, self.flows), *directly]
        if not packet.sound and flow.after(side, packet.said, True) != flow:
            return [("BAD_CHECKSUM", self.flows)]
        if packet.said == "RST" and not packet.genuine and not flow.over and (flow.answered or side == "server"):
            return [
                ("OUT_OF_WINDOW", self.flows)
            ]  # a client's may be for an older connection that its server remembers
        return self._carry(packet, flow, side, others) + directly

    def _carry(self, packet, flow, side, others):
        by_client, by_server = flow.heard
        heard = (by_client + 1, by_server) if side == "client" else (by_client, by_server + 1)
        after = flow.after(side, packet.said, packet.genuine and (packet.sound or packet.protocol == "TCP"))
        says_nothing = packet.said == "RST" and after == flow  # and so keeps nothing alive
        after = replace(after, last=flow.last if says_nothing else self.now, heard=heard)
        after = replace(after, ended=self.now) if after.over and not flow.over else after
        responses = self.services[flow.protocol, flow.vip]["responses"]
        is_last = responses is not None and heard[1] >= responses * heard[0]
        leaves_as = (flow.seen, flow.server) if side == "client" else (flow.vip, flow.client)
        return [(leaves_as, others if is_last else [*others, after])]

    def _first(self, packet, flows, became, again=False):
        """Yield what may become of a packet that belongs to none of the flows, or, `again`, is on to another server."""
        service = self.services.get((packet.protocol, packet.destination))
        if service is None:
            yield PASS, flows
        elif packet.said == "nonsense":
            yield "BAD_FLAGS", flows
        elif packet.said == "RST":
            yield "NO_CONNECTION", flows
        elif not packet.sound or (packet.said == "bare" and self.checksum_needed):
            yield "BAD_CHECKSUM", flows
        elif packet.protocol == "TCP" and packet.said != "SYN":
            yield REFUSED, flows
        else:
            yield from self._open(packet, service, flows, became, again)

    def _open(self, packet, service, flows, became, again):
        usable = [place for place, server in self.servers.items() if server["usable"]]
        backups = [place for place in usable if self.servers[place]["backup"]]
        for admitted in [flows] if again else self._admit(service, flows):  # who was let in keeps its place
            if admitted is None:
                yield "MAXCONN", flows
                continue
            if not usable:
                yield REFUSED, admitted
            servers = [place for place in usable if place not in backups] or backups[:1]
            for server, left in product(servers, self._make_room(admitted)):
                if left is None:
                    yield "TABLE_FULL", admitted
                    continue
                for seen, rest in self._see(packet, server, left, became):
                    flow = Flow(packet.protocol, packet.source, packet.destination, seen, server, self.now, self.now)
                    yield ("NO_PORT", left) if seen is None else self._carry(packet, flow, "client", rest)[0]

    def _admit(self, service, flows):
        """Return what may be left of the flows so that one more is within the limits; None if it cannot be."""
        living = [flow for flow in flows if not flow.over]
        crowd = [flow for flow in living if self.services[flow.protocol, flow.vip] is service]
        if len(crowd) < service["most"]:
            crowd = living
            if len(living) < self.limits["living"]:
                return [flows]
        half_open, ways = [flow for flow in crowd if not flow.proven], []
        tcp = [flow for flow in half_open if flow.protocol == "TCP"]
        for gone in self._longest_silent(half_open) + self._longest_silent(tcp):
            # Half a second is granted at first; TCP's clients may have shown that they need less.
            waited, least = self.now - gone.opened, 0.01 if gone in tcp else 0.5
            ways += [without(gone, flows)] * (waited >= least) + [None] * (waited < 0.5)
        return ways or [None]

    def _make_room(self, flows):
        """Return what may be left of the flows so that there is an entry for one more; None if it cannot be."""
        over = [flow for flow in flows if flow.over]
        half_open = [flow for flow in flows if not flow.over and not flow.proven]
        if len(half_open) >= self.limits["half-open"]:
            over = []
        elif len(flows) < self.limits["entries"]:
            return [flows]
        return [without(gone, flows) for gone in self._longest_silent(over or half_open)] or [None]

    def _longest_silent(self, flows):
        """Return those of which any may be taken for the longest silent: activity is noted now and then only."""
        return [flow for flow in flows if flow.last <= min(other.last for other in flows) + self._grace(flow)]

    def _grace(self, flow):
        return min(1.0, flow.patience(self.timeouts) / 8)

    def _see(self, packet, server, flows, became):
        """Return as whom the server may see the client, and what is left of the flows then; None if as nobody."""
        sources = self.servers[server]["seen as"].get(packet.source[0], [])
        to_server = {flow.seen: flow for flow in flows if (flow.protocol, flow.server) == (packet.protocol, server)}
        if not sources:
            known = to_server.get(packet.source)
            if known is None or known.over:
                return [(packet.source, without(known, flows))]
            sources = [(packet.source[0], range(1024, 65536))]  # it knows the client already, by another address
        ways, own = [], packet.source[1]
        for address, ports in sources:
            free = {port for port in ports if (address, port) not in to_server}
            over = [flow for (at, port), flow in to_server.items() if at == address and port in ports and flow.over]
            if free:
                told = became[0][1] if isinstance(became, tuple) else None
                ways.append(((address, own if own in free else told if told in free else None), flows))
            elif over:
                first = [flow for flow in over if flow.ended == min(other.ended for other in over)]
                ways += [(gone.seen, without(gone, flows)) for gone in first]
        return ways or [(None, flows)]

    def complain(self, protocol, source, destination, sender, sound):
        """Return what becomes of an ICMP error about a packet: from whom to whom it goes, and which ends it quotes."""
        for flow in self.flows:
            if (protocol, source, destination) == (flow.protocol, flow.seen, flow.server):
                leaves_as = (flow.vip[0], flow.client[0]), (flow.client, flow.vip)
            elif (protocol, source, destination) == (flow.protocol, flow.vip, flow.client):
                is_known = flow.seen[0] == flow.client[0]
                leaves_as = (sender if is_known else flow.seen[0], flow.server[0]), (flow.server, flow.seen)
            else:
                continue
            return leaves_as if sound else "BAD_CHECKSUM"
        return "NO_CONNECTION" if (protocol, source) in self.services else PASS

    def after_shutdown(self, flow):
        """Return a flow that has been shut down, or None if nothing is kept of it."""
        if flow.over:
            return flow
        return None if flow.protocol == "UDP" else replace(flow, shut=True, last=self.now, ended=self.now)

    def after_silence(self, flow):
        """Return what may have become of a flow by now, None being forgotten: the grace is at most a second."""
        patience, silent = flow.patience(self.timeouts), self.now - flow.last
        gone = self.after_shutdown(flow) if flow.proven and not flow.over else None
        return [flow] * (silent < patience + self._grace(flow)) + [gone] * (silent >= patience)


def without(gone, flows):
    return [flow for flow in flows if flow is not gone]
