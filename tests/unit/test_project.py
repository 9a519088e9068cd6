"""What setup.cfg says of the project is true."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_every_script_that_the_settings_name_exists() -> None:
    named = set(re.findall(r"scripts/\w+\.sh", (ROOT / "setup.cfg").read_text()))
    assert named <= {f"scripts/{path.name}" for path in (ROOT / "scripts").iterdir()}


def test_files_of_tests_that_passed_are_not_kept(pytestconfig: pytest.Config) -> None:
    assert pytestconfig.getini("tmp_path_retention_policy") == "failed"
    assert int(pytestconfig.getini("tmp_path_retention_count")) == 1
