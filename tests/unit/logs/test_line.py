"""What variables stand for, as HAProxy writes them."""

import os
import socket
import time
from dataclasses import replace
from ipaddress import ip_address

import pytest

from natlb.config.log_format import VARIABLES as KNOWN
from natlb.config.log_format import parse_log_format
from natlb.logs.line import VARIABLES, Entry, compile_format, connect_line


def end(address, port):
    return ip_address(address).packed, port.to_bytes(2, "big")


ENTRY = Entry(
    client=end("127.0.0.1", 50156),
    vip=end("10.0.0.1", 7001),
    seen_as=end("10.0.0.9", 37662),
    at=end("192.0.2.7", 7999),
    frontend="fe",
    backend="be",
    server="s1",
    opened=1795684040.4815,
    total=1.5,
    connect=0.25,
    queue=0.125,
    sent=12,
    received=34,
    ending="--",
    live=(9, 8, 7, 6),
    retries=2,
    queued=(3, 4),
    number=0x1234,
    frontend_number=5,
)
MAPPED = replace(ENTRY, client=end("::ffff:44.1.1.0", 50156))
NOBODY = replace(ENTRY, seen_as=None, at=None, server="<NOSRV>", connect=None, queue=None)


@pytest.fixture(autouse=True)
def east(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TZ", "XXX-01:00")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def written(text, entry=ENTRY):
    parts = [part if isinstance(part, str) else (part.name, part.flags) for part in parse_log_format(text)]
    return compile_format(parts)(entry)


def test_an_ipv4_address_within_an_ipv6_one_is_written_as_such():
    assert written("%ci", MAPPED) == "::ffff:44.1.1.0"


VALUES = {
    "%ci:%cp %fi:%fp %bi:%bp %si:%sp": "127.0.0.1:50156 10.0.0.1:7001 10.0.0.9:37662 192.0.2.7:7999",
    "%{+X}o %ci:%cp %Ts %rt": "7F000001:C3EC 6B07F6C8 1234",
    "%f %ft %b %s": "fe fe be s1",
    "%{+Q}o %f %ci %cp %B %ts %t": '"fe" "127.0.0.1" 50156 34 -- 26/Nov/2026:10:07:20.481',
    "%t": "26/Nov/2026:10:07:20.481",
    "%T": "26/Nov/2026:09:07:20 +0000",
    "%Tl": "26/Nov/2026:10:07:20 +0100",
    "%Ts %ms": "1795684040 481",
    "%Tw/%Tc/%Td/%Tt/%Tu/%Th": "125/250/1125/1500/1500/0",
    "%U %B": "12 34",
    "%ac/%fc/%bc/%sc/%rc %sq/%bq %lc %rt": "9/8/7/6/2 3/4 5 4660",
    "100%%  of  %b": "100% of be",
}


@pytest.mark.parametrize(("text", "line"), VALUES.items(), ids=VALUES)
def test_each_variable(text, line):
    assert written(text) == line


def test_of_the_process_and_its_host():
    assert written("%pid %{+X}pid %H") == f"{os.getpid()} {os.getpid():04X} {socket.gethostname()}"


def test_what_there_was_none_of():
    text = "%b/%s %si:%sp %bi:%bp %Tw/%Tc/%Td/%Tt %{+Q}si"
    assert written(text, NOBODY) == 'be/<NOSRV> -:- -:- -1/-1/-1/1500 "-"'


def test_what_is_not_over_has_a_plus():
    assert written("%Tc/%Tt %B", replace(ENTRY, unfinished=True)) == "250/+1500 +34"


def test_escapes_for_structured_data():
    entry = replace(ENTRY, backend='a"b\\c]d')
    assert written("%{+Q,+E}b %{+Q}b", entry) == '"a\\"b\\\\c\\]d" "a"b\\c]d"'


def test_addresses_of_the_other_family():
    assert written("%ci:%cp", replace(ENTRY, client=end("2001:db8::1", 80))) == "2001:db8::1:80"


def test_without_a_format_a_line_says_that_there_was_one():
    line = connect_line(ENTRY.client, ENTRY.vip, "fe", "TCP")
    assert line == "Connect from 127.0.0.1:50156 to 10.0.0.1:7001 (fe/TCP)"


def test_a_configuration_may_name_every_variable_and_no_other():
    assert KNOWN == VARIABLES
