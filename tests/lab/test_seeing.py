"""watch, trace, capture and draw, as a user gives them, in a lab that is up."""

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from scapy.utils import RawPcapNgReader

from netns.build import Lab
from netns.draw import WIDTH
from netns.processes import PYTHON, living_in
from netns.topology import SEED
from tests.lab.support import until

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]
URL = f"http://{SEED.balancer.ipv4}:{SEED.balancer.port}/"

Run = Callable[..., subprocess.CompletedProcess[str]]


def command(lab: Lab, *words: str) -> list[str]:
    return [*PYTHON, "netns", "--prefix", lab.prefix, *words]


@pytest.fixture
def run(balanced: Lab, tmp_path: Path) -> Iterator[Run]:
    """Gives a command of `lab.sh`, in a directory of its own; afterwards nothing may be left in the lab."""
    residents, files = len(balanced.residents()), set(balanced.directory.iterdir())

    def give(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(balanced, *words), capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60,
            stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)}, **options,
        )  # fmt: skip

    yield give
    assert len(balanced.residents()) == residents
    assert set(balanced.directory.iterdir()) == files


@contextlib.contextmanager
def started(lab: Lab, directory: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Start a command and wait for its first line; it ends with the block at the latest, as with Ctrl-C."""
    process = subprocess.Popen(
        command(lab, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline(), process.communicate()[1]
            yield process
        finally:
            process.send_signal(signal.SIGINT)


def visit(lab: Lab, url: str = URL) -> None:
    lab.run("client", ["curl", "-sS", "-m5", "-o", "/dev/null", url], names=False, check=True)


def captured(path: Path) -> list[tuple[str, bytes]]:
    with RawPcapNgReader(str(path)) as reader:
        return [(meta.ifname.decode(), frame) for frame, meta in reader]


# -- draw


def test_a_connection_is_drawn_at_four_places(run: Run, tmp_path: Path) -> None:
    done = run("draw")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(
        r"^connection\.svg: \d+ packets of 44\.1\.1\.1:\d+ > 44\.2\.2\.2:8888, served by server", done.stdout
    )
    picture = ElementTree.parse(tmp_path / "connection.svg").getroot()
    told = next(iter(picture.iter("{http://www.w3.org/2000/svg}desc"))).text or ""
    assert told.startswith("SYN to the server, seen at 4 places. SYN-ACK to the client, seen at 4 places.")
    assert set(re.findall(r"seen at (\d)", told)) == {"4"}


def test_somebody_elses_connection_is_drawn_in_ipv6_as_well(run: Run, balanced: Lab, tmp_path: Path) -> None:
    with started(balanced, tmp_path, "draw", "--wait", "1.5", "theirs.svg") as process:
        visit(balanced, f"http://[{SEED.balancer.ipv6}]:{SEED.balancer.port}/")
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert "packets of [fd44::1]:" in out
    assert "fd44::2" in (tmp_path / "theirs.svg").read_text()


def test_where_nothing_came_there_is_nothing_to_draw(run: Run) -> None:
    done = run("draw", "--wait", "0.1")
    assert done.returncode == 1
    assert done.stderr == (
        "lab.sh: no connection of the client was seen, from its first packet on, at the client's own wire\n"
    )


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["draw", "no/such/directory.svg"], r"no/such/directory\.svg: No such file or directory; give another FILE"),
        (["draw", "--from", "nothing.pcapng"], r"nothing\.pcapng: No such file or directory"),
        (["capture", "client", "-w", "no/such.pcapng"], r"no/such\.pcapng: No such file or directory; -w names .*"),
        (["capture", "client", "--filter", "bla bla"], r"tcpdump at client:eth0 ended with status 1; .*syntax error.*"),
        (["trace", "-w", "no/such.pcapng"], r"no/such\.pcapng: No such file or directory; -w names another file"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(run: Run, words: list[str], line: str) -> None:
    done = run(*words)
    assert done.returncode == 1
    assert re.fullmatch(rf"lab\.sh: {line}\n", done.stderr)


# -- capture


def test_one_file_has_a_packet_at_every_place_and_draw_can_read_it(run: Run, balanced: Lab, tmp_path: Path) -> None:
    with started(balanced, tmp_path, "capture", "all", "-w", "all.pcapng", "--filter", "host 44.1.1.1") as process:
        visit(balanced)
        # The first ones are in the file: the others it takes with it.
        until(lambda: bool(captured(tmp_path / "all.pcapng")), "some are in the file")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    packets = captured(tmp_path / "all.pcapng")
    assert out.endswith(f"all.pcapng: {len(packets)} packets.\n")
    assert {place for place, _ in packets} >= {"client:eth0", "lb:client"}
    assert {place.partition(":")[2] for place, _ in packets} & {"server1", "server2"}
    done = run("draw", "--from", "all.pcapng", "from.svg")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "from.svg").exists()


def test_a_capture_ends_when_there_is_enough(run: Run, balanced: Lab, tmp_path: Path) -> None:
    with started(balanced, tmp_path, "capture", "client", "--packets", "3", "--filter", "tcp") as process:
        visit(balanced)
        assert process.communicate(timeout=30)[0] == "client.pcapng: 3 packets.\n"
    assert len(captured(tmp_path / "client.pcapng")) == 3


def test_a_capture_ends_in_time_and_takes_no_file_that_is_there(run: Run, tmp_path: Path) -> None:
    (tmp_path / "server1.pcapng").write_text("mine")
    done = run("capture", "server1", "--seconds", "0.2", "--filter", "port 9")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("server1-2.pcapng: 0 packets.\n")
    assert (tmp_path / "server1.pcapng").read_text() == "mine"
    assert captured(tmp_path / "server1-2.pcapng") == []


def test_a_flood_ends_as_well(run: Run, balanced: Lab, tmp_path: Path) -> None:
    with started(balanced, tmp_path, "capture", "client", "--packets", "2000") as process:
        visit(balanced, f"{URL}bytes/20000000")
        assert process.communicate(timeout=30)[0] == "client.pcapng: 2000 packets.\n"
    assert process.returncode == 0
    assert len(captured(tmp_path / "client.pcapng")) == 2000


def test_a_capture_that_is_killed_leaves_what_it_had_and_its_rest_where_down_looks(
    balanced: Lab, tmp_path: Path
) -> None:
    with started(balanced, tmp_path, "capture", "client", "--filter", "tcp") as process:
        visit(balanced)
        until(lambda: bool(captured(tmp_path / "client.pcapng")), "some are in the file")
        process.kill()
        process.communicate()
    assert captured(tmp_path / "client.pcapng")
    [left] = living_in([balanced.namespace("client")])
    assert "tcpdump" in left.command
    os.kill(left.pid, signal.SIGTERM)
    until(lambda: not living_in([balanced.namespace("client")]), "it ends")
    for path in balanced.directory.glob("client-eth0*.pcap"):
        path.unlink()


# -- watch


def test_without_a_terminal_each_packet_is_told_in_three_panes(run: Run) -> None:
    done = run("watch", "--visit", "--packets", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= WIDTH
    head, syn, answer = done.stdout.rstrip("\n").split("\n\n")
    assert head == "Watching what client and the servers send; 2 packets at most."
    assert re.fullmatch(
        r"client wire:\n .* → SYN       (44\.1\.1\.1:\d+) > 44\.2\.2\.2:8888  seq 0\n"
        r" +ttl 40 sum \w{4} from 2c010101:\w{4} to 2c020202:22b8 sum \w{4}\n"
        r"NAT table:\n  ● original \1 > 44\.2\.2\.2:8888 +\w+\n +reply    44\.[34]\.\S+ > \1 +server[12].*\n"
        r"server wire:\n .* → SYN       \1 > 44\.[34]\.\S+  seq 0\n"
        r" +ttl \[3f\] sum \[\w{4}\] from 2c010101:\w{4} to \[2c0[34]0[34]0[34]:\w{4}\] sum \[\w{4}\]",
        syn,
    )
    assert answer.startswith("server wire:\n")
    assert "← SYN-ACK" in answer


def test_it_is_over_when_its_time_is(run: Run) -> None:
    done = run("watch", "--seconds", "0.3")
    assert (done.returncode, done.stdout.count("\n")) == (0, 1)


@pytest.mark.parametrize("plain", [False, True])
def test_in_a_terminal_it_is_a_screen_until_ctrl_c(run: Run, balanced: Lab, plain: bool) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24", "PYTHONPATH": str(ROOT)}
        environment |= {"NO_COLOR": "1"} if plain else {}
        argv = command(balanced, "watch", "--visit", "--pace", "0.1")
        os.execvpe(argv[0], argv, environment)
    shown = b""
    deadline = time.monotonic() + 20
    while b"FIN" not in shown and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.2)[0]:
            shown += os.read(terminal, 65536)
    os.write(terminal, b"\x03")
    with contextlib.suppress(OSError):  # EIO: nobody is there any more
        while True:
            shown += os.read(terminal, 65536)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(terminal)
    screens = shown.decode(errors="replace")  # the terminal throws away what it has not shown yet at Ctrl-C
    for title in ("client wire", "NAT table of natlb", "server wire", "[rewritten]"):
        assert title in screens
    assert screens.count("\x1b[?1049h") == screens.count("\x1b[?1049l") == 1, "the screen is given back"
    assert "Traceback" not in screens
    assert ("\x1b[36m" in screens, "\x1b[35m" in screens) == (not plain, not plain), "the tuples have their colours"


# -- trace


@pytest.mark.parametrize("packet", ["syn", "answer"])
def test_what_is_explained_is_what_was_on_the_wire(run: Run, packet: str) -> None:
    done = run("trace", packet)
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= WIDTH
    assert "What is written" in done.stdout
    assert re.search(r"all that it covers, summed with it: right", done.stdout)
    assert done.stdout.count("✓") == 3


def test_an_explanation_with_another_configuration_is_found_out(run: Run, balanced: Lab) -> None:
    path = balanced.directory / "natlb.cfg"
    before = path.read_text()
    path.write_text(before.replace("44.3.3.3:4444", "44.3.3.3:4445").replace("44.4.4.4:5555", "44.4.4.4:5556"))
    try:
        done = run("trace")
    finally:
        path.write_text(before)
    assert done.returncode == 1
    assert "✗ what left is what was explained" in done.stdout


def test_a_server_that_is_down_for_natlb_is_so_for_the_explanation(run: Run, balanced: Lab, tmp_path: Path) -> None:
    run("ask", "disable", "server", "nodes/server1")
    try:
        done = run("trace", "-w", "kept.pcapng")
    finally:
        run("ask", "enable", "server", "nodes/server1")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"- server1 .*\n +not chosen: .*maintenance", done.stdout)
    assert captured(tmp_path / "kept.pcapng")
