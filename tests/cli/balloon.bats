#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What a Linux guest gives back of its memory, seen from the host.

# shellcheck disable=SC2016,SC2154 # scripts are for the guest; pid is of start

load helper

LIMIT=600

setup() {
    common_setup
    need_linux
}

teardown() {
    kill_marked
}

# KiB that the monitor has resident, the guest's memory with it.
resident_kib() {
    awk '$1 == "VmRSS:" { print $2 }' "/proc/$(monitor_of "$pid")/status"
}

# falls FROM KIB: waits until so much less than FROM is resident; what is, is
# in `now`.
falls() {
    local tries

    for ((tries = 0; tries < 240; tries++)); do
        now=$(resident_kib)
        [ $(($1 - now)) -lt "$2" ] || return 0
        sleep 0.5
    done
    echo "$1 KiB before, $now after, and $2 less expected"
    return 1
}

@test "memory in a balloon and free pages go back to the host" {
    local before

    truncate -s 48M disk
    mkfifo go
    # Both ends, or opening it would wait for the other.
    exec 9<> go
    # A disk that is read leaves its contents in all of the guest's memory that
    # was free, and never resident maybe; closed, it leaves it free.
    start run --timeout "$LIMIT" --mem 64 --id vm --disk disk,ro \
        --balloon 0,report -- sh -c '
        exec 3< /dev/vdb
        cat <&3 > /dev/null
        echo full
        read x
        exec 3<&-
        echo freed
        read x' < go
    read_line full
    before=$(resident_kib)
    [ "$before" -ge 57344 ]
    curl -sS --max-time 60 -X PATCH -d '{"amount_mib": 34}' \
        --unix-socket "$XDG_RUNTIME_DIR/spore/vm/api.sock" \
        http://localhost/balloon
    # What is in the balloon is not resident; the 30 MiB that are not may be.
    falls "$before" $((before - 30 * 1024))
    echo "balloon of 34 MiB: $before KiB before, $now KiB after"
    before=$now
    echo >&9
    read_line freed
    falls "$before" 4096
    echo "free pages: $before KiB before, $now KiB after"
    echo >&9
    exec 9>&-
    end_status
    [ "$status" -eq 0 ]
}
