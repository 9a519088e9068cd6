import pytest

from natlb.core.schedulers import maglev

SMALL = (997, 9973)


@pytest.fixture
def small_tables(monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Tables that are soon made: primes too, a hundred times smaller."""
    monkeypatch.setattr(maglev, "SIZES", SMALL)
    return SMALL
