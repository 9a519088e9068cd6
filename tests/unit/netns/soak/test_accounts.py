"""What a connection has come to is judged by its plan, by both ends, and by what was done to the lab meanwhile."""

from collections.abc import Callable
from itertools import count

import pytest

from netns.soak import plans
from netns.soak.accounts import CORRUPTED, FINISHED, LOST, RESET, SHUT, Accounts, Ends, Injected
from netns.soak.plans import End, Plan

SEED = 44


def number_of(wanted: Callable[[Plan], bool]) -> int:
    return next(number for number in count(1) if wanted(plans.connection(SEED, number)))


ORDINARY = number_of(lambda plan: plan.end is End.CLIENT)
TO_BE_RESET = number_of(lambda plan: plan.end is End.RESET)
TO_BE_SHUT = number_of(lambda plan: plan.end is End.SHUT)


class Teller:
    """Tells accounts of one connection, step by step."""

    def __init__(self, number: int = ORDINARY, *faults: Injected) -> None:
        self.accounts = Accounts(SEED, faults=list(faults))
        self.number = number
        self.now = 100.0

    def begins(self, *, connects: bool = True) -> "Teller":
        self._tell("begins", "client")
        if connects:
            self._tell("connected", "client", original="44.1.1.1:40000>44.2.2.2:7000")
        return self

    def accepted(self, program: str = "server1#1") -> "Teller":
        self._tell("accepted", program)
        return self

    def client(self, how: str, sent: int = 10, verified: int = 20, *, at: float = 110.0) -> "Teller":
        self.now = at
        self._tell("client end", "client", how=how, why="", sent=sent, verified=verified)
        return self

    def server(self, how: str, sent: int = 20, verified: int = 10, program: str = "server1#1") -> "Teller":
        self._tell("server end", program, how=how, why="", sent=sent, verified=verified, peer="")
        return self

    def later(self, seconds: float = 200.0) -> "Teller":
        self.accounts.sweep(self.now + seconds)
        return self

    @property
    def verdict(self) -> str:
        assert not self.accounts.open
        ((word, number),) = self.accounts.ends.items()
        assert number == 1
        return word

    def _tell(self, what: str, program: str, **more: object) -> None:
        self.accounts.hear({"what": what, "id": self.number, **more}, program, self.now)


def fault(ends: Ends, began: float = 105.0, ended: float | None = 107.0, **more: object) -> Injected:
    return Injected("it", began, ends, ended=ended, **more)  # type: ignore[arg-type]


def test_a_connection_that_both_ends_finished_and_agree_on_is_finished() -> None:
    told = Teller().begins().accepted().client("finished").server("finished")
    assert told.verdict == FINISHED
    assert told.accounts.verified == 30
    assert told.accounts.stories == []


@pytest.mark.parametrize(("sent", "verified"), [(11, 20), (10, 21)])
def test_ends_that_do_not_agree_on_how_much_was_sent_are_corrupted(sent: int, verified: int) -> None:
    told = Teller().begins().accepted().client("finished", sent, verified).server("finished")
    assert told.verdict == CORRUPTED
    assert "do not agree" in told.accounts.stories[0]


@pytest.mark.parametrize(("client", "server"), [("wrong", "reset"), ("reset", "wrong")])
def test_no_fault_explains_a_wrong_byte(client: str, server: str) -> None:
    told = Teller(ORDINARY, fault(Ends.ALL, loses=True)).begins().accepted().client(client).server(server)
    assert told.verdict == CORRUPTED


@pytest.mark.parametrize("server", ["reset", "closed early"])
def test_a_reset_as_planned_is_no_loss(server: str) -> None:
    assert Teller(TO_BE_RESET).begins().accepted().client("reset as planned").server(server).verdict == RESET


def test_a_reset_before_the_server_knew_of_it_is_no_loss() -> None:
    assert Teller(TO_BE_RESET).begins().client("reset as planned").later().verdict == RESET


def test_a_reset_that_is_lost_is_no_loss_only_while_packets_are_lost() -> None:
    for losing, verdict in ((True, "ended by: it"), (False, LOST)):
        told = Teller(TO_BE_RESET, fault(Ends.NONE, loses=losing)).begins().accepted()
        assert told.client("reset as planned", at=106.0).server("stalled").verdict == verdict


def test_a_connection_that_natlb_was_told_to_shut_down_is_no_loss() -> None:
    told = Teller(TO_BE_SHUT).begins().accepted()
    told.accounts.open[TO_BE_SHUT].shut = 109.0
    assert told.client("reset").server("reset").verdict == SHUT


@pytest.mark.parametrize("number", [ORDINARY, TO_BE_SHUT])
def test_a_reset_that_nobody_asked_for_is_a_loss(number: int) -> None:
    told = Teller(number).begins().accepted().client("reset").server("reset")
    assert told.verdict == LOST
    (story,) = told.accounts.stories
    assert story.startswith(f"connection {number} is lost: the client's end: reset; the server's: reset")
    assert told.accounts.unexplained == {number: "44.1.1.1:40000>44.2.2.2:7000"}


@pytest.mark.parametrize(("how", "wait"), [("stalled", 0.0), ("refused", 0.0), ("closed early", 0.0)])
def test_what_no_fault_explains_is_lost(how: str, wait: float) -> None:
    assert Teller().begins().client(how).later().verdict == LOST


