#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Machines that run, from outside, with bare guests: spore run --detach, ps,
# pause, resume, stop, kill, and the control socket itself.

load helper

setup() {
    common_setup
    need_kvm
}

teardown() {
    kill_marked
}

# state_is ID STATE
state_is() {
    [ "$(spore ps --json | jq -r ".[] | select(.id == \"$1\").state")" = "$2" ]
}

@test "ps: none, two, none; their folders go with them" {
    run -0 spore ps
    [ "${#lines[@]}" -eq 1 ]
    [ "$(spore ps --json)" = "[]" ]
    detached spin b
    detached halt a --cpus 2
    run -0 spore ps
    [ "${#lines[@]}" -eq 3 ]
    [[ ${lines[1]} =~ ^a\ +Running\ .*\ 2\  ]]
    [[ ${lines[2]} =~ ^b\ +Running\ .*\ 1\  ]]
    run -0 spore kill a b
    [ -z "$output" ]
    [ "$(spore ps --json)" = "[]" ]
    assert_nothing_left
}

@test "an id is given once; ids are checked" {
    detached spin one
    cannot "id one runs already" run_as one
    run -0 spore kill one
    refused "--id ../x: it must be" run_as ../x
    refused "--id net: it must be" run_as net
    refused "--id : it must be" run_as ""
    detached spin one
    run -0 spore kill one
    assert_nothing_left
}

run_as() {
    spore run --console --id "$1" --kernel "$SPORE_GUESTS/hello.elf" \
        < /dev/null
}

@test "pause holds the guest, resume lets it run on" {
    detached counter vm
    run -0 spore pause vm
    state_is vm Paused
    run -0 spore pause vm
    run -0 api vm PATCH /vm '{"state":"Resumed"}'
    [ "${lines[0]}" = 204 ]
    state_is vm Running
    run -0 spore resume vm
    run -0 spore kill vm
}

@test "config and metrics: a line of JSON for each machine" {
    detached spin a
    detached halt b --cpus 2
    run -0 spore config a b
    [ "${#lines[@]}" -eq 2 ]
    [ "$(jq '."machine-config".vcpu_count' <<< "${lines[1]}")" -eq 2 ]
    run -0 spore metrics a b
    [ "${#lines[@]}" -eq 2 ]
    [ "$(jq -r .id <<< "${lines[0]}")" = a ]
    cannot "no machine c runs" spore config c
    # What is printed makes the same machine.
    spore config b | jq . > b.json
    run -0 spore run --config b.json --console --no-boot --detach --id c
    [ "$(spore config c | jq -S .)" = "$(spore config b | jq -S .)" ]
    run -0 spore kill a b c
}

@test "a paused machine can be killed" {
    detached spin vm
    run -0 spore pause vm
    run -0 spore kill vm
    assert_nothing_left
}

@test "stop: the power button, and what does not listen to it is killed" {
    detached spin vm
    run -0 spore stop --timeout 0.2 vm
    assert_nothing_left
}

@test "a run in the foreground that is killed, and one that is stopped" {
    start run --console --id fg --timeout "$LIMIT" \
        --kernel "$SPORE_GUESTS/spin.elf" < /dev/null
    read_line spinning
    run -0 spore kill fg
    end_status
    [ "$status" -eq 137 ]
    [ ! -s err ]
    start run --console --id fg --timeout "$LIMIT" \
        --kernel "$SPORE_GUESTS/spin.elf" < /dev/null
    read_line spinning
    run -0 spore stop --timeout 0.2 fg
    end_status
    [ "$status" -eq 137 ]
    assert_nothing_left
}

@test "a run without a name is listed too, under a random one" {
    local i

    start run --console --timeout "$LIMIT" \
        --kernel "$SPORE_GUESTS/spin.elf" < /dev/null
    read_line spinning
    # Its socket comes a moment after the guest's start.
    for ((i = 0; i < 1000; i++)); do
        [ "$(spore ps --json | jq length)" = 0 ] || break
    done
    [[ $(spore ps --json | jq -r '.[0].id') =~ ^[0-9a-z]{8}$ ]]
    run -0 spore kill "$(spore ps --json | jq -r '.[0].id')"
    end_status
    assert_nothing_left
}

@test "--no-api: no folder, not listed" {
    start run --console --no-api --timeout "$LIMIT" \
        --kernel "$SPORE_GUESTS/spin.elf" < /dev/null
    read_line spinning
    [ ! -e "$XDG_RUNTIME_DIR/spore" ]
    kill -TERM "$pid"
    end_status
    [ "$status" -eq 143 ]
}

@test "--api-sock: also at that path, which must be free" {
    detached spin vm --api-sock "$PWD/here.sock"
    [ "$(curl -sS --unix-socket here.sock http://localhost/ |
        jq -r .id)" = vm ]
    [ "$(stat -c %a here.sock)" = 600 ]
    state_is vm Running
    run -125 --separate-stderr spore run --console --detach \
        --api-sock here.sock --kernel "$SPORE_GUESTS/spin.elf"
    [[ $stderr == *"here.sock exists already"* ]]
    run -0 spore kill vm
    [ ! -e here.sock ]
    assert_nothing_left
}

@test "--detach: output goes to the log, errors before to us" {
    detached hello vm --log log
    for ((i = 0; i < 1000; i++)); do
        [ "$(spore ps --json)" != "[]" ] || break
    done
    [ "$(cat log)" = "hello from a bare guest" ]
    run -125 --separate-stderr spore run --console --detach --kernel nowhere
    [ -z "$output" ]
    [[ $stderr == "spore: run: "*nowhere* ]]
    assert_nothing_left
}

@test "a monitor that is killed leaves nothing, and its keeper says so" {
    local monitor keeper

    detached spin vm --log log
    monitor=$(spore ps --json | jq '.[0].pid')
    keeper=$(keeper_of "$monitor")
    [ -n "$keeper" ] || skip "there is no jail, and so no keeper"
    kill -KILL "$monitor"
    while kill -0 "$keeper" 2> /dev/null; do :; done
    [ ! -e "$XDG_RUNTIME_DIR/spore/vm" ]
    grep -q "the monitor was ended by signal 9" log
}

@test "what a killed keeper leaves behind is no machine, and is removed" {
    local monitor keeper

    # Where there is no jail the monitor keeps its own place.
    detached spin vm
    monitor=$(spore ps --json | jq '.[0].pid')
    keeper=$(keeper_of "$monitor")
    kill -KILL "${keeper:-$monitor}"
    while kill -0 "$monitor" 2> /dev/null; do :; done
    [ -e "$XDG_RUNTIME_DIR/spore/vm/api.sock" ]
    [ "$(spore ps --json)" = "[]" ]
    [ ! -e "$XDG_RUNTIME_DIR/spore/vm" ]
    detached spin vm
    monitor=$(spore ps --json | jq '.[0].pid')
    keeper=$(keeper_of "$monitor")
    kill -KILL "${keeper:-$monitor}"
    while kill -0 "$monitor" 2> /dev/null; do :; done
    cannot "no machine vm runs" spore pause vm
    detached spin vm
    run -0 spore kill vm
    assert_nothing_left
}

@test "machines that are not there, commands that are none" {
    cannot "no machine nope runs" spore pause nope
    cannot "no machine nope runs" spore exec nope -- true
    cannot "is no id of a machine" spore kill ../x
    cannot "ID is needed" spore stop
    cannot "unknown" spore resume --frob x
    cannot "unknown" spore pause --timeout 1 x
    cannot "0 to 3600" spore stop --timeout -1 x
    cannot "COMMAND are needed" spore exec vm
    cannot "NAME=VALUE" spore exec -e x vm true
    cannot "no arguments" spore ps x
    run -125 spore kill nope nope2
    [ "${#lines[@]}" -eq 2 ]
}

@test "exec in a guest without an agent" {
    detached spin vm
    cannot "has no vsock device" spore exec vm -- true
    run -0 spore kill vm
}

@test "a runtime folder that others may write to is refused" {
    mkdir -m 777 "$XDG_RUNTIME_DIR/spore"
    chmod 777 "$XDG_RUNTIME_DIR/spore"
    cannot "not a folder of this user alone" spore ps
    run -125 --separate-stderr spore run --console --id vm \
        --kernel "$SPORE_GUESTS/hello.elf" < /dev/null
    [[ $stderr == *"not a folder of this user alone"* ]]
    # Without a name the run does not depend on it.
    run -0 bare hello
    rmdir "$XDG_RUNTIME_DIR/spore"
}

@test "the socket: the contract's replies, its errors, our endpoints" {
    detached spin vm
    run -0 api vm GET /
    [ "$(jq -r .state <<< "${lines[0]}")" = Running ]
    [ "$(jq -r .app_name <<< "${lines[0]}")" = Firecracker ]
    run -0 api vm GET /vm/config
    [ "${lines[-1]}" = 200 ]
    run -0 api vm PUT /actions '{"action_type":"InstanceStart"}'
    [ "${lines[0]}" = '{"fault_message":"The requested operation is not supported after starting the microVM."}' ]
    [ "${lines[1]}" = 400 ]
    run -0 api vm PUT /actions '{"action_type":"SendCtrlAltDel"}'
    [ "${lines[0]}" = 204 ]
    run -0 api vm GET /spore
    [ "$(jq .vcpus <<< "${lines[0]}")" = 1 ]
    run -0 api vm PUT /spore/kill '{}'
    [ "${lines[0]}" = 204 ]
    while [ -e "$XDG_RUNTIME_DIR/spore/vm" ]; do :; done
    assert_nothing_left
}

@test "a drive's file is exchanged for a descriptor's, in a jail" {
    truncate -s 1M one
    truncate -s 2M two
    detached spin vm --disk one
    run -0 python3 "$BATS_TEST_DIRNAME/capture.py" drive \
        "$XDG_RUNTIME_DIR/spore/vm/api.sock" disk0 two
    [[ $output == "204 "* ]]
    # The one is free again, the other is in use.
    run -0 bare hello --disk one
    run -125 bare hello --disk two
    run -0 spore kill vm
    assert_nothing_left
}

@test "in a jail a request by path is refused, and says what to do" {
    truncate -s 1M one two
    detached spin vm --disk one --jail=default
    run -0 api vm PATCH /drives/disk0 \
        "{\"drive_id\":\"disk0\",\"path_on_host\":\"$PWD/two\"}"
    [[ ${lines[0]} == *"in a jail opens no file: pass"*"as a descriptor"* ]]
    [ "${lines[-1]}" = 400 ]
    run -0 api vm PATCH /vm '{"state":"Paused"}'
    run -0 api vm PUT /snapshot/create '{"snapshot_path":"store/one"}'
    [[ ${lines[0]} == *"in a jail opens no store"*"--jail=off"* ]]
    run -0 spore kill vm
    assert_nothing_left
}

@test "a drive's file is exchanged while the guest runs; limits are set" {
    truncate -s 1M one
    truncate -s 2M two
    detached spin vm --disk one --jail=off
    run -0 api vm PATCH /drives/disk0 \
        "{\"drive_id\":\"disk0\",\"path_on_host\":\"$PWD/two\"}"
    [ "${lines[-1]}" = 204 ]
    # The one is free again, the other is in use.
    run -0 api vm PATCH /drives/disk0 '{"drive_id":"disk0","rate_limiter":{"ops":{"size":100,"refill_time":1000}}}'
    [ "${lines[-1]}" = 204 ]
    run -125 --separate-stderr spore run --console --disk two --kernel \
        "$SPORE_GUESTS/hello.elf" < /dev/null
    run -0 bare hello --disk one
    run -0 api vm PATCH /drives/disk0 \
        '{"drive_id":"disk0","path_on_host":"/no/such/file"}'
    [[ ${lines[0]} == *"Drive config error: "*"/no/such/file"* ]]
    run -0 spore kill vm
    assert_nothing_left
}

@test "clients that die by the hundred do not disturb a machine" {
    detached spin vm
    run -0 python3 - "$XDG_RUNTIME_DIR/spore/vm/api.sock" << 'END'
import random, select, socket, sys
random.seed(1)
request = b'PATCH /vm HTTP/1.1\r\nContent-Length: 18\r\n\r\n{"state":"Paused"}'
full = 0
for i in range(600):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60)
    s.connect(sys.argv[1])
    try:
        s.sendall(request[:random.randrange(len(request))])
        if i % 3 == 0:
            s.shutdown(socket.SHUT_WR)
    except BrokenPipeError:
        full += 1
    s.close()
many = []
for i in range(40):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60)
    s.connect(sys.argv[1])
    many.append(s)
# Ten are let in; one of those may still be in a dead client's place.
refused = []
while len(refused) < 29:
    ready = select.select(many, [], [], 60)[0]
    assert ready
    for s in ready:
        assert b'503' in s.recv(200)
        many.remove(s)
        refused.append(s)
for s in many:
    s.close()
END
    # Not one of those requests was whole.
    state_is vm Running
    run -0 spore kill vm
    assert_nothing_left
}
