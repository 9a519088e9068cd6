"""Thousands of configurations, made from the keyword table, and HAProxy as the judge of each.

Of each file natlb's refusals are taken out, line by line, until natlb accepts the rest: that rest is what HAProxy has
to accept. What was taken out has to be explained by name. And some of it is put back alone: where HAProxy would take
the line, the reason why natlb does not has to be one of a short list.

A seed is a file.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from natlb.config.entries import Refuse
from natlb.config.keywords import TABLE, find
from natlb.config.lexer import Line
from natlb.config.model import Location
from tests.effort import examples

from .conftest import HAProxy, Reader, Verdict
from .differential import (
    Pruned,
    accepted,
    as_haproxy_has_it,
    explains,
    generated,
    known_reason,
    pruned,
    refusals,
    smallest,
    text_of,
)
from .grammar import PARAMETER_TABLES, SECTIONS, Grammar

FILES = examples(750)
"""Each has four configurations in it."""
THREADS = 2

WORKING = [key for key, entry in TABLE.items() if not isinstance(entry.action, Refuse)]
"""What natlb does, or does without with a warning: section (or line) and keyword."""


NEVER = {("defaults", "tcp-request"), ("backend", "tcp-request"), ("backend", "tcp-request connection")}
"""Entries that are there for what they say: those sections may have no such rule."""


@pytest.fixture(scope="module")
def judged(read: Reader, haproxy: HAProxy) -> list[tuple[Pruned, Verdict]]:
    """Each seed's file without what natlb refuses in it, and what HAProxy says of the rest."""

    def judge(seed: int) -> tuple[Pruned, Verdict]:
        file = pruned(read, generated(seed))
        return file, haproxy(as_haproxy_has_it(file.lines))

    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(judge, range(FILES)))


@pytest.fixture(scope="module")
def files(judged: list[tuple[Pruned, Verdict]]) -> list[Pruned]:
    return [file for file, _ in judged]


@pytest.mark.parametrize(("section", "name"), TABLE, ids=lambda word: word.replace(" ", "-"))
def test_the_grammar_knows_how_every_keyword_is_written(section: str, name: str) -> None:
    for seed in range(20):
        grammar = Grammar(Random(seed))
        if section in SECTIONS:
            assert name.split(maxsplit=1)[0] in grammar.line(section, name)
        else:
            assert name in grammar.parameter(section, name)


def test_every_keyword_is_in_what_natlb_accepts_of_them(files: list[Pruned]) -> None:
    met = {key for file in files for key in _keywords(file.lines)}
    assert set(WORKING) - met == NEVER


def test_what_natlb_accepts_haproxy_accepts(
    read: Reader, haproxy: HAProxy, judged: list[tuple[Pruned, Verdict]]
) -> None:
    wrong = [seed for seed, (_, verdict) in enumerate(judged) if not accepted(verdict)]
    found = []
    for seed in wrong[:5]:
        lines = smallest(read, haproxy, judged[seed][0].lines)
        output = haproxy(as_haproxy_has_it(lines)).output
        found.append(f"seed {seed}: natlb accepts\n{text_of(lines)}\nHAProxy: {output}")
    assert not wrong, "\n".join(found)


def test_what_natlb_refuses_it_explains_by_name(files: list[Pruned]) -> None:
    all_of_them = [refusal for file in files for refusal in file.refusals]
    assert len(all_of_them) > 2 * FILES
    unexplained = [f"{each.line}\n    => {each.alert}" for each in all_of_them if not explains(each)]
    assert not unexplained, "\n".join(unexplained[:10])


def test_what_haproxy_would_accept_natlb_refuses_for_known_reasons(
    read: Reader, haproxy: HAProxy, files: list[Pruned]
) -> None:
    def falsely(seed: int) -> Iterator[str]:
        file, random = files[seed], Random(seed)
        taken_out = sorted({refusal.number for refusal in file.refusals})
        for number in random.sample(taken_out, min(1, len(taken_out))):
            lines = file.lines_with(number)
            found = refusals(read, lines)
            if found and accepted(haproxy(as_haproxy_has_it(lines))):
                yield from (f"{each.line}\n    => {each.alert}" for each in found if not known_reason(each.alert))

    with ThreadPoolExecutor(THREADS) as threads:
        found = [
            each for several in threads.map(lambda seed: list(falsely(seed)), range(FILES // 2)) for each in several
        ]
    assert not found, "\n".join(found[:10])


@settings(max_examples=examples(100), suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_hypothesis_finds_no_configuration_either(read: Reader, haproxy: HAProxy, random: Random) -> None:
    file = pruned(read, Grammar(random).configuration(most_sections=4, most_lines=6))
    verdict = haproxy(as_haproxy_has_it(file.lines))
    assert accepted(verdict), f"{text_of(file.lines)}\n{verdict.output}"


def _keywords(lines: list[str]) -> Iterator[tuple[str, str]]:
    """The keywords and the parameters that lines without mistakes have."""
    section = ""
    tables = {kind: {name: entry for (where, name), entry in TABLE.items() if where == kind} for kind in SECTIONS}
    for line in lines:
        words = tuple(line.split())
        if words[:1] and words[0] in SECTIONS:
            section = words[0]
            continue
        words = words[1:] if words[:1] in (("no",), ("default",)) else words
        if not words or not section:
            continue
        entry = find(tables[section], Line(words, Location("t.cfg", 1)))
        if entry is None:
            continue
        yield section, entry.name
        yield section, words[0]
        table = PARAMETER_TABLES.get(entry.name)
        for where in (table, f"udp-lb {table}") if section == "udp-lb" else (table,):
            yield from ((where, word) for word in words[1:] if (where, word) in TABLE)
