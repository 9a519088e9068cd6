"""Keys to choices."""

import pytest

from natlb.top.state import HELP, ORDERS, State, View


def press(*keys: str, state: State | None = None) -> State:
    state = state or State()
    for key in keys:
        state.press(key, 10)
    return state


def test_it_begins_with_the_proxies() -> None:
    assert (State().view, State().order, State().paused, State().over) == (View.PROXIES, "name", False, False)


@pytest.mark.parametrize(
    ("keys", "view"),
    [("1", View.PROXIES), ("2", View.SERVERS), ("3", View.CONNECTIONS), ("33", View.CONNECTIONS), ("31", View.PROXIES)],
)
def test_a_number_chooses_a_view(keys: str, view: View) -> None:
    assert press(*keys).view is view


def test_tab_goes_round() -> None:
    assert [press(*["tab"] * times).view for times in range(4)] == [*View, View.PROXIES]


def test_s_goes_through_what_a_view_can_be_sorted_by_and_each_view_keeps_its_own() -> None:
    for view, orders in ORDERS.items():
        assert [press(view.value, *"s" * times).order for times in range(len(orders) + 1)] == [*orders, orders[0]]
    state = press("2", "s", "3", "2")
    assert state.order == ORDERS[View.SERVERS][1]


def test_p_and_space_pause_and_go_on() -> None:
    assert [press("p").paused, press(" ").paused, press("p", "p").paused] == [True, True, False]


def test_the_help_goes_away_with_any_key_and_that_key_does_nothing_else() -> None:
    assert press("?").helping
    state = press("?", "p")
    assert (state.helping, state.paused) == (False, False)
    assert press("?", "q").over
    assert (press("?", "2").view, press("?", "2").helping) == (View.SERVERS, False)


def test_q_ends_it() -> None:
    assert press("q").over


def test_scrolling_begins_anew_in_another_view_or_order() -> None:
    assert press("down", "j", "up").first == 1
    assert press("pagedown", "pagedown", "pageup", "k").first == 9
    assert press("up").first == press("pageup").first == press("pagedown", "home").first == 0
    assert press("pagedown", "2").first == press("pagedown", "s").first == 0


def test_a_key_without_a_meaning_has_none() -> None:
    assert press("x", "Z", "~") == State()


def test_the_help_names_every_key_that_does_something() -> None:
    named = set(" ".join(HELP).replace(" or ", " ").lower().split())
    assert {"1", "2", "3", "tab", "s", "p", "space", "up", "down", "j", "k", "?", "q"} <= named
