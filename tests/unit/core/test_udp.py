from natlb.core.udp import BOTH_WAYS_TIMEOUT, ONE_WAY_TIMEOUT


def test_the_timeouts_are_no_shorter_than_rfc_4787_allows():
    """REQ-5: a mapping must not expire in less than two minutes, and five are recommended."""
    assert ONE_WAY_TIMEOUT >= 2 * 60
    assert BOTH_WAYS_TIMEOUT >= 5 * 60
