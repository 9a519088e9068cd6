"""The dictionary in parts: it is one, and none of its parts is ever large."""

from natlb.core.shards import Shards


def test_what_is_entered_is_found_until_it_is_forgotten():
    made = Shards()
    assert (len(made), made.get(b"a"), made.pop(b"a")) == (0, None, None)
    assert made.add(b"a", "first")
    assert not made.add(b"a", "second")
    assert (len(made), made.get(b"a")) == (1, "first")
    assert made.pop(b"a") == "first"
    assert (len(made), made.get(b"a")) == (0, None)


def test_the_parts_share_evenly():
    made = Shards()
    for number in range(200_000):
        made.add(number.to_bytes(13, "big"), number)
    assert len(made) == sum(map(len, made.parts)) == 200_000
    assert max(map(len, made.parts)) < 2 * 200_000 / len(made.parts)
