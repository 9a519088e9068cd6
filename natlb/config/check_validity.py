"""What sections and servers say of one another about health checks: ports that nobody names, servers that track."""

from collections.abc import Iterable
from typing import Final

from natlb.config.drafts import ProxyDraft, Reading, ServerDraft
from natlb.config.suggest import hint

_SILENCE: Final = 1.0
"""Seconds in which a host complains about a datagram, and can do so again (`natlb.health.complaints`)."""


def check_servers(reading: Reading, proxies: list[ProxyDraft]) -> None:
    """Report what is wrong with the checks of servers."""
    tracks: dict[tuple[str, str], tuple[str, str]] = {}
    for proxy in proxies:
        for server in proxy.servers:
            if server.settings.check:
                _check_port(reading, proxy, server)
            if server.settings.track is not None:
                _check_track(reading, proxy, server, proxies, tracks)


def warn_of_unused_rules(reading: Reading, proxy: ProxyDraft) -> None:
    """Say which rules of a section are for a kind of check that it does not have."""
    checks = proxy.checks
    if not proxy.is_a("backend"):
        return
    for family, kind, option in (("tcp-check", "tcp-check", "tcp-check"), ("http-check", "http", "httpchk")):
        if family in checks.own and checks.kind != kind:
            text = f"uses {family} rules without 'option {option}', so the rules are ignored."
            reading.say("WARNING", checks.own[family], f"{proxy.noun} '{proxy.name}' {text}")
    if checks.disable_on_404 and checks.kind not in ("http", "connect"):
        text = f"'disable-on-404' will be ignored for {proxy.noun} '{proxy.name}' (requires 'option httpchk')."
        reading.say("WARNING", proxy.location, text)


def warn_of_short_silences(reading: Reading, proxy: ProxyDraft) -> None:
    """Say which servers are to be asked again before their silence about a datagram can have meant anything."""
    if proxy.checks.kind != "udp" or not proxy.is_a("backend"):
        return
    for server in proxy.servers:
        settings = server.settings
        named = {"inter": settings.inter, "fastinter": settings.fastinter, "downinter": settings.downinter}
        short = [name for name, seconds in named.items() if seconds is not None and seconds < _SILENCE]
        if settings.check and short:
            words, verb = " and ".join(short), "is" if len(short) == 1 else "are"
            text = (
                f"{words} {verb} less than the second that 'option udp-check' waits for complaints, of which a host "
                "has one a second to give; write 1s or more."
            )
            reading.say("WARNING", server.location, f"{proxy.noun} '{proxy.name}': server '{server.name}': {text}")


def check_own_request(reading: Reading, proxy: ProxyDraft) -> None:
    """Refuse `http-check` rules whose request would be that of another section: HAProxy would send none at all."""
    own = proxy.checks.own
    if proxy.checks.kind == "http" and "http-check" in own and "option httpchk" not in own:
        text = "has http-check rules of its own and inherits 'option httpchk'; repeat it here."
        reading.say("ALERT", own["http-check"], f"{proxy.noun} '{proxy.name}' {text}")


def _check_port(reading: Reading, proxy: ProxyDraft, server: ServerDraft) -> None:
    settings, target = server.settings, server.target
    if settings.port is not None or target is None or target.port is not None:
        return
    checks = proxy.checks
    first, some = checks.unported
    if checks.kind in ("connect", "udp") or not (checks.tcp if checks.kind == "tcp-check" else checks.http):
        what = "has neither service port nor check port"
    elif first:
        what = "has neither service port nor check port nor tcp_check rule 'connect' with port information"
    elif some:
        what = "has neither service port nor check port, and a tcp_check rule 'connect' with no port information"
    else:
        return
    text = f"{proxy.noun} '{proxy.name}': server '{server.name}' {what}; add 'port <port>'."
    reading.say("ALERT", server.location, text)


def _check_track(
    reading: Reading,
    proxy: ProxyDraft,
    server: ServerDraft,
    proxies: list[ProxyDraft],
    tracks: dict[tuple[str, str], tuple[str, str]],
) -> None:
    def alert(text: str) -> None:
        reading.say("ALERT", server.location, f"'server {proxy.name}/{server.name}' : {text}", parsing=False)

    if server.settings.check:
        alert("unable to enable checks and tracking at the same time!")
        return
    where, slash, name = (server.settings.track or "").rpartition("/")
    backend = _named([each for each in proxies if each.is_a("backend")], where) if slash else proxy
    if backend is None:
        known = [each.name for each in proxies if each.is_a("backend")]
        alert(f"unable to find required proxy '{where}' for tracking{hint(where, known) or '.'}")
        return
    tracked = next((each for each in backend.servers if each.name == name), None)
    if tracked is None:
        known = [each.name for each in backend.servers]
        alert(f"unable to find required server '{name}' for tracking{hint(name, known) or '.'}")
        return
    if not tracked.settings.check and tracked.settings.track is None:
        alert(f"unable to use {backend.name}/{name} for tracking as it does not have any check nor agent enabled.")
        return
    own, target = (proxy.name, server.name), (backend.name, name)
    tracks[own] = target
    following: tuple[str, str] | None = target
    seen = {own}
    while following is not None and following not in seen:
        seen.add(following)
        following = tracks.get(following)
    if following == own:
        alert(
            f"unable to track {backend.name}/{name} as it belongs to a tracking chain looping back to "
            f"{proxy.name}/{server.name}."
        )
        del tracks[own]
    elif backend is not proxy and backend.checks.disable_on_404 != proxy.checks.disable_on_404:
        alert(f"unable to use {backend.name}/{name} for tracking: disable-on-404 option inconsistency.")


def _named(proxies: Iterable[ProxyDraft], name: str) -> ProxyDraft | None:
    return next((each for each in proxies if each.name == name), None)
