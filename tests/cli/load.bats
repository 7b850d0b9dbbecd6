#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Firecracker's snapshot endpoints, with bare guests: /snapshot/create of a
# paused machine, /snapshot/load and InstanceStart in a process whose control
# socket is there before its machine.

load helper

setup() {
    common_setup
    need_kvm
    mkdir store
}

teardown() {
    exec 9>&- || true
    kill_marked
}

# accepted ID METHOD PATH [BODY]: with 204.
accepted() {
    run -0 api "$@"
    [ "$output" = $'\n204' ]
}

# faulty PATTERN ID METHOD PATH [BODY]: 400, and a fault that matches.
faulty() {
    local pattern=$1

    shift
    run -0 api "$@"
    [ "${lines[1]}" = 400 ]
    [[ $(jq -r .fault_message <<< "${lines[0]}") =~ $pattern ]]
}

# waiting ID [OPTION...]: a process without a machine, in front.
waiting() {
    mkfifo "in-$1"
    exec 9<> "in-$1"
    start run --no-boot --console --timeout "$LIMIT" --id "$1" "${@:2}" \
        < "in-$1"
    await curl -s -o version \
        --unix-socket "$XDG_RUNTIME_DIR/spore/$1/api.sock" http://localhost/version
}

# saved: a snapshot store/one of a guest that has counted one.
saved() {
    # Into a store by its path.
    tally vm --jail off "$@"
    count 0001
    accepted vm PATCH /vm '{"state":"Paused"}'
    accepted vm PUT /snapshot/create '{"snapshot_path":"store/one"}'
    run -0 spore kill vm
    end_status
}

ended() {
    end_status
    [ "$status" -eq "$1" ]
}

@test "create: of a paused machine only, full and diff, by its path" {
    tally vm --track --jail off
    count 0001
    faulty "^Create snapshot error: the microVM runs: pause it first" \
        vm PUT /snapshot/create '{"snapshot_path":"store/one"}'
    [ -z "$(ls -A store)" ]
    accepted vm PATCH /vm '{"state":"Paused"}'
    faulty "^Create snapshot error: there is no snapshot that a diff" vm PUT \
        /snapshot/create '{"snapshot_path":"store/d","snapshot_type":"Diff"}'
    accepted vm PUT /snapshot/create '{"snapshot_path":"store/one",
        "mem_file_path":"store/one/mem","snapshot_type":"Full"}'
    faulty "there is a snapshot 'one' in" vm PUT /snapshot/create \
        '{"snapshot_path":"store/one"}'
    accepted vm PATCH /vm '{"state":"Resumed"}'
    count 0002
    accepted vm PATCH /vm '{"state":"Paused"}'
    accepted vm PUT /snapshot/create "{\"snapshot_path\":\"$PWD/store/two/\",
        \"snapshot_type\":\"Diff\",\"sync_snapshot_files\":false}"
    [ "$(spore snapshot inspect two --store store --json | jq -r .parent)" = \
        "$(readlink store/one)" ]
    accepted vm PATCH /vm '{"state":"Resumed"}'
    count 0003
    printf '\004' >&9
    ended 0
    printf 'x\004' | (run -0 --separate-stderr spore restore two \
        --store store --console
        [ "$output" = 0003 ])
}

@test "create: bodies that are wrong" {
    tally vm --jail off
    accepted vm PATCH /vm '{"state":"Paused"}'
    faulty "missing field .snapshot_path" vm PUT /snapshot/create '{}'
    faulty "unknown field .bogus" vm PUT /snapshot/create \
        '{"snapshot_path":"store/x","bogus":1}'
    faulty "unknown variant .Half., expected .Diff. or .Full" vm PUT \
        /snapshot/create '{"snapshot_path":"store/x","snapshot_type":"Half"}'
    faulty "mem_file_path: the memory is in a file of the snapshot's own" vm \
        PUT /snapshot/create \
        '{"snapshot_path":"store/x","mem_file_path":"store/mem"}'
    faulty "snapshot_path: it must be STORE/NAME" vm PUT /snapshot/create \
        '{"snapshot_path":"/"}'
    faulty "'.hidden' is no name" vm PUT /snapshot/create \
        '{"snapshot_path":"store/.hidden"}'
    faulty "Create snapshot error: .*Not a directory" vm PUT /snapshot/create \
        '{"snapshot_path":"/dev/null/x"}'
    [ -z "$(ls -A store)" ]
    run -0 spore kill vm
}

@test "create: a machine in a jail opens no store, and goes on" {
    tally vm --jail default
    count 0001
    keeper=$(keeper_of "$(spore ps --json | jq .[0].pid)")
    [ -n "$keeper" ] || skip "there is no jail"
    accepted vm PATCH /vm '{"state":"Paused"}'
    faulty "a machine in a jail opens no store: spore save does" vm PUT \
        /snapshot/create '{"snapshot_path":"store/one"}'
    run -0 spore save --store store --name one vm
    accepted vm PATCH /vm '{"state":"Resumed"}'
    count 0002
    run -0 spore kill vm
    end_status
}

