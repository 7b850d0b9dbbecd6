#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# libspore: programs (lib_probe.c, docs/examples) that use clones of a template.

# shellcheck disable=SC2030,SC2031 # each test is a process of its own

load helper

setup_file() {
    export XDG_RUNTIME_DIR=$BATS_FILE_TMPDIR/run
    export XDG_DATA_HOME=$BATS_FILE_TMPDIR/data
    mkdir -m 700 "$XDG_RUNTIME_DIR"
    [ -w /dev/kvm ] || return 0
    freeze_function
}

setup() {
    common_setup
    need_kvm
    : "${SPORE_LIB_PROBE:?}" "${SPORE_CLONE_EXEC:?}"
    export SPORE XDG_DATA_HOME=$BATS_FILE_TMPDIR/data
}

teardown() {
    kill_marked
}

# probe CASE: it says ok, and nothing of it is left.
probe() {
    SPORE_TEST_MARK=$BATS_TEST_TMPDIR run -0 timeout "$LIMIT" \
        "$SPORE_LIB_PROBE" "$1" function
    [ "$output" = ok ]
    await nobody_left
    assert_nothing_left
}

nobody_left() {
    [ -z "$(marked_processes)" ]
}

@test "clones count for themselves, and a reset takes it back" {
    probe count
}

@test "a reset by another clone does the same" {
    probe renew
}

@test "what cannot be is said, and what was there goes on" {
    probe limits
}

@test "no signal and no child comes of it" {
    probe surprises
}

@test "many threads use one template" {
    probe threads
}

@test "a call is ended from another thread" {
    probe kill
}

@test "machines end with their program, however that ends" {
    SPORE_TEST_MARK=$BATS_TEST_TMPDIR timeout "$LIMIT" \
        "$SPORE_LIB_PROBE" stay function > out 3>&- &
    await grep -q stays out
    pid=$(pgrep -P $! -x lib_probe)
    child=$(pgrep -P "$pid" -x lib_probe)
    # An ordinary user does not see the marks of jailed ones.
    [ "$(id -u)" -ne 0 ] || [ "$(marked_processes | wc -l)" -gt 5 ]
    kill -KILL "$pid"
    await only_left "$child"
    kill -KILL "$child"
}

# only_left PID: of this test's processes.
only_left() {
    [ "$(marked_processes)" = "/proc/$1/environ" ]
}

@test "the library exports its interface, and needs the C library only" {
    run -0 nm -D --defined-only "$SPORE_LIBSPORE"
    [ "$(grep -c ' T ' <<< "$output")" -eq "$(grep -c ' T spore_' \
        <<< "$output")" ]
    for name in $(grep -oE '\bspore_[a-z_]+\(' \
        "$BATS_TEST_DIRNAME/../../vmm/lib/spore.h" | tr -d '(' | sort -u); do
        [[ $output == *" T $name@@SPORE_0"* ]]
    done
    run -0 readelf -d "$SPORE_LIBSPORE"
    [[ $output == *'soname: [libspore.so.0]'* ]]
}

@test "nobody else is to start its process" {
    run -125 --separate-stderr spore libspore-pool 3< /dev/null
    # shellcheck disable=SC2154 # bats sets stderr
    [[ $stderr == *'for libspore only'* ]]
    run -0 spore help
    [[ $output != *libspore* ]]
}
