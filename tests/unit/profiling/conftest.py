"""An engine to talk to, over IPv4 and over IPv6."""

from tests.unit.core.conftest import start, talk

__all__ = ["start", "talk"]
