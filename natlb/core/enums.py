"""Enumerations for the packet path.

A member of an enumeration is there once, so it can be its own hash. That of Python's `Enum` is the hash of its name,
found by a call in Python, and whenever a dictionary or a set is asked for a member there is one.

To look a member up through its class is slow as well, ten times as slow as a name of a module's own. So where packets
pass, members have such names.
"""

from enum import Enum


class Constant(Enum):
    """An enumeration whose members are looked up quickly."""

    __hash__ = object.__hash__
