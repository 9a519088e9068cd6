"""What a series of check results means.

HAProxy's rule, kept exactly because its statistics show the counter: health counts from 0 to rise + fall - 1, and the
server is up from `rise` on. A success adds one while the server is down and fills the counter while it is up; a failure
takes one off while it is up and empties the counter while it is down. A server starts at exactly `rise`: up, but one
failure away from down.

    rise 2, fall 3      0      1   |   2      3      4
                       DOWN         |  UP     fails ->  one off;  passes -> 4
    passes -> one more; fails -> 0
"""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Judge:
    """The health of one server."""

    rise: int
    """Successes in a row that bring a server up."""
    fall: int
    """Failures in a row that take it down."""
    health: int = field(init=False)
    """0 .. rise + fall - 1."""

    def __post_init__(self) -> None:
        self.health = self.rise

    @property
    def best(self) -> int:
        """The counter at its upper end."""
        return self.rise + self.fall - 1

    @property
    def up(self) -> bool:
        """Whether the server is up."""
        return self.health >= self.rise

    @property
    def settled(self) -> bool:
        """Whether the counter is at one of its ends: fully up or fully down. Else HAProxy's `fastinter` holds."""
        return self.health in (0, self.best)

    def record(self, passed: bool) -> bool:
        """Take in one result; return whether it moved the counter."""
        before = self.health
        if passed:
            self.health = min(self.health + 1, self.best)
            if self.up:
                self.health = self.best
        else:
            self.health = max(self.health - 1, 0)
            if not self.up:
                self.health = 0
        return self.health != before

    def weaken(self) -> None:
        """Leave the server two failures from down at the most: `sudden-death`."""
        self.health = min(self.health, self.rise + 1)

    def doom(self) -> None:
        """Let the next failure take the server down: `mark-down`."""
        self.health = min(self.health, self.rise)
