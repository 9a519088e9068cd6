import resource
import subprocess
import sys
from pathlib import Path

import pytest

from netns.bench import hosts
from netns.bench.hosts import Room, WebServers
from netns.bench.readings import Status
from netns.errors import LabError
from netns.topology import SEED


def test_the_room_is_what_a_program_started_from_here_gets():
    code = (
        "import resource, subprocess, sys; from netns.bench.hosts import Room; print(Room.found().files, flush=True);"
        "subprocess.run(['sh', '-c', 'ulimit -n'])"
    )
    found, given = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert found == given
    assert int(found) >= resource.getrlimit(resource.RLIMIT_NOFILE)[1]


class Told:
    """A lab that keeps the configurations it is given, and starts nothing."""

    topology = SEED

    def __init__(self, directory):
        self.directory, self.started = directory, []

    def new_file(self, stem, suffix):
        return self.directory / f"{stem}.{suffix}"

    def start(self, name, host, argv, ready=""):
        self.started.append((host, Path(argv[-1]).read_text()))
        return self

    def stop(self):
        self.started.pop()


@pytest.mark.parametrize(
    ("room", "connections", "workers", "each"),
    [
        (Room(2, 300_000), 10_000, 2, 5_900),
        (Room(2, 300_000), 100_000, 2, 50_900),
        (Room(2, 20_000), 100_000, 4, 19_900),
        (Room(8, 20_000), 100_000, 8, 19_900),
    ],
)
def test_servers_have_room_for_their_connections_though_workers_are_not_equally_busy(
    tmp_path, monkeypatch, room, connections, workers, each
):
    monkeypatch.setattr(hosts, "nginx_status", lambda _: Status(active=1, accepted=1, requests=1))
    lab = Told(tmp_path)
    with hosts.web_servers(lab, room, connections):
        assert [host for host, _ in lab.started] == ["server1", "server2"]
        for _, text in lab.started:
            assert f"worker_processes {workers};" in text
            assert f"worker_connections {each};" in text
    assert workers * each >= connections / 2 * 1.25
    assert lab.started == []


def test_questions_about_connections_are_not_counted_as_connections(monkeypatch):
    asked = dict.fromkeys(("a", "b"), 0)

    def status(socket):
        asked[socket] += 1
        return Status(active=11, accepted=100 + asked[socket], requests=0)

    monkeypatch.setattr(hosts, "nginx_status", status)
    servers = WebServers(["a", "b"])
    assert [servers.accepted, servers.active, servers.accepted] == [200, 20, 200]


def test_an_nginx_that_does_not_answer_is_told(tmp_path):
    with pytest.raises(LabError, match=r"nginx does not answer at .*: No such file"):
        hosts.nginx_status(tmp_path / "no.sock")
