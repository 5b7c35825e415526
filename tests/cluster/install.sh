#!/bin/sh
# Install what the tests need from Debian's packages, without starting any daemon: a SLURM for the test cluster,
# strace to see whom a cell contacts, and a browser with a font to look at the report.
set -eu

packages="slurm-wlm slurmdbd munge mariadb-server strace chromium fonts-dejavu-core"
policy=/usr/sbin/policy-rc.d

main() {
    command -v apt-get >/dev/null && command -v dpkg-query >/dev/null || fail "this is no Debian"
    if all_installed; then
        return
    fi
    [ "$(id -u)" = 0 ] || fail "only root can install $packages"
    forbid_starts
    # Word splitting is meant: $packages is a list.
    apt-cache show $packages >/dev/null 2>&1 || apt-get update -qq
    quietly apt-get install -qq -y --no-install-recommends $packages
}

all_installed() {
    for package in $packages; do
        status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) || return 1
        [ "$status" = installed ] || return 1
    done
}

# Packages ask this program whether they may start their daemons; 101 means no.
forbid_starts() {
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        trap 'exit 1' HUP INT TERM
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    answer=0
    "$policy" munge start || answer=$?
    [ "$answer" = 101 ] || fail "$policy lets daemons start; install by hand: $packages"
}

# Show the output only if the command fails.
quietly() {
    output=$(DEBIAN_FRONTEND=noninteractive "$@" 2>&1) && return
    printf '%s\n' "$output" | tail -n 15 >&2
    fail "could not install $packages"
}

fail() {
    echo "install.sh: $1" >&2
    exit 1
}

main
