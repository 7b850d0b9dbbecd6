#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# spore run where an earlier run had booted, and in clones of a template. One
# boot of Linux.

# shellcheck disable=SC2030,SC2031 # each test is a process of its own
# shellcheck disable=SC2154 # bats sets stderr

load helper

# With the zygote that all runs share.
setup_file() {
    export XDG_RUNTIME_DIR=$BATS_FILE_TMPDIR/run
    export XDG_DATA_HOME=$BATS_FILE_TMPDIR/data
    mkdir -m 700 "$XDG_RUNTIME_DIR"
    [ -w /dev/kvm ] || return 0
    SPORE_TEST_MARK=$BATS_FILE_TMPDIR timeout 300 "$SPORE" run -- true \
        < /dev/null > "$BATS_FILE_TMPDIR/first.out" \
        2> "$BATS_FILE_TMPDIR/first.err" 3>&-
    cd "$XDG_DATA_HOME/spore/templates"
    ln -s "$(readlink auto-*)" plain
}

teardown_file() {
    local file

    for file in $(grep -lzx "SPORE_TEST_MARK=$BATS_FILE_TMPDIR" \
        /proc/[0-9]*/environ 2> /dev/null || true); do
        kill -KILL "$(basename "${file%/environ}")" 2> /dev/null || true
    done
}

setup() {
    common_setup
    need_kvm
    export XDG_RUNTIME_DIR=$BATS_FILE_TMPDIR/run
    export XDG_DATA_HOME=$BATS_FILE_TMPDIR/data
    unset SPORE_COLD
}

teardown() {
    kill_marked
}

zygotes() {
    grep -lx spore-zygote /proc/[0-9]*/comm 2> /dev/null | wc -l
}

@test "a run without a template makes one, and later ones are clones of it" {
    [ -n "$(ls -d "$XDG_DATA_HOME"/spore/templates/auto-*)" ]
    run -0 spore run -- cat /proc/sys/kernel/random/uuid
    first=$output
    run -0 spore run -- cat /proc/sys/kernel/random/uuid
    [ "$output" != "$first" ]
    # As old as the machine that booted.
    run -0 spore run -- sh -c 'cut -d. -f1 /proc/uptime'
    [ "$output" -gt 5 ]
    [ "$(find "$XDG_DATA_HOME/spore/templates" -name 'auto-*' | wc -l)" -eq 1 ]
}

@test "statuses, streams, arguments and signals are the command's" {
    run -42 spore run -- sh -c 'exit 42'
    run -127 spore run -- nothing
    run -0 --separate-stderr spore run -- sh -c 'echo out; echo err >&2'
    [ "$output" = out ]
    [ "$stderr" = err ]
    [ "$(echo text | spore run -- cat)" = text ]
    run -0 spore run --env A=b --workdir /etc -- sh -c 'echo $A $PWD "$1"' x 'a b'
    [ "$output" = "b /etc a b" ]
    run -143 spore run -- sh -c 'kill -TERM $$'
}

@test "a run that takes too long" {
    run -124 spore run --timeout 2 -- sleep 100
    [[ $output == *"timed out"* ]]
}

@test "what a run writes is gone with it" {
    run -0 spore run -- sh -c 'echo x > /tmp/x && cat /tmp/x'
    run -1 spore run -- cat /tmp/x
}

@test "by the template's name" {
    run -0 spore run plain -- uname -s
    [ "$output" = Linux ]
    run -3 spore run plain -- sh -c 'exit 3'
    run -125 spore run --id x plain -- true
    [[ $output == *"has no id"* ]]
    # What is no template is a command.
    run -127 spore run --cold nothing
}

@test "another jail is another zygote's" {
    before=$(zygotes)
    run -0 spore run --jail=strict -- true
    run -0 spore run --jail=off -- true
    # They end with their runs.
    for _ in $(seq 100); do
        [ "$(zygotes)" -gt "$before" ] || break
        timeout 0.1 tail -f /dev/null || true
    done
    [ "$(zygotes)" -le "$before" ]
}

@test "nothing is left of runs but the zygote and what it has ready" {
    for _ in 1 2 3; do
        run -0 spore run -- true
    done
    for _ in $(seq 100); do
        [ -n "$(marked_processes)" ] || break
        timeout 0.1 tail -f /dev/null || true
    done
    [ -z "$(marked_processes)" ]
}

@test "a run whose zygote is killed says so" {
    SPORE_TEST_MARK=$BATS_TEST_TMPDIR "$SPORE" run --jail=strict -- \
        sh -c 'echo up; sleep 1000' > out 2>&1 3>&- &
    pid=$!
    for _ in $(seq 600); do
        ! grep -q up out || break
        timeout 0.1 tail -f /dev/null || true
    done
    for file in $(marked_processes); do
        ! grep -qx spore-zygote "${file%/environ}/comm" ||
            kill -KILL "$(basename "${file%/environ}")"
    done
    status=0
    wait "$pid" || status=$?
    [ "$status" -eq 125 ]
    grep -q "machine ended before the command" out
}
