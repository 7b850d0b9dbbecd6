#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The two halves of a save against each other: clients that die or pass what
# they should not, and monitors that lie. Neither loses the machine anything,
# nor leaves anything in the store.

load helper

setup() {
    common_setup
    need_kvm
    export XDG_DATA_HOME=$BATS_TEST_TMPDIR/data
    store=$XDG_DATA_HOME/spore/snapshots
    sock=$XDG_RUNTIME_DIR/spore/vm/api.sock
}

teardown() {
    exec 9>&- || true
    [ -z "${fake:-}" ] || kill "$fake" 2> /dev/null || true
    kill_marked
}

client() {
    SPORE_TEST_MARK=$BATS_TEST_TMPDIR timeout "$LIMIT" \
        python3 "$BATS_TEST_DIRNAME/capture.py" client "$sock" "$1"
}

# eventually COMMAND...: it succeeds before long.
eventually() {
    local i

    for ((i = 0; i < 600; i++)); do
        "$@" && return
        sleep 0.05
    done
    return 1
}

# Nothing but the store's lock.
is_empty() {
    [ -z "$(find "$store" -mindepth 1 ! -name '.lock*')" ]
}

# lies WHAT: from here on the machine's socket is one that does so.
lies() {
    rm -f "$sock"
    python3 "$BATS_TEST_DIRNAME/capture.py" monitor "$sock" "$1" \
        > fake.out 2> fake.err 3>&- &
    fake=$!
    eventually grep -q ready fake.out
}

# The monitor holds as many descriptors as it did.
open_files() {
    local pid

    pid=$(spore ps --json | jq .[0].pid)
    find "/proc/$pid/fd" -mindepth 1 | wc -l
}

has_open() {
    [ "$(open_files)" -eq "$1" ]
}

end_tally() {
    printf '\004' >&9
    end_status
    [ "$status" -eq 0 ]
}

goes_on() {
    run -0 --separate-stderr spore restore "$2" --console --timeout 60 \
        < <(printf 'x\004')
    [ "$output" = "$1" ]
}

@test "captures that nobody makes a snapshot of lose nothing" {
    tally vm
    count 0001
    run -0 spore save --track --name first vm
    count 0002
    run -0 client diff
    [[ $output == "200 "*stopped_us* ]]
    run -0 client die
    [ -z "$output" ]
    count 0003
    run -0 client diff
    [[ $output == "200 "* || $output == *"another save is going on"* ]]
    count 0004
    # The dead one is noticed when its turn comes.
    for _ in $(seq 100); do
        run spore save --diff --name second vm
        [ "$status" -eq 0 ] && break
        [[ $output == *"another save is going on"* ]]
        sleep 0.05
    done
    [ "$status" -eq 0 ]
    end_tally
    run -0 spore snapshot verify second
    goes_on 0005 second
    goes_on 0002 first
}

@test "only the connection of a capture commits it; others wait their turn" {
    # One of the others asks by path, which a jail refuses before that.
    SPORE_JAIL=off tally vm
    count 0001
    run -0 client hold
    [[ ${lines[0]} == "200 "* ]]
    [[ ${lines[1]} == "400 "*"nothing was captured on this connection"* ]]
    [[ ${lines[2]} == "400 "*"another save is going on"* ]]
    [[ ${lines[3]} == "400 "*"another save is going on"* ]]
    [[ ${lines[4]} == "400 "*"not the id of a snapshot"* ]]
    [[ ${lines[5]} == "400 "*"not the id of a snapshot"* ]]
    run -0 client early
    [[ $output == "400 "*"nothing was captured on this connection"* ]]
    end_tally
}

@test "too few, too many and other descriptors are refused, and closed" {
    tally vm
    count 0001
    before=$(open_files)
    run -0 client none
    [[ $output == "400 "*"0 descriptors came"* ]]
    run -0 client few
    [[ $output == "400 "*"1 descriptors came"* ]]
    run -0 client more
    [[ $output == "400 "*"2 image files, where memory"*"need 1"* ]]
    run -0 client many
    [[ $output == "400 "*"Too many descriptors"* ]]
    run -0 client size
    [[ $output == "400 "*"has 4096 bytes where it must have"* ]]
    for what in pipe readonly; do
        run -0 client "$what"
        [[ $output == "400 "*"a regular one that can be written to"* ]]
    done
    run -0 client base
    [[ $output == "400 "*"make a full snapshot"* ]]
    run -0 client unasked
    [ "${#lines[@]}" -eq 100 ]
    [[ ${lines[99]} == "200 "* ]]
    eventually has_open "$before"
    run -0 spore save --name s vm
    end_tally
    goes_on 0002 s
}

@test "monitors that lie or die: an error, and nothing in the store" {
    tally vm
    mv "$sock" "$XDG_RUNTIME_DIR/real"
    for case in "die:closed the connection" "plan:cannot be saved" \
        "disks:cannot be saved" "garbage:not a capture" "huge:not a capture" \
        "grown:changed its size" "keep:keeps it open"; do
        lies "${case%%:*}"
        cannot "save: .*${case#*:}" spore save --name s vm
        kill "$fake" 2> /dev/null || true
        wait "$fake" || true
        is_empty
    done
    mv "$XDG_RUNTIME_DIR/real" "$sock"
    end_tally
}

@test "a monitor that never answers: an interrupt leaves nothing behind" {
    tally vm
    mv "$sock" "$XDG_RUNTIME_DIR/real"
    lies mute
    SPORE_TEST_MARK=$BATS_TEST_TMPDIR "$SPORE" save vm 3>&- &
    saver=$!
    eventually grep -q mute fake.out
    kill -TERM "$saver"
    rc=0
    wait "$saver" || rc=$?
    [ "$rc" -eq $((128 + 15)) ]
    is_empty
    mv "$XDG_RUNTIME_DIR/real" "$sock"
    end_tally
}
