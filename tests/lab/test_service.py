"""natlb under a service manager, whose part the test plays: what it is told when, and what goes to the journal."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from netns.balancer import Natlb, configuration
from netns.build import Lab
from netns.topology import SEED
from tests.lab.support import answering_server, until

pytestmark = pytest.mark.root


class Manager:
    """A socket that hears what a service says."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(10)

    def hear(self) -> dict[str, str]:
        """Return the next message; TimeoutError if there is none in ten seconds."""
        return dict(line.split("=", 1) for line in self.socket.recv(4096).decode().splitlines())

    def hears_within(self, seconds: float) -> bool:
        self.socket.settimeout(seconds)
        try:
            self.hear()
        except TimeoutError:
            return False
        finally:
            self.socket.settimeout(10)
        return True


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """A manager who wants to hear from its service each second."""
    made = Manager(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    yield made
    made.socket.close()


def start(lab: Lab) -> Natlb:
    return lab.start_natlb(configuration(lab.topology, lab.stats_socket))


def test_it_says_when_it_is_ready_how_it_is_that_it_lives_and_that_it_stops(served: Lab, manager: Manager) -> None:
    natlb = start(served)
    ready = manager.hear()
    assert (ready["READY"], ready["MAINPID"]) == ("1", str(natlb.process.pid))
    assert ready["STATUS"].startswith("answering at ")
    assert answering_server(served, "client", SEED.balancer.ipv4) == "server1"
    for _ in range(3):
        alive = manager.hear()
        assert alive["WATCHDOG"] == "1"
        assert alive["STATUS"].endswith(" of 4 servers usable")
    assert natlb.stop() == 0
    last: dict[str, str] = {}
    while "STOPPING" not in last:
        last = manager.hear()
    assert last == {"STOPPING": "1"}
    assert "cannot tell" not in natlb.log()


def test_one_that_hangs_is_not_heard_of_and_one_that_goes_on_is(served: Lab, manager: Manager) -> None:
    natlb = start(served)
    manager.hear()
    manager.hear()
    natlb.process.send_signal(signal.SIGSTOP)
    until(lambda: ") T " in Path(f"/proc/{natlb.process.pid}/stat").read_text(), "it stands still")
    while manager.hears_within(0.5):  # what it had said before
        pass
    assert not manager.hears_within(2)
    natlb.process.send_signal(signal.SIGCONT)
    assert "WATCHDOG" in manager.hear()
    assert natlb.stop() == 0


def test_a_manager_that_has_gone_is_no_reason_to_stop(served: Lab, manager: Manager, tmp_path: Path) -> None:
    natlb = start(served)
    manager.hear()
    (tmp_path / "notify").unlink()
    natlb.wait_for("cannot tell the service manager WATCHDOG=1: No such file or directory")
    assert answering_server(served, "client", SEED.balancer.ipv4) in {"server1", "server2"}
    assert natlb.stop() == 0


def test_the_journal_has_its_log_with_priorities(served: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    config = served.new_file("journal", "cfg")
    config.write_text(configuration(served.topology, served.stats_socket))
    log = served.new_file("natlb", "log")
    log.touch()
    status = log.stat()
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    monkeypatch.setattr(served, "new_file", lambda *_: log)
    natlb = served.start_natlb(config)
    assert natlb.stop() == 0
    lines = natlb.log().splitlines()
    assert {line[:3] for line in lines} == {"<4>", "<5>"}, "warnings of the configuration, and what is normal"
    assert "<5>natlb has stopped" in lines
