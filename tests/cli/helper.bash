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
    export XDG_RUNTIME_DIR=$BATS_TEST_TMPDIR/run
    mkdir -m 700 "$XDG_RUNTIME_DIR"
    # What runs is what a test has started: no process stays for the next run.
    export XDG_DATA_HOME=$BATS_TEST_TMPDIR/data SPORE_COLD=1
}

need_kvm() {
    if [ ! -r /dev/kvm ] || [ ! -w /dev/kvm ]; then
        cannot_run "/dev/kvm cannot be opened"
    fi
}

# What a run without --kernel and --rootfs takes is there.
need_linux() {
    need_kvm
    # Finds a kernel and a root file system, or says what is missing.
    run spore run --timeout 0.001 -- true
    [[ $output != *"quickstart.sh"* ]] || cannot_run "$output"
}

# boot_for_file ID: for setup_file, a Linux guest that all tests of a file
# share, since a boot takes seconds where guest kernels are interpreted. What
# it says of what is missing is for need_booted.
boot_for_file() {
    export XDG_RUNTIME_DIR=$BATS_FILE_TMPDIR/run
    mkdir -m 700 "$XDG_RUNTIME_DIR"
    [ -r /dev/kvm ] && [ -w /dev/kvm ] || return 1
    SPORE_TEST_MARK=$BATS_FILE_TMPDIR timeout "$LIMIT" "$SPORE" run --id "$1" \
        --detach --timeout 1000 > "$BATS_FILE_TMPDIR/started" 2>&1 3>&-
}

