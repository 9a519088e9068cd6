"""What holds for every test."""

from hypothesis import settings

from tests.effort import examples

# How long an example takes says how busy the machine is, and nothing of natlb.
settings.register_profile("any machine", deadline=None, max_examples=examples(100))
settings.load_profile("any machine")
