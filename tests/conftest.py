"""What holds for every test."""

import resource
from typing import Final

from hypothesis import HealthCheck, settings

from tests.effort import examples

_FILES: Final = 16_384
"""Files that the tests have open at a time, with room: a thousand clients, and both ends of each."""

# How long an example takes, and to think of one, says how busy the machine is, and nothing of natlb.
settings.register_profile(
    "any machine", deadline=None, max_examples=examples(100), suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

# A login, and sudo, on Debian gives a process 1024 files, and lets it have as many more as it asks for.
_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
if _soft != resource.RLIM_INFINITY and _soft < _FILES:
    _most = _FILES if _hard == resource.RLIM_INFINITY else min(_FILES, _hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_most, _hard))
