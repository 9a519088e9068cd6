"""Headers as HAProxy 2.6 writes them, taken from it running."""

import time

import pytest

from natlb.log import Level
from natlb.logs.syslog import Origin, Target, render

NOW = 1795684045.5  # 26 Nov 2026, 09:07:25 UTC
TEXT = "fe fe/s1 1/-1/0 0 SC"
NAMELESS, NAMED = Origin("natlb", 23509), Origin("px", 24001, "vm")


@pytest.fixture(autouse=True)
def greenwich(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


HEADERS = {
    None: ("<134>Nov 26 09:07:25 natlb[23509]: ", "<134>Nov 26 09:07:25 vm px[24001]: "),
    "rfc3164": ("<134>Nov 26 09:07:25 localhost natlb[23509]: ", "<134>Nov 26 09:07:25 vm px[24001]: "),
    "local": ("<134>Nov 26 09:07:25 natlb[23509]: ", "<134>Nov 26 09:07:25 px[24001]: "),
    "rfc5424": (
        "<134>1 2026-11-26T09:07:25.500000+00:00 - natlb 23509 - - ",
        "<134>1 2026-11-26T09:07:25.500000+00:00 vm px 24001 - - ",
    ),
    "priority": ("<134>", "<134>"),
    "short": ("<6>", "<6>"),
    "timed": ("<6>2026-11-26T09:07:25.500000+00:00 ",) * 2,
    "iso": ("2026-11-26T09:07:25.500000+00:00 ",) * 2,
    "raw": ("", ""),
}


@pytest.mark.parametrize(("header", "written"), HEADERS.items(), ids=map(str, HEADERS))
def test_each_header_is_haproxys(header, written):
    target = Target("/dev/log", header=header)
    lines = [render(target, origin, Level.INFO, TEXT, NOW) for origin in (NAMELESS, NAMED)]
    assert lines == [f"{head}{TEXT}\n".encode() for head in written]


def test_structured_data_stands_in_the_one_header_that_has_a_place_for_it():
    """As HAProxy wrote it for `log-format-sd "[ex@1 ip=%{+QE}ci p=\\"%cp\\"]"`."""
    data = '[ex@1 ip=127.0.0.1 p="42978"]'
    lines = [
        render(Target("/dev/log", header=header), NAMELESS, Level.INFO, "hello <NOSRV>", NOW, data)
        for header in ("rfc5424", None)
    ]
    assert lines == [
        b'<134>1 2026-11-26T09:07:25.500000+00:00 - natlb 23509 - [ex@1 ip=127.0.0.1 p="42978"] hello <NOSRV>\n',
        b"<134>Nov 26 09:07:25 natlb[23509]: hello <NOSRV>\n",
    ]


def test_structured_data_is_one_line_as_well():
    line = render(Target("/dev/log", header="rfc5424"), NAMELESS, Level.INFO, "x", NOW, "[a b=\n]")
    assert line is not None
    assert line.endswith(b" [a b=#0A] x\n")


def test_days_below_ten_have_a_space_and_times_are_local(monkeypatch):
    monkeypatch.setenv("TZ", "XXX-02:30")
    time.tzset()
    at = NOW - 22 * 86400
    assert render(Target(1), NAMELESS, Level.INFO, "x", at).startswith(b"<134>Nov  4 11:37:25 ")
    assert render(Target(1, header="iso"), NAMELESS, 6, "x", at) == b"2026-11-04T11:37:25.500000+02:30 x\n"


def test_the_facility_is_in_the_number():
    assert render(Target(1, header="priority", facility=23), NAMELESS, Level.ERR, "x", NOW) == b"<187>x\n"


def test_less_urgent_lines_are_not_wanted_and_more_urgent_ones_are_lowered():
    target = Target(1, header="short", level=Level.NOTICE, least_level=Level.WARNING)
    lines = {level: render(target, NAMELESS, level, "x", NOW) for level in Level}
    assert lines == {
        **dict.fromkeys((Level.EMERG, Level.ALERT, Level.CRIT, Level.ERR, Level.WARNING), b"<4>x\n"),
        Level.NOTICE: b"<5>x\n",
        **dict.fromkeys((Level.INFO, Level.DEBUG)),
    }


def test_a_line_is_cut_to_its_length():
    """With HAProxy's `len 90`, this line had 90 bytes and its newline."""
    line = render(Target(1, length=90), Origin("haproxy", 23509), 6, "x" * 200, NOW)
    assert len(line) == 91
    assert line.endswith(b"x\n")


def test_a_line_is_one_line():
    line = render(Target(1, header="raw"), NAMELESS, Level.INFO, "a\nb\x1b[31mc\ud800", NOW)
    assert line == b"a#0Ab#1B[31mc#D800\n"
