"""The shell on a host: which it is, and how its prompt says where one is."""

import contextlib
import os
import pty
import re
import select
import time

import pytest

from netns.build import Lab
from netns.prompt import shell_on


def at_terminal(argv, added, typed, home):
    """Type into a shell at a terminal, all at once, and return what it has shown when it has ended."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(home)
        os.execvpe(argv[0], argv, {**os.environ, **added, "HOME": str(home), "TERM": "dumb"})
    os.write(terminal, typed.encode())
    shown, deadline = b"", time.monotonic() + 60
    with contextlib.suppress(OSError):  # EIO: it has ended
        while time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.1)[0]:
                shown += os.read(terminal, 65536)
    os.close(terminal)
    os.waitpid(pid, 0)
    return shown.decode()


@pytest.mark.parametrize(("prefix", "name"), [("natlb-", "lb"), ("mine-", "mine-lb")])
def test_a_host_is_called_as_in_the_lab_that_it_is_in(monkeypatch, prefix, name):
    monkeypatch.setenv("SHELL", "/bin/zsh")
    assert shell_on(Lab(prefix=prefix), "vip") == (["/bin/zsh"], {"LAB_HOST": name})


@pytest.mark.parametrize("shell", [None, ""])
def test_who_has_chosen_no_shell_gets_the_systems(monkeypatch, shell):
    monkeypatch.delenv("SHELL", raising=False)
    if shell is not None:
        monkeypatch.setenv("SHELL", shell)
    assert shell_on(Lab(), "client")[0] == ["/bin/sh"]


@pytest.mark.parametrize(
    "own",
    [
        None,
        "alias hi='echo he''llo'\nPS1='mine> '\n",
        "PS1='mine> '\nreturn 0\n",
        "PROMPT_COMMAND='PS1=\"each time> \"'\n",
        "PROMPT_COMMAND=(true 'PS1=\"each time> \"')\n",
        "set -u\n",
    ],
)
def test_the_prompt_of_bash_names_the_host_whatever_its_users_file_says_which_is_read(monkeypatch, tmp_path, own):
    monkeypatch.setenv("SHELL", "/bin/bash")
    monkeypatch.delenv("PROMPT_COMMAND", raising=False)
    if own:
        (tmp_path / ".bashrc").write_text(own)
    shown = at_terminal(*shell_on(Lab(), "server1"), "hi\nexit\n", tmp_path)
    prompts = re.findall(r"\w+@server1:~[#$] ", shown)
    assert len(prompts) == 2, shown
    assert ("hello" in shown) == ("alias" in (own or ""))
    assert "> " not in shown
