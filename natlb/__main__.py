"""`python -m natlb`."""

from natlb.cli import run

run()
