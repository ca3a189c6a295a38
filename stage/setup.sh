#!/usr/bin/env bash
# What `make setup` does on a machine that has nothing yet; quick where all is there.
#   setup.sh root                says that this takes root, where it is missing
#   setup.sh programs            Python and the stage's programs, from Debian's packages if they are missing
#   setup.sh containerds         what only the tests need: the containerds of Debian's later suites, unpacked
#                                beside the installed one into .containerd/SUITE, and the tools of a throw-away disk
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

# The suites whose containerd is wanted beside the one on PATH; which versions they have is up to them.
SUITES="trixie sid"

containerds() {
    local tools="" suite lacking=""
    command -v mkfs.ext4 >/dev/null || [ -x /sbin/mkfs.ext4 ] || tools+=" e2fsprogs"
    command -v mount >/dev/null || tools+=" mount"
    # shellcheck disable=SC2086 - a list of words
    [ -z "$tools" ] || install $tools
    for suite in $SUITES; do
        [ -x ".containerd/$suite/usr/bin/containerd" ] || lacking+=" $suite"
    done
    [ -n "$lacking" ] || return 0
    command -v apt-get >/dev/null || fail "this is no Debian (no apt-get): unpack a newer containerd into each of$lacking in .containerd"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    echo "setup: fetching the containerd of$lacking" >&2
    later_sources "$lacking"
    for suite in $lacking; do
        unpack "$suite"
    done
}

# An apt of its own in $work: it names later suites on the mirror that this machine has its own packages from.
later_sources() {
    local codename mirror keys=""
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    mirror=$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' | sort -u |
        awk -v release="$codename" '$2 == "main" { if ($1 == release) own = $3; else other = $3 }
            END { print own ? own : other }')
    [ -n "$mirror" ] || fail "apt has no source with a component main, so no mirror to fetch a newer containerd from"
    local ring
    for ring in /usr/share/keyrings/debian-archive-keyring.gpg /usr/share/keyrings/debian-archive-keyring.pgp; do
        [ ! -e "$ring" ] || keys="[signed-by=$ring]"
    done
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/packages"
    local suite
    for suite in $1; do
        echo "deb $keys $mirror $suite main"
    done >"$work/sources.list"
    : >"$work/status"
    later update -qq
}

later() {
    (cd "$work/packages" && apt-get \
        -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=- -o Dir::Etc::PreferencesParts=- \
        -o Dir::State::Lists="$work/lists" -o Dir::State::Status="$work/status" -o Dir::Cache="$work/cache" \
        -o APT::Sandbox::User=root -o Acquire::Languages=none "$@") >"$work/log" 2>&1 </dev/null ||
        { cat "$work/log" >&2; fail "apt-get $1 of the later suites failed; its words are above"; }
}

# Into a folder beside, which becomes .containerd/SUITE only when it runs.
unpack() {
    local suite=$1 folder="$work/$1"
    later download -qq "containerd/$suite"
    dpkg -x "$work"/packages/containerd_*.deb "$folder"
    rm -f "$work"/packages/*
    "$folder/usr/bin/containerd" --version >/dev/null 2>&1 || with_libc "$suite" "$folder"
    local version
    version=$("$folder/usr/bin/containerd" --version) || fail "the containerd of $suite does not run here"
    mkdir -p .containerd
    rm -rf ".containerd/$suite"
    cp -a "$folder" ".containerd/$suite.new" && mv ".containerd/$suite.new" ".containerd/$suite"
    echo "setup: $suite has $version" >&2
}

# It wants a later libc than this machine's: that libc beside it, started through that libc's own loader.
with_libc() {
    local suite=$1 folder=$2 program
    later download -qq "libc6/$suite"
    dpkg -x "$work"/packages/libc6_*.deb "$folder/libc"
    rm -f "$work"/packages/*
    mkdir -p "$folder/bare"
    for program in containerd ctr; do
        mv "$folder/usr/bin/$program" "$folder/bare/$program"
        cat >"$folder/usr/bin/$program" <<'SCRIPT'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")/../..
loader=$(find "$here/libc" -name 'ld-linux*.so.*' | head -n 1)
exec "$loader" --library-path "$(dirname "$loader"):/usr/lib/$(uname -m)-linux-gnu" "$here/bare/$(basename "$0")" "$@"
SCRIPT
        chmod +x "$folder/usr/bin/$program"
    done
    # A shim starts itself again by the file that runs, which would be the loader: the installed one serves as well.
    rm -f "$folder"/usr/bin/containerd-shim*
}

environment() {
    echo "setup: installing the Python packages into $1" >&2
    [ -x "$1/bin/pip" ] && [ -x "$1/bin/python" ] || "$PYTHON" -m venv --clear "$1"
    "$1/bin/pip" -qq --disable-pip-version-check install -c constraints.txt -e '.[dev]' ||
        fail "pip could not install the Python packages; its words are above"
}

"$@"
