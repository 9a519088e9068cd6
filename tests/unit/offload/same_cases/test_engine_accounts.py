"""The conversations of tests/unit/core/test_engine_accounts.py, had with the program beside the engine."""

import pytest

from tests.unit.core.test_engine_accounts import *  # noqa: F403

pytestmark = pytest.mark.root
