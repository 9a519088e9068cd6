"""What the user wants to see: keys to choices."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Final


class View(Enum):
    """What is shown, by the key that chooses it."""

    PROXIES = "1"
    SERVERS = "2"
    CONNECTIONS = "3"

    @property
    def title(self) -> str:
        """Its name on the screen."""
        return self.name.capitalize()


ORDERS: Final = {
    View.PROXIES: ("name", "connections", "traffic"),
    View.SERVERS: ("name", "connections", "traffic", "status"),
    View.CONNECTIONS: ("traffic", "bytes", "age"),
}
"""What each view can be sorted by; the first is what it begins with."""

HELP: Final = {
    "1 2 3": "proxies, servers, connections",
    "Tab": "the next of these",
    "s": "sort by something else",
    "p or Space": "pause, and go on",
    "Up Down j k": "scroll; also PgUp, PgDn, Home",
    "?": "this help",
    "q": "quit",
}


@dataclass(slots=True)
class State:
    """The choices of the user."""

    view: View = View.PROXIES
    paused: bool = False
    helping: bool = False
    over: bool = False
    """Whether he wants to leave."""
    first: int = 0
    """The line of the list that stands first on the screen."""
    _orders: dict[View, int] = field(default_factory=lambda: dict.fromkeys(View, 0))

    @property
    def order(self) -> str:
        """What the view is sorted by."""
        return ORDERS[self.view][self._orders[self.view]]

    def press(self, key: str, page: int) -> None:
        """Obey a key; a `page` is so many lines. A key without a meaning has none."""
        if key in (view.value for view in View):
            self._show(View(key))
            return
        if self.helping and key not in ("q", "tab"):
            self.helping = False
            return
        match key:
            case "q":
                self.over = True
            case "tab":
                views = list(View)
                self._show(views[(views.index(self.view) + 1) % len(views)])
            case "s":
                self._orders[self.view] = (self._orders[self.view] + 1) % len(ORDERS[self.view])
                self.first = 0
            case "p" | " ":
                self.paused = not self.paused
            case "?" | "h":
                self.helping = True
            case "home":
                self.first = 0
            case _:
                steps = {"up": -1, "k": -1, "down": 1, "j": 1, "pageup": -page, "pagedown": page}
                self.first = max(0, self.first + steps.get(key, 0))

    def _show(self, view: View) -> None:
        self.view, self.first, self.helping = view, 0, False
