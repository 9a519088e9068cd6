"""Who is open, how each ended, and whether that can be explained.

Both ends of a connection tell how it ended for them. When both have told, or one of them cannot any more, the
connection is judged: by its plan, by what the two counted, and by what was done to the lab meanwhile. What is left is
lost. Only the open ones and the stories of those that went wrong are kept; of all others a number remains.
"""

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

from netns.soak import plans
from netns.soak.channel import Message
from netns.soak.plans import End
from netns.soak.talk import STALLED


class Ends(Enum):
    """Which connections a fault may end, however well natlb does."""

    NONE = "none"
    THERE = "those at the server that was killed"
    NEW = "those that were being opened"
    ALL = "all that were open"


@dataclass(slots=True)
class Injected:
    """A fault that was made, with what it can explain. Times are the monotonic clock's."""

    kind: str
    began: float
    ends: Ends = Ends.NONE
    loses: bool = False
    """Whether packets are lost by it."""
    doubles: bool = False
    """Whether packets come twice by it."""
    server: str | None = None
    """The server's program that it ended."""
    ended: float | None = None
    note: str = ""
    """More about it, for the reader."""

    @property
    def is_long_outage(self) -> bool:
        """Whether it has lost packets for so long that TCP may not have tried again within anybody's patience.

        It waits twice as long each time (RFC 6298, section 5.5): after an outage for as long as that was, and longer.
        """
        return self.loses and self.ended is not None and self.ended - self.began > STALLED / 4

    def covers(self, at: float) -> bool:
        """Whether what happened then may be of its doing."""
        return self.began - _BEFORE <= at and (self.ended is None or at <= self.ended + AFTERWARDS)


AFTERWARDS = 6.0
"""Seconds after a fault in which what comes of it is learned of: by a retransmission, a check, or a busy program."""
_BEFORE = 0.5
"""Seconds before: what was on its way when it began."""
_TOLD_WITHIN = 15.0
"""Seconds for a server's first word about a connection, once the client's last one has come: it may stand still."""
_SILENT_FOR = 150.0
"""Seconds after which a server that says nothing about a connection has lost it: the longest silence of a plan, and
what it waits besides, and some."""
_MOST_STORIES = 20


@dataclass(slots=True)
class Story:
    """What is known of a connection."""

    number: int
    begun: float
    connected: float | None = None
    original: str | None = None
    """Its tuple, as natlb writes it: a client's port may be that of several connections, to several addresses."""
    server: str | None = None
    """The server's program that has it."""
    shut: float | None = None
    """When natlb was told to shut it down."""
    client_end: Message | None = None
    server_end: Message | None = None
    ended: float | None = None
    """When the first end told of its end."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a connection has come to."""

    word: str
    """FINISHED, a way to end as planned, the fault that ended it, CORRUPTED or LOST."""
    why: str = ""


FINISHED, RESET, SHUT = "finished", "reset by the client, as planned", "shut down by natlb, as told"
CORRUPTED, LOST = "corrupted", "lost"
_PLANNED = (FINISHED, RESET, SHUT)
_KILLED: Message = {"how": "killed", "why": "its program was killed", "sent": None, "verified": 0}


@dataclass(slots=True)
class Datagrams:
    """What became of datagrams, and of their flows."""

    flows: int = 0
    answered_flows: int = 0
    asked: int = 0
    answered: int = 0
    lost_by_faults: int = 0
    lost: int = 0
    """With no fault that loses any."""
    doubled_by_faults: int = 0
    doubled: int = 0
    wrong: int = 0


