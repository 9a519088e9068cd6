"""The parameters at the end of a line: words, some with a value, in any order.

`bind`, `server`, `default-server` and `stats socket` all end in such a list, and each has its own table for it. A word
that is not in the table ends the line, since nobody knows how many of the words after it are its own; any other error
is reported, and the next parameter is read. A parameter given twice is an error, as it means one thing at most.
"""

from collections.abc import Callable, Mapping

from natlb.config.diagnostics import Severity
from natlb.config.entries import HandlerT, Keyword, Refuse, Warn
from natlb.config.suggest import hint
from natlb.errors import ConfigError


def read_parameters(
    words: tuple[str, ...],
    table: Mapping[str, Keyword[HandlerT]],
    run: Callable[[HandlerT, tuple[str, ...]], None],
    say: Callable[[Severity, str], None],
) -> None:
    """Read the list `words`.

    `run` is called with each handler and the words that belong to the parameter, fewer than it takes where the line
    ends; it may raise ConfigError. `say` reports; the texts that it is given name the parameter.
    """
    at = 0
    met: set[str] = set()
    while at < len(words):
        name = words[at]
        keyword = table.get(name)
        if keyword is None:
            say("ALERT", f"unknown keyword '{name}'{hint(name, table) or '.'}")
            return
        end = at + 1 + keyword.takes if keyword.takes >= 0 else len(words)
        while keyword.options and words[end : end + 1] and words[end] in keyword.options:
            end += 2
        own = words[at + 1 : end]
        action = keyword.action
        try:
            if name in met:
                say("ALERT", f"'{name}' is given twice; remove one.")
            elif isinstance(action, Refuse):
                say("ALERT", f"'{name}' {action.reason}")
            elif isinstance(action, Warn):
                action.arguments(name, own)
                say("WARNING", f"'{name}' has no effect: {action.reason}")
            else:
                run(action, own)
        except ConfigError as error:
            say("ALERT", str(error))
        met.add(name)
        at = end
