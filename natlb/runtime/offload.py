"""Commands about the fast path, which packets the kernel carries by itself. They are natlb's own: HAProxy has none."""

from typing import Final

from natlb.errors import NatlbError
from natlb.runtime.console import Console
from natlb.runtime.language import Refused, Reply, Words
from natlb.runtime.running import Offloader

_SWITCH: Final = {"on": True, "off": False}


def show_offload(console: Console, _: Words) -> str:
    """`show offload`: whether it is on, or why not, and what it has done."""
    return "".join(f"{name}: {value}\n" for name, value in described(_offloader(console)).items())


async def set_offload(console: Console, words: Words) -> Reply:
    """`set offload on|off`: connections that are open change over, with or without packets on their way."""
    if len(words) != 1 or words[0] not in _SWITCH:
        raise Refused("'set offload' expects 'on' or 'off'.")
    try:
        await _offloader(console).switch(on=_SWITCH[words[0]])
    except NatlbError as error:
        raise Refused(f"The kernel carries no packets: {error}") from error
    return ""


def described(offloader: Offloader) -> dict[str, str | int]:
    """Return what there is to say about a fast path, by name."""
    return {
        "state": "on" if offloader.is_on else "off",
        **({} if offloader.is_on else {"reason": offloader.lacking}),
        "interfaces": offloader.interfaces,
        "connections": offloader.offloaded,
        "connections_limit": offloader.capacity,
        "no_room": offloader.refused,
        "translated": offloader.translated,
        "packets": offloader.packets,
        "audited": offloader.audited,
        "differences": offloader.differences,
    }


def _offloader(console: Console) -> Offloader:
    offloader = console.running.offloader
    if offloader is None:
        raise Refused("There is no fast path.")
    return offloader
