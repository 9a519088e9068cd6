"""The lines about checks: `option tcp-check`, `tcp-check ...`, `option httpchk`, `http-check ...`.

What they make is put together by `natlb.config.check_rules`. Refused by name is what has to do with TLS or with proxies
in between, and log-format: texts are what they are, and `%%` is a percent sign.
"""

import re
from typing import Final, cast, get_args

from natlb.config.check_rules import HEADER_NAME, METHOD, URI, VERSIONS, Comment, Family, Request, Rule
from natlb.config.drafts import Reading
from natlb.config.entries import ENDS_TCP, TLS, at_most
from natlb.config.integers import LARGEST, parse_integer
from natlb.config.lexer import Line
from natlb.errors import ConfigError
from natlb.questions import Connect, ErrorStatus, Expect, Expected, OkStatus, Send, TimeoutStatus
from natlb.regex import Pattern, PatternError

_HEX: Final = re.compile(r"[0-9A-Fa-f]*", re.ASCII)
_CODES: Final = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", re.ASCII)
_NO_FORMATS: Final = "takes the variables of a log format, and checks of natlb have none; write the text itself."
_VARIABLES: Final = ("set-var", "set-var-fmt", "unset-var")


class _Words:
    """The words of a rule, taken one after the other."""

    def __init__(self, line: Line) -> None:
        self._words = list(line.words[2:])
        self.rule = f"'{line.word(0)} {line.word(1)}'"

    def __bool__(self) -> bool:
        return bool(self._words)

    def next(self) -> str:
        return self._words.pop(0)

    def value(self, name: str, expected: str = "expects a string as argument.") -> str:
        """The word after `name`."""
        if not self._words:
            raise self.error(f"'{name}' {expected}")
        return self._words.pop(0)

    def error(self, text: str) -> ConfigError:
        return ConfigError(f"{self.rule} : {text}")


def option_tcp_check(reading: Reading, line: Line) -> None:
    """`option tcp-check`."""
    at_most(0, "option tcp-check", line.words[2:])
    reading.section.checks.kind = "tcp-check"


def option_httpchk(reading: Reading, line: Line) -> None:
    """`option httpchk [[<method>] <uri> [<version>]]`."""
    at_most(3, "option httpchk", line.words[2:])
    checks = reading.section.checks
    rule = "'option httpchk'"
    match line.words[2:]:
        case (uri,):
            request = Request(uri=uri, implied=True)
        case (method, uri):
            request = Request(method=method, uri=uri, implied=True)
        case (method, uri, version):
            request = Request(method=method, uri=uri, version=version, implied=True)
        case _:
            request = Request(implied=True)
    _check_request(rule, request)
    if "http-check" not in checks.own:
        checks.http.clear()
    elif any(isinstance(each, Request) and not each.implied for each in checks.http):
        raise ConfigError(f"{rule} : it has to stand before 'http-check send', whose headers HAProxy would drop.")
    checks.own.setdefault("option httpchk", line.location)
    checks.kind = "http"
    checks.http[:] = [request, *(each for each in checks.http if not isinstance(each, Request))]


def log_health_checks(reading: Reading, line: Line) -> None:
    """`option log-health-checks`."""
    at_most(0, "option log-health-checks", line.words[2:])
    reading.section.checks.log = True


def no_log_health_checks(reading: Reading, line: Line) -> None:
    """`no option log-health-checks`."""
    at_most(0, "option log-health-checks", line.words[2:])
    reading.section.checks.log = False


def tcp_check(reading: Reading, line: Line) -> None:
    """`tcp-check connect|send|send-binary|expect|comment ...`."""
    words = _Words(line)
    name = line.word(1)
    rules = reading.section.checks.rules("tcp-check", line.location)
    number = rules[-1].number + 1 if rules else 1
    if name == "connect":
        rules.append(_connect(reading, words, rules, number))
    elif name in ("send", "send-binary"):
        rules.append(_send(words, name, number))
    elif name == "expect":
        rules.append(_expect(words, number, "tcp-check"))
    elif name == "comment":
        rules.append(_comment(words, number))
    else:
        raise _unknown_rule("tcp-check", name, "'comment', 'connect', 'send', 'send-binary', 'expect'")


