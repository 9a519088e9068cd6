import socket
import subprocess
from ipaddress import IPv4Network

import pytest

from netns.bench import opener
from netns.bench.opener import IN_FLIGHT, Opener
from netns.processes import PYTHON

NETWORK = IPv4Network("127.0.44.0/28")


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as made:
        yield made


def test_all_are_opened_from_all_addresses_in_turn(listener):
    number = IN_FLIGHT + 80
    them = Opener(listener.getsockname(), number, NETWORK)
    them.run()
    assert (them.opened, them.failed) == (number, 0)
    peers = set()
    for _ in range(number):
        connection, peer = listener.accept()
        connection.close()
        peers.add(peer[0])
    assert len(peers) == 14
    them.close()


def test_what_is_refused_has_failed():
    with socket.create_server(("127.0.0.1", 0)) as made:
        address = made.getsockname()
    them = Opener(address, 5, NETWORK)
    them.run()
    assert (them.opened, them.failed) == (0, 5)
    them.close()


def test_what_makes_no_progress_has_failed_after_a_while(monkeypatch):
    monkeypatch.setattr(opener, "_PATIENCE", 0.0)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        them = Opener(full.getsockname(), 20, NETWORK)
        them.run()
        assert them.opened < 20
        assert them.opened + them.failed == 20
        them.close()


def test_an_address_that_is_not_ours_has_failed(listener):
    them = Opener(listener.getsockname(), 3, IPv4Network("198.51.100.0/30"))
    them.run()
    assert (them.opened, them.failed) == (0, 3)


def test_they_are_kept_until_the_input_ends(listener):
    address, port = listener.getsockname()
    argv = [*PYTHON, "netns.bench.opener", address, str(port), "--number", "3", "--from", str(NETWORK)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout.readline() == "opened 3, failed 0\n"
        accepted = [listener.accept()[0] for _ in range(3)]
        accepted[0].settimeout(0.1)
        with pytest.raises(TimeoutError):
            accepted[0].recv(1)
        program.stdin.close()
        for connection in accepted:
            connection.settimeout(10)
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
            connection.close()
    assert program.returncode == 0
