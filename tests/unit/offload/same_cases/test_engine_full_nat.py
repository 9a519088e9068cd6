"""The conversations of tests/unit/core/test_engine_full_nat.py, had with the program beside the engine."""

import pytest

from tests.unit.core.test_engine_full_nat import *  # noqa: F403

pytestmark = pytest.mark.root
