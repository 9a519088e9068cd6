#!/bin/bash
# Run everything that natlb promises about itself: lint, types, import contracts, unit, property and lab tests.
# Needs root, for the lab's network namespaces. Arguments go to pytest: `sudo scripts/test.sh tests/unit -k tcp`.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh test
bin=$PWD/.venv/bin
unset PYTHONDONTWRITEBYTECODE # natlb is started some hundreds of times, and need not be compiled for each

step() { printf '\n==> %s\n' "$1"; }

step "lint";             "$bin/ruff" check .; "$bin/ruff" format --check --quiet .
step "types";            "$bin/mypy"
step "import contracts"; "$bin/lint-imports" --no-logo
if [ $# -gt 0 ]; then step "tests"; exec "$bin/python" -m pytest -m "not bench" "$@"; fi

# What loads the machine, or measures it, has it for itself. Then the unit tests compute while labs, several at a time,
# wait for packets, and soaks wait until all is forgotten that they have done.
logs=$(mktemp -d)
part() { local log=$logs/$1; shift; "$@" 2>&1 | tee -i "$log" || touch "$log.failed"; }
unit_tests() {
    trap exit INT
    part core nice "$bin/coverage" run -m pytest -q -m "not random" tests/unit/core
    part coverage "$bin/coverage" report
    part random nice "$bin/python" -m pytest -q -m random tests/unit/core
    part unit nice "$bin/python" -m pytest -q -m "not busy" tests/unit --ignore tests/unit/core --durations 40
}
labs=$(($(nproc) + 1))
lab_tests() { part lab "$bin/python" -m pytest -n $labs --dist loadfile -m "not busy and not soak" tests/lab --durations 40; }
soak_tests() { part soak "$bin/python" -m pytest -q -n 4 -m soak tests/lab/test_soak.py; }
# Each in a process group of its own: whoever interrupts this script, pytest is told, and takes its labs away.
trap 'kill -INT $(jobs -p | sed s/^/-/) 2>/dev/null || true; wait; rm -rf "$logs"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
step "tests that keep the machine busy, or look at what becomes of times"
part busy "$bin/python" -m pytest -m busy tests/lab tests/unit/health --durations 40
set -m
step "most tests of the lab; beside them the unit tests, and soaks, of which is told afterwards"
unit_tests </dev/null >/dev/null &
soak_tests </dev/null >/dev/null &
lab_tests </dev/null &
set +m
wait
step "tests of the core, which must cover each of its branches"; cat "$logs/core" "$logs/coverage" "$logs/random"
step "all other unit tests";                                     cat "$logs/unit"
step "soaks";                                                    cat "$logs/soak"

# What came of it, and what failed, once more: nobody should have to look for it.
for part in core coverage random unit busy lab soak; do
    step "$part"
    grep -E '^(FAILED|ERROR) ' "$logs/$part" || true
    tail -n 1 "$logs/$part"
done
[ -z "$(find "$logs" -name '*.failed')" ]
