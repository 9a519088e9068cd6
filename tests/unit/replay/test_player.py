"""A capture through the engine: what comes of each packet, and what is told of it."""

from ipaddress import ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP

from natlb.captures.files import Record
from natlb.captures.links import RAW
from natlb.core.packet import PacketView
from natlb.replay.scene import Scene
from tests.unit.core.packets import ACK, RST, SYN, cut, datagram, icmp, ones_sum, packed, pseudo, segment
from tests.unit.replay.scenes import (
    CLIENT,
    CLIENT6,
    FIRST,
    SERVER,
    SERVER6,
    VIP,
    VIP6,
    Played,
    conversation,
    made,
    records,
)

FAMILIES = {"ipv4": (CLIENT, VIP, SERVER), "ipv6": (CLIENT6, VIP6, SERVER6)}


@pytest.mark.parametrize("ends", FAMILIES.values(), ids=FAMILIES)
def test_a_connection_is_told_from_its_first_packet_to_its_end(ends: tuple[object, object, object]) -> None:
    played = Played(conversation(*ends))
    assert played.fates == ["rewritten"] * 8
    happened = [(entry.event, entry.packet, entry.told.get("to")) for entry in played.entries]
    assert happened == [
        ("opened", 1, None),
        ("state", 2, "SYN_RECEIVED"),
        ("state", 3, "ESTABLISHED"),
        ("state", 6, "CLIENT_FIN"),
        ("state", 7, "BOTH_FIN"),
        ("closed", 7, None),
        ("end", None, None),
    ]
    (closed,) = played.told("closed")
    assert (closed.told["packets"], closed.told["bytes"], closed.told["seconds"]) == ([4, 2 + 1], [8, 10], 0.006)
    assert played.end["closed"] == {"finished": 1}
    assert (played.end["opened"], played.end["open"], played.end["sent"]) == (1, 0, 8)


@pytest.mark.parametrize("ends", FAMILIES.values(), ids=FAMILIES)
def test_what_is_sent_is_what_the_engine_alone_makes(ends: tuple[object, object, object]) -> None:
    said, engine = conversation(*ends), made().engine
    expected = []
    for at, packet in said:
        engine.handle_packet(made_by_engine := bytearray(packet), at)
        expected.append(bytes(made_by_engine))
    assert Played(said).packets == expected


@pytest.mark.parametrize("ends", FAMILIES.values(), ids=FAMILIES)
@given(st.data())
def test_a_capture_that_was_cut_short_comes_to_the_same_as_far_as_it_goes(
    ends: tuple[object, object, object], data: st.DataObject
) -> None:
    said = conversation(*ends, payload=data.draw(st.binary(max_size=60)))
    headers = max(len(packet) for _, packet in said[:3])
    most = data.draw(st.integers(headers, 140))
    whole, short = Played(said), Played(records(said, most=most))
    assert [(at, packet[:most], size) for at, packet, size in whole.sent] == short.sent
    assert [entry.as_text() for entry in whole.entries[:-1]] == [entry.as_text() for entry in short.entries[:-1]]
    assert short.end["cut"] == sum(len(packet) > most for _, packet in said)


def test_packets_of_nobody_here_pass() -> None:
    played = Played(
        [(0, segment(CLIENT, ("44.9.9.9", 80), SYN)), (0, icmp("44.1.1.1", "44.9.9.9", 8, 0, bytes(4), b""))]
    )
    assert played.fates == ["passed", "passed"]
    assert (played.sent, len(played.entries)) == ([], 1)


def test_without_own_addresses_a_wildcard_answers_anywhere_and_with_them_only_there() -> None:
    elsewhere = [(0.0, segment(CLIENT, ("44.9.9.9", 8888), SYN)), (0.1, segment(CLIENT, VIP, SYN))]
    assert Played(elsewhere).fates == ["rewritten", "rewritten"]
    scene = Scene(own=(ip_interface("44.2.2.2/32"),))
    assert Played(elsewhere, scene=scene).fates == ["passed", "rewritten"]


