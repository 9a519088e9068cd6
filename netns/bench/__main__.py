"""`python -m netns.bench`: what `scripts/bench.sh` runs. A Ctrl-C is taken well from the first moment on."""

import sys

from netns.console import for_people

if __name__ == "__main__":
    with for_people("bench.sh"):
        from netns.bench.command import main  # what takes its time to load is loaded in here

        sys.exit(main(sys.argv[1:]))
