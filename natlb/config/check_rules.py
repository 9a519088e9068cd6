"""What a section says about its checks, rule by rule as written, and the question that this makes.

HAProxy has two lists of rules in a section, those of `tcp-check` and those of `http-check`, and an option that says
which list counts; the other one is ignored, with a warning. Rules are inherited as a whole list or not at all. The
question is put together when all is read: then a connection is opened first if no rule does, the request of `option
httpchk` takes its place, a request is followed by the expectation of a status from 200 to 399 if by nothing else, and
comments go to the rules below them.
"""

import re
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from natlb.config.model import Location
from natlb.questions import CONNECT, Connect, Expect, Kind, Question, Send, Step

_BODILESS: Final = ("GET", "HEAD", "OPTIONS", "DELETE")
"""Methods whose requests say nothing of their length when they have no body."""


@dataclass(frozen=True, slots=True)
class Comment:
    """`tcp-check comment <text>`."""

    number: int
    comment: str


@dataclass(frozen=True, slots=True)
class Request:
    """`http-check send`, or what `option httpchk` says of one. None is what it does not say."""

    number: int = 1
    method: str | None = None
    uri: str | None = None
    version: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: str | None = None
    comment: str = ""
    implied: bool = False
    """Whether `option httpchk` is all that speaks of it, so far."""

    def overruled_by(self, other: "Request") -> "Request":
        """The two as one: what the other one says goes first."""
        return Request(
            self.number,
            other.method or self.method,
            other.uri or self.uri,
            other.version or self.version,
            other.headers,
            self.body if other.body is None else other.body,
            other.comment,
        )

    def bytes(self) -> bytes:
        """The request as HAProxy sends it."""
        method, version = self.method or "OPTIONS", self.version or "HTTP/1.0"
        body = (self.body or "").encode()
        wanted = next((value.lower() for name, value in self.headers if name.lower() == "connection"), "close")
        lines = [f"{method} {self.uri or '/'} {version}"]
        lines += [f"{name.lower()}: {value}" for name, value in self.headers if name.lower() != "connection"]
        if body or method not in _BODILESS:
            lines.append(f"content-length: {len(body)}")
        if wanted != ("close" if version == "HTTP/1.0" else "keep-alive"):  # else it goes without saying
            lines.append(f"connection: {wanted}")
        return "\r\n".join([*lines, "", ""]).encode() + body


Rule = Connect | Send | Expect | Comment | Request
Family = Literal["tcp-check", "http-check"]


@dataclass(slots=True)
class CheckRules:
    """What one section says of its checks."""

    kind: Kind = "connect"
    tcp: list[Rule] = field(default_factory=list)
    http: list[Rule] = field(default_factory=list)
    disable_on_404: bool = False
    log: bool = False
    """`option log-health-checks`."""
    own: dict[str, Location] = field(default_factory=dict)
    """The section's own first `tcp-check` rule, first `http-check` rule and `option httpchk`, by those words."""

    def inherited(self) -> "CheckRules":
        """What a section that inherits from this one starts with."""
        return CheckRules(self.kind, list(self.tcp), list(self.http), self.disable_on_404, self.log)

    def rules(self, family: Family, location: Location) -> list[Rule]:
        """The section's own list of rules, for one more; what was inherited is dropped with the first."""
        if family not in self.own:
            self.own[family] = location
            if family == "tcp-check" or "option httpchk" not in self.own:
                self.of(family).clear()
        return self.of(family)

    def of(self, family: Family) -> list[Rule]:
        """A list of rules."""
        return self.tcp if family == "tcp-check" else self.http

    def question(self) -> Question:
        """What to ask a server."""
        if self.kind == "udp":
            return Question("udp", (), False)
        if self.kind == "connect":
            return CONNECT
        rules = self.tcp if self.kind == "tcp-check" else _with_request(self.http)
        steps = _commented(rules)
        if not steps or not isinstance(steps[0], Connect):
            steps.insert(0, Connect())
        return Question(self.kind, tuple(steps), self.disable_on_404 and self.kind == "http")

    @property
    def unported(self) -> tuple[bool, bool]:
        """Whether the check needs the port of a server to begin with, and whether a later connection does."""
        steps = self.question().steps
        connects = [step for step in steps if isinstance(step, Connect)]
        return not (connects and connects[0].port), any(not connect.port for connect in connects)


def _with_request(rules: list[Rule]) -> list[Rule]:
    """The rules of HTTP, with the request in its place and something to expect."""
    done = list(rules)
    connect = next((each for each in done if isinstance(each, Connect)), None)
    first = next((each for each in done if not isinstance(each, Comment)), None)
    if connect is not None and isinstance(first, Request) and first.implied:
        done.remove(first)
        done.insert(done.index(connect) + 1, replace(first, number=connect.number + 1))
    last = next((each for each in reversed(done) if not isinstance(each, Comment)), None)
    if isinstance(last, Request):
        done.append(Expect(last.number + 1, "status", codes=((200, 399),)))
    return done


def _commented(rules: list[Rule]) -> list[Step]:
    """The steps, each with the comment that stands above it or above others of its kind before it."""
    steps: list[Step] = []
    comment = ""
    before: type[Rule] = Comment
    for rule in rules:
        kind: type[Rule] = Send if isinstance(rule, Request) else type(rule)
        if kind is not before and before is not Comment:
            comment = ""
        before = kind
        if isinstance(rule, Comment):
            comment = rule.comment
            continue
        if isinstance(rule, Request):
            steps.append(Send(rule.number, rule.bytes(), rule.comment or comment, of_head=rule.method == "HEAD"))
        else:
            steps.append(replace(rule, comment=rule.comment or comment))
        if kind is Connect:
            comment = ""
    return steps


METHOD: Final = re.compile(r"[A-Z]+", re.ASCII)
URI: Final = re.compile(r"/[\x21-\x7e]*|\*", re.ASCII)
VERSIONS: Final = ("HTTP/1.0", "HTTP/1.1")
HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
