#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# spore serve with shells in Linux guests. SPORE_REQUESTS is how many scripts
# each client has. One boot of Linux.

# shellcheck disable=SC2030,SC2031 # each test is a process of its own

load helper

setup_file() {
    export XDG_RUNTIME_DIR=$BATS_FILE_TMPDIR/run
    export XDG_DATA_HOME=$BATS_FILE_TMPDIR/data
    mkdir -m 700 "$XDG_RUNTIME_DIR"
    [ -w /dev/kvm ] || return 0
    cd "$BATS_FILE_TMPDIR"
    truncate -s 512K disk.img
    SPORE_TEST_MARK=$BATS_FILE_TMPDIR timeout "$LIMIT" "$SPORE" run --id shells \
        --detach --timeout 1000 --disk disk.img,overlay \
        > started 2>&1 3>&- || return 0
    "$SPORE" template freeze shells shells
    "$SPORE" kill shells
}

setup() {
    common_setup
    export XDG_DATA_HOME=$BATS_FILE_TMPDIR/data
    need_kvm
    need_linux
    count=${SPORE_REQUESTS:-1}
}

teardown() {
    kill_marked
}

# serve OPTION...: a server at ./socket, in the background, as $server.
serve() {
    SPORE_TEST_MARK=$BATS_TEST_TMPDIR "$SPORE" serve --listen unix:socket \
        "$@" shells -- sh > out 2> log 3>&- &
    server=$!
    await_server
}

ask() {
    timeout 600 python3 "$BATS_TEST_DIRNAME/serve_shells.py" "$1" socket "$2"
}

@test "guests that use up, end or hold up their machine are nobody else's" {
    # Whoever waits is not to be turned away for it where guests are slow.
    serve --timeout 300 --max-vms 12 --queue 100 --queue-timeout 500
    run -0 ask neighbours "$count"
    echo "$output"
    kill -TERM "$server"
    wait "$server"
    nobody_left
}

@test "a request leaves nothing on the disk of the next one's machine" {
    serve --timeout 300 --max-vms 1
    run -0 ask disk 3
    echo "$output"
    kill -TERM "$server"
    wait "$server"
    # All of it was behind the file.
    cmp "$BATS_FILE_TMPDIR/disk.img" <(head -c 512K /dev/zero)
}

@test "nor does one whose machine is put back" {
    serve --timeout 300 --max-vms 1 --reuse reset
    run -0 ask disk 3
    echo "$output"
    kill -TERM "$server"
    wait "$server"
    cmp "$BATS_FILE_TMPDIR/disk.img" <(head -c 512K /dev/zero)
}
