"""maxconn makes a connection wait, silence ends one, and the table tells the truth about both."""

import socket
import time
from collections.abc import Iterator

import pytest

from netns.balancer import ask, nat_table
from netns.build import Lab
from netns.topology import SEED
from tests.lab.support import Client, clients, until

pytestmark = pytest.mark.root

_CONFIG = """\
global
    maxconn 3
    stats socket {socket} level admin
defaults
    timeout client 2s
    timeout server 2s
    timeout connect 1s
listen limited
    bind *:8888
    server server1 44.3.3.3:4444 check
"""


@pytest.fixture(scope="module")
def limited(lab: Lab) -> Iterator[Lab]:
    lab.start_web("server1")
    natlb = lab.start_natlb(_CONFIG.format(socket=lab.stats_socket))
    yield lab
    assert natlb.stop() == 0


def _states(lab: Lab) -> list[str]:
    return [entry.state for entry in nat_table(ask(lab.stats_socket, "show sess"))]


def test_a_connection_past_maxconn_waits_and_gets_in_when_a_slot_is_free(limited: Lab) -> None:
    with clients(limited, "client", SEED.balancer.ipv4, 3) as opened:
        assert [client.ask() for client in opened] == ["server1"] * 3
        waiting = limited.open_socket("client", socket.AF_INET, socket.SOCK_STREAM)
        waiting.setblocking(False)
        assert waiting.connect_ex((SEED.balancer.ipv4, 8888)) != 0
        time.sleep(0.5)
        assert waiting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0, "neither refused"
        with pytest.raises(OSError, match="not connected"):
            waiting.getpeername()  # nor connected
        opened[0].close()
        until(lambda: _connected(waiting), "the waiting client's next SYN gets in")
        waiting.close()


def _connected(waiting: socket.socket) -> bool:
    try:
        waiting.getpeername()
    except OSError:
        return False
    return True


def test_a_silent_connection_is_given_up_and_its_next_packet_is_reset(limited: Lab) -> None:
    client = Client(limited, "client", SEED.balancer.ipv4)
    client.ask()
    assert "ESTABLISHED" in _states(limited)
    until(lambda: "ESTABLISHED" not in _states(limited), "two seconds of silence end it", 6)
    with pytest.raises(ConnectionResetError):
        client.ask()
    client.close()


def test_the_table_shows_both_tuples_and_what_each_side_sent(limited: Lab) -> None:
    client = Client(limited, "client", SEED.balancer.ipv4)
    client.ask()
    port = client.socket.getsockname()[1]
    until(lambda: "ESTABLISHED" in _states(limited), "the connection is in the table")
    (entry,) = [e for e in nat_table(ask(limited.stats_socket, "show sess")) if e.client.endswith(f":{port}")]
    client.close()
    assert entry.original == (f"44.1.1.1:{port}", "44.2.2.2:8888")
    assert entry.reply == ("44.3.3.3:4444", f"44.1.1.1:{port}")
    assert (entry.server, entry.state) == ("server1", "ESTABLISHED")
    assert (entry.frontend, entry.backend) == ("limited", "limited")
    assert entry.original_bytes == len(b"GET / HTTP/1.1\r\nHost: vip\r\n\r\n")
    assert entry.reply_bytes > 0
    assert entry.original_packets >= 3
