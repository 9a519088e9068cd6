"""A `server` line that comes while natlb runs."""

from ipaddress import ip_address

import pytest

from natlb.config.model import Server
from natlb.config.newcomer import read_server
from natlb.errors import ConfigError
from natlb.questions import CONNECT

from .conftest import Reader, resolve

_CONFIG = """\
backend nodes
    default-server weight 7
    server one 192.0.2.1:80
    server two 192.0.2.2:80 id 5
udp-lb names
    dgram-bind :53
    server one 192.0.2.1:53
    option udp-check
"""


@pytest.fixture
def newcomer(read: Reader):
    def reader(words: str, backend: str = "nodes") -> Server:
        section = read(_CONFIG).config.backend(backend)
        assert section is not None
        taken = {server.name: server.id for server in section.servers}
        return read_server(section, taken, words.split(), resolve)

    return reader


def test_it_is_read_as_a_line_of_the_section(newcomer) -> None:
    server = newcomer("three 192.0.2.3:8080 weight 20 backup check inter 5s")
    assert (server.name, server.address, server.port) == ("three", ip_address("192.0.2.3"), 8080)
    assert (server.weight, server.backup) == (20, True)
    assert server.check is not None
    assert server.check.inter == 5.0


def test_its_number_is_the_lowest_that_is_free_or_the_one_it_asks_for(newcomer) -> None:
    assert newcomer("three 192.0.2.3:80").id == 2
    assert newcomer("three 192.0.2.3:80 id 33").id == 33


def test_default_server_is_not_for_it_and_it_starts_in_maintenance(newcomer) -> None:
    server = newcomer("three 192.0.2.3:80")
    assert (server.weight, server.disabled) == (1, True)
    assert not newcomer("three 192.0.2.3:80 enabled").disabled


def test_a_host_name_is_resolved(newcomer) -> None:
    assert newcomer("three four.test:80").address == ip_address("192.0.2.4")


def test_a_section_of_udp_checks_with_datagrams(newcomer) -> None:
    server = newcomer("three 192.0.2.3:53 check", "names")
    assert server.check is not None
    assert server.check.question != CONNECT


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("three", "'server' expects <name> and <addr>[:<port>] as arguments."),
        ("th$ree 192.0.2.3:80", "character '$' is not permitted in server name 'th$ree'."),
        ("three 192.0.2.3:80 foo", "unknown keyword 'foo'; did you mean 'tfo' maybe ?"),
        ("three 192.0.2.3:80 id 5", "'id' : custom id 5 already used at stats socket:1 ('server two')."),
        ("three 192.0.2.3:0", "invalid port '0'; a port is a number from 1 to 65535."),
        ("three nowhere.test:80", "could not resolve address 'nowhere.test'."),
        ("three 192.0.2.3 check", "it has neither service port nor check port; add 'port <port>'."),
        ("three 192.0.2.3:80 cookie x", "'cookie' works on HTTP messages (layer 7); "),
    ],
)
def test_what_is_wrong_is_said_without_a_line_number(newcomer, words: str, text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        newcomer(words)
    assert str(refused.value).startswith(text)