@dataclass(slots=True)
class Accounts:
    """All connections and flows of a soak."""

    seed: int
    open: dict[int, Story] = field(default_factory=dict)
    faults: list[Injected] = field(default_factory=list)
    made: Counter[str] = field(default_factory=Counter)
    """Connections that were begun, by section."""
    connected: Counter[str] = field(default_factory=Counter)
    """Those whose handshake came to its end, by section."""
    flows: Counter[str] = field(default_factory=Counter)
    answered_flows: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    """Connections that are over, by how."""
    verified: int = 0
    """Bytes, by both ends."""
    datagrams: Datagrams = field(default_factory=Datagrams)
    stories: list[str] = field(default_factory=list)
    """Of what went wrong, as many as anybody reads."""
    at: float = 0.0
    """When it all began."""
    unexplained: dict[int, str] = field(default_factory=dict)
    """Connections that were lost, and whose entries of natlb's nobody has looked at yet: their tuples."""

    _latest: int = 0
    """The connection that was begun last: they are numbered in turn."""
    _early: dict[int, list[tuple[Message, str, float]]] = field(default_factory=dict)
    """What servers have told of connections before the client's word about them was heard, and when."""

    # -- what is told

    def hear(self, message: Message, program: str, now: float) -> None:
        """Take in what a program tells."""
        number = message.get("id")
        if message["what"] in ("accepted", "server end") and number is not None and number > self._latest:
            # The client's word about it is still on its way.
            self._early.setdefault(number, []).append((message, program, now))
            return
        match message["what"]:
            case "begins":
                plan = plans.connection(self.seed, message["id"])
                self.made[f"tcp-{plan.way}"] += 1
                self.open[message["id"]] = Story(message["id"], now)
                self._latest = message["id"]
                for early, told, _ in self._early.pop(message["id"], ()):
                    self.hear(early, told, now)
            case "connected":
                begun = self.open[message["id"]]
                begun.connected, begun.original = now, message["original"]
                self.connected[f"tcp-{plans.connection(self.seed, begun.number).way}"] += 1
            case "accepted":
                if story := self._known(message, program, None):
                    story.server = program
            case "client end":
                self.verified += message["verified"]
                ended = self.open[message["id"]]
                ended.client_end, ended.ended = message, ended.ended or now
                self._judge_if_told(ended, now)
            case "server end":
                self._server_end(message, program, now)
            case "flow end":
                self._flow_end(message)
            case "wrong datagram":
                self.datagrams.wrong += 1
                self._tell(f"a server got a wrong datagram: {message['why']}")

    def killed(self, program: str, now: float) -> None:
        """Take in that a server's program was killed: it has nothing more to say."""
        for story in [each for each in self.open.values() if each.server == program and not each.server_end]:
            story.server_end, story.ended = _KILLED, story.ended or now
            self._judge_if_told(story, now)

    def sweep(self, now: float) -> None:
        """Judge those of which one end has nothing to say, or does not say it."""
        for number in [number for number, told in self._early.items() if now > told[0][2] + _TOLD_WITHIN]:
            for message, program, _ in self._early.pop(number):
                self._known(message, program, None)
        for story in list(self.open.values()):
            if story.client_end is None:
                continue
            patience = _TOLD_WITHIN if story.server is None else _SILENT_FOR
            if story.ended is not None and now > story.ended + patience:
                self._judge(story, now)

    def give_up(self, now: float) -> None:
        """Judge all that is left."""
        for story in list(self.open.values()):
            story.ended = story.ended or now
            self._judge(story, now)

    def _known(self, message: Message, program: str, server: str | None) -> Story | None:
        """Return the connection that a program speaks of, which must be at `server`: each is accepted once, at one."""
        story = self.open.get(message["id"])
        if story is None or story.server != server:
            self.ends[CORRUPTED] += 1
            self._tell(f"{program} has a connection {message['id']} that it cannot have: {message}")
            return None
        return story

    def _server_end(self, message: Message, program: str, now: float) -> None:
        self.verified += message["verified"]
        if message["id"] is None:  # ended before it said its name: a check of natlb's, or one that the client tells of
            if message["how"] == "wrong":
                self.ends[CORRUPTED] += 1
                self._tell(f"{program} was sent by {message['peer']} what nobody sends: {message['why']}")
        elif story := self._known(message, program, program):
            story.server_end, story.ended = message, story.ended or now
            self._judge_if_told(story, now)

    # -- flows

    def _flow_end(self, message: Message) -> None:
        found, name = self.datagrams, f"udp-{message['way']}"
        self.flows[name] += 1
        self.answered_flows[name] += message["answered"] > 0
        found.flows += 1
        found.answered_flows += message["answered"] > 0
        found.asked += message["asked"]
        found.answered += message["answered"]
        for at in message["lost"]:
            if any(fault.loses and fault.covers(at) for fault in self._recent(at)):
                found.lost_by_faults += 1
            else:
                found.lost += 1
        for at in message["doubled"]:
            if any(fault.doubles and fault.covers(at) for fault in self._recent(at)):
                found.doubled_by_faults += 1
            else:
                found.doubled += 1
                self._tell(f"flow {message['id']} by {message['way']} was answered twice, at {self._time(at)}")
        for why in message["wrong"]:
            found.wrong += 1
            self._tell(f"flow {message['id']} by {message['way']} was answered wrongly: {why}")

    # -- judging

    def _judge_if_told(self, story: Story, now: float) -> None:
        if story.client_end and story.server_end:
            self._judge(story, now)

    def _judge(self, story: Story, now: float) -> None:
        del self.open[story.number]
        verdict = self.verdict(story)
        self.ends[verdict.word] += 1
        if verdict.word in (CORRUPTED, LOST):
            self._tell(self._told(story, verdict, now))
            if story.original is not None and len(self.stories) < _MOST_STORIES:
                self.unexplained[story.number] = story.original

    def verdict(self, story: Story) -> Verdict:
        """Return what a connection has come to, now that no more will be told of it."""
        client, server = story.client_end, story.server_end
        for end in (client, server):
            if end and end["how"] == "wrong":
                return Verdict(CORRUPTED, end["why"])
        how, its = (client or {}).get("how"), (server or {}).get("how")
        plan = plans.connection(self.seed, story.number)
        if client and server and how == its == "finished":
            if (client["sent"], client["verified"]) == (server["verified"], server["sent"]):
                return Verdict(FINISHED)
            return Verdict(CORRUPTED, "the two ends do not agree on how much was sent")
        if how == "reset as planned" and its in (None, "reset", "closed early", "killed"):
            return Verdict(RESET)
        if how == "reset" and story.shut is not None and plan.end is End.SHUT and its in ("reset", "killed"):
            return Verdict(SHUT)
        unheard = (how == "reset as planned" or story.shut is not None) and "stalled" in (how, its)
        if its == "killed":
            # Its client may have ended some time before, when the server had not heard of it yet.
            for fault in reversed(self.faults):
                if fault.server == story.server:
                    return Verdict(f"ended by: {fault.kind}")
        for fault in self._recent(story.ended or story.begun):
            if self._explains(fault, story, unheard=unheard):
                return Verdict(f"ended by: {fault.kind}")
        return Verdict(LOST, f"the client's end: {how}; the server's: {its}")

    def _explains(self, fault: Injected, story: Story, *, unheard: bool) -> bool:
        """Whether a fault may have ended a connection so. `unheard`: a RST was to end it, and that was not heard."""
        if unheard and fault.loses:
            at = story.shut or (story.ended or 0.0)
            return fault.covers(at) or fault.covers(at - STALLED)
        ended = story.ended or story.begun
        hows = {end["how"] for end in (story.client_end, story.server_end) if end}
        # Who has stalled tells of it when his patience is over.
        times = [ended, ended - STALLED] if "stalled" in hows else [ended]
        if "stalled" in hows and fault.is_long_outage and fault.began < ended and (fault.ended or ended) > times[-1]:
            return True
        match fault.ends:
            case Ends.ALL:
                return any(map(fault.covers, times)) and story.begun <= (fault.ended or ended) + AFTERWARDS
            case Ends.THERE:
                if story.server is not None:
                    return story.server == fault.server
                return any(map(fault.covers, times))
            case Ends.NEW:
                if story.connected is None:
                    return any(map(fault.covers, times))
                # To the server it was still being opened: a SYN-ACK that it sends again, and for which nobody can be
                # found, has its kernel forget the connection (RFC 1122, section 4.2.3.9), and refuse what it says.
                return story.server is None and hows == {"reset"} and fault.covers(story.connected)
        return False

    def _recent(self, at: float) -> list[Injected]:
        """Return the faults that may have to do with what happened at a time, the latest first."""
        found = []
        for fault in reversed(self.faults):
            if fault.began <= at + _BEFORE:
                found.append(fault)
            if fault.ended is not None and fault.ended < at - _SILENT_FOR:
                break
        return found

    # -- telling

    def add(self, number: int, line: str) -> None:
        """Add a line to the story of a connection that was lost."""
        for position, story in enumerate(self.stories):
            if story.startswith(f"connection {number} is "):
                self.stories[position] += f"\n  {line}"

    def _told(self, story: Story, verdict: Verdict, now: float) -> str:
        life = [fault for fault in self.faults if story.begun - AFTERWARDS <= (fault.ended or now)]
        lines = [
            f"connection {story.number} is {verdict.word}: {verdict.why}",
            f"  its plan: {plans.connection(self.seed, story.number)}",
            f"  begun at {self._time(story.begun)}, connected at {self._time(story.connected)},"
            f" over at {self._time(story.ended)}; {story.original}, server {story.server}",
            f"  the client: {_words(story.client_end)}",
            f"  the server: {_words(story.server_end)}",
        ]
        if story.shut is not None:
            lines.append(f"  natlb was told to shut it down at {self._time(story.shut)}")
        lines += [
            f"  meanwhile: {fault.kind}, {self._time(fault.began)} to {self._time(fault.ended)} {fault.note}".rstrip()
            for fault in life
            if fault.began <= (story.ended or now)
        ]
        return "\n".join(lines)

    def _time(self, at: float | None) -> str:
        return "never" if at is None else f"{at - self.at:.2f} s"

    def _tell(self, story: str) -> None:
        if len(self.stories) < _MOST_STORIES:
            self.stories.append(story)


def _words(end: Message | None) -> str:
    if end is None:
        return "has not told"
    return f"{end['how']} {end['why']}, {end['sent']} bytes sent, {end['verified']} verified".replace(" ,", ",")
