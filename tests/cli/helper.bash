# SPDX-License-Identifier: Apache-2.0
# What all command-line tests share. SPORE is the binary, SPORE_GUESTS the
# folder of bare guests. Each test runs in an empty folder of its own.

bats_require_minimum_version 1.5.0

# Far beyond what anything here takes: a hang is to end as a failure.
LIMIT=120

# Skips, or fails where SPORE_MUST_WORK=1 forbids to skip.
cannot_run() {
    if [ "${SPORE_MUST_WORK:-}" = 1 ]; then
        echo "cannot run: $1"
        return 1
    fi
    skip "$1"
}

common_setup() {
    : "${SPORE:?}" "${SPORE_GUESTS:?}"
    mkdir "$BATS_TEST_TMPDIR/cwd" "$BATS_TEST_TMPDIR/tmp"
    cd "$BATS_TEST_TMPDIR/cwd" || return 1
    export TMPDIR=$BATS_TEST_TMPDIR/tmp
}

need_kvm() {
    if [ ! -r /dev/kvm ] || [ ! -w /dev/kvm ]; then
        cannot_run "/dev/kvm cannot be opened"
    fi
}

# Runs spore with a mark in its environment, by which its children are found.
spore() {
    SPORE_TEST_MARK=$BATS_TEST_TMPDIR timeout "$LIMIT" "$SPORE" "$@"
}

# A bare guest and further options; nothing to read.
bare() {
    local guest=$1

    shift
    spore run --console --timeout 60 --kernel "$SPORE_GUESTS/$guest.elf" \
        "$@" < /dev/null
}

# The processes that carry this test's mark.
marked_processes() {
    grep -lzx "SPORE_TEST_MARK=$BATS_TEST_TMPDIR" /proc/[0-9]*/environ \
        2> /dev/null || true
}

# A failed test may have left its guest running.
kill_marked() {
    local file

    for file in $(marked_processes); do
        file=${file#/proc/}
        kill -KILL "${file%/environ}" 2> /dev/null || true
    done
}

assert_nothing_left() {
    [ -z "$(ls -A "$TMPDIR")" ]
    [ -z "$(marked_processes)" ]
}

# refused PATTERN COMMAND...: status 125, nothing on standard output, one line
# on standard error that matches the extended regular expression.
# shellcheck disable=SC2154 # bats sets stderr and stderr_lines
refused() {
    local pattern=$1 before

    shift
    before=$(ls -A)
    run -125 --separate-stderr "$@"
    [ -z "$output" ]
    [ "${#stderr_lines[@]}" -eq 1 ]
    [[ $stderr == "spore: run: "* ]]
    [[ $stderr =~ $pattern ]]
    [ "$(ls -A)" = "$before" ]
    assert_nothing_left
}

# Waits until a file has a line that is exactly this.
wait_for_line() {
    local file=$1 text=$2 end=$((SECONDS + LIMIT))

    until grep -qx "$text" "$file" 2> /dev/null; do
        [ "$SECONDS" -lt "$end" ] || return 1
        read -rt 0.02 <> <(:) || true
    done
}
