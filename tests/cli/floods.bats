#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Guests that flood what they can reach: the monitor stays small, its files end
# at their limits, and the machine answers (docs/limits.md).

load helper

setup() {
    common_setup
    need_kvm
}

teardown() {
    kill_marked
}

# flood WORD [OPTION...]: a guest behind us that does it for ever.
flood() {
    # What it prints is of no interest but where a test limits it.
    detached flood vm --mem 16 --log log --cmdline "flood=$1" "${@:2}"
    pid=$(field .pid)
}

# What the machine says of itself: an answer on its control socket.
field() {
    api vm GET /spore | head -n 1 | jq -r "$1"
}

# Of the monitor, in KiB; guest memory is not part of it.
own_memory() {
    awk '$1 == "RssAnon:" { print $2 }' "/proc/$pid/status"
}

more_exits() {
    [ "$(field .exits)" -gt "$1" ]
}

requests_of() {
    [ "$(field ".devices.$1.requests")" -gt "$2" ]
}

# The guest is not held up, and its machine does what it is told.
goes_on() {
    await more_exits "$(field .exits)"
    run -0 spore pause vm
    [ "$(field .state)" = Paused ]
    run -0 spore resume vm
    await more_exits "$(field .exits)"
}

# stays_small BEFORE KIB: in memory, by what it had before.
stays_small() {
    local now

    now=$(own_memory)
    echo "own memory: $1 KiB before, $now KiB now"
    [ "$now" -le $(($1 + $2)) ]
}

ends() {
    run -0 spore kill vm
    assert_nothing_left
}

is_cut() {
    grep -q "all that this file takes.*--output-limit" "$1"
}

@test "serial port to a log: it ends at its limit, the guest does not" {
    local before size

    flood serial --output-limit 16K
    before=$(own_memory)
    await is_cut log
    size=$(stat -c %s log)
    [ "$size" -le 16384 ]
    [ "$size" -gt 16000 ]
    goes_on
    [ "$(stat -c %s log)" -eq "$size" ]
    [ "$(grep -c "all that this file takes" log)" -eq 1 ]
    stays_small "$before" 512
    ends
}

@test "serial port to a file: what comes behind the limit is left out" {
    echo '{"spore": {"agent": false, "exit_port": true}}' > bare.json
    run -0 --separate-stderr spore run --config bare.json --timeout 60 \
        --kernel "$SPORE_GUESTS/flood.elf" --cmdline flood=end \
        --console=out --output-limit 8K
    [ -z "$output$stderr" ]
    [ "$(stat -c %s out)" -le 8192 ]
    is_cut out
    # Without a limit all of it is there.
    run -0 spore run --config bare.json --timeout 60 \
        --kernel "$SPORE_GUESTS/flood.elf" --cmdline flood=end --console=out
    [ "$(stat -c %s out)" -eq 65536 ]
}

@test "virtio console to a file" {
    local before

    flood console --virtio-console=out --output-limit 64K
    before=$(own_memory)
    await is_cut out
    await requests_of vconsole 200
    [ "$(stat -c %s out)" -le 65536 ]
    [ ! -s log ]
    goes_on
    stays_small "$before" 512
    ends
}

@test "registers that are nobody's" {
    local before

    flood nobody
    before=$(own_memory)
    await more_exits 20000
    goes_on
    [ ! -s log ]
    stays_small "$before" 512
    ends
}

@test "a disk: its overlay ends at its limit, the log has a few lines" {
    local before

    truncate -s 64M disk.img
    flood disk --disk disk.img,overlay=over,max-growth=1M
    before=$(own_memory)
    failed_writes() { [ "$(field .devices.disk0.errors)" -gt 500 ]; }
    await failed_writes
    goes_on
    # A megabyte, the map, and what the file system rounds up.
    [ "$(du -k over | cut -f 1)" -le 1200 ]
    [ "$(du -k disk.img | cut -f 1)" -eq 0 ]
    grep -q "disk0: writes fail: no more space is allowed" log
    # Ten at once, and one more a minute.
    [ "$(wc -l < log)" -lt 20 ]
    stays_small "$before" 1024
    ends
}

# Takes connections at a path and reads nothing; ends when standard input does.
# shellcheck disable=SC2016
listener='
import socket, sys, threading
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen(4096)
kept = []
def serve():
    while True:
        kept.append(server.accept()[0])
threading.Thread(target=serve, daemon=True).start()
sys.stdin.read()
'

# shellcheck disable=SC2031 # of the test that calls it
count_fds() {
    find "/proc/$pid/fd" -mindepth 1 | wc -l
}

@test "vsock connections that nobody reads: memory and descriptors" {
    local before fds

    command -v python3 > /dev/null || cannot_run "there is no python3"
    mkfifo hold
    python3 -c "$listener" v.sock_4321 < hold > /dev/null 2>&1 3>&- &
    exec 7> hold
    # shellcheck disable=SC2317
    listens() { [ -S v.sock_4321 ]; }
    await listens
    # So that there is no room for all.
    flood vsock --vsock v.sock --rlimit nofile=256
    need_sight "$pid"
    before=$(own_memory)
    has_many() { [ "$(count_fds)" -gt 180 ]; }
    await has_many
    await requests_of vsock $(($(field .devices.vsock.requests) + 1000))
    fds=$(count_fds)
    echo "$fds descriptors"
    [ "$fds" -le $((256 - 64 + 2)) ]
    goes_on
    # 4 MiB of buffers, 4 KiB for each of the others.
    stays_small "$before" 6144
    exec 7>&-
    ends
}

@test "the same pages into the balloon, again and again" {
    local before

    flood balloon --balloon 4,stats=1
    before=$(own_memory)
    await requests_of balloon 1000
    goes_on
    [ ! -s log ]
    stays_small "$before" 512
    ends
}