@test "load: paused, then resumed; what has its place before and after" {
    saved
    waiting b
    [ "$(spore ps --json | jq -r '.[].state')" = "Not started" ]
    run -0 api b GET /
    [ "$(jq -r .state <<< "${lines[0]}")" = "Not started" ]
    run -0 api b GET /machine-config
    [ "$(jq .mem_size_mib <<< "${lines[0]}")" -eq 128 ]
    run -0 api b GET /vm/config
    [ "${lines[-1]}" = 200 ]
    faulty "not supported before starting" b PATCH /vm '{"state":"Paused"}'
    faulty "not supported before starting" b PUT /snapshot/create \
        '{"snapshot_path":"store/x"}'
    faulty "not supported before starting" b PUT /spore/push '{}'
    faulty "not supported before starting" b PUT /actions \
        '{"action_type":"SendCtrlAltDel"}'
    accepted b PUT /snapshot/load "{\"snapshot_path\":\"store/one\",
        \"mem_backend\":{\"backend_type\":\"File\",
        \"backend_path\":\"store/one/mem\"}}"
    run -0 api b GET /
    [ "$(jq -r .state <<< "${lines[0]}")" = Paused ]
    faulty "not supported after starting" b PUT /snapshot/load \
        '{"snapshot_path":"store/one"}'
    faulty "not supported after starting" b PUT /actions \
        '{"action_type":"InstanceStart"}'
    accepted b PATCH /vm '{"state":"Resumed"}'
    count 0002
    printf '\004' >&9
    ended 0
    assert_nothing_left
}

@test "load: resume_vm, by id, tracked so that a diff can come next" {
    saved
    waiting b --jail off
    accepted b PUT /snapshot/load \
        "{\"snapshot_path\":\"$PWD/store/$(readlink store/one)\",
        \"mem_file_path\":\"$PWD/store/$(readlink store/one)/mem\",
        \"resume_vm\":true,\"track_dirty_pages\":true,
        \"clock_realtime\":true,\"huge_pages\":\"None\"}"
    count 0002
    accepted b PATCH /vm '{"state":"Paused"}'
    accepted b PUT /snapshot/create \
        '{"snapshot_path":"store/d","snapshot_type":"Diff"}'
    [ "$(spore snapshot inspect d --store store --json | jq -r .parent)" = \
        "$(readlink store/one)" ]
    run -0 spore kill b
    ended 137
}

@test "load: what is behind devices" {
    truncate -s 1M a.img b.img
    saved --disk a.img,ro --vsock v.sock --balloon 4
    [ ! -e v.sock ]
    waiting b
    accepted b PUT /snapshot/load '{"snapshot_path":"store/one",
        "resume_vm":true,"vsock_override":{"uds_path":"w.sock"},
        "spore":{"clock":"follow","verify":"all","devices":{
        "drives":[{"drive_id":"disk0","path_on_host":"b.img",
                   "is_root_device":false,"is_read_only":true}],
        "balloon":{"amount_mib":8,"deflate_on_oom":false}}}}'
    [ -S w.sock ]
    run -0 api b GET /vm/config
    [ "$(sed '$d' <<< "$output" | jq -r '.drives[0].path_on_host')" = b.img ]
    run -0 api b GET /balloon
    [ "$(jq .amount_mib <<< "${lines[0]}")" -eq 8 ]
    count 0002
    run -0 spore kill b
    ended 137
    # Without an override the socket is where it was, as Firecracker has it.
    rm in-b
    waiting b
    accepted b PUT /snapshot/load '{"snapshot_path":"store/one"}'
    [ -S v.sock ]
    run -0 spore kill b
    ended 137
    assert_nothing_left
}

@test "load: memory from a page server, and checked at its first use" {
    need_uffd
    saved
    SPORE_TEST_MARK=$BATS_TEST_TMPDIR "$SPORE" page-server one --store store \
        --socket pages.sock > server 2> server.err 3>&- 9>&- &
    server=$!
    await test -S pages.sock
    waiting b
    faulty "spore.verify: the page server checks what it sends" b PUT \
        /snapshot/load '{"snapshot_path":"store/one","mem_backend":
        {"backend_type":"Uffd","backend_path":"pages.sock"},
        "spore":{"verify":"all"}}'
    faulty "none.sock" b PUT /snapshot/load '{"snapshot_path":"store/one",
        "mem_backend":{"backend_type":"Uffd","backend_path":"none.sock"}}'
    accepted b PUT /snapshot/load '{"snapshot_path":"store/one",
        "resume_vm":true,"mem_backend":{"backend_type":"Uffd",
        "backend_path":"pages.sock"}}'
    count 0002
    printf '\004' >&9
    ended 0
    kill "$server"
    wait "$server"
    rm in-b
    waiting b
    accepted b PUT /snapshot/load '{"snapshot_path":"store/one",
        "resume_vm":true,"spore":{"verify":"lazy"}}'
    count 0002
    printf '\004' >&9
    ended 0
    assert_nothing_left
}