def test_a_server_in_the_clients_network_needs_full_nat_once_the_network_is_told() -> None:
    scene = Scene(own=(ip_interface("44.3.0.2/16"), ip_interface("44.2.2.2/32")))
    (played,) = Played([(0, segment(("44.3.1.1", 40000), VIP, SYN))], scene=scene).told("opened")
    server, seen_as = played.told["reply"]  # type: ignore[misc]
    assert (server, seen_as.rpartition(":")[0]) == ("44.3.3.3:4444", "44.3.0.2")
    assert not 32768 <= int(seen_as.rpartition(":")[2]) <= 60999, "those are the ports of the machine's own programs"


def test_what_natlb_has_sent_is_no_packet_to_decide_about() -> None:
    said = conversation()
    both = []
    for (at, came), went in zip(said, Played(said).packets, strict=True):
        routed = bytearray(went)
        routed[8] -= 1
        routed[10:12] = bytes(2)
        routed[10:12] = (ones_sum(bytes(routed[:20])) ^ 0xFFFF).to_bytes(2, "big")
        both += [(at, bytes(came)), (at + 0.0001, bytes(routed))]
    played = Played(both)
    assert played.fates == ["rewritten", "copy"] * 8
    assert (played.end["seen"], played.end["sent"], played.end["different"]) == (8, 8, None)
    again = Played([*both[:2], both[1], *both[2:]])
    assert again.fates[:3] == ["rewritten", "copy", "copy"], "a capture at two interfaces may have it twice"
    assert again.end["seen"] == 8


def test_a_copy_whose_checksum_was_not_complete_yet_is_known() -> None:
    at, syn = conversation()[0]
    (went,) = Played([(at, syn)]).packets
    begun = bytearray(went)
    begun[36:38] = ones_sum(pseudo(packed("44.1.1.1"), packed("44.3.3.3"), 24)).to_bytes(2, "big")
    assert Played([(at, syn), (at, begun)]).fates == ["rewritten", "copy"]


def test_what_the_capture_says_went_out_is_not_decided_about() -> None:
    syn = bytes(segment(CLIENT, VIP, SYN))
    going = Record(1, FIRST, RAW, syn, len(syn), outgoing=True)
    assert Played([going]).fates == ["passed"]
    coming = Record(1, FIRST, RAW, syn, len(syn), outgoing=False)
    assert Played([coming]).fates == ["rewritten"]


def test_natlbs_work_that_was_not_made_here_is_found_out() -> None:
    syn, to_another = segment(CLIENT, VIP, SYN), segment(CLIENT, ("44.4.4.4", 5555), SYN)
    played = Played([(0, syn), (0.1, to_another)])
    assert played.fates == ["rewritten", "different"]
    assert (played.end["different"], played.told("different")[0].packet) == (2, 2)
    played = Played([(0, syn), (0.1, segment(VIP, CLIENT, SYN | ACK, ack=1001))])
    assert played.fates == ["rewritten", "different"]
    stranger = segment(("44.1.1.9", 40000), ("44.4.4.4", 5555), SYN)
    assert Played([(0, syn), (0.1, stranger)]).fates == ["rewritten", "passed"]


def test_time_passes_between_packets() -> None:
    said = conversation()[:5]
    played = Played([*said, (100, segment(CLIENT, VIP, ACK, seq=106, ack=511))])
    (closed,) = played.told("closed")
    assert closed.told["reason"] == "it was silent for too long"
    assert closed.since == pytest.approx(30e9, abs=1.1e9)
    assert closed.packet is None
    at_once = [entry.event for entry in played.entries if entry.since == closed.since]
    assert list(dict.fromkeys(at_once)) == ["sent", "state", "closed"]
    resets = [IP(packet) for packet in played.packets[5 : 5 + at_once.count("sent")]]
    assert {(reset.src, reset.dst, str(reset[TCP].flags)) for reset in resets} == {
        ("44.2.2.2", "44.1.1.1", "RA"),
        ("44.1.1.1", "44.3.3.3", "RA"),
    }
    assert played.fates[-1] == "answered"
    assert played.told("answered")[0].told["why"] == "its connection was ended here"


