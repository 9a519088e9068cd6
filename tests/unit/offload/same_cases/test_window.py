"""The conversations of tests/unit/core/test_window.py, had with the program beside the engine."""

import pytest

from tests.unit.core.test_window import *  # noqa: F403

pytestmark = pytest.mark.root
