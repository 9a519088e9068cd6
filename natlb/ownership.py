"""Who can have written what natlb finds: only root's work is believed, and that of the user that natlb was started by.

A directory is asked about before anything in it is: where others may write they can put one file in the place of
another at any moment, whoever owns it, so nothing in there is looked at.
"""

import os
import stat
from pathlib import Path


def doubt(status: os.stat_result) -> str:
    """Return why others may have written a file, or written in a directory; empty if none but root and we can have."""
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to user {status.st_uid}"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"may be written to by others (mode {stat.S_IMODE(status.st_mode):04o})"
    return ""


def doubt_about(directory: Path, status: os.stat_result) -> str:
    """Return why what is found in a directory is not to be believed, with the remedy; empty if it is."""
    if status.st_uid not in (0, os.geteuid()):
        return f"the directory {directory} {doubt(status)}: make it root's alone ('chown root', 'chmod 700')"
    return f"others may write to the directory {directory}: make it root's alone ('chmod 700')" if doubt(status) else ""
