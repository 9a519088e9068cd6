#!/bin/bash
# Install what natlb needs on Debian 12 or later, or Ubuntu 24.04 or later: setup.sh [router|lab|bench|test]
#   router natlb itself
#   lab    that, and the lab (the default)
#   bench  that, and what natlb is measured with and against
#   test   all that, and what the tests, linters and type checker need
# System packages come from apt, Python packages go into .venv beside this folder. Running it again costs nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
profile=${1:-lab}
case "$profile" in
router) extras=() ;;
lab)    extras=(lab) ;;
bench)  extras=(lab bench) ;;
test)   extras=(lab bench test) ;;
*)      echo "setup.sh: '$profile' is not a profile; use router, lab, bench or test" >&2; exit 2 ;;
esac

programs=(iptables:iptables gcc:gcc socat:socat)
files=(/usr/include/libnetfilter_queue/libnetfilter_queue.h:libnetfilter-queue-dev)
if [[ " ${extras[*]} " == *" lab "* ]]; then
    programs+=(ip:iproute2 tcpdump:tcpdump curl:curl ping:iputils-ping nft:nftables haproxy:haproxy openssl:openssl
        sysctl:procps)
fi
if [[ " ${extras[*]} " == *" bench "* ]]; then
    programs+=(nginx:nginx conntrack:conntrack iperf3:iperf3 wrk:wrk)
    files+=(/usr/lib/nginx/modules/ngx_stream_module.so:libnginx-mod-stream)
fi
if [[ " ${extras[*]} " == *" test "* ]]; then
    programs+=(ethtool:ethtool dig:bind9-dnsutils dnsmasq:dnsmasq-base tmux:tmux hatop:hatop
        tshark:tshark prometheus-haproxy-exporter:prometheus-haproxy-exporter clang-14:clang-14 llvm-strip-14:llvm-14
        systemd-analyze:systemd mandoc:mandoc man:man-db)
    files+=(/usr/include/linux/bpf.h:linux-libc-dev)
fi

# While packages are installed, a file that says whose it is keeps their services from starting. One whose writer was
# killed is in the way of every service that is installed later, by whomever.
policy=/usr/sbin/policy-rc.d
mark='# For as long as scripts/setup.sh of natlb installs packages, as process'
if [ -f "$policy" ] && [ "$(id -u)" = 0 ]; then
    writer=$(sed -n "s|^$mark \([0-9]*\)\$|\1|p" "$policy")
    if [ -n "$writer" ] && ! grep -qs setup.sh "/proc/$writer/cmdline"; then rm -f "$policy"; fi
fi

# A stamp names what was installed: when nothing changed since, there is nothing to do.
stamp=".venv/.natlb-$profile-$(cat setup.cfg scripts/setup.sh | cksum | cut -d' ' -f1)"
[ ! -e "$stamp" ] || exit 0

# A small server may have no Python at all: then it is one of the packages. Any other must do before something is installed.
python=${PYTHON:-python3}
need_python() {
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "setup.sh: natlb needs Python 3.11 or later; set PYTHON=/path/to/python3" >&2; exit 1; }
}
missing=()
if [ -z "${PYTHON:-}" ] && ! command -v python3 >/dev/null; then missing+=(python3); else need_python; fi

for pair in "${programs[@]}"; do command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}"); done
for pair in "${files[@]}"; do [ -e "${pair%%:*}" ] || missing+=("${pair#*:}"); done
"$python" -c 'import ctypes; ctypes.CDLL("libbpf.so.1")' 2>/dev/null || missing+=(libbpf1)
"$python" -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
"$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' \
    2>/dev/null || missing+=(python3-dev)

if [ ${#missing[@]} -gt 0 ]; then
    [ "$(id -u)" = 0 ] || { echo "setup.sh: these packages are missing: ${missing[*]}; run it with sudo" >&2; exit 1; }
    echo "==> Debian packages: ${missing[*]}"
    # No service of a package that we install may start (haproxy and nginx would): ours run in namespaces only.
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\n%s %s\nexit 101\n' "$mark" "$$" >"$policy"
        chmod 755 "$policy"
    fi
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
    for service in haproxy nginx prometheus-haproxy-exporter; do
        # Without a systemd that runs, as where an image is made, it would begin with the next start of the machine.
        if [[ " ${missing[*]} " == *" $service "* ]] && command -v systemctl >/dev/null; then
            systemctl disable --quiet "$service" || true
        fi
    done
    need_python
fi

echo "==> Python packages, into .venv"
[ -x .venv/bin/python ] || "$python" -m venv .venv
project=.
[ ${#extras[@]} -eq 0 ] || project=".[$(IFS=,; echo "${extras[*]}")]"
.venv/bin/python -m pip install --progress-bar off --disable-pip-version-check -e "$project" |
    sed -u -n 's/^\(Collecting\|Building\|Installing\|Successfully\)/    &/p'
# Each profile includes those before it.
for done in router "${extras[@]}"; do
    rm -f .venv/.natlb-"$done"-*
    touch "${stamp/natlb-$profile/natlb-$done}"
done
echo "==> ready"
