"""Responses to HTTP checks, as bytes: what has been read of one never changes when more of it comes.

An input is what a server sends to a check. It is read in all its beginnings, at once and piece by piece: at some point
it may be malformed, and stays so; until then its status and its reason are found once, its body only grows, and when it
is complete it is.
"""

import time

from natlb.health import http
from natlb.health.conversation import LARGEST_RESPONSE

SLOWEST = 3.0
"""Seconds of the processor for an input, instrumented."""
_MOST_BEGINNINGS = 40


def check(data: bytes) -> None:
    """Read a response. Raises if what was read changes."""
    data = data[:LARGEST_RESPONSE]
    began = time.process_time()
    for of_head in (False, True):
        _read(data, of_head=of_head)
    took = time.process_time() - began
    assert took < SLOWEST, f"it took {took:.1f} s"


def _read(data: bytes, *, of_head: bool) -> None:
    known: http.Response | None = None
    is_malformed = False
    reading = http.Reading(of_head=of_head)
    for size in sorted({*range(0, len(data), 1 + len(data) // _MOST_BEGINNINGS), len(data)}):
        try:
            response = http.read(data[:size], of_head=of_head)
            assert reading.read(data[:size]) == response, "read piece by piece it is another"
        except http.Malformed:
            assert known is None or not known.complete, "what was complete is malformed now"
            is_malformed = True
            continue
        assert not is_malformed, "what was malformed is not any longer"
        if response is None:
            assert known is None, "what was there is not any longer"
            continue
        assert 0 <= response.status < 10**9
        if known is not None:
            assert (response.status, response.reason) == (known.status, known.reason)
            assert response.body.startswith(known.body), "the body has become another"
            assert response == known or not known.complete, "what was complete has changed"
        known = response