def test_a_client_that_finished_with_a_server_that_never_says_so_is_lost() -> None:
    told = Teller().begins().accepted().client("finished")
    told.accounts.sweep(150.0)
    assert told.accounts.open, "it may still say so"
    assert told.later().verdict == LOST


def test_a_killed_server_explains_the_end_of_its_own_connections_and_of_no_others() -> None:
    for killed, verdict in (("server1#1", "ended by: it"), ("server2#2", LOST)):
        told = Teller(ORDINARY, fault(Ends.THERE, server=killed)).begins().accepted("server1#1")
        assert told.client("reset", at=106.0).server("reset").verdict == verdict


def test_a_server_that_was_killed_has_nothing_more_to_say() -> None:
    told = Teller(ORDINARY, fault(Ends.THERE, server="server1#1")).begins().accepted("server1#1")
    told.accounts.killed("server1#1", 106.0)
    assert told.client("reset", at=106.5).verdict == "ended by: it"


def test_a_server_that_was_killed_before_it_heard_of_the_end_explains_that_it_says_nothing() -> None:
    told = Teller(ORDINARY, fault(Ends.THERE, server="server1#1")).begins().accepted("server1#1")
    told.client("finished", at=101.0)
    told.accounts.killed("server1#1", 106.0)
    assert told.verdict == "ended by: it"


@pytest.mark.parametrize(("at", "verdict"), [(106.0, "ended by: it"), (150.0, LOST)])
def test_a_refusal_is_explained_while_the_server_is_gone_and_not_for_long_afterwards(at: float, verdict: str) -> None:
    told = Teller(ORDINARY, fault(Ends.THERE, server="server1#1")).begins(connects=False)
    assert told.client("refused", at=at).later().verdict == verdict


@pytest.mark.parametrize(("connects", "verdict"), [(False, "ended by: it"), (True, LOST)])
def test_a_link_that_is_down_may_end_only_what_is_being_opened(connects: bool, verdict: str) -> None:
    told = Teller(ORDINARY, fault(Ends.NEW)).begins(connects=connects)
    assert told.client("unreachable", at=106.0).later().verdict == verdict


@pytest.mark.parametrize(
    ("began", "how", "verdict"),
    [(100.3, "reset", "ended by: it"), (100.3, "stalled", LOST), (105.0, "reset", LOST)],
    ids=["at once", "in another way", "later"],
)
def test_or_what_is_open_to_its_client_and_not_to_its_server(began: float, how: str, verdict: str) -> None:
    told = Teller(ORDINARY, fault(Ends.NEW, began)).begins()
    assert told.client(how, at=106.0).later().verdict == verdict


def test_a_fault_that_ends_nothing_explains_nothing() -> None:
    assert (
        Teller(ORDINARY, fault(Ends.NONE)).begins().accepted().client("reset", at=106.0).server("reset").verdict == LOST
    )


def test_a_stall_is_explained_by_what_was_when_it_began() -> None:
    told = Teller(ORDINARY, fault(Ends.ALL)).begins().accepted()
    assert told.client("stalled", at=136.0).server("reset").verdict == "ended by: it"


@pytest.mark.parametrize(
    ("ended", "loses", "verdict"), [(114.0, True, "ended by: it"), (114.0, False, LOST), (110.0, True, LOST)]
)
def test_a_stall_is_explained_by_a_long_outage(ended: float, loses: bool, verdict: str) -> None:
    told = Teller(ORDINARY, fault(Ends.NONE, 105.0, ended, loses=loses)).begins().accepted()
    assert told.client("stalled", at=140.0).server("stalled").verdict == verdict


def test_what_a_server_tells_before_the_client_has_is_kept_until_then() -> None:
    told = Teller().accepted().begins().client("finished").server("finished")
    assert told.verdict == FINISHED


def test_a_connection_that_nobody_has_begun_is_corrupted() -> None:
    told = Teller().accepted()
    told.accounts.sweep(told.now + 20)
    assert told.accounts.ends == {CORRUPTED: 1}


def test_a_connection_at_two_servers_is_corrupted() -> None:
    told = Teller().begins().accepted("server1#1").accepted("server2#2")
    assert told.accounts.ends == {CORRUPTED: 1}
    assert "cannot have" in told.accounts.stories[0]


def test_lost_and_doubled_datagrams_are_those_that_no_fault_explains() -> None:
    accounts = Accounts(SEED, faults=[fault(Ends.NONE, loses=True, doubles=True)])
    times = {"lost": [90.0, 106.0, 108.0, 130.0], "doubled": [106.0, 130.0]}
    message = {"what": "flow end", "id": 3, "way": "dnat4", "asked": 10, "answered": 6, "wrong": ["odd"], **times}
    accounts.hear(message, "client", 140.0)
    found = accounts.datagrams
    assert (found.asked, found.answered, found.lost_by_faults, found.lost) == (10, 6, 2, 2)
    assert (found.doubled_by_faults, found.doubled, found.wrong) == (1, 1, 1)
    assert accounts.flows == accounts.answered_flows == {"udp-dnat4": 1}


def test_only_so_many_stories_are_kept() -> None:
    accounts = Accounts(SEED)
    for number in range(1, 200):
        accounts.hear({"what": "begins", "id": number}, "client", 100.0)
        end = {"what": "client end", "id": number, "how": "refused", "why": "", "sent": 0, "verified": 0}
        accounts.hear(end, "client", 101.0)
    accounts.sweep(200.0)
    assert accounts.ends == {LOST: 199}
    assert len(accounts.stories) == 20
    assert not accounts.open
