"""Some of what `test_firewall` says, once more with the kernel carrying what it can, past the firewall.

The firewall is set as docs/offload.md has it: so what is carried is not missed, and what comes back is not dropped.
"""

import pytest

from netns.balancer import ask
from netns.build import Lab
from netns.web import pattern
from tests.lab.firewall import LIBERAL
from tests.lab.support import Client, clients, shell
from tests.lab.test_firewall import (
    SIZE,
    check,
    firewalled,
    pattern_file,
    test_the_firewall_passes_200_connections_at_once,
    test_the_firewall_passes_a_remote_client,
    test_the_firewall_passes_a_transfer_that_loses_packets,
    test_the_firewall_passes_full_nat,
)

__all__ = [
    "check",
    "firewalled",
    "pattern_file",
    "test_the_firewall_passes_200_connections_at_once",
    "test_the_firewall_passes_a_remote_client",
    "test_the_firewall_passes_a_transfer_that_loses_packets",
    "test_the_firewall_passes_full_nat",
]

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("offloaded")]


def _fetch(client: Client) -> None:
    """Let the server's numbers move on by more than any window."""
    client.socket.sendall(f"GET /bytes/{SIZE} HTTP/1.1\r\nHost: vip\r\n\r\n".encode())
    with client.socket.makefile("rb") as answer:
        while answer.readline().strip():
            pass
        assert answer.read(SIZE) == b"".join(pattern(SIZE))


def test_a_connection_that_comes_back_passes_a_firewall_that_is_set_for_it_and_no_other(
    firewalled: Lab, vip: str
) -> None:
    command = "ip6tables" if ":" in vip else "iptables"
    with clients(firewalled, "client", vip, 1) as [client]:
        server = client.ask()
        _fetch(client)
        assert ask(firewalled.stats_socket, "set offload off") == "\n"
        try:
            assert client.ask() == server
            shell(firewalled, "lb", f"sysctl -qw {LIBERAL}=0")
            client.socket.settimeout(1)
            with pytest.raises(TimeoutError):
                client.ask()
        finally:
            shell(firewalled, "lb", f"sysctl -qw {LIBERAL}=1")
        client.socket.settimeout(10)
        assert client.socket.recv(65536), "what was dropped is sent again"
        assert client.ask() == server
        shell(firewalled, "lb", f"{command} -Z")
        assert ask(firewalled.stats_socket, "set offload on") == "\n"
