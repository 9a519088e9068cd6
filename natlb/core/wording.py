"""Numbers of things, as they are told to people."""


def counted(number: int, one: str = "connection", several: str = "") -> str:
    """Return a number of things in words; `several` is what they are called, or do, where an s does not make it."""
    return f"{number} {one if number == 1 else several or one + 's'}"
