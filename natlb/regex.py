r"""Regular expressions that cannot run away.

HAProxy matches with PCRE, and Python's `re` works as PCRE does: by trying one way after the other. Both need
exponential time for some harmless-looking patterns, and what is matched here was sent by another machine, in the one
thread that also handles the packets. So patterns are matched the way of Thompson (1968) instead: all ways are followed
at once, each byte is looked at once, and the sets of places where a match may be are remembered (a deterministic
automaton, made as far as it is needed). The time is linear in the text, whatever the pattern and whatever the text.

What that cannot express - back references, look-around - is refused, and so is what PCRE and others read differently.
The language that is left is a true part of PCRE's:

    a  \.  \n \r \t \f \e \xNN     a byte; the backslash takes the meaning from any character that is no letter or digit
    .  [abc] [^a-z] [[:digit:]]    any but a newline; one of some (`\d \w \s` and `\D \W \S` inside and outside)
    ab  a|b  (a)  (?:a)            one after the other, one of both, a group
    *  +  ?  {n} {n,} {n,m}        how often; `*?` and the like are the same here, since only "whether" is asked
    ^  $                           the start; the end, or before a last newline

Patterns and texts are bytes, and letters are of one case, as in HAProxy's checks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from natlb.errors import NatlbError

MOST_PLACES: Final = 300
"""Places in a compiled pattern: what a byte costs at most."""
MOST_REPEATS: Final = 255
_MOST_STATES: Final = 1000
"""Sets of places that are remembered; then it begins anew."""
_DEEPEST: Final = 50
"""Groups within groups."""

_ALL: Final = (1 << 256) - 1
_REPEATS: Final = frozenset(b"*+?")


class PatternError(NatlbError):
    """A pattern that is wrong, or that this module does not do."""


def _bits(*spans: tuple[int, int]) -> int:
    return sum(((1 << (last - first + 1)) - 1) << first for first, last in spans)


_DIGIT: Final = _bits((48, 57))
_UPPER: Final = _bits((65, 90))
_LOWER: Final = _bits((97, 122))
_WORD: Final = _DIGIT | _UPPER | _LOWER | 1 << 95
_SPACE: Final = _bits((9, 13), (32, 32))
_PUNCTUATION: Final = _bits((33, 47), (58, 64), (91, 96), (123, 126))
_SETS: Final = {
    ord("d"): _DIGIT,
    ord("D"): _ALL & ~_DIGIT,
    ord("w"): _WORD,
    ord("W"): _ALL & ~_WORD,
    ord("s"): _SPACE,
    ord("S"): _ALL & ~_SPACE,
}
_NAMED: Final = {
    b"alnum": _DIGIT | _UPPER | _LOWER,
    b"alpha": _UPPER | _LOWER,
    b"ascii": _bits((0, 127)),
    b"blank": _bits((9, 9), (32, 32)),
    b"cntrl": _bits((0, 31), (127, 127)),
    b"digit": _DIGIT,
    b"graph": _bits((33, 126)),
    b"lower": _LOWER,
    b"print": _bits((32, 126)),
    b"punct": _PUNCTUATION,
    b"space": _SPACE,
    b"upper": _UPPER,
    b"word": _WORD,
    b"xdigit": _DIGIT | _bits((65, 70), (97, 102)),
}
_CONTROLS: Final = {ord("n"): 10, ord("r"): 13, ord("t"): 9, ord("f"): 12, ord("e"): 27, ord("a"): 7}


# What a pattern says, as a tree.


@dataclass(frozen=True, slots=True)
class _OneOf:
    bits: int


@dataclass(frozen=True, slots=True)
class _Start:
    pass


@dataclass(frozen=True, slots=True)
class _End:
    pass


@dataclass(frozen=True, slots=True)
class _Sequence:
    parts: "tuple[_Node, ...]"


@dataclass(frozen=True, slots=True)
class _Choice:
    branches: "tuple[_Node, ...]"


@dataclass(frozen=True, slots=True)
class _Repeat:
    part: "_Node"
    least: int
    most: int | None


_Node = _OneOf | _Start | _End | _Sequence | _Choice | _Repeat


class _Reader:
    """From the text of a pattern to its tree, by recursive descent."""

    def __init__(self, pattern: bytes) -> None:
        self._text = pattern
        self._at = 0

    def read(self) -> _Node:
        node = self._choice(0)
        if self._at < len(self._text):
            raise PatternError("')' closes no group; write '\\)' for the character")
        return node

    def _peek(self, ahead: int = 0) -> int:
        """The byte at hand, or -1 at the end."""
        at = self._at + ahead
        return self._text[at] if at < len(self._text) else -1

    def _take(self, text: bytes) -> bool:
        if not self._text.startswith(text, self._at):
            return False
        self._at += len(text)
        return True

    def _choice(self, depth: int) -> _Node:
        branches = [self._sequence(depth)]
        while self._take(b"|"):
            branches.append(self._sequence(depth))
        return branches[0] if len(branches) == 1 else _Choice(tuple(branches))

    def _sequence(self, depth: int) -> _Node:
        parts: list[_Node] = []
        while self._peek() not in (-1, ord("|"), ord(")")):
            parts.append(self._repeated(self._atom(depth)))
        return _Sequence(tuple(parts))

    def _repeated(self, atom: _Node) -> _Node:
        bounds = self._bounds()
        if bounds is None:
            return atom
        if isinstance(atom, _Start | _End):
            raise PatternError("'^' and '$' cannot be repeated")
        if self._take(b"+"):
            raise PatternError("possessive repetition is not supported")
        self._take(b"?")
        if self._peek() in _REPEATS or self._bounds() is not None:
            raise PatternError("a repetition follows another one; write '(?:...)' around the first")
        return _Repeat(atom, *bounds)

    def _bounds(self) -> tuple[int, int | None] | None:
        """Read how often: (least, most); None where nothing of the kind stands."""
        for sign, bounds in ((b"*", (0, None)), (b"+", (1, None)), (b"?", (0, 1))):
            if self._take(sign):
                return bounds
        if self._peek() != ord("{"):
            return None
        closing = self._text.find(b"}", self._at)
        first, comma, last = self._text[self._at + 1 : closing].partition(b",")
        if closing >= 0 and not first and last.isdigit():
            raise PatternError("'{,n}' means one thing to some and another to others; write '{0,n}'")
        if closing < 0 or not first.isdigit() or not (last.isdigit() or not last):
            return None  # an ordinary brace, to PCRE as well
        self._at = closing + 1
        least = int(first[:6])
        most = (int(last[:6]) if last else None) if comma else least
        if max(least, most or 0) > MOST_REPEATS:
            raise PatternError(f"repetitions are supported up to {MOST_REPEATS} times")
        if most is not None and most < least:
            raise PatternError("a repetition has its numbers in the wrong order")
        return least, most

    def _atom(self, depth: int) -> _Node:
        byte = self._peek()
        if byte in _REPEATS:
            raise PatternError(f"'{chr(byte)}' has nothing to repeat; write '\\{chr(byte)}' for the character")
        self._at += 1
        match chr(byte):
            case "(":
                return self._group(depth + 1)
            case "[":
                return _OneOf(self._set())
            case "\\":
                return _OneOf(self._escape())
            case ".":
                return _OneOf(_ALL & ~(1 << 10))
            case "^":
                return _Start()
            case "$":
                return _End()
        return _OneOf(1 << byte)

    def _group(self, depth: int) -> _Node:
        if depth > _DEEPEST:
            raise PatternError(f"groups are supported up to {_DEEPEST} within each other")
        if not self._take(b"?:") and self._peek() in (ord("?"), ord("*")):
            raise PatternError("of the groups with a meaning of their own only '(?:...)' is supported")
        node = self._choice(depth)
        if not self._take(b")"):
            raise PatternError("a group is not closed")
        return node

    def _escape(self) -> int:
        """Read what follows a backslash, as a set."""
        byte = self._peek()
        self._at += 1
        if byte < 0:
            raise PatternError("a backslash stands at the end")
        if byte in _SETS:
            return _SETS[byte]
        if byte in _CONTROLS:
            return 1 << _CONTROLS[byte]
        if byte == ord("x"):
            digits = self._text[self._at : self._at + 2]
            if len(digits) < 2 or not digits.isalnum() or not set(digits.lower()) <= set(b"0123456789abcdef"):
                raise PatternError("'\\x' needs two hexadecimal digits")
            self._at += 2
            return 1 << int(digits, 16)
        if chr(byte).isalnum() and byte < 128:
            raise PatternError(f"'\\{chr(byte)}' is not supported")
        return 1 << byte

    def _set(self) -> int:
        negated = self._take(b"^")
        bits = 0
        first = True
        while first or self._peek() != ord("]"):
            first = False
            low = self._member()
            if low.bit_count() == 1 and self._peek() == ord("-") and self._peek(1) not in (ord("]"), -1):
                self._at += 1
                high = self._member()
                if high.bit_count() != 1 or high < low:
                    raise PatternError("a range in '[...]' is in the wrong order, or does not end in a character")
                low = (high << 1) - low
            elif low.bit_count() != 1 and self._peek() == ord("-") and self._peek(1) != ord("]"):
                raise PatternError("a range in '[...]' does not begin with a character")
            bits |= low
        self._at += 1
        return _ALL & ~bits if negated else bits

    def _member(self) -> int:
        byte = self._peek()
        if byte < 0:
            raise PatternError("'[' is not closed")
        if byte == ord("[") and self._peek(1) in (ord(":"), ord("."), ord("=")):
            end = self._text.find(b":]", self._at)
            name = self._text[self._at + 2 : end] if end >= 0 else b""
            negated, name = name.startswith(b"^"), name.removeprefix(b"^")
            if self._peek(1) != ord(":") or name not in _NAMED:
                raise PatternError("'[' in '[...]' begins no class that is known; write '\\[' for the character")
            self._at = end + 2
            return _ALL & ~_NAMED[name] if negated else _NAMED[name]
        self._at += 1
        return self._escape() if byte == ord("\\") else 1 << byte


# A pattern compiled: places, and ways between them that need no byte.

_MATCH: Final = 0
"""The place where all is matched."""


class _State:
    """What is known after some bytes: all places where a match may be."""

    __slots__ = ("following", "found", "found_at_end", "places")

    def __init__(self, places: frozenset[int], found: bool, found_at_end: bool) -> None:
        self.places = places
        self.found = found
        """Whether a match has been found."""
        self.found_at_end = found_at_end
        """Whether it has been if the text ends here."""
        self.following: dict[int, _State] = {}
        """By byte, as far as it was needed."""


class Pattern:
    """A compiled pattern. Raises PatternError, with a text that says why, if it cannot be compiled."""

    def __init__(self, pattern: bytes) -> None:
        # By place: the bytes that lead on, and to where; or the places that are reached without a byte.
        self._bits: list[int] = [0]
        self._next: list[int] = [_MATCH]
        self._ways: list[tuple[int, ...]] = [()]
        self._at_start: set[int] = set()
        self._at_end: set[int] = set()
        self._entry = self._compile(_Reader(pattern).read(), _MATCH)
        if any(self._bits[place] for end in self._at_end for place in self._reach((end,), at_end=True)):
            raise PatternError("something follows '$'")
        self._states: dict[frozenset[int], _State] = {}
        self._begin = self._state((self._entry,), at_start=True)

    def search(self, text: bytes) -> bool:
        """Whether the pattern matches anywhere in `text`. Time is linear in its length."""
        return any(self.steps(text, len(text) or 1))

    def steps(self, text: bytes, size: int) -> Iterator[bool]:
        """Search in steps of `size` bytes, with a chance for others in between; one of them is true if it matches."""
        return Search(self).steps(text, size)

    def _place(self, bits: int = 0, following: int = _MATCH, ways: tuple[int, ...] = ()) -> int:
        if len(self._bits) >= MOST_PLACES:
            raise PatternError(f"it is too long: repetitions written out, it may have {MOST_PLACES} places")
        self._bits.append(bits)
        self._next.append(following)
        self._ways.append(ways)
        return len(self._bits) - 1

    def _compile(self, node: _Node, then: int) -> int:
        """Make the places for a part of the pattern that goes on at `then`; return where it begins."""
        match node:
            case _OneOf(bits):
                return self._place(bits, then)
            case _Start():
                place = self._place(ways=(then,))
                self._at_start.add(place)
                return place
            case _End():
                place = self._place(ways=(then,))
                self._at_end.add(place)
                return place
            case _Sequence(parts):
                for part in reversed(parts):
                    then = self._compile(part, then)
                return then
            case _Choice(branches):
                return self._place(ways=tuple(self._compile(branch, then) for branch in branches))
            case _Repeat(part, least, most):
                if most is None:
                    loop = self._place(ways=(then,))
                    self._ways[loop] = (self._compile(part, loop), then)
                    entry = loop
                else:
                    entry = then
                    for _ in range(most - least):
                        entry = self._place(ways=(self._compile(part, entry), then))
                for _ in range(least):
                    entry = self._compile(part, entry)
                return entry

    def _reach(self, places: tuple[int, ...], *, at_start: bool = False, at_end: bool = False) -> frozenset[int]:
        """All places that are reached from some without a byte, at the start or the end of the text or not."""
        reached: set[int] = set()
        waiting = list(places)
        while waiting:
            place = waiting.pop()
            if place in reached:
                continue
            reached.add(place)
            if (at_start or place not in self._at_start) and (at_end or place not in self._at_end):
                waiting.extend(self._ways[place])
        return frozenset(reached)

    def _state(self, places: tuple[int, ...], *, at_start: bool = False) -> _State:
        reached = self._reach(places, at_start=at_start)
        if not at_start and (known := self._states.get(reached)) is not None:
            return known
        at_end = self._reach(places, at_start=at_start, at_end=True)
        state = _State(frozenset(place for place in reached if self._bits[place]), _MATCH in reached, _MATCH in at_end)
        if not at_start:
            if len(self._states) >= _MOST_STATES:
                self._states.clear()
                self._begin.following.clear()
            self._states[reached] = state
        return state

    @property
    def begin(self) -> _State:
        """What is known before the first byte."""
        return self._begin

    def step(self, state: _State, byte: int) -> _State:
        """The state after one more byte. A match may begin anywhere, so the entry is always among the places."""
        bits, following = self._bits, self._next
        places = tuple(following[place] for place in state.places if bits[place] >> byte & 1)
        state.following[byte] = made = self._state((*places, self._entry))
        return made


class Search:
    """A search in a text that comes in pieces: no byte is looked at twice."""

    def __init__(self, pattern: Pattern) -> None:
        self._pattern = pattern
        self._state = pattern.begin
        self._before_newline = False

    def steps(self, more: bytes, size: int) -> Iterator[bool]:
        """Go on in what has come, in steps of `size` bytes; one of them is true if all that has come matches.

        The last one says so if it does for ending here. Go through all of them before there is more.
        """
        step, state, before_newline = self._pattern.step, self._state, self._before_newline
        for start in range(0, len(more), size):
            for byte in more[start : start + size]:
                if state.found:
                    break
                before_newline = byte == 10 and state.found_at_end
                following = state.following.get(byte)
                state = step(state, byte) if following is None else following
            self._state, self._before_newline = state, before_newline
            if state.found:
                break
            yield False
        yield state.found or state.found_at_end or before_newline
