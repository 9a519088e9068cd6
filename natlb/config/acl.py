"""ACLs, and the conditions that join them.

    acl inside src 10.0.0.0/8
    use_backend local if inside !{ dst_port 443 } or LOCALHOST

An ACL is a name for tests of a connection; lines of the same name add up. A condition names ACLs, or has such tests in
braces; terms beside one another must all hold, and `or` separates what may hold instead.

What an ACL looks at decides whether natlb can have it: `src` is in the header of every packet, `path_end` is in an HTTP
request. A rule that names an ACL of the second kind can never work either, and is refused for the same reason.
"""

from collections.abc import Sequence
from typing import Final

from natlb.config.drafts import Reading
from natlb.config.entries import CONTENT, HTTP
from natlb.config.lexer import Line
from natlb.config.model import Location
from natlb.config.patterns import read_test
from natlb.config.rule_model import Condition, Term, Test
from natlb.config.samples import read_sample, why_not
from natlb.config.server import forbidden_character
from natlb.errors import ConfigError

_PREDEFINED: Final[dict[str, tuple[str, ...]]] = {
    "TRUE": ("always_true",),
    "FALSE": ("always_false",),
    "LOCALHOST": ("src", "127.0.0.1/8", "::1"),
}
"""The ACLs that are there without being written."""

_PREDEFINED_ABOVE: Final = {
    **dict.fromkeys(("HTTP", "HTTP_1.0", "HTTP_1.1", "HTTP_2.0", "HTTP_CONTENT", "HTTP_URL_ABS"), HTTP),
    **dict.fromkeys(("HTTP_URL_SLASH", "HTTP_URL_STAR", "METH_CONNECT", "METH_DELETE", "METH_GET"), HTTP),
    **dict.fromkeys(("METH_HEAD", "METH_OPTIONS", "METH_POST", "METH_PUT", "METH_TRACE"), HTTP),
    **dict.fromkeys(("RDP_COOKIE", "REQ_CONTENT", "WAIT_END"), CONTENT),
}
"""Those that HAProxy has besides, and why natlb has not."""

_OR: Final = ("or", "||")


class RefusedError(ConfigError):
    """What was asked for works above layer 4."""


def acl(reading: Reading, line: Line) -> None:
    """`acl <name> <fetch> ...`."""
    name, fetch = line.word(1), line.word(2)
    bad = forbidden_character(name)
    if bad is not None:
        raise ConfigError(f"character '{bad}' is not permitted in acl name '{name}'.")
    if name in _OR:
        raise ConfigError(
            f"acl name '{name}' will never match. 'or' is used to express a logical disjunction within a condition."
        )
    try:
        test = _test(reading, line.words[2:], line.location)
    except RefusedError as error:
        reason = why_not(fetch)
        reading.section.refused_acls[name] = f"acl '{name}', refused at {line.location}, {reason}"
        raise ConfigError(f"acl '{name}' : {error}") from error
    except ConfigError as error:
        raise ConfigError(f"error detected while parsing ACL '{name}' : {error}") from error
    reading.section.acls.setdefault(name, []).append(test)


def read_condition(reading: Reading, words: Sequence[str], location: Location) -> Condition:
    """The condition that `if` or `unless` and the words after it are.

    Raises ConfigError; it is a `RefusedError` about what works above layer 4.
    """
    choices: list[tuple[Term, ...]] = []
    terms: list[Term] = []
    at = 1
    while at < len(words):
        word = words[at]
        if word in _OR:
            choices.append(_not_empty(terms, f"before '{word}'"))
            terms = []
            at += 1
            continue
        name = word.lstrip("!")
        negated = (len(word) - len(name)) % 2 == 1
        while not name:  # a `!` may stand alone
            at += 1
            if at == len(words):
                raise ConfigError(f"'{word}' has nothing after it to negate.")
            name = words[at].lstrip("!")
            negated ^= (len(words[at]) - len(name)) % 2 == 1
        at += 1
        if name == "{":
            if "}" not in words[at:]:
                raise ConfigError("missing closing '}' in condition; the '{' has to have one, with spaces around it.")
            end = list(words).index("}", at)
            terms.append(Term(negated, (_test(reading, tuple(words[at:end]), location),)))
            at = end + 1
        else:
            terms.append(Term(negated, _named(reading, name, location)))
    choices.append(_not_empty(terms, f"after '{words[-1]}'"))
    return Condition(words[0] == "unless", tuple(choices))


def condition_of(reading: Reading, words: Sequence[str], location: Location, doing: str, keyword: str) -> Condition:
    """The condition of a rule. `doing` is how HAProxy begins what it says of a wrong one, `keyword` names the rule."""
    try:
        return read_condition(reading, words, location)
    except RefusedError as error:
        raise ConfigError(f"'{keyword}' : {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{doing} : {error}") from error


def _test(reading: Reading, words: tuple[str, ...], location: Location) -> Test:
    fetch = words[0] if words else ""
    reason = why_not(fetch)
    if reason is not None:
        raise RefusedError(f"'{fetch}' {reason}")
    sample = read_sample(reading, fetch, location)
    test = read_test(reading, sample, words[1:])
    if not test.patterns and test.method not in ("bool", "found"):
        reading.say(
            "WARNING",
            location,
            f"parsing acl keyword '{fetch}' : no pattern to match against were provided, so this ACL will never match.",
        )
    return test


def _named(reading: Reading, name: str, location: Location) -> tuple[Test, ...]:
    section = reading.section
    if name in section.refused_acls:
        raise RefusedError(section.refused_acls[name])
    if name in section.acls:
        return tuple(section.acls[name])
    if name in _PREDEFINED:
        return (_test(reading, _PREDEFINED[name], location),)
    if name in _PREDEFINED_ABOVE:
        raise RefusedError(f"'{name}' {_PREDEFINED_ABOVE[name]}")
    raise ConfigError(f"no such ACL : '{name}'.")


def _not_empty(terms: list[Term], where: str) -> tuple[Term, ...]:
    if not terms:
        raise ConfigError(f"a condition is missing {where}.")
    return tuple(terms)
