#!/bin/bash
# Compile the program of the fast path: build.sh [FILE], the object beside its source unless another file is named.
# natlb runs with the object that is committed; this is for whoever changes flow.bpf.c, and for the test that compares
# the two. The compiler is pinned, and nothing of the machine gets into the object, so that it is the same anywhere:
# what a debugger would want is stripped, what the kernel wants (BTF, with the lines of the source) stays.
set -euo pipefail
object=$(realpath "${1:-$(dirname "$0")/flow.bpf.o}")
cd "$(dirname "$0")"
for program in clang-14 llvm-strip-14; do
    command -v "$program" >/dev/null || { echo "build.sh: $program is missing: apt install clang-14 llvm-14" >&2; exit 1; }
done
# Headers of the kernel's interface: those that depend on the processor lie in a directory of its name.
headers=/usr/include/$(uname -m)-linux-gnu
clang-14 -target bpf -mcpu=v3 -O2 -g -Wall -Wextra -Werror -Wno-unused-parameter -ffile-prefix-map="$PWD=." \
    -idirafter "$headers" -c flow.bpf.c -o "$object"
llvm-strip-14 -g "$object"
