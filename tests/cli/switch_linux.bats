#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Linux guests on virtual switches: those of one name reach each other.

load helper

# Boots beside each other, with another machine's load besides.
# shellcheck disable=SC2034 # helper's
LIMIT=300

setup() {
    common_setup
    need_linux
    export XDG_RUNTIME_DIR=$BATS_TEST_TMPDIR
    net=$XDG_RUNTIME_DIR/spore/net
}

teardown() {
    kill_marked
}

# guest SWITCH ADDRESS COMMAND: the arguments of a guest there.
guest() {
    args=(run --timeout 250 --net "switch=$1,ip=$2/24" -- sh -c "$3")
}

@test "two guests on a switch reach each other, a third on another does not" {
    mkfifo input
    exec 7<> input
    guest lab 10.9.0.1 "cat"
    start "${args[@]}" < input
    guest lab 10.9.0.2 "ping -c 1 -w 100 10.9.0.1"
    run -0 spore "${args[@]}" < /dev/null
    [[ $output == *"1 packets received"* ]]
    # The one that it started is there for as long as a guest is on it.
    [ -S "$net/lab.sock" ]
    guest other 10.9.0.3 "ping -c 1 -w 10 10.9.0.1"
    run -1 spore "${args[@]}" < /dev/null
    [[ $output == *"0 packets received"* ]]
    exec 7>&-
    # shellcheck disable=SC2154 # start sets it
    kill -KILL "$pid"
    end_status
    for ((i = 0; i < 500; i++)); do
        [ -n "$(ls -A "$net")" ] || break
        sleep 0.02
    done
    [ -z "$(ls -A "$net")" ]
    # What the killed machine left is removed by whoever looks.
    run -0 spore ps
    rmdir "$net"
    assert_nothing_left
}
