"""Numbers in sentences."""


def counted(number: int, noun: str) -> str:
    """Write how many of something there are: 1 packet, 2 packets."""
    return f"{number} {noun}{'s' * (number != 1)}"
