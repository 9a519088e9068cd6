"""From drafts without errors to the frozen model.

Nothing is decided here but numbers: proxies and servers are numbered as HAProxy numbers them, because the Runtime API
shows the numbers and its clients use them.
"""

from collections.abc import Iterable
from math import ceil

from natlb.config.drafts import ProxyDraft, Reading, ServerDraft
from natlb.config.log_lines import expanded
from natlb.config.model import Backend, Check, Config, Frontend, Logging, LogTarget, Process, Server, Timeouts
from natlb.questions import Question


def make_config(reading: Reading) -> Config:
    """The model of a reading without errors."""
    settings = reading.settings
    forced = [proxy.id for proxy in reading.proxies]
    # To HAProxy the stats sockets are a frontend too, where they are first spoken of, and that number is 0.
    place = len(forced) if settings.stats_place is None else settings.stats_place
    numbers = _numbers([*forced[:place], 0, *forced[place:]])
    del numbers[place]
    placed = list(zip(range(1, len(numbers) + 1), numbers, reading.proxies, strict=True))
    return Config(
        maxconn=settings.maxconn,
        maxconnrate=settings.maxconnrate,
        maxsessrate=settings.maxsessrate,
        node=settings.node,
        description=settings.description,
        stats_sockets=tuple(settings.stats_sockets),
        stats_timeout=settings.stats_timeout,
        stats_maxconn=settings.stats_maxconn,
        log_tag=settings.log_tag,
        log_hostname=settings.log_hostname,
        process=Process(
            daemon=settings.daemon,
            pidfile=settings.pidfile,
            uid=settings.uid,
            gid=settings.gid,
            quiet=settings.quiet,
            zero_warning=settings.zero_warning,
            hard_stop_after=settings.hard_stop_after or None,
            grace=settings.grace,
        ),
        spread_checks=settings.spread_checks,
        max_spread_checks=settings.max_spread_checks,
        frontends=tuple(_frontend(*each, settings.log_targets) for each in placed if each[2].is_a("frontend")),
        backends=tuple(_backend(*each, settings.log_targets) for each in placed if each[2].is_a("backend")),
    )


def _logging(proxy: ProxyDraft, common: list[LogTarget]) -> Logging:
    return Logging(
        expanded(proxy, common),
        proxy.log_tag,
        proxy.log_format,
        frozenset(proxy.log_options),
        proxy.structured_data,
    )


def _numbers(forced: list[int | None]) -> list[int]:
    """Number things as HAProxy does: in order, each from its own place on, around the numbers that were given."""
    taken = {number for number in forced if number is not None}
    numbers = []
    following = 1
    for number in forced:
        if number is None:
            while following in taken:
                following += 1
            taken.add(following)
        numbers.append(following if number is None else number)
        following += 1
    return numbers


def _frontend(position: int, number: int, proxy: ProxyDraft, log_targets: list[LogTarget]) -> Frontend:
    backend = proxy.default_backend[0] if proxy.default_backend is not None else None
    if backend is None and proxy.kind in ("listen", "udp-lb"):
        backend = proxy.name
    return Frontend(
        name=proxy.name,
        id=number,
        position=position,
        binds=tuple(proxy.binds),
        default_backend=backend,
        maxconn=proxy.maxconn,
        timeouts=_timeouts(proxy, ("client", "client-fin")),
        disabled=proxy.disabled,
        description=proxy.description,
        location=proxy.location,
        connection_rules=tuple(proxy.connection_rules),
        use_backends=tuple(proxy.use_backends),
        rate_limit=proxy.rate_limit,
        stick_table=proxy.stick_table,
        protocol=proxy.protocol,
        logging=_logging(proxy, log_targets),
    )


def _backend(position: int, number: int, proxy: ProxyDraft, log_targets: list[LogTarget]) -> Backend:
    numbers = _numbers([server.settings.id for server in proxy.servers])
    question = proxy.checks.question()
    return Backend(
        name=proxy.name,
        id=number,
        position=position,
        servers=tuple(make_server(*each, proxy.name, question) for each in zip(numbers, proxy.servers, strict=True)),
        balance=proxy.balance,
        retries=proxy.retries,
        draws=proxy.draws,
        hashing=proxy.hashing,
        fullconn=proxy.fullconn,
        redispatch=proxy.redispatch,
        all_backups=proxy.all_backups,
        persist=proxy.persist,
        timeouts=_timeouts(proxy, ("server", "connect", "tunnel", "check", "queue", "server-fin")),
        disabled=proxy.disabled,
        description=proxy.description,
        location=proxy.location,
        sources=proxy.sources,
        use_servers=tuple(proxy.use_servers),
        forced_persistence=tuple(proxy.forced_persistence),
        stick_rules=tuple(proxy.stick_rules),
        stick_table=None if proxy.is_a("frontend") else proxy.stick_table,
        has_given_id=proxy.id is not None,
        protocol=proxy.protocol,
        question=question,
        log_health_checks=proxy.checks.log,
        requests=proxy.requests,
        responses=proxy.responses,
        logging=_logging(proxy, log_targets),
    )


def _timeouts(proxy: ProxyDraft, names: Iterable[str]) -> Timeouts:
    return Timeouts(**{name.replace("-", "_"): proxy.seconds(name) for name in names})


def make_server(number: int, draft: ServerDraft, backend: str, question: Question) -> Server:
    """The model of one server without errors."""
    target, settings = draft.target, draft.settings
    track = settings.track
    if target is None:
        raise AssertionError("a server without an address is an error, and makes no model")
    return Server(
        name=draft.name,
        id=number,
        address=target.address,
        port=target.port,
        port_offset=target.offset,
        weight=settings.weight,
        backup=settings.backup,
        disabled=settings.disabled,
        check=Check(
            inter=settings.inter,
            fastinter=settings.fastinter,
            downinter=settings.downinter,
            rise=settings.rise,
            fall=settings.fall,
            port=settings.port,
            address=settings.address,
            question=question,
            observed=settings.observed,
            error_limit=settings.error_limit,
            on_error=settings.on_error,
        )
        if settings.check
        else None,
        location=draft.location,
        has_given_id=settings.id is not None,
        shutdown_on_down=settings.shutdown_on_down,
        shutdown_backups_on_up=settings.shutdown_backups_on_up,
        track=track if track is None or "/" in track else f"{backend}/{track}",
        sources=settings.sources,
        maxconn=max(settings.maxconn, settings.minconn) or None,  # a `minconn` alone is a `maxconn`, as in HAProxy
        minconn=settings.minconn if 0 < settings.minconn < settings.maxconn else None,
        maxqueue=settings.maxqueue or None,
        slowstart=ceil(settings.slowstart),
        sticks=settings.sticks,
    )