def http_check(reading: Reading, line: Line) -> None:
    """`http-check disable-on-404|connect|send|expect|comment ...`."""
    words = _Words(line)
    name = line.word(1)
    checks = reading.section.checks
    if name == "disable-on-404":
        at_most(0, "http-check", line.words[2:])
        checks.disable_on_404 = True
        return
    rules = checks.rules("http-check", line.location)
    last = rules[-1] if rules else None
    number = 1 if last is None or (isinstance(last, Request) and last.implied) else last.number + 1
    if name == "connect":
        rule: Rule = _connect(reading, words, rules, number)
    elif name == "send":
        rule = _request(words, number)
    elif name == "expect":
        rule = _expect(words, number, "http-check")
    elif name == "comment":
        rules.append(_comment(words, number))
        return
    else:
        raise _unknown_rule("http-check", name, "'disable-on-404', 'comment', 'connect', 'send', 'expect'")
    _add_to_http(rules, rule, words)


def _add_to_http(rules: list[Rule], rule: Rule, words: _Words) -> None:
    """Add a rule where it may follow: a request after a connection, an expectation after a request or another one."""
    last = next((each for each in reversed(rules) if not isinstance(each, Comment)), None)
    implied = last if isinstance(last, Request) and last.implied else None
    if last is not None and implied is None:
        missing = {
            isinstance(rule, Request) and not isinstance(last, Connect): ("send", "connect"),
            isinstance(rule, Expect) and not isinstance(last, Request | Expect): ("expect", "send"),
            isinstance(rule, Connect) and not isinstance(last, Expect): ("connect", "expect"),
        }.get(True)
        if missing is not None:
            what, before = missing
            raise words.error(f"unable to add http-check {what} rule at step {rule.number} (missing {before} rule).")
    first = next((each for each in rules if isinstance(each, Request) and each.implied), None)
    if isinstance(rule, Request) and first is not None:
        rules.remove(first)
        rule = first.overruled_by(rule)
    rules.append(rule)


def _unknown_rule(family: Family, name: str, known: str) -> ConfigError:
    if name == "send-state":
        return ConfigError(f"'{family} {name}' tells a server how it is seen here; 'send hdr' sends a text of yours.")
    if name.partition("(")[0] in _VARIABLES:
        return ConfigError(f"'{family} {name}' sets a variable, and checks of natlb have none; write the text itself.")
    if name in ("send-lf", "send-binary-lf"):
        return ConfigError(f"'{family} {name}' {_NO_FORMATS}")
    return ConfigError(f"'{family}' only supports {known}. but got '{name}'")


def _comment(words: _Words, number: int) -> Comment:
    if not words:
        raise words.error("expects a string as argument.")
    text = words.next()
    if words:
        raise words.error(f"unexpected argument '{words.next()}'; put the text in quotes.")
    return Comment(number, text)


_CONNECT_REFUSED: Final = {
    "ssl": TLS,
    "sni": TLS,
    "alpn": TLS,
    "send-proxy": ENDS_TCP,
    "via-socks4": ENDS_TCP,
    "proto": "chooses between protocols of HAProxy's own; remove it.",
}


def _connect(reading: Reading, words: _Words, rules: list[Rule], number: int) -> Connect:
    allowed = (Connect, Comment)
    before = [each for each in rules if not (isinstance(each, Request) and each.implied)]
    if not any(isinstance(each, Connect) for each in before) and any(not isinstance(each, allowed) for each in before):
        raise words.error(
            "first step MUST also be a 'connect', optionally preceded by a 'set-var', an 'unset-var' or a 'comment', "
            "when there is a 'connect' step in the tcp-check ruleset."
        )
    address, port, of_address, linger, comment = None, None, None, False, ""
    while words:
        name = words.next()
        if name == "port":
            text = words.value(name, "expects a port number or a sample expression as argument.")
            port = parse_integer(text, f"{words.rule[1:-1]} port", 1, 65535)
        elif name == "addr":
            word = words.value(name, "expects <ipv4|ipv6> as argument.")
            try:
                target = reading.addresses.server(word)
            except ConfigError as error:
                raise words.error(f"'addr' : {error}") from error
            if target.offset:
                raise words.error("'addr' : port offset not permitted here.")
            address, of_address = target.address, target.port
        elif name == "linger":
            linger = True
        elif name == "comment":
            comment = words.value(name)
        elif name in _CONNECT_REFUSED:
            raise words.error(f"'{name}' {_CONNECT_REFUSED[name]}")
        elif name != "default":
            raise words.error(
                f"expects 'comment', 'port', 'addr', 'send-proxy', 'ssl', 'sni', 'alpn' or 'via-socks4', 'linger', "
                f"'default' but got '{name}' as argument."
            )
    return Connect(number, port or of_address, address, linger, comment)


