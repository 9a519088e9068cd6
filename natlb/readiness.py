"""Waiting for a descriptor in a running loop."""

import asyncio
import socket


async def readable(waited: int | socket.socket) -> None:
    """Wait until there is something to be read, somebody to be accepted, or a process has ended (of a pidfd)."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(waited, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(waited)
