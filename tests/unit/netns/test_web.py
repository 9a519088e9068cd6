import hashlib
import http.client
import ssl
import subprocess
import threading

import pytest

from netns.web import Server, digest, endpoint, pattern


@pytest.mark.parametrize("length", [0, 1, 65521, 65522, 1_000_003])
def test_pattern_has_its_length(length):
    assert sum(len(piece) for piece in pattern(length)) == length


def test_pattern_is_the_same_each_time_and_the_shorter_begins_the_longer():
    short, long = b"".join(pattern(70_000)), b"".join(pattern(700_000))
    assert long.startswith(short)


@pytest.mark.parametrize("segment", [536, 1220, 1428, 1448, 65160])
def test_swapped_segments_show(segment):
    whole = b"".join(pattern(4 * segment))
    swapped = whole[segment : 2 * segment] + whole[:segment] + whole[2 * segment :]
    assert swapped != whole


def test_digest_is_that_of_the_pattern():
    assert digest(100_000) == hashlib.sha256(b"".join(pattern(100_000))).hexdigest()


@pytest.mark.parametrize(
    ("address", "written"),
    [("44.1.1.1", "44.1.1.1:80"), ("fd44::1", "[fd44::1]:80"), ("::ffff:44.1.1.1", "44.1.1.1:80")],
)
def test_endpoints_are_written_as_haproxy_does(address, written):
    assert endpoint(address, 80) == written


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    subject = ["-subj", "/CN=server1", "-days", "2", "-nodes", "-keyout", path, "-out", path]
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", *subject]
    subprocess.run(made, check=True, capture_output=True)
    return path


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def connection(request, certificate):
    """A connection to a server of this process, on loopback."""
    with Server("server1", "127.0.0.1", 0, str(certificate) if request.param else "") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        if request.param:
            context = ssl.create_default_context(cafile=str(certificate))
            context.check_hostname = False
            made = http.client.HTTPSConnection("127.0.0.1", server.server_port, timeout=5, context=context)
        else:
            made = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=5)
        yield made
        made.close()
        server.shutdown()
        thread.join()


def answer(connection, path):
    connection.request("GET", path, headers={"X-Forwarded-For": "44.1.1.1"})
    response = connection.getresponse()
    return response.headers, response.read()


def test_a_kept_alive_connection_is_answered_with_the_servers_name(connection):
    assert [answer(connection, path)[1].split(b"\n")[0] for path in ("/", "/app1")] == [b"server1"] * 2


def test_headers_are_told_as_they_arrived(connection):
    assert b"X-Forwarded-For: 44.1.1.1\n" in answer(connection, "/headers")[1]


def test_a_cache_may_keep_what_is_always_the_same_and_nothing_else(connection):
    assert answer(connection, "/bytes/10")[0]["Cache-Control"] == "max-age=60"
    assert answer(connection, "/")[0]["Cache-Control"] is None
