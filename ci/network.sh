# shellcheck shell=bash
# What asks the network; to be sourced after ci/lib.sh.
# Keeps true: what fails is tried again, three times, and each time that is said on stderr.

# again COMMAND…: once more, some times, what asks the network.
again() {
    local pause
    for pause in 5 10 20; do
        "$@" && return
        printf '%s: once more in %s s: %s\n' "${0##*/}" "$pause" "$*" >&2
        sleep "$pause"
    done
    "$@"
}