def _send(words: _Words, name: str, number: int) -> Send:
    if not words:
        raise words.error(f"'{name}' expects a string as argument.")
    text = words.next()
    data = _binary(text, words) if name == "send-binary" else text.encode()
    comment = ""
    while words:
        word = words.next()
        if word != "comment":
            raise words.error(f"expects 'comment' but got '{word}' as argument.")
        comment = words.value(word)
    return Send(number, data, comment)


def _binary(text: str, words: _Words) -> bytes:
    wrong = next((character for character in text if not _HEX.fullmatch(character)), None)
    if wrong is not None:
        raise words.error(f"'{text}' invalid binary string (an hex digit is expected (found '{wrong}')).")
    if len(text) % 2:
        raise words.error(f"'{text}' invalid binary string (an even number of hex digit is expected).")
    return bytes.fromhex(text)


def _request(words: _Words, number: int) -> Request:
    said: dict[str, str] = {}
    headers: list[tuple[str, str]] = []
    while words:
        name = words.next()
        if name in ("meth", "uri", "ver", "body", "comment"):
            said[name] = words.value(name)
        elif name == "hdr":
            expected = "expects <name> and <value> as arguments"
            header = words.value(name, expected), words.value(name, expected)
            _add_header(headers, *header, words)
        elif name in ("uri-lf", "body-lf"):
            raise words.error(f"'{name}' {_NO_FORMATS}")
        else:
            raise words.error(
                "expects 'comment', 'meth', 'uri', 'uri-lf', 'ver', 'hdr', 'body' or 'body-lf' but got "
                f"'{name}' as argument."
            )
    request = Request(
        number,
        said.get("meth"),
        said.get("uri"),
        said.get("ver"),
        tuple(headers),
        said.get("body"),
        said.get("comment", ""),
    )
    _check_request(words.rule, request)
    return request


def _add_header(headers: list[tuple[str, str]], name: str, value: str, words: _Words) -> None:
    lower = name.lower()
    if not HEADER_NAME.fullmatch(name):
        raise words.error(f"'{name}' is no name of a header.")
    if lower in ("content-length", "transfer-encoding"):
        raise words.error(f"'hdr {name}' : what the body is speaks for itself; remove it.")
    if lower == "connection" and value.lower() not in ("close", "keep-alive"):
        raise words.error(f"'hdr {name}' takes 'close' or 'keep-alive' (got '{value}').")
    twin = next((other for known, other in headers if known.lower() == lower and lower in ("host", "connection")), None)
    if twin is not None:
        raise words.error(f"'{name}' header already defined (previous value is '{twin}')")
    value = _plain(value, words)
    if not value.isprintable():
        raise words.error(f"'hdr {name}' takes printable characters only.")
    headers.append((name, value))


def _check_request(rule: str, request: Request) -> None:
    """Refuse what makes no request that a server understands; HAProxy sends anything."""
    if request.method is not None and not METHOD.fullmatch(request.method):
        raise ConfigError(f"{rule} : '{request.method}' is no HTTP method; those are words in capitals.")
    if request.uri is not None and not URI.fullmatch(request.uri):
        raise ConfigError(
            f"{rule} : '{request.uri}' is no path: it begins with '/' and has no spaces. "
            "The name of the host goes to 'http-check send hdr Host <name>'."
        )
    if request.version is not None and request.version not in VERSIONS:
        raise ConfigError(f"{rule} : '{request.version}' is not supported; checks speak HTTP/1.0 or HTTP/1.1.")


def _plain(text: str, words: _Words) -> str:
    """A text in which HAProxy would expand log-format variables."""
    if "%" in text.replace("%%", ""):
        raise words.error(f"'{text}' : variables of a log format are none here; '%%' stands for a '%'.")
    return text.replace("%%", "%")


