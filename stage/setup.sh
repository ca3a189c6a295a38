#!/usr/bin/env bash
# What `make setup` does on a machine that has nothing yet; quick where all is there.
#   setup.sh root                says that this takes root, where it is missing
#   setup.sh programs            Python and the stage's programs, from Debian's packages if they are missing
#   setup.sh environment FOLDER  a virtual environment with the project and all it needs, in the pinned versions
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-python3}

fail() {
    echo "setup: $1" >&2
    exit 1
}

root() {
    [ "$(id -u)" = 0 ] || fail "this takes root, to start a containerd in namespaces of its own: run it with sudo"
}

install() {
    local how="install what is missing: apt-get install $*"
    command -v apt-get >/dev/null || fail "this is no Debian (no apt-get): $how, or what has these programs here"
    [ "$(id -u)" = 0 ] || fail "run it once as root, or $how"
    echo "setup: installing $*" >&2
    local log
    log=$(mktemp)
    # SYSTEMD_OFFLINE: only the programs are wanted, no registry or proxy is to be started on this machine.
    { apt-get update -qq && SYSTEMD_OFFLINE=1 DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq -y --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null ||
        { cat "$log" >&2; rm -f "$log"; fail "apt-get could not install $*; its words are above"; }
    rm -f "$log"
}

programs() {
    command -v "$PYTHON" >/dev/null || install python3 python3-venv
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "Python 3.11 or newer is needed, $PYTHON is $("$PYTHON" -V 2>&1): try make PYTHON=python3.11"
    local packages
    # One list for both: what the stage misses is what is installed.
    packages=$("$PYTHON" -c 'from stage.namespaces import missing; print(*sorted(set(missing().values())))')
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || packages+=" python3-venv"
    command -v promtool >/dev/null || packages+=" prometheus"  # not of the stage: the tests of the metrics ask it
    # shellcheck disable=SC2086 - a list of words
    [ -z "${packages// /}" ] || install $packages
}

environment() {
    echo "setup: installing the Python packages into $1" >&2
    [ -x "$1/bin/pip" ] && [ -x "$1/bin/python" ] || "$PYTHON" -m venv --clear "$1"
    "$1/bin/pip" -qq --disable-pip-version-check install -c constraints.txt -e '.[dev]' ||
        fail "pip could not install the Python packages; its words are above"
}

"$@"
