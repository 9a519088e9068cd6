"""What a check can come to: HAProxy's codes, numbers and words, because its clients know them."""

from enum import Enum, IntEnum


class Result(IntEnum):
    """What a status means, as `show servers state` numbers it."""

    UNKNOWN = 0
    NEUTRAL = 1
    FAILED = 2
    PASSED = 3
    CONDITIONALLY_PASSED = 4
    """The server is well, and wants no new connections."""


class Status(Enum):
    """The outcome of a check: the code, HAProxy's number for it, what it means, and a description."""

    UNK = "UNK", 0, Result.UNKNOWN, "Unknown"
    INI = "INI", 1, Result.UNKNOWN, "Initializing"
    HANA = "HANA", 4, Result.FAILED, "Health analyze"
    SOCKERR = "SOCKERR", 5, Result.FAILED, "Socket error"
    L4OK = "L4OK", 6, Result.PASSED, "Layer4 check passed"
    L4TOUT = "L4TOUT", 7, Result.FAILED, "Layer4 timeout"
    L4CON = "L4CON", 8, Result.FAILED, "Layer4 connection problem"
    L6OK = "L6OK", 9, Result.PASSED, "Layer6 check passed"
    L6TOUT = "L6TOUT", 10, Result.FAILED, "Layer6 timeout"
    L6RSP = "L6RSP", 11, Result.FAILED, "Layer6 invalid response"
    L7TOUT = "L7TOUT", 12, Result.FAILED, "Layer7 timeout"
    L7RSP = "L7RSP", 13, Result.FAILED, "Layer7 invalid response"
    L7OK = "L7OK", 15, Result.PASSED, "Layer7 check passed"
    L7OKC = "L7OKC", 16, Result.CONDITIONALLY_PASSED, "Layer7 check conditionally passed"
    L7STS = "L7STS", 17, Result.FAILED, "Layer7 wrong status"

    def __init__(self, code: str, number: int, result: Result, description: str) -> None:
        self.code = code
        self.number = number
        self.result = result
        self.description = description

    @property
    def has_code(self) -> bool:
        """Whether a number of the application, such as HTTP's 404, belongs to it."""
        return self.number >= Status.L7OK.number

    @property
    def has_duration(self) -> bool:
        """Whether a check ended with it, so that it took some time."""
        return self.number >= Status.SOCKERR.number
