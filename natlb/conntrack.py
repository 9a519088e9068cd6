"""What the kernel's connection tracking says of itself, in this network namespace: numbers in files of their own."""

from pathlib import Path
from typing import Final

SETTINGS: Final = Path("/proc/sys/net/netfilter")
"""Where they are, while connection tracking is loaded."""


def number(path: Path) -> int:
    """Return what a file says, 0 where connection tracking is not loaded. Where that cannot be told it may be: 1."""
    try:
        return int(path.read_bytes())
    except FileNotFoundError:
        return 0
    except (OSError, ValueError):
        return 1
