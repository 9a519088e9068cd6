"""Configurations by the thousand, made from the keyword table.

An entry of the table says how its line is written (`timeout client <time>`, `hash-type map-based|consistent [...]`),
and `Grammar.written` reads that as a grammar: `[...]` may be left out, `|` chooses, and for each `<...>` there is a
list of values in `VALUES`, of which some are wrong or just at an edge. A few keywords whose syntax is an ellipsis have
a method of their own. So a new keyword is covered from the day it is in the table, and one whose syntax speaks of
something unheard of is a KeyError, which fails the tests.

All choices are those of one `random.Random`: a seed is a configuration. (Hypothesis has such a Random too.)
"""

import re
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Final

from natlb.config.entries import Refuse
from natlb.config.keywords import FOREIGN_SECTIONS, TABLE
from natlb.config.log_format import VARIABLES
from natlb.config.log_lines import FACILITIES, HEADERS, LEVELS
from natlb.config.samples import CONVERTERS, FACTS
from natlb.config.stick_section import COUNTS, RATES

SECTIONS: Final = ("global", "defaults", "frontend", "backend", "listen", "udp-lb")

NAMES: Final = ("a", "b", "c", "d", "www", "A.b-c_d:e", "0")
NUMBERS: Final = ("1", "2", "3", "5", "10", "50", "64", "100", "101", "256", "1000", "4096", "16384", "30000")
EDGES: Final = (
    "0",
    "-1",
    "-2",
    "257",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "4294967296",
    "x",
    "1x",
    "+1",
    "01",
)
TIMES: Final = ("1", "100", "5s", "30s", "10m", "2h", "24d", "1500ms")
ODD_TIMES: Final = ("0", "25d", "1us", "999us", "5x", "1h30m", "-5s", "5S", "1.5s", "0s", "99999999999")
HOSTS: Final = ("127.0.0.1", "192.0.2.7", "10.0.0.1", "[2001:db8::1]", "[::1]")
ODD_HOSTS: Final = ("", "*", "0.0.0.0", "::1", "[::]", "localhost", "127.1", "1.2.3.4.5", "[", "10.0.0.256", "$NOPE")
PORTS: Final = ("80", "81", "110", "143")  # near to each other: a range of thousands of ports takes long
ODD_PORTS: Final = ("1", "65535", "080", "0", "65536", "80-82", "82-80", "80x", "+5", "-5", "", "http")
ODD_WORDS: Final = (
    *("x", "0", "-1", "99999999999", "#", "'a b'", '""', '"$NOPE"', "\\ ", "a\\x41", "from", "no", "$", "if", "unless"),
    *(
        '"${HOME}"',
        "'",
        '"',
        "\\xZZ",
        "é",
        "a,b",
        "a/b",
        "on",
        "off",
        "!",
        "{",
        "}",
        "--",
        "-f",
        "%[src]",
        "or",
        "default",
    ),
)
PATTERNS: Final = (
    *(
        "a",
        "'a b'",
        "+OK",
        "^a|b$",
        "[[:alpha:]]+",
        "(",
        "a{2,3}?",
        "0a1b",
        "0A1",
        "a**",
        "(?:x)*y",
        "\\\\d+",
        "x%%",
        "%b",
    ),
    *("200", "200-299,404", "404-", "599-500", "PONG", "a\\ b", '"a\\x0d\\x0a"'),
)
NETWORKS: Final = (
    *("10.0.0.0/8", "192.0.2.7", "10.1.2.3/255.255.0.0", "10.0.0.1/255.0.0.255", "::1", "2001:db8::/32", "0.0.0.0/0"),
    *("::/0", "::ffff:1.2.3.4", "1.2.3.4/33", "1.2.3.4/", "::1/129", "10/8", "10.0.0", "x", "*", "[::1]", "01.2.3.4"),
)
AMOUNTS: Final = (
    *("0", "80", "443", "80:90", "90:80", "80:", ":90", ":", "80-90", "x", "8x", "007", "-1", "1.5", "gt 5", "lt 5"),
    *("ge 80", "le 9", "eq 3 4", "gt", "9223372036854775807", "9223372036854775808", "-i", "--"),
)


