#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# spore serve, with a bare guest that is a function: tests/guests/function.c
# says what it answers. SPORE_REQUESTS is how many there are of each kind.

# shellcheck disable=SC2030,SC2031 # each test is a process of its own

load helper

setup_file() {
    export XDG_RUNTIME_DIR=$BATS_FILE_TMPDIR/run
    export XDG_DATA_HOME=$BATS_FILE_TMPDIR/data
    mkdir -m 700 "$XDG_RUNTIME_DIR"
    [ -w /dev/kvm ] || return 0
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

setup() {
    common_setup
    need_kvm
    export XDG_DATA_HOME=$BATS_FILE_TMPDIR/data
    count=${SPORE_REQUESTS:-30}
    client=$BATS_TEST_DIRNAME/serve_client.py
}

teardown() {
    kill_marked
}

# serve OPTION...: a server at ./socket, in the background, as $server.
serve() {
    SPORE_TEST_MARK=$BATS_TEST_TMPDIR "$SPORE" serve --listen unix:socket \
        --http "$@" function > out 2> log 3>&- &
    server=$!
    for _ in $(seq 300); do
        [ ! -S socket ] || return 0
        kill -0 "$server" || break
        timeout 0.1 tail -f /dev/null || true
    done
    cat log
    return 1
}

ask() {
    timeout "$LIMIT" python3 "$client" "$1" socket "${2:-$count}"
}

# The server ends in order, and nothing of it is left.
end_server() {
    kill -TERM "$server"
    wait "$server"
    nobody_left
}

nobody_left() {
    for _ in $(seq 300); do
        [ -n "$(marked_processes)" ] || return 0
        timeout 0.1 tail -f /dev/null || true
    done
    marked_processes
    return 1
}

@test "a machine for each request" {
    serve
    run -0 ask requests
    end_server
    [ ! -e socket ]
}

@test "one machine, put back between requests" {
    serve --reuse reset --max-vms 1
    run -0 ask requests
    end_server
}

@test "in the strictest jail, and in none" {
    serve --run-option --jail=strict
    run -0 ask requests 3
    end_server
    serve --run-option --jail=off
    run -0 ask requests 3
    end_server
}

@test "a cgroup for each machine, and none is left" {
    if [ "$(id -u)" -ne 0 ]; then
        skip "only root makes cgroups here"
    fi
    before=$(find /sys/fs/cgroup -name 'spore-*' | wc -l)
    serve --run-option --memory-max=200M
    run -0 ask requests 5
    [ "$(find /sys/fs/cgroup -name 'spore-*' | wc -l)" -gt "$before" ]
    end_server
    [ "$(find /sys/fs/cgroup -name 'spore-*' | wc -l)" -eq "$before" ]
}

@test "requests that end, break or hold up their machine are nobody else's" {
    serve --timeout 1 --max-vms 24 --queue 100
    run -0 ask neighbours
    echo "$output"
    end_server
}

@test "the same with machines that are put back" {
    serve --timeout 1 --max-vms 24 --queue 100 --reuse reset
    run -0 ask neighbours
    echo "$output"
    end_server
}

@test "clients that send half a request, or none, or nonsense" {
    serve --header-timeout 2
    run -0 ask rude
    end_server
}

@test "a request leaves nothing in the memory of the next one's machine" {
    if [ "$(id -u)" -ne 0 ]; then
        skip "only root looks into other processes' memory"
    fi
    serve --max-vms 2
    run -0 ask traces 5
    end_server
    serve --max-vms 2 --reuse reset
    run -0 ask traces 5
    end_server
}

# KiB of the server's memory.
resident() {
    awk '/^VmRSS:/ { print $2 }' "/proc/$server/status"
}

@test "requests leave no descriptor, process or memory behind" {
    serve --max-vms 4 --ready 2
    run -0 ask requests
    fds=$(find "/proc/$server/fd" | wc -l)
    rss=$(resident)
    run -0 ask requests
    run -0 ask requests
    [ "$(find "/proc/$server/fd" | wc -l)" -le $((fds + 4)) ]
    [ "$(resident)" -le $((rss + 256)) ]
    end_server
}

@test "too many at once are told so" {
    serve --max-vms 1 --queue 0 --timeout 5
    timeout "$LIMIT" curl -s --unix-socket socket http://x/hang \
        > first 3>&- &
    first=$!
    until curl -s --unix-socket socket -m 5 -o second -w '%{http_code}\n' \
        http://x/ | grep -q 503; do
        kill -0 "$first"
    done
    wait "$first" || true
    run -0 ask requests 2
    end_server
}

@test "a server that is killed leaves no machine" {
    serve --ready 3
    run -0 ask requests 3
    kill -KILL "$server"
    wait "$server" || true
    nobody_left
}

@test "a zygote that is killed leaves no machine, and ends its server" {
    serve --ready 3
    run -0 ask requests 3
    for file in $(marked_processes); do
        grep -q spore-zygote "${file%/environ}/comm" || continue
        kill -KILL "$(basename "${file%/environ}")"
    done
    status=0
    wait "$server" || status=$?
    [ "$status" -eq 125 ]
    nobody_left
    grep -q zygote log
}

@test "a template that there is none of" {
    run -125 "$SPORE" serve --listen unix:socket --http nothing
    [[ $output == *"nothing"*"spore template"* ]]
}

@test "spore template freeze: what is wrong" {
    run -125 "$SPORE" template freeze .x y
    run -125 "$SPORE" template freeze x
    run -125 "$SPORE" template freeze x nobody
    [[ $output == *"nobody"* ]]
    run -125 "$SPORE" template freeze function nobody
    [[ $output == *"--replace"* ]]
    run -125 "$SPORE" template freeze x y --port 0
    run -0 "$SPORE" template ls
    [[ $output == *function*"machine function"* ]]
}
