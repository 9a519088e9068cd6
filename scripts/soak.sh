#!/bin/bash
# Soak natlb in a lab of its own: mixed traffic, an operator and faults at random, every byte verified and every
# connection accounted for. `soak.sh --help` lists the options, and docs/soak.md says what it does and how to read it.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
[ "$(id -u)" = 0 ] || { echo "soak.sh needs root: sudo scripts/soak.sh" >&2; exit 1; }
export PATH="$PATH:/usr/sbin:/sbin"
"$here/scripts/setup.sh" bench >&2
# A Ctrl-C waits until Python has begun: before, it would answer with a traceback.
exec env --block-signal=INT "$here/.venv/bin/python" -P -m netns.soak "$@"
