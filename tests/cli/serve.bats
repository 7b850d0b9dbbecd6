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
    freeze_function
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
    await_server
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

# Whether a second request is told that the first has the only machine.
second_is_refused() {
    local first status=1

    timeout "$LIMIT" curl -s --unix-socket socket http://x/hang \
        > first 3>&- &
    first=$!
    # Either may come first.
    while kill -0 "$first" 2> /dev/null; do
        if curl -s --unix-socket socket -m 60 -o second -D head http://x/ &&
            grep -q "^HTTP/1.1 503" head && kill -0 "$first" 2> /dev/null; then
            status=0
            kill "$first"
            break
        fi
    done
    wait "$first" || true
    return $status
}

@test "too many at once are told so" {
    serve --max-vms 1 --queue 0 --timeout 60
    for _ in $(seq 100); do
        ! second_is_refused || break
    done
    grep -qi "^retry-after:" head
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

# get PATH: what the metrics' socket says.
get() {
    curl --silent --max-time 30 --unix-socket metrics "http://localhost/$1"
}

@test "metrics, health, status, and spore top" {
    serve --metrics unix:metrics
    run -0 ask requests 3
    [ "$(get healthz)" = ok ]
    get metrics > text
    grep -Fx 'spore_serve_requests_total{outcome="ok"} 3' text
    grep -Fx 'spore_serve_stage_seconds_count{stage="first_instruction"} 3' text
    grep -Fx 'spore_serve_pool_made_total 3' text ||
        grep -E '^spore_serve_pool_made_total ([3-9]|[0-9]{2})$' text
    [[ $(get status) == *'"template":"function"'* ]]
    [[ $(get nothing) == *"/metrics"* ]]
    run -0 spore top --once
    [[ ${lines[0]} == NAME*"CPU %"* ]]
    [[ $output == *$'\n'function*listening*"$server"* ]]
    run -0 spore top --json --once
    [[ $output == *'"kind":"server","name":"function"'* ]]
    end_server
    [ ! -e metrics ]
    run -0 spore top --once
    [[ $output != *function* ]]
}

@test "spore top forgets a server that was killed" {
    serve
    until [ -S "$XDG_RUNTIME_DIR/spore/servers/$server" ]; do
        kill -0 "$server"
        timeout 0.1 tail -f /dev/null || true
    done
    kill -KILL "$server"
    wait "$server" || true
    run -0 spore top --once
    [ ! -e "$XDG_RUNTIME_DIR/spore/servers/$server" ]
    nobody_left
    # And so does who comes next at the place where it listened.
    serve
    run -0 ask requests 1
    end_server
}

@test "a machine for each connection, which is handed to it" {
    SPORE_TEST_MARK=$BATS_TEST_TMPDIR "$SPORE" serve --listen unix:socket \
        --stream --port vsock:5000 function > out 2> log 3>&- &
    server=$!
    until [ -S socket ]; do timeout 0.1 tail -f /dev/null || true; done
    for _ in 1 2 3; do
        run -0 python3 -c '
import socket
s = socket.socket(socket.AF_UNIX)
s.settimeout(60)
s.connect("socket")
s.sendall(b"echo")
print(s.recv(16).decode())'
        [ "$output" = echo ]
    done
    end_server
}

@test "sockets that systemd passes, and what it is told" {
    run -0 timeout "$LIMIT" python3 "$BATS_TEST_DIRNAME/serve_systemd.py" \
        "$SPORE" --http function
    [ "$output" = "READY=1
HTTP/1.1 200 OK
STOPPING=1
0
listening" ]
}

@test "the end waits for what has begun; the second time it does not" {
    serve --timeout 3 --metrics unix:metrics
    curl --silent --unix-socket socket http://localhost/hang > answer &
    client=$!
    until get metrics | grep -qFx 'spore_serve_requests_running 1'; do
        timeout 0.1 tail -f /dev/null || true
    done
    kill -TERM "$server"
    wait "$server"
    wait "$client"
    grep -q 'too long' answer
    nobody_left

    serve --timeout 1000 --drain-timeout 1000 --metrics unix:metrics
    curl --silent --unix-socket socket http://localhost/hang > answer &
    client=$!
    until get metrics | grep -qFx 'spore_serve_requests_running 1'; do
        timeout 0.1 tail -f /dev/null || true
    done
    kill -TERM "$server"
    until get metrics | grep -qFx 'spore_serve_draining 1'; do
        timeout 0.1 tail -f /dev/null || true
    done
    [ ! -e socket ] || ! curl --silent --unix-socket socket http://localhost/
    kill -TERM "$server"
    wait "$server"
    wait "$client" || true
    nobody_left
}

@test "command lines that make no server" {
    cannot 'where to listen is missing' spore serve --http function
    cannot 'no place to listen' spore serve -l nowhere --http function
    cannot 'is no address' spore serve -l tcp:localhost:1 --http function
    cannot 'no stream socket' spore serve -l fd:0 --http function
    cannot 'there already' spore serve -l "unix:$PWD" --http function
    cannot 'a template is missing' spore serve -l unix:s --http
    cannot "no template 'nothing'" spore serve -l unix:s --http nothing
    cannot 'has no command' spore serve -l unix:s function
    cannot 'one of --stream and --http' \
        spore serve -l unix:s --http --stream function
    cannot 'no part in --stream' spore serve -l unix:s --http function -- true
    cannot 'is for vsock ports' \
        spore serve -l unix:s --stream --port tcp:80 function
    cannot 'it must be none or reset' \
        spore serve -l unix:s --http --reuse maybe function
    cannot 'less than --max-vms' \
        spore serve -l unix:s --http --max-connections 3 function
    cannot 'more than --max-vms' \
        spore serve -l unix:s --http --ready 20 function
    cannot 'number of seconds' spore serve -l unix:s --timeout 0 function
    [ ! -e s ]
}