@test "load: what is refused leaves the process as it was" {
    saved
    waiting b
    faulty "missing field .snapshot_path" b PUT /snapshot/load '{}'
    faulty "^Load snapshot error: there is no snapshot 'x' in store" b PUT \
        /snapshot/load '{"snapshot_path":"store/x"}'
    faulty "^Load snapshot error: snapshot store none" b PUT \
        /snapshot/load '{"snapshot_path":"none/x"}'
    faulty "too many fields: either .mem_backend. or .mem_file_path" b PUT \
        /snapshot/load '{"snapshot_path":"store/one","mem_file_path":"m",
        "mem_backend":{"backend_type":"File","backend_path":"m"}}'
    faulty "mem_file_path: the memory is in a file" b PUT /snapshot/load \
        '{"snapshot_path":"store/one","mem_file_path":"mem"}'
    faulty "unknown variant .Tape., expected .File. or .Uffd" b PUT \
        /snapshot/load '{"snapshot_path":"store/one",
        "mem_backend":{"backend_type":"Tape","backend_path":"m"}}'
    faulty "huge_pages: .2M. is not served" b PUT /snapshot/load \
        '{"snapshot_path":"store/one","huge_pages":"2M"}'
    faulty "invalid type: map, expected a sequence" b PUT /snapshot/load \
        '{"snapshot_path":"store/one","network_overrides":{}}'
    faulty "missing field .host_dev_name" b PUT /snapshot/load \
        '{"snapshot_path":"store/one","network_overrides":[{"iface_id":"a"}]}'
    faulty "no network interface: leave it out" b PUT /snapshot/load \
        '{"snapshot_path":"store/one","network_overrides":[
        {"iface_id":"eth0","host_dev_name":"tap0","more":1}]}'
    faulty "spore.devices: 'boot-source': only drives" b PUT /snapshot/load \
        '{"snapshot_path":"store/one","spore":{"devices":{"boot-source":{}}}}'
    [ "$(spore ps --json | jq -r '.[].state')" = "Not started" ]
    accepted b PUT /snapshot/load '{"snapshot_path":"store/one"}'
    run -0 spore kill b
    ended 137
    rm in-b
    waiting b --virtio-console
    faulty "virtio-console: .*has none" b PUT /snapshot/load \
        '{"snapshot_path":"store/one"}'
    run -0 spore kill b
    ended 137
    assert_nothing_left
}

@test "load: not after boot-specific options; what fails to be built ends it" {
    saved --vsock v.sock
    waiting b --mem 64
    faulty "Loading a microVM snapshot not allowed after configuring boot-" \
        b PUT /snapshot/load '{"snapshot_path":"store/one"}'
    run -0 spore stop b
    ended 137
    rm in-b
    waiting b
    touch v.sock
    faulty "Load snapshot error: .*v.sock" b PUT /snapshot/load \
        '{"snapshot_path":"store/one"}'
    ended 125
    [[ $(cat err) == "spore: run: "*v.sock* ]]
    assert_nothing_left
}

@test "load: what comes right behind one that ends the process is not begun" {
    saved --vsock v.sock
    waiting b
    touch v.sock
    run -0 python3 - "$XDG_RUNTIME_DIR/spore/b/api.sock" << 'END'
import socket, sys
body = b'{"snapshot_path":"store/one"}'
load = b"PUT /snapshot/load HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" \
    % len(body) + body
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.settimeout(60)
s.sendall(load + load + load)
while True:
    data = s.recv(65536)
    if not data:
        break
    sys.stdout.write(data.decode())
END
    [[ $output == *"Load snapshot error: "*v.sock*"the machine has failed"* ]]
    ended 125
    assert_nothing_left
}

@test "InstanceStart boots what the command line describes" {
    waiting b --kernel "$SPORE_GUESTS/tally.elf" --api-sock sock
    run -0 curl -sS --unix-socket sock -X PUT http://localhost/actions \
        -d '{"action_type":"InstanceStart"}'
    [ -z "$output" ]
    read_line ready
    count 0001
    printf '\004' >&9
    ended 0
    rm in-b
    waiting b --kernel none.elf
    faulty "Start microvm error: .*none.elf" b PUT /actions \
        '{"action_type":"InstanceStart"}'
    ended 125
}

@test "--no-boot: detached; what has no place beside it" {
    run -0 --separate-stderr spore run --no-boot --detach
    [ "$(spore ps --json | jq -r '.[].id')" = "$output" ]
    run -0 spore kill "$output"
    assert_nothing_left
    run -125 spore run --no-boot -- true
    [[ $output == *"--no-boot has no place beside --from and a command"* ]]
    cannot "--no-boot has no place beside --from" spore run --no-boot --from x
    run -125 spore run --no-boot --no-api
    [[ $output == *"--no-api has no place beside"* ]]
    waiting b
    kill -TERM "$pid"
    ended 143
    assert_nothing_left
}
