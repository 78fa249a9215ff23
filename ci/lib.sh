# shellcheck shell=bash
# Shared by the scripts of ci/; to be sourced, after `set -euo pipefail`.
# Keeps true: every step has a name, a time limit and a timing; its whole output is visible; it never reads stdin;
# what a machine lacks is said at once, with the cure.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit
target_dir=${CARGO_TARGET_DIR:-$root/target}
logs=$target_dir/ci-logs
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}
# Many tests panic on purpose: the traces hide what matters, and looking up their symbols takes a slow machine seconds.
export RUST_BACKTRACE=0

# need COMMAND CURE: ends the script when COMMAND is not there.
need() {
    command -v "$1" >/dev/null 2>&1 || {
        printf '%s: needs "%s", which is not here. %s\n' "${0##*/}" "$1" "$2" >&2
        exit 1
    }
}

need_rust() { need cargo 'Install Rust 1.88 or later: https://rustup.rs'; }

# step NAME SECONDS COMMAND…: runs COMMAND with its output visible and kept in $logs/NAME.log; sets $took.
# A step past its limit is killed, with all its processes, and fails. Ctrl-C reaches it too.
step() {
    local name=$1 limit=$2 start=$SECONDS pid rc=0
    shift 2
    mkdir -p "$logs"
    printf '\n== %s: %s\n' "$name" "$*"
    # Job control gives the step a process group of its own and leaves its SIGINT as it was: tests of Ctrl-C need that.
    set -m
    # shellcheck disable=SC2016  # expanded by the inner bash
    timeout --kill-after=10 "$limit" bash -c 'set -o pipefail; log=$1; shift; "$@" 2>&1 | tee "$log"' \
        step "$logs/$name.log" "$@" </dev/null &
    pid=$!
    set +m
    trap 'kill -TERM "$pid" 2>/dev/null; exit 130' INT
    trap 'kill -TERM "$pid" 2>/dev/null; exit 143' TERM
    wait "$pid" || rc=$?
    trap - INT TERM
    took=$((SECONDS - start))
    case $rc in
        0) printf '== %s: ok, %d s\n' "$name" "$took" ;;
        124 | 137) printf '== %s: killed, it was not done after %d s\n' "$name" "$limit" ;;
        *) printf '== %s: FAILED (exit status %d), %d s\n' "$name" "$rc" "$took" ;;
    esac
    return "$rc"
}
