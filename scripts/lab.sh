#!/bin/bash
# The lab: the guided tour without arguments; `lab.sh --help` lists the commands. It installs what is missing first.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
[ "$(id -u)" = 0 ] || { echo "lab.sh needs root: sudo scripts/lab.sh" >&2; exit 1; }
export PATH="$PATH:/usr/sbin:/sbin"
"$here/scripts/setup.sh" lab >&2
# A Ctrl-C waits until Python has begun: before, it would answer with a traceback.
exec env --block-signal=INT "$here/.venv/bin/python" -P -m netns "$@"
