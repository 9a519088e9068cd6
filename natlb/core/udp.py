"""What a NAT believes of a UDP flow: by whom it has been spoken, and for how long it may be silent.

UDP has no connections, so a flow is what shares a 5-tuple. It is ONE_WAY while only the client has been heard and
BOTH_WAYS from the server's first datagram on; it ends in silence, or when as many datagrams have passed as the
configuration says. Nothing is kept of it afterwards: there are no late packets to serve that a new flow would not serve
as well.

A flow belongs to its server only while that server is there. When it is down, in maintenance or taken away, the next
datagram of the client goes to another: there is no connection that could break.
"""

from typing import Final

ONE_WAY_TIMEOUT: Final = 120.0
"""Seconds of silence after which a flow is forgotten that only the client has spoken in: 2 min, the floor of RFC 4787,
REQ-5."""

BOTH_WAYS_TIMEOUT: Final = 300.0
"""The same once both have spoken: 5 min, what RFC 4787, REQ-5 recommends."""
