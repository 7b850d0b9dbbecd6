#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# One Linux guest, a snapshot of it, and what its clones must not have in
# common. A boot takes seconds where guest kernels are interpreted, so there is
# one for the whole file.

load helper

# A boot there, with another machine's load beside it.
LIMIT=300

# What each clone draws first: its generation, two random numbers, its clock.
DRAW='cat /run/spore-generation /proc/sys/kernel/random/uuid
    head -c 16 /dev/urandom | od -An -tx1; date +%s'

setup_file() {
    boot_for_file seed || return 0
    "$SPORE" save --store "$BATS_FILE_TMPDIR/store" --name base --no-sync seed
}

teardown_file() {
    SPORE_TEST_MARK='' "$SPORE" kill seed 2> /dev/null || true
}

setup() {
    need_booted seed
}

teardown() {
    kill_marked
}

restore() {
    spore restore base --store "$BATS_FILE_TMPDIR/store" "$@"
}

@test "clones follow the clock and draw their own random numbers" {
    local before line i

    before=$(date +%s)
    restore -- sh -c "$DRAW" > one
    restore -- sh -c "$DRAW" > two
    cat one two
    [ "$(wc -l < one)" -eq 4 ]
    for i in 1 2 3; do
        line=$(sed -n "${i}p" one)
        [ ${#line} -ge 32 ]
        [ "$line" != "$(sed -n "${i}p" two)" ]
    done
    [ "$(sed -n 4p one)" -ge "$before" ]
    [ "$(sed -n 4p two)" -ge "$(sed -n 4p one)" ]
    # The machine that was saved has no other generation for it.
    run ! spore exec seed -- cat /run/spore-generation
}

@test "spore clone: each answers, and its programs go on where they were" {
    local ids id

    spore exec seed -- sh -c \
        'echo before > /tmp/mark; (while :; do sleep 1; done) > /dev/null 2>&1 &'
    run -0 spore clone -n 2 seed
    ids=$output
    [ "$(wc -l <<< "$ids")" -eq 2 ]
    for id in $ids; do
        run -0 spore exec "$id" -- cat /tmp/mark
        [ "$output" = before ]
        run -0 spore exec "$id" -- sh -c "echo $id > /tmp/mark"
    done
    for id in $ids; do
        run -0 spore exec "$id" -- cat /tmp/mark
        [ "$output" = "$id" ]
        spore kill "$id"
    done
    run -0 spore exec seed -- cat /tmp/mark
    [ "$output" = before ]
}

@test "a save in the middle of a stream: the machine loses nothing, a clone is rid of it" {
    head -c 300000 /dev/urandom > data
    spore exec -i seed -- sh -c 'echo $$ > /tmp/pid; cat > /tmp/data
        sha256sum < /tmp/data' \
        < data > sum 3>&- &
    while ! spore exec seed -- test -s /tmp/data; do :; done
    spore save --store "$BATS_FILE_TMPDIR/store" --name middle --no-sync seed
    wait $!
    [ "$(cat sum)" = "$(sha256sum < data)" ]
    # The command that got the stream has lost its host, and is gone.
    run -0 spore restore middle --store "$BATS_FILE_TMPDIR/store" -- sh -c \
        'for i in 1 2 3 4 5 6 7 8 9 10; do
            [ -d /proc/$(cat /tmp/pid) ] || exit 0; sleep 1
        done; ps; exit 1'
}

@test "frozen clones go on from the time of the snapshot, with their own numbers" {
    local saved i

    saved=$(stat -c %Y "$BATS_FILE_TMPDIR/store/base/state")
    restore --clock freeze -- sh -c "$DRAW; cat /proc/uptime" > one
    # By now the snapshot is older than a clone needs to look at its clock.
    while [ $(($(date +%s) - saved)) -lt 60 ]; do
        read -r -t 0.5 <> <(:) || true
    done
    restore --clock freeze -- sh -c "$DRAW; cat /proc/uptime" > two
    cat one two
    for i in 1 2 3; do
        [ "$(sed -n "${i}p" one)" != "$(sed -n "${i}p" two)" ]
    done
    [ "$(sed -n 4p two)" -lt $((saved + 60)) ]
    [ "$(sed -n 4p one)" -ge $((saved - 60)) ]
}
