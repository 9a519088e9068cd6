"""What the engine tells of its connections, a line for each: what `natlb -d` shows.

The log of connections is another matter, and has a format of its own: `natlb.logs`.
"""

from natlb.core.events import (
    ConnectionClosed,
    ConnectionEstablished,
    ConnectionOpened,
    ConnectionRefused,
    Event,
    ServerBypassed,
    ServerTried,
)
from natlb.runtime.addresses import endpoints


def describe(event: Event) -> str:
    """Return what has happened: between whom, and what."""
    if isinstance(event, ConnectionRefused):
        client, vip = endpoints(event.original)
        return f"{client} -> {vip} on {event.service.name}: refused, {event.reason.value}"
    connection = event.connection
    client, vip = endpoints(connection.original)
    match event:
        case ConnectionOpened():
            what = "opened"
        case ConnectionEstablished():
            what = "established"
        case ConnectionClosed(reason=reason):
            what = f"closed: {reason.value}"
        case ServerTried(answered=answered):
            what = "the server answered" if answered else "the server did not answer"
        case ServerBypassed(over=over):
            what = f"the server {'no longer leaves' if over else 'leaves'} its clients without an answer"
    return f"{client} -> {vip} on {connection.service.name}, server {connection.server.name}: {what}"
