"""From a configuration's text to where the Runtime API is spoken."""

from natlb.config.parser import parse
from natlb.runtime.language import Level
from natlb.runtime.server import Access
from natlb.stats_sockets import accesses


def test_each_line_is_a_socket_with_all_that_is_said_of_it() -> None:
    text = """\
global
    stats socket /run/natlb.sock mode 660 user root gid 4 level admin severity-output string
    stats socket ipv6@[::1]:9000 level user
    stats socket /run/plain.sock
"""
    parsed = parse([("t.cfg", text.encode())], {})
    assert parsed.config is not None, parsed.diagnostics
    assert accesses(parsed.config) == [
        Access("/run/natlb.sock", None, Level.ADMIN, 0o660, "root", 4, "string"),
        Access(None, ("::1", 9000), Level.USER),
        Access("/run/plain.sock", None, Level.OPERATOR, 0o600),
    ]
