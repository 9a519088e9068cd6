"""A shell on a host, for `lab.sh exec HOST` and a host's name alone in `lab.sh shell`: the user's own.

It looks like every other shell of the machine's: same user, same files. So bash gets a prompt that names the host, in
place of the machine's name. Of any other shell the prompt is its user's business; what it needs is in the environment.
"""

import os
from pathlib import Path

from netns.build import PREFIX, Lab

HOST = "LAB_HOST"
"""Variable of the environment of a shell on a host: the host's name, with the prefix of a lab that has one."""

_BASHRC = Path(__file__).with_name("host.bashrc")


def shell_on(lab: Lab, host: str) -> tuple[list[str], dict[str, str]]:
    """Return the command of a shell on a host, and what it adds to the environment."""
    shell = os.environ.get("SHELL") or "/bin/sh"
    name = lab.topology.host(host).name
    # Without a terminal bash reads commands, and no such file.
    options = ["--rcfile", str(_BASHRC)] if Path(shell).name == "bash" else []
    return [shell, *options], {HOST: name if lab.prefix == PREFIX else lab.namespace(name)}
