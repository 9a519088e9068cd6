#!/bin/bash
# Measure natlb beside plain routing, the kernel's DNAT, HAProxy and nginx; `bench.sh --help` lists the options, and
# docs/performance.md says how to read the result. It installs what is missing first.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
[ "$(id -u)" = 0 ] || { echo "bench.sh needs root: sudo scripts/bench.sh" >&2; exit 1; }
export PATH="$PATH:/usr/sbin:/sbin"
"$here/scripts/setup.sh" bench >&2
# A Ctrl-C waits until Python has begun: before, it would answer with a traceback.
exec env --block-signal=INT "$here/.venv/bin/python" -P -m netns.bench "$@"
