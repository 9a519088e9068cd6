#!/bin/bash
# Look for inputs that natlb does not take well, for as long as you like: fuzz.sh TARGET|all [MINUTES]
# `fuzz.sh --help` lists the targets, and docs/fuzzing.md says what each tries and what to do with a finding. Needs no
# root, once everything is installed. Exit status 1 says that something was found.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh test
exec nice .venv/bin/python -m tests.fuzz "$@"