_PATTERNS: Final = {
    "tcp-check": ("string", "rstring", "binary", "rbinary"),
    "http-check": ("string", "rstring", "status", "rstatus"),
}
_EXPECTED: Final = {
    "tcp-check": "'only supports min-recv, '[!]binary', '[!]string', '[!]rstring', '[!]string-lf''[!]rbinary', "
    "'[!]binary-lf' or comment but got '{}' as argument.",
    "http-check": "'only supports min-recv, [!]string', '[!]rstring', '[!]string-lf', '[!]status', '[!]rstatus', "
    "[!]hdr, [!]fhdr or comment but got '{}' as argument.",
}
_OF_HEADERS: Final = "looks at one header; natlb looks at the status and the body: 'status', 'string', 'rstring'."
_NOT_EXPECTED: Final = {
    "string-lf": _NO_FORMATS,
    "binary-lf": _NO_FORMATS,
    "hdr": _OF_HEADERS,
    "fhdr": _OF_HEADERS,
    "custom": "leaves it to another program what passes; natlb takes a pattern: 'string', 'rstring', 'binary'.",
    "status-code": "takes the status from an answer by a sample expression; 'status' matches it.",
}
_STATUSES: Final = {
    "ok-status": (get_args(OkStatus), "'L4OK', 'L6OK', 'L7OK' or 'L7OKC'"),
    "error-status": (get_args(ErrorStatus), "'L4CON', 'L6RSP', 'L7RSP' or 'L7STS'"),
    "tout-status": (get_args(TimeoutStatus), "'L4TOUT', 'L6TOUT' or 'L7TOUT'"),
}


class _Expectation:
    """An `expect` being read."""

    def __init__(self, words: _Words, family: Family) -> None:
        self.words = words
        self.family = family
        self.kind = ""
        self.pattern = ""
        self.negated = False
        self.least: int | None = None
        self.said: dict[str, str] = {}

    def read(self) -> None:
        if not self.words:
            raise self.words.error("expects at least a matching pattern as arguments.")
        while self.words:
            word = self.words.next()
            negating = word.startswith("!")
            while word.startswith("!"):
                name = word.lstrip("!")
                self.negated ^= (len(word) - len(name)) % 2 == 1
                word = name or self.words.value("!", "expects a pattern after it.")
            if negating and word not in (*_PATTERNS["tcp-check"], *_PATTERNS["http-check"], *_NOT_EXPECTED):
                raise self.words.error(f"[!] not supported with '{word}'")
            self._take(word)
        if not self.kind:
            raise self.words.error("pattern not found")

    def _take(self, name: str) -> None:
        words = self.words
        if name in _PATTERNS[self.family]:
            if self.kind:
                raise words.error("only on pattern expected")
            self.kind, self.pattern = name, words.value(name, "expects a <pattern> as argument")
        elif name == "min-recv":
            least = parse_integer(words.value(name, "expects a integer as argument"), name, -1, LARGEST)
            self.least = None if least < 0 else least
        elif name in _STATUSES:
            known, listed = _STATUSES[name]
            value = words.value(name)
            if value.upper() not in known:
                raise words.error(f"'{name}' only supports {listed} status (got '{value}').")
            self.said[name] = value.upper()
        elif name in ("on-success", "on-error"):
            self.said[name] = re.sub(" +", " ", _plain(words.value(name), words)).lstrip()
        elif name == "comment":
            self.said[name] = words.value(name)
        elif name in _NOT_EXPECTED:
            raise words.error(f"'{name}' {_NOT_EXPECTED[name]}")
        else:
            raise words.error(_EXPECTED[self.family].format(name))


def _expect(words: _Words, number: int, family: Family) -> Expect:
    reading = _Expectation(words, family)
    reading.read()
    said = reading.said
    kind, pattern = cast("Expected", reading.kind), reading.pattern
    return Expect(
        number,
        kind,
        data=_binary(pattern, words) if kind == "binary" else pattern.encode() if kind == "string" else b"",
        pattern=_pattern(pattern, words) if kind.startswith("r") else None,
        codes=_codes(pattern, words) if kind == "status" else (),
        negated=reading.negated,
        least=reading.least,
        ok_status=cast("OkStatus | None", said.get("ok-status")),
        error_status=cast("ErrorStatus | None", said.get("error-status")),
        timeout_status=cast("TimeoutStatus | None", said.get("tout-status")),
        on_success=said.get("on-success", ""),
        on_error=said.get("on-error", ""),
        comment=said.get("comment", ""),
    )


def _pattern(text: str, words: _Words) -> Pattern:
    try:
        return Pattern(text.encode())
    except PatternError as error:
        raise words.error(f"regex '{text}' is invalid ({error})") from error


def _codes(text: str, words: _Words) -> tuple[tuple[int, int], ...]:
    codes = []
    for piece in text.split(","):
        match = _CODES.fullmatch(piece)
        if match is None:
            wrong = next((each for each in text if not each.isdigit() and each not in ",-"), None)
            what = f"character '{wrong}'" if wrong else f"piece '{piece}'"
            raise words.error(f"invalid {what} in the list of status codes")
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last:
            raise words.error(f"invalid range of status codes '{text}'")
        codes.append((first, last))
    return tuple(codes)