def test_a_year_of_silence_takes_no_time() -> None:
    other = ("44.4.4.4", 5555)  # whose turn it is then
    played = Played([*conversation(), *conversation(server=other, start=365 * 86400.0)])
    assert played.end["closed"] == {"finished": 2}


def test_time_never_goes_back() -> None:
    said = conversation()
    shuffled = [(at - 0.5 * (number % 2), packet) for number, (at, packet) in enumerate(said)]
    played = Played(shuffled)
    assert played.end["late"] > 0
    assert played.end["closed"] == {"finished": 1}
    times = [entry.since for entry in played.entries]
    assert times == sorted(times)


def test_what_is_still_open_at_the_end_is_told() -> None:
    played = Played(conversation()[:4])
    (left,) = played.told("open")
    assert (left.told["state"], left.told["packets"]) == ("ESTABLISHED", [3, 1])


REASONS = {
    "it belongs to no connection, and opens none": segment(CLIENT, VIP, ACK),
    "it has no backend": segment(CLIENT, ("44.2.2.2", 8889), SYN),
    "no server is usable": segment(CLIENT, ("44.2.2.2", 8890), SYN),
    "a rule rejects it": segment(CLIENT, ("44.2.2.2", 8891), SYN),
    "it asks whether a virtual address is there": icmp("44.1.1.1", "44.2.2.3", 8, 0, bytes(4), b"ping"),
}

REFUSING = """\
defaults
    timeout connect 10s
    timeout client 30s
    timeout server 30s
listen good
    bind 44.2.2.2:8888
    server server1 44.3.3.3:4444
frontend nobody
    bind 44.2.2.2:8889
listen down
    bind 44.2.2.2:8890
    server server1 44.3.3.3:4444 disabled
listen strict
    bind 44.2.2.2:8891
    bind 44.2.2.3:8891
    tcp-request connection reject if { src 44.1.1.1 }
    server server1 44.3.3.3:4444
"""


@pytest.mark.parametrize("why", REASONS)
def test_an_answer_of_natlbs_own_has_its_reason(why: str) -> None:
    played = Played([(0, REASONS[why])], REFUSING)
    assert played.fates == ["answered"]
    (answered,) = played.told("answered")
    assert answered.told["why"] == why
    assert len(played.sent) == 1
    assert played.end["strays"] == (why == "it belongs to no connection, and opens none")


def test_drops_are_told_with_their_reason() -> None:
    played = Played([(0, segment(CLIENT, VIP, RST)), (0, segment(CLIENT, VIP, SYN, spoilt=True))])
    assert [entry.told["name"] for entry in played.told("dropped")] == ["no_connection", "bad_checksum"]
    assert played.end["drops"] == {"bad_checksum": 1, "no_connection": 1}


def test_fragments_that_come_too_early_are_held_back_and_let_go() -> None:
    whole = datagram(CLIENT, ("44.2.2.2", 7007), b"z" * 3000)
    first, later = cut(whole, 0, 1480), cut(whole, 1480)
    played = Played([(0, later), (0.1, first)])
    assert played.fates == ["held", "rewritten"]
    assert played.end["fates"] == {"rewritten": 2}
    (released,) = played.told("released")
    assert (released.told["held"], released.told["fate"]) == (1, "rewritten")
    assert [IP(packet).dst for packet in played.packets] == ["44.3.3.3", "44.3.3.3"]
    assert Played([(0, later)]).end["fates"] == {"held": 1}
    lost = Played([(0, later), (60, segment(CLIENT, VIP, SYN))])
    assert lost.told("released")[0].told["reason"] == "a fragment whose first fragment did not come in time"


def test_an_unfinished_checksum_is_finished() -> None:
    packet = segment(CLIENT, VIP, SYN)
    packet[36:38] = ones_sum(pseudo(packed(CLIENT[0]), packed(VIP[0]), 20)).to_bytes(2, "big")
    played = Played([(0, packet)])
    assert played.fates == ["rewritten"]
    view = PacketView()
    view.read(bytearray(played.packets[0]))
    assert view.checksum_is_good()