def _values(good: Iterable[str], odd: Iterable[str] = (), share: int = 8) -> tuple[str, ...]:
    """The good ones `share` times as often as the odd ones, roughly."""
    good, odd = tuple(good), tuple(odd)
    return good * max(1, share * len(odd) // len(good)) + odd if odd else good


_NUMBER: Final = _values(NUMBERS, EDGES)
_FILES: Final = (*(f"/tmp/natlb-{number}" for number in range(20)), "x", "/")

VALUES: Final[dict[str, tuple[str, ...]]] = {
    "number": _NUMBER,
    "count": _values(("1", "2", "3", "10"), EDGES),
    "first": ("1", "2", "0", "5"),
    "last": ("3", "4", "5", "5", "2", "x"),
    "0..256": _values(("0", "1", "10", "255", "256"), EDGES),
    "0..50": _values(("0", "1", "25", "50"), ("51", "-1", "x", "5%")),
    "percent": _values(("0", "101", "150", "200", "100"), EDGES),
    "interval": _values(("1", "2", "-1", "-2", "0"), ("x", "2147483648")),
    "draws": _values(("1", "2", "3", "100"), ("0", "-1", "x", "")),
    "n": _values(("0", "1", "2"), ("3", "x", "-1", "11", "")),
    "bytes": _values(("80", "1024", "8192", "65535"), ("79", "65536", "x", "0")),
    "time": _values(TIMES, ODD_TIMES),
    "expire": _values(TIMES, ODD_TIMES),
    "octal": _values(("600", "660", "0666", "777"), ("9", "8", "x", "1777", "-1")),
    "header": _values(HEADERS, ("x", "rfc")),
    "facility": _values(FACILITIES, ("x", "LOCAL0")),
    "level": _values(LEVELS, ("x", "warn", "ERR")),
    "least level": _values(LEVELS, ("x",)),
    "target": _values(
        ("127.0.0.1", "127.0.0.1:514", "[::1]:5", "::1", "/dev/log", "unix@/tmp/x", "stdout", "stderr", "fd@3"),
        ("fd@x", ":514", "udp@127.0.0.1", "tcp@127.0.0.1:5", "ring@x", "x", "127.0.0.1:0", "127.0.0.1:5-9", "fd@"),
    ),
    "text": _values(("x", "'a text'", '"of words"', "natlb"), ODD_WORDS),
    "value": _values(("x", "'a text'", "1", '"$HOME"'), ODD_WORDS),
    "path": _values(_FILES, ODD_WORDS, 2),
    "address": _values(HOSTS, ODD_HOSTS, 3),
    "host": _values(HOSTS, ODD_HOSTS, 4),
    "ip": _values(HOSTS, ODD_HOSTS, 4),
    "port": _values(PORTS, ODD_PORTS, 5),
    "data": _values(
        (*COUNTS, *(f"{rate}(10s)" for rate in RATES)), ("conn_rate", "conn_cnt(5)", "gpt0", "x", "server_id")
    ),
    "method": ("GET", "HEAD", "OPTIONS", "POST", "get", "x", "G T"),
    "uri": ("/", "/x", "'/a b'", "*", "x", "http://a/"),
    "version": ("HTTP/1.0", "HTTP/1.1", "HTTP/2", "'HTTP/1.1\\r\\nHost: a'", "x"),
    "file": ("/nonexistent", "/dev/null", "x"),
    "id": ("1", "5", "77", "x"),
}
"""What a `<...>` of a syntax may be. Those of `Grammar.MADE` are made instead."""

_OWN_NAMES: Final = {
    "user": _values(("root", "nobody", "daemon"), ("nosuch", "0")),
    "group": _values(("root", "daemon"), ("nosuch", "0")),
    "interface": _values(("lo", "eth0"), ("a/b", "x" * 16)),
    "setenv": ("A", "B", "HOME", "A=b", "NATLB_X"),
    "presetenv": ("A", "B", "HOME", "NATLB_X"),
    "unsetenv": ("A", "B", "HOME", "NATLB_X"),
    "resetenv": ("A", "B", "HOME", "PATH"),
}
"""Names that are not those of sections."""

PARAMETER_TABLES: Final = {
    "bind": "bind",
    "dgram-bind": "dgram-bind",
    "server": "server",
    "server-template": "server",
    "default-server": "default-server",
    "stats socket": "stats socket",
}
"""Keywords whose lines end in parameters, and the table of those."""


def names_of(section: str, *, refused: bool = False) -> list[str]:
    """The keywords that a section has, or the parameters that a line has: those that work, or those refused by name."""
    return _NAMES_OF[section, refused]


_NAMES_OF: Final[dict[tuple[str, bool], list[str]]] = {}
for (_section, _name), _entry in TABLE.items():
    for _refused in (False, True):
        _NAMES_OF.setdefault((_section, _refused), [])
    _NAMES_OF[_section, isinstance(_entry.action, Refuse)].append(_name)


class Grammar:
    """Makes lines and configurations with the choices of `random`.

    Sections and servers have names that end in `tag`, so that several configurations may stand in one file.
    """

    def __init__(self, random: Random, tag: str = "") -> None:
        self.random = random
        self.names = tuple(name + tag for name in NAMES)
        self._section = ""
        self._keyword = ""

    def configuration(self, most_sections: int = 6, most_lines: int = 12, mistakes: float = 0.05) -> list[str]:
        """The lines of a configuration, of which about so many have a mistake in them."""
        lines = []
        for _ in range(self.random.randint(1, most_sections)):
            section = self.random.choice(SECTIONS)
            lines.append(self.opening(section))
            if section in ("backend", "listen", "udp-lb") and self.random.random() < 0.3:
                lines.append(f"    server {self.names[-1]} 192.0.2.1:80 check")  # one to track, and to use
            for _ in range(self.random.randint(0, most_lines)):
                lines.append(f"    {self.line(section)}")
        return [self.mistaken(line, lines) if self.random.random() < mistakes else line for line in lines]

    def opening(self, section: str) -> str:
        """The line that begins a section."""
        if self.random.random() < 0.01:
            section = self.random.choice(sorted(FOREIGN_SECTIONS))
        name = "" if section == "global" else self.value("name")
        if section == "defaults" and self.random.random() < 0.5:
            name = ""
        if name and section != "udp-lb" and self.random.random() < 0.1:
            name += f" from {self.random.choice(self.names)}"
        return f"{section} {name}".rstrip()

    def line(self, section: str, keyword: str | None = None) -> str:
        """A line of a section."""
        if keyword is None:
            refused = self.random.random() < 0.02
            names = names_of(section, refused=refused)
            if self.random.random() < 0.25:  # lines with parameters have more to say
                names = [name for name in names if name in PARAMETER_TABLES] or names
            keyword = self.random.choice(names)
        self._section, self._keyword = section, keyword
        made = _OWN_METHODS.get(keyword)
        entry = TABLE[section, keyword]
        text = made(self) if made is not None else self.written(entry.syntax)
        if entry.negatable and self.random.random() < 0.2:
            text = f"{self.random.choice(('no', 'no', 'no', 'default'))} {text}"
        return text.strip()

    def mistaken(self, line: str, others: Sequence[str]) -> str:
        """The line with a mistake: a word odd, missing, twice, at another's place, or that of another line."""
        words = line.split()
        if not words:
            return line
        at = self.random.randrange(len(words))
        match self.random.randrange(7):
            case 0:
                words.append(self.random.choice(ODD_WORDS))
            case 1:
                words[at] = self.random.choice(ODD_WORDS)
            case 2:
                del words[at]
            case 3:
                words.insert(at, words[at])
            case 4:
                words.insert(at, words.pop())
            case 5:
                words[at] = self.random.choice(self.random.choice(others).split() or ["x"])
            case _:
                letters = list(words[at])
                self.random.shuffle(letters)
                words[at] = "".join(letters)
        indent = line[: len(line) - len(line.lstrip())]
        return indent + " ".join(words)

    # A syntax as a grammar.

    def written(self, syntax: str) -> str:
        """Something that the syntax describes, or nearly so."""
        forms: list[list[str]] = [[]]
        for word in _cut(syntax, " "):
            if word == "|":
                forms.append([])
            else:
                forms[-1].append(word)
        if len(forms) > 1 and forms[1][0] != forms[0][0]:  # the keyword is written once, for all forms
            forms = [forms[0], *(forms[0][:1] + form for form in forms[1:])]
        made: list[str] = []
        for word in self.random.choice(forms):
            if word == "..." and made:
                made += [self._word(forms[0][-2]) for _ in range(self.random.randint(0, 2))]
            else:
                made.append(self._word(word))
        return " ".join(part for part in made if part)

    def _word(self, word: str) -> str:
        return "".join(self._piece(piece) for piece in _pieces(self.random.choice(_cut(word, "|"))))

    def _piece(self, piece: str) -> str:
        if piece == "[parameters]":
            return self.parameters(self._keyword)
        if piece == "...":
            return ""
        if piece == "[,...]":
            return "" if self.random.random() < 0.8 else f",{self.value('host')}:{self.value('port')}"
        if piece.startswith("["):
            return self.written(piece[1:-1]) if self.random.random() < 0.5 else ""
        if piece.startswith("<"):
            return self.value(piece[1:-1])
        return piece

    def value(self, what: str) -> str:
        """Something for a `<...>`. Raises KeyError if that is unheard of."""
        made = self.MADE.get(what)
        if made is not None:
            return made(self)
        if what == "port" and self.random.random() < 0.5:
            return str(self.random.randint(90, 189))
        return self.random.choice(VALUES[what])

    def parameters(self, keyword: str, most: int = 4) -> str:
        """Some of the parameters at the end of a line, few of them twice."""
        table = PARAMETER_TABLES[keyword]
        if self._section == "udp-lb" and table in ("server", "default-server"):
            table = f"udp-lb {table}"
        names = names_of(table)
        chosen = self.random.sample(names, min(self.random.randint(0, most), len(names)))
        if self.random.random() < 0.03:
            chosen.append(self.random.choice(names_of(table, refused=True) + chosen))
        return " ".join(self.parameter(table, name) for name in chosen)

    def parameter(self, table: str, name: str) -> str:
        """One parameter with what belongs to it."""
        outer, self._keyword = self._keyword, name
        text = self.source() if name == "source" else self.written(TABLE[table, name].syntax)
        self._keyword = outer
        return text

    def name(self) -> str:
        """A name, mostly of a section or a server."""
        if self._keyword in _OWN_NAMES:
            return self.random.choice(_OWN_NAMES[self._keyword])
        if self._keyword in ("track", "use-server") and self.random.random() < 0.6:
            return self.names[-1]
        return self.random.choice(self.names if self.random.random() < 0.9 else ODD_WORDS)

    # What no syntax says.

    def source(self) -> str:
        """`source`, whose `[::]` is no option."""
        random = self.random
        port = random.choice(("", "", "", ":", ":0", ":80", ":80-90", ":0-9", ":90-80", ":+5", ":x"))
        rest = random.choice(
            ("", "", "", "usesrc clientip", "usesrc client", "usesrc", "usesrc 192.0.2.8", "interface lo")
        )
        where = random.choice((self.value("host"), self.value("host"), "0.0.0.0", "*", "[::]", "::", "ipv4@1.2.3.4"))
        if rest.startswith("usesrc client") and random.random() < 0.8:
            where, port = random.choice(("0.0.0.0", "[::]", "*", "ipv6@", "::")), ""
        return f"source {where}{port} {rest}".rstrip()

    def stats_socket(self) -> str:
        """`stats socket`, whose syntax tells a few of its parameters."""
        address = f"{self.value('host')}:{self.value('port')}"
        where = self.random.choice((self.value("path"), self.value("path"), f"unix@{self.value('path')}", address))
        return f"stats socket {where} {self.parameters('stats socket')}"

    def balance_hash(self) -> str:
        return "balance hash " + self.random.choice(("src", "dst", "src_port", "dst_port", self.fetch(), "path", ""))

    def log_format(self) -> str:
        """What a log line says."""
        parts = []
        for _ in range(self.random.randint(1, 6)):
            name = self.random.choice(sorted(VARIABLES))
            flags = self.random.choice(("", "", "", "{+Q}", "{-Q}", "{+Q,-X}", "{+X}", "{+E}", "{+Z}", "{}", "{+Q"))
            odd = self.random.choice(("%%", "x", ":", "\\ ", "%", "%{+Q}o", "%[src]", "%HM", "%xx", "%ST", "[", '\\"'))
            parts.append(odd if self.random.random() < 0.2 else f"%{flags}{name}")
        return "".join(parts)

    def fetch(self) -> str:
        """A sample: a fact and some converters."""
        if self.random.random() < 0.03:
            return self.random.choice(
                ("nosuch", "hdr(host)", "path", "req.len", "srcport", "src(", "src)", ",", "int(5)")
            )
        easy = self.random.random() < 0.6  # most facts need a table that has what they ask for
        name = self.random.choice([name for name in sorted(FACTS) if not (easy and FACTS[name].takes)])
        fact = FACTS[name]
        argument = {
            "": "",
            "slot": self.random.choice("0120125x"),
            "slot and table": self.random.choice(("0", "1", f"0,{self.name()}", f"1,{self.name()}", "3", "", "0,a,b")),
            "server": self.random.choice((f"{self.name()}/{self.name()}", self.name(), "")),
        }.get(fact.takes, self.random.choice(("", *self.names)))
        return f"{name}({argument})" if argument else name

    def converter(self) -> str:
        name = self.random.choice(sorted(CONVERTERS))
        argument = {
            "ipmask": self.random.choice(("24", "32", "0", "255.255.0.0", "24,64", "33", "24,129", "")),
            "in_table": self.name(),
        }.get(name)
        if argument is None:
            takes = name not in ("odd", "even", "bool", "not") or self.random.random() < 0.05
            argument = self.random.choice(("1", "2", "3", "0", "-1", "x", "4294967296")) if takes else ""
        return f"{name}({argument})" if argument else name

    def sample(self) -> str:
        converters = [self.converter() for _ in range(self.random.choice((0, 0, 0, 1, 2)))]
        return ",".join([self.fetch(), *converters])

    def key(self) -> str:
        if self.random.random() < 0.2:
            return self.sample()
        return self.random.choice(
            ("src", "dst", "src,ipmask(24)", "src_port", "dst_port", "fe_name", "src,ipmask(24,64)")
        )

    def test(self) -> str:
        """A sample with what it is matched against."""
        random = self.random
        fetch = random.choice((self.sample(), self.key(), "src"))
        kind = FACTS[name].kind if (name := re.split(r"[,(]", fetch)[0]) in FACTS else "int"
        flags = random.choice(
            ("", "", "", "", "-i", "-n", "-m found", "-m bool", "-m ip", "-m int", "-m str", "-m sub")
        )
        if random.random() < 0.05:
            flags += random.choice((" -u 5", " -M", " -f /nonexistent", " --", " -m beg", " -m foo", " -m reg", " -x"))
        pool = {"ip": NETWORKS, "int": AMOUNTS, "bool": ("", "", "1"), "str": NAMES}[kind]
        if random.random() < 0.08:
            pool = random.choice((NETWORKS, AMOUNTS, NAMES, PATTERNS))
        patterns = " ".join(random.choice(pool) for _ in range(random.choice((0, 1, 1, 2, 3))))
        return " ".join(f"{fetch} {flags} {patterns}".split())

    def acl(self) -> str:
        return f"acl {self.random.choice((*'xxxyyyzzz', 'a$b', 'or'))} {self.test()}"

    def condition(self) -> str:
        terms = []
        for _ in range(self.random.choice((0, 1, 1, 1, 2, 3, 4))):
            named = self.random.choice(
                ("TRUE", "LOCALHOST", "FALSE", "x", "y", "!x", "! x", "or", "||", "!!y", "HTTP", "!")
            )
            terms.append(
                named if self.random.random() < 0.6 else self.random.choice(("", "!")) + f"{{ {self.test()} }}"
            )
        return " ".join(terms)

    def connection(self) -> str:
        actions = (
            "accept",
            "reject",
            "silent-drop",
            "sc-inc-gpc0(0)",
            "sc-inc-gpc0(5)",
            "set-src src",
            "foo",
            "capture src",
        )
        action = self.random.choice(actions[:4]) if self.random.random() < 0.9 else self.random.choice(actions)
        if self.random.random() < 0.4:
            table = f" table {self.value('name')}" if self.random.random() < 0.6 else ""
            action = f"track-sc{self.random.choice('0001234')} {self.key()}{table}"
        condition = f" {self.random.choice(('if', 'unless'))} {self.condition()}" if self.random.random() < 0.6 else ""
        return f"tcp-request connection {action}{condition}"

    def stick_table(self) -> str:
        random = self.random
        kind = random.choice(("type ip", "type ipv6", "type integer", "type string", "type string len 5", "type x", ""))
        size = random.choice(("size 10", "size 100k", "size 1m", "size 10", "size 0", "size 1x", ""))
        words = [random.choice(("type ip", kind)), random.choice(("size 10", size))]
        if random.random() < 0.5:
            words.append(f"expire {self.value('time')}")
        if random.random() < 0.2:
            words.append(random.choice(("nopurge", "foo", "peers x", "srvkey name", "write-to a")))
        if random.random() < 0.8:
            words.append("store " + ",".join(self.value("data") for _ in range(random.randint(1, 4))))
        random.shuffle(words)
        return " ".join(("stick-table", *words))

    def expectation(self, family: str) -> str:
        random = self.random
        kinds = (
            ("string", "rstring", "binary", "rbinary")
            if family == "tcp-check"
            else ("string", "rstring", "status", "rstatus")
        )
        kind = (
            random.choice(kinds)
            if random.random() < 0.95
            else random.choice(("binary", "status", "hdr", "string-lf", "x"))
        )
        said = [
            *("comment x", "on-error 'no, 5%% off'", "on-success y", "ok-status L4OK", "ok-status l7ok", "min-recv 4"),
            *(
                "tout-status L4TOUT",
                "error-status L7STS",
                "error-status L4TOUT",
                "min-recv -1",
                "on-error %b",
                "min-recv x",
            ),
        ]
        pattern = random.choice(PATTERNS)
        if random.random() < 0.7:
            pattern = {"status": "200-299,404", "binary": "0a1b", "rbinary": "0a|0b"}.get(kind, "^a+b$")
        core = f"{random.choice(('', '', '!', '! '))}{kind} {pattern}"
        parts = [core, *random.sample(said, random.choice((0, 0, 1, 2)))]
        random.shuffle(parts)
        return f"{family} expect " + " ".join(parts)

    def check(self) -> str:
        """A `tcp-check` or an `http-check` rule."""
        family, random = self._keyword, self.random
        connect = [
            "port 80",
            "addr 127.0.0.1",
            "addr 127.0.0.1:81",
            "linger",
            "default",
            "comment x",
            "ssl",
            "port x",
            "send-proxy",
        ]
        rules = [
            f"{family} connect " + " ".join(random.sample(connect[:6], random.choice((0, 1, 2)))),
            f"{family} connect {random.choice(connect)}",
            f"{family} comment x",
            self.expectation(family),
            self.expectation(family),
        ]
        if family == "tcp-check":
            rules += ["tcp-check send x comment y", "tcp-check send 'a b\\r\\n'", "tcp-check send-binary 0a0B"]
            odd = random.choice(("send", "send-binary", "send-lf", "set-var(check.x)", "x"))
            rules.append(f"tcp-check {odd} {random.choice(PATTERNS)}")
        else:
            sent = [
                "meth HEAD",
                "uri /y",
                "ver HTTP/1.1",
                "hdr Host a",
                "hdr X-B 'c d'",
                "body x",
                "comment x",
                "uri-lf /x",
                "hdr A",
            ]
            rules += [
                "http-check send " + " ".join(random.sample(sent, random.choice((1, 2, 3)))),
                "http-check disable-on-404",
            ]
        return random.choice(rules)

    MADE: Final[dict[str, Callable[["Grammar"], str]]] = {
        "name": name,
        "backend": name,
        "server": name,
        "prefix": name,
        "condition": condition,
        "format": log_format,
        "key": key,
        "fetch": sample,
        "converter": converter,
    }


_OWN_METHODS: Final[dict[str, Callable[[Grammar], str]]] = {
    "source": Grammar.source,
    "stats socket": Grammar.stats_socket,
    "balance hash": Grammar.balance_hash,
    "acl": Grammar.acl,
    "tcp-request connection": Grammar.connection,
    "tcp-request": Grammar.connection,
    "stick-table": Grammar.stick_table,
    "tcp-check": Grammar.check,
    "http-check": Grammar.check,
    "stats": lambda grammar: grammar.line(
        "global", grammar.random.choice(("stats socket", "stats timeout", "stats maxconn"))
    ),
    "timeout": lambda grammar: f"timeout {grammar.random.choice(('client', 'check', 'x', ''))} {grammar.value('time')}",
    "balance": lambda grammar: grammar.random.choice(
        ("balance", "balance roundrobin", "balance x", "balance random(2)")
    ),
}
"""Keywords whose syntax does not say all that there is to write."""


def _cut(text: str, separator: str) -> list[str]:
    """The text cut at the separators that are in no brackets."""
    pieces, depth = [""], 0
    for character in text:
        depth += {"[": 1, "<": 1, "]": -1, ">": -1}.get(character, 0)
        if character == separator and not depth:
            pieces.append("")
        else:
            pieces[-1] += character
    return pieces


def _pieces(word: str) -> list[str]:
    """A word as its literal pieces, its `[...]` and its `<...>`."""
    pieces, depth = [""], 0
    for character in word:
        if not depth and character in "[<":
            pieces.append("")
        pieces[-1] += character
        depth += {"[": 1, "<": 1, "]": -1, ">": -1}.get(character, 0)
        if not depth and character in "]>":
            pieces.append("")
    return [piece for piece in pieces if piece]