# need_booted ID: for setup, in common_setup's place.
need_booted() {
    local dir=$XDG_RUNTIME_DIR

    common_setup
    export XDG_RUNTIME_DIR=$dir
    need_kvm
    if grep -q quickstart.sh "$BATS_FILE_TMPDIR/started"; then
        cannot_run "$(cat "$BATS_FILE_TMPDIR/started")"
    fi
    [ "$(cat "$BATS_FILE_TMPDIR/started")" = "$1" ]
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

# detached GUEST ID [OPTION...]: runs a bare guest behind us.
# shellcheck disable=SC2154 # bats sets stderr
detached() {
    run -0 --separate-stderr spore run --console --detach --id "$2" \
        --kernel "$SPORE_GUESTS/$1.elf" "${@:3}"
    [ "$output" = "$2" ]
    [ -z "$stderr" ] || [[ $stderr == "spore: run: no jail "* ]]
}

# The processes that carry this test's mark.
marked_processes() {
    grep -lzx "SPORE_TEST_MARK=$BATS_TEST_TMPDIR" /proc/[0-9]*/environ \
        2> /dev/null || true
}

# For setup_file: the bare guest that is a function, as the template "function".
freeze_function() {
    # Standard input of a console is not the test's.
    "$SPORE" run --detach --id function --console --rootfs none \
        --kernel "$SPORE_GUESTS/function.elf" \
        --vsock "$BATS_FILE_TMPDIR/vsock" < /dev/null > /dev/null 3>&-
    until grep -q ready "$XDG_RUNTIME_DIR/spore/function/log"; do
        timeout 0.1 tail -f /dev/null || true
    done
    "$SPORE" template freeze function function --vsock-port 5001
    "$SPORE" kill function
}

# Until the server $server listens at ./socket; its log is ./log.
# shellcheck disable=SC2154 # the caller sets it
await_server() {
    for _ in $(seq 300); do
        [ ! -S socket ] || return 0
        kill -0 "$server" || break
        timeout 0.1 tail -f /dev/null || true
    done
    cat log
    return 1
}

# Until none of them is left, which takes a moment.
nobody_left() {
    for _ in $(seq 600); do
        [ -n "$(marked_processes)" ] || return 0
        timeout 0.1 tail -f /dev/null || true
    done
    marked_processes
    return 1
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
    [ -z "$(ls -A "$XDG_RUNTIME_DIR/spore" 2> /dev/null)" ]
    [ -z "$(marked_processes)" ]
}

# refused PATTERN COMMAND...: cannot, says spore run, and leaves nothing behind.
# shellcheck disable=SC2154
refused() {
    local pattern=$1 before

    shift
    before=$(ls -A)
    cannot "$pattern" "$@"
    [[ $stderr == "spore: run: "* ]]
    [ "$(ls -A)" = "$before" ]
    assert_nothing_left
}

# cannot PATTERN COMMAND...: status 125, nothing on standard output, and one line
# on standard error that matches the extended regular expression.
# shellcheck disable=SC2154 # bats sets stderr and stderr_lines
cannot() {
    local pattern=$1

    shift
    run -125 --separate-stderr "$@"
    [ -z "$output" ]
    [ "${#stderr_lines[@]}" -eq 1 ]
    [[ $stderr =~ $pattern ]]
}

# start COMMAND...: runs spore in the background, its id in `pid`, its standard
# output to be read from descriptor 8, its errors in the file err. It is to
# have a --timeout, so that a read always ends.
start() {
    rm -f out
    mkfifo out
    SPORE_TEST_MARK=$BATS_TEST_TMPDIR "$SPORE" "$@" <&0 > out 2> err 3>&- &
    pid=$!
    exec 8< out
}

# await COMMAND...: until it succeeds; what never does is a failure.
await() {
    local end=$((SECONDS + LIMIT))

    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
    done
}

# Reads the output up to a line that is exactly this.
read_line() {
    local line

    while IFS= read -r line <&8; do
        [ "$line" != "$1" ] || return 0
    done
    echo "the output ends without '$1': $(cat err)"
    return 1
}

# The status with which it ended: in `status`, as bats has it.
# shellcheck disable=SC2034
end_status() {
    wait "$pid" && status=0 || status=$?
}

# tally ID [OPTION...]: a guest that counts, in front; its input is at 9.
tally() {
    mkfifo "in-$1"
    exec 9<> "in-$1"
    start run --console --timeout "$LIMIT" --id "$1" \
        --kernel "$SPORE_GUESTS/tally.elf" "${@:2}" < "in-$1"
    read_line ready
}

# count WANT...: sends a byte for each, and reads the count.
count() {
    local want

    for want in "$@"; do
        printf x >&9
        read_line "$want"
    done
}

# api ID METHOD PATH [BODY]: the body of the reply, then its status.
api() {
    curl -sS --max-time 60 --unix-socket "$XDG_RUNTIME_DIR/spore/$1/api.sock" \
        -X "$2" ${4:+-d "$4"} -w '\n%{http_code}\n' "http://localhost$3"
}

# keeper_of PID: the process outside the jail of the monitor PID, if it is in
# one.
keeper_of() {
    local parent

    parent=$(awk '/^PPid/ {print $2}' "/proc/$1/status")
    if [ "$(readlink "/proc/$parent/exe")" = "$(readlink -f "$SPORE")" ]; then
        echo "$parent"
    fi
}

# Ordinary users can get to this test's folder.
open_to_users() {
    chmod a+rx "$BATS_RUN_TMPDIR" "$BATS_RUN_TMPDIR/test"
    chmod -R a+rX "$BATS_TEST_TMPDIR"
}

# monitor_of PID: the machine's process, which is the child of the one that was
# started where there is a jail.
monitor_of() {
    pgrep -P "$1" -x "$(cat "/proc/$1/comm")" || echo "$1"
}

# need_sight PID: its descriptors can be looked at, which those of a monitor in
# a jail cannot by its own user: it is not dumpable.
need_sight() {
    ls "/proc/$1/fd" > /dev/null 2>&1 ||
        skip "the descriptors of a monitor in a jail are for root to see"
}

# Memory can be served by userfaultfd for this user.
need_uffd() {
    [ "$(id -u)" -eq 0 ] || [ -w /dev/userfaultfd ] ||
        [ "$(cat /proc/sys/vm/unprivileged_userfaultfd)" = 1 ] ||
        cannot_run "userfaultfd is not for this user"
}