def test_a_server_that_leaves_clients_waiting_is_told_of() -> None:
    said = []
    for number in range(3):
        client = ("44.1.1.1", 41000 + number)
        said += [(number * 5.0, segment(client, VIP, SYN)), (number * 5.0 + 1, segment(client, VIP, SYN))]
    (bypassed,) = Played(said, REFUSING).told("bypassed")
    assert bypassed.told["server"] == "server1"


def test_what_is_no_ip_packet_or_cut_too_short_is_counted() -> None:
    frame = bytes(12) + b"\x08\x06" + bytes(28)
    syn = bytes(segment(CLIENT, VIP, SYN))
    played = Played([Record(1, FIRST, 1, frame, len(frame)), Record(2, FIRST, RAW, syn[:30], len(syn))])
    assert played.fates == ["foreign", "short"]
    assert played.end["packets"] == 2


def test_chance_is_the_same_each_time_and_another_with_another_seed() -> None:
    text = REFUSING.replace(
        "server server1 44.3.3.3:4444\nfrontend",
        "balance random\n"
        + "".join(f"    server s{number} 44.3.3.{number}:4444\n" for number in range(1, 9))
        + "frontend",
    )
    said = [(0.01 * number, segment(("44.1.1.1", 41000 + number), VIP, SYN)) for number in range(20)]

    def servers(seed: int) -> list[object]:
        return [entry.told["server"] for entry in Played(said, text, Scene(seed=seed)).told("opened")]

    assert servers(1) == servers(1)
    assert servers(1) != servers(2)


@pytest.mark.parametrize(("version", "size"), [*((4, size) for size in (1, 5, 8, 12, 19)), (6, 1), (6, 19), (6, 39)])
def test_a_packet_that_is_shorter_than_any_header_is_dropped(version: int, size: int) -> None:
    packet = bytes([version << 4 | 5, 0, 0, size]) + bytes(36)
    played = Played([Record(1, FIRST, RAW, packet[:size], size)])
    assert played.fates == ["dropped"]
    assert played.told("dropped")[0].told["from"] == "?"
    assert all(entry.as_text() and entry.as_json() for entry in played.entries)


def test_many_connections_are_told_apart_and_forgotten() -> None:
    said = []
    for number in range(6000):
        client = ("44.1.1.1", 1024 + number)
        at = number * 0.5
        said += [(at, segment(client, VIP, SYN)), (at, segment(SERVER, client, RST | ACK, ack=1001))]
    played = Played(said, REFUSING)
    assert played.end["opened"] == 6000
    assert [entry.connection for entry in played.told("opened")] == list(range(1, 6001))
    assert len(played.player._known) < 6000


@given(st.lists(st.tuples(st.floats(0, 100), st.binary(max_size=80), st.integers(0, 40)), max_size=8))
def test_no_bytes_are_too_much(given_: list[tuple[float, bytes, int]]) -> None:
    said = [
        Record(n, FIRST + int(at * 1e9), RAW, data, len(data) + more) for n, (at, data, more) in enumerate(given_, 1)
    ]
    played = Played(said)
    assert played.player.fates.total() == len(said)
    for entry in played.entries:
        entry.as_json()
        entry.as_text()


@given(st.data())
def test_no_damage_to_a_conversation_is_too_much(data: st.DataObject) -> None:
    said = []
    for at, packet in conversation():
        damaged = bytearray(packet)
        for _ in range(data.draw(st.integers(0, 2))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        said.append((at, damaged))
    played = Played(said)
    assert played.player.fates.total() == len(said)
    assert all(entry.as_text() for entry in played.entries)


def test_an_error_about_a_connection_is_translated() -> None:
    said = conversation()[:1]
    (went,) = Played(said).packets
    error = icmp("44.9.9.9", "44.1.1.1", 3, 4, b"\0\0\x05\0", went[:28])
    played = Played([*said, (0.1, error)])
    assert played.fates == ["rewritten", "rewritten"]
    assert IP(played.packets[1]).src == "44.2.2.2"
