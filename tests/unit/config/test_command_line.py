"""`natlb -c` as a command, against `haproxy -c`: files, directories, the environment, and the edges of lines."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import HAProxy

ROOT = Path(__file__).parents[3]
FRONT = "frontend f\n bind :80\n default_backend b\n"
BACK = "backend b\n server s 192.0.2.1:80\n"


def run(*command: str, cwd: Path, **environ: str) -> int:
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environ}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, timeout=60, check=False)
    assert b"Traceback" not in done.stderr
    return done.returncode


def both(cwd: Path, *arguments: str, **environ: str) -> tuple[int, int]:
    """The exit statuses of natlb and of HAProxy."""
    ours = run(sys.executable, "-m", "natlb", "-c", *arguments, cwd=cwd, **environ)
    return ours, run("haproxy", "-c", *arguments, cwd=cwd, **environ)


@pytest.mark.parametrize(
    ("files", "arguments", "status"),
    [
        ({"d/1.cfg": FRONT, "d/2.cfg": BACK, "d/3.txt": "foo\n"}, ["-f", "d"], 0),
        ({"d/2.cfg": " bind :80\n", "d/1.cfg": BACK}, ["-f", "d"], 1),  # a section does not go on into the next file
        ({"d/1.cfg": BACK}, ["-f", "d"], 2),
        ({"a": FRONT, "b": BACK}, ["-f", "a", "-f", "b"], 0),
        ({"a": FRONT, "b": BACK}, ["-f", "b", "-f", "a"], 0),
        ({"a": FRONT}, ["-f", "a"], 1),
        ({"a": FRONT}, ["-f", "a", "-f", "missing"], 1),
        ({"a": FRONT, "b": BACK}, ["-f", "a", "--", "b"], 0),
        ({"a": FRONT + BACK[:-1]}, ["-f", "a"], 1),  # no newline at the end
        ({"a": (FRONT + BACK).replace("\n", "\r\n")}, ["-f", "a"], 0),
        ({"a": FRONT + BACK + "\r\n\t \n# a comment\n"}, ["-f", "a"], 0),
        ({"a": FRONT + BACK + "global\n description " + "x " * 61 + "x\n"}, ["-f", "a"], 0),  # 63 words
        ({"a": FRONT + BACK + "global\n description " + "x " * 62 + "x\n"}, ["-f", "a"], 0),  # 64
        ({"a": FRONT + BACK + "global\n description " + "x " * 63 + "x\n"}, ["-f", "a"], 1),  # 65
        ({"a": ""}, ["-f", "a"], 2),
        ({"a": FRONT + BACK + "\0"}, ["-f", "a"], 1),
    ],
)
def test_both_read_files_alike(
    tmp_path: Path, haproxy: HAProxy, files: dict[str, str], arguments: list[str], status: int
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text.encode())
    assert both(tmp_path, *arguments) == (status, status)


@pytest.mark.parametrize(
    ("word", "value", "status"),
    [
        ('"${WHERE}:80"', "127.0.0.1", 0),
        ("${WHERE}:80", "127.0.0.1", 0),
        ("$WHERE", ":80", 0),
        ('"$WHERE"', "nowhere", 1),
        ('"${NOBODY-127.0.0.1}:80"', "", 0),
        ('"${WHERE[*]}"', ":80 name x", 0),
        ("'${WHERE}:80'", "127.0.0.1", 0),
        ('"\\$WHERE"', "127.0.0.1:80", 0),  # expanded once more, as an address
        ('"${WHERE"', ":80", 1),
    ],
)
def test_both_know_the_environment(tmp_path: Path, haproxy: HAProxy, word: str, value: str, status: int) -> None:
    (tmp_path / "a").write_text(f"frontend f\n bind {word}\n default_backend b\n{BACK}")
    assert both(tmp_path, "-f", "a", WHERE=value) == (status, status)
