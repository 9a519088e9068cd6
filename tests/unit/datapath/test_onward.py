"""What the kernel is asked about packets: its answers about this machine, and how long they hold."""

import ipaddress
from pathlib import Path

import pytest

from natlb.datapath.onward import Onward


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "224.0.0.1", "ff02::1"])
def test_what_stays_here_or_goes_to_many_is_not_sent_on(address: str) -> None:
    onward = Onward()
    assert not onward.is_sent_on(ipaddress.ip_address(address).packed)
    onward.close()


def test_each_address_is_asked_for_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    onward = Onward(clock)
    asked: list[bytes] = []
    monkeypatch.setattr(onward, "_ask", lambda address: not asked.append(address))
    for _ in range(3):
        assert onward.is_sent_on(b"\1\2\3\4")
        assert onward.is_sent_on(b"\1\2\3\5")
    assert asked == [b"\1\2\3\4", b"\1\2\3\5"]
    clock.now += 1.0
    assert onward.is_sent_on(b"\1\2\3\4")
    assert len(asked) == 3
    onward.close()


def test_no_more_answers_are_kept_than_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    onward = Onward(Clock())
    monkeypatch.setattr(onward, "_ask", lambda _: True)
    for number in range(10_000):
        onward.is_sent_on(number.to_bytes(4, "big"))
    assert len(onward._sent_on) <= 4096
    onward.close()


def test_who_cannot_ask_takes_it_that_nothing_is_sent_on() -> None:
    onward = Onward()
    onward.close()
    assert not onward.is_sent_on(b"\1\2\3\4")


@pytest.mark.parametrize(
    ("checksum", "count", "checked"),
    [
        (None, None, False),
        (b"1\n", b"0\n", False),
        (b"0\n", b"7\n", False),
        (b"1\n", b"7\n", True),
        (b"?", b"7\n", True),
    ],
)
def test_checksums_are_read_where_connections_are_tracked(
    tmp_path: Path, checksum: bytes | None, count: bytes | None, checked: bool
) -> None:
    for name, value in (("nf_conntrack_checksum", checksum), ("nf_conntrack_count", count)):
        if value is not None:
            (tmp_path / name).write_bytes(value)
    onward = Onward(Clock(), tmp_path)
    assert onward.is_checked() is checked
    onward.close()


def test_a_firewall_that_is_loaded_later_is_noticed(tmp_path: Path) -> None:
    clock = Clock()
    onward = Onward(clock, tmp_path)
    assert not onward.is_checked()
    (tmp_path / "nf_conntrack_checksum").write_bytes(b"1\n")
    (tmp_path / "nf_conntrack_count").write_bytes(b"1\n")
    assert not onward.is_checked()
    clock.now += 1.0
    assert onward.is_checked()
    onward.close()
