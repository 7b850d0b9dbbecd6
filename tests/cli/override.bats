#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What a restore puts behind the devices of a snapshot's machine, with bare
# guests: files, descriptors, networks, addresses, sockets; and what it refuses.

load helper

setup() {
    common_setup
    need_kvm
    export XDG_DATA_HOME=$BATS_TEST_TMPDIR/data
    truncate -s 1M a.img b.img c.img
    truncate -s 2M p.img q.img
}

teardown() {
    kill_marked
}

# saved [OPTION...]: a snapshot "s" of a machine made with them.
saved() {
    detached spin vm "$@"
    run -0 spore save --name s vm
    run -0 spore kill vm
}

# back [OPTION...]: restored behind us as "b".
back() {
    run -0 --separate-stderr spore restore s --detach --id b "$@"
    # shellcheck disable=SC2154
    [ -z "$stderr" ]
}

# not_back PATTERN [OPTION...]: a restore is refused.
not_back() {
    refused "$1" spore restore s --console "${@:2}"
}

# ask PATH: the body of its reply.
ask() {
    api b GET "$1" | sed '$d'
}

# config FILTER: of the machine that was restored.
config() {
    ask /vm/config | jq -r "$1"
}

# has_open FILE: the restored machine has it open.
has_open() {
    local monitor file

    monitor=$(ask /spore | jq .pid)
    need_sight "$monitor"
    for file in "/proc/$monitor/fd/"*; do
        [ "$(readlink "$file")" != "$1" ] || return 0
    done
    return 1
}

@test "drives: as they were, by relative paths from another folder" {
    saved --rootfs a.img,ro --disk b.img,ro
    cd /
    back
    [ "$(config '.drives[0].path_on_host')" = "$BATS_TEST_TMPDIR/cwd/a.img" ]
    has_open "$BATS_TEST_TMPDIR/cwd/b.img"
    run -0 spore kill b
}

@test "drives: another file by id, the root by --rootfs, by position" {
    saved --rootfs a.img,ro --disk b.img,ro,id=data
    back --disk c.img,id=data
    [ "$(config '.drives[1].path_on_host')" = c.img ]
    [ "$(config '.drives[1].is_read_only')" = true ]
    has_open "$PWD/a.img"
    has_open "$PWD/c.img"
    run ! has_open "$PWD/b.img"
    run -0 spore kill b
    back --rootfs c.img
    has_open "$PWD/c.img"
    has_open "$PWD/b.img"
    run -0 spore kill b
    not_back "--disk: .*no drive 'disk0', only rootfs, data: .*id=" \
        --disk c.img
    not_back "--disk: .*no drive 'x'" --disk c.img,id=x
    not_back "none.img: No such file" --disk none.img,id=data
    not_back "--rootfs: the machine in the snapshot has no persistent memory" \
        --rootfs c.img,pmem
}

@test "drives: what the guest knows of them stays" {
    saved --disk a.img
    not_back "--disk: ro: .*can write to disk0" --disk b.img,ro
    not_back "--disk: queues: disk0 has 1" --disk b.img,queues=2
    not_back "--disk: rate and iops of disk0" --disk b.img,rate=1M
    # It is another file, so that its time says nothing; its size does.
    touch -d @1 b.img
    back --disk b.img
    has_open "$PWD/b.img"
    run -0 spore kill b
    touch -d @1 a.img
    not_back "disk0: .*a.img was written to since"
    truncate -s 2M b.img
    not_back "disk0: b.img has 2097152 bytes and had 1048576" --disk b.img
    not_back "--rootfs: the machine in the snapshot has no root drive 'rootfs'" \
        --rootfs b.img
}

@test "drives: what is written over them goes where it is told" {
    saved --disk a.img,overlay=old.ovl
    back
    [ "$(config '.drives[0].spore.overlay')" = memory ]
    run -0 spore kill b
    back --disk a.img,overlay=new.ovl
    has_open "$PWD/new.ovl"
    run -0 spore kill b
    [ -f new.ovl ]
}

@test "drives: descriptors, at the first run and at a restore" {
    truncate -s 1M gone.img
    exec 8<> gone.img
    rm gone.img
    detached spin vm --disk fd=7,ro --disk fd=8,id=gone 7< a.img
    run -0 spore save --name s vm
    run -0 spore kill vm
    # One has a path, the other has none and must be given anew.
    not_back "drive gone was handed down as a descriptor: .*--disk" 8>&-
    back --disk fd=8,id=gone
    has_open "$PWD/a.img"
    [ "$(config '.drives[0].path_on_host')" = "$PWD/a.img" ]
    run -0 spore kill b
    back --disk b.img,id=gone 8>&-
    has_open "$PWD/b.img"
    run -0 spore kill b
    not_back "--disk fd=9,id=gone: descriptor 9" --disk fd=9,id=gone
    not_back "--disk fd=1,id=gone: fd" --disk fd=1,id=gone
    exec 9< b.img
    not_back "descriptor that was handed down: Permission" --disk fd=9,id=gone
    exec 9>&- 8>&-
}

@test "persistent memory: another file by id, a descriptor, another size" {
    saved --pmem p.img,ro
    back --pmem q.img,id=pmem0
    has_open "$PWD/q.img"
    run -0 spore kill b
    exec 9< q.img
    back --pmem fd=9,id=pmem0
    has_open "$PWD/q.img"
    exec 9>&-
    run -0 spore kill b
    truncate -s 4M q.img
    not_back "pmem0" --pmem q.img
    not_back "--pmem: .*no persistent memory 'x', only pmem0" --pmem p.img,id=x
    rm q.img
    not_back "q.img: No such file" --pmem q.img
}

# peer NAME: a stream socket that listens at NAME.
peer() {
    python3 -c 'import socket, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
s.bind(sys.argv[1])
s.listen()
time.sleep(100)' "$1" 3>&- &
    peers+=("$!")
    await test -S "$1"
}

@test "networks: another backend by id, a descriptor, the address" {
    local peers=()

    peer one.sock
    peer two.sock
    saved --net stream=one.sock,mac=02:00:00:00:00:01 --net stream=one.sock
    (cd / && back)
    [ "$(config '."network-interfaces"[0].spore.path')" = "$PWD/one.sock" ]
    [ "$(config '."network-interfaces"[0].guest_mac')" = 02:00:00:00:00:01 ]
    run -0 spore kill b
    back --net stream=two.sock,id=eth1,mac=02:00:00:00:00:02
    [ "$(config '."network-interfaces"[0].spore.path')" = "$PWD/one.sock" ]
    [ "$(config '."network-interfaces"[1].spore.path')" = two.sock ]
    [ "$(config '."network-interfaces"[1].guest_mac')" = 02:00:00:00:00:02 ]
    run -0 spore kill b
    not_back "--net: .*no network interface 'eth9', only eth0, eth1" \
        --net stream=two.sock,id=eth9
    not_back "--net: mtu: .*0 for eth0" --net stream=two.sock,mtu=1500
    not_back "--net: ip and gw: .*set up eth0" \
        --net stream=two.sock,ip=10.0.0.1/24
    not_back "nobody listens at none.sock" --net stream=none.sock
    not_back "mac: .*one station" --net stream=two.sock,mac=03:00:00:00:00:02
    kill "${peers[@]}"
    not_back "nobody listens at $PWD/one.sock"
    # A descriptor, which the next restore does not have.
    run -125 --separate-stderr python3 -c 'import os, socket, sys
a, b = socket.socketpair()
os.dup2(b.fileno(), 9)
os.execvp(sys.argv[1], sys.argv[1:])' "$SPORE" restore s --detach --id b \
        --net fd=9 --net stream=two.sock,id=eth1
    [[ $stderr == *"nobody listens at two.sock"* ]]
    peer three.sock
    python3 -c 'import os, socket, sys
a, b = socket.socketpair()
os.dup2(b.fileno(), 9)
os.execvp(sys.argv[1], sys.argv[1:])' "$SPORE" restore s --detach --id b \
        --net fd=9 --net stream=three.sock,id=eth1
    [ "$(config '."network-interfaces"[0].spore.fd')" = 9 ]
    run -0 spore save --name t b
    run -0 spore kill b
    run -125 --separate-stderr spore restore t --console
    [[ $stderr == *"network interface eth0 was handed down"* ]]
    kill "${peers[-1]}"
}

@test "balloon: its size; its kind stays" {
    saved --balloon 8,oom
    back --balloon 16
    [ "$(ask /balloon | jq .amount_mib)" -eq 16 ]
    [ "$(ask /balloon | jq .deflate_on_oom)" = true ]
    run -0 spore kill b
    back
    [ "$(ask /balloon | jq .amount_mib)" -eq 8 ]
    run -0 spore kill b
    not_back "--balloon: .*made without" --balloon 8,report
    not_back "amount_mib: 4096 is more" --balloon 4096
}

@test "vsock: another path, none unless told; a machine without" {
    saved --vsock v.sock
    back --vsock w.sock
    [ -S w.sock ]
    run -0 spore kill b
    back
    [ ! -e v.sock ]
    run -0 spore kill b
    back --console=out.txt --vsock v.sock
    [ -S v.sock ]
    run -0 spore kill b
    run -0 spore snapshot rm s
    saved
    not_back "--vsock: .*no vsock device" --vsock v.sock
    [ ! -e v.sock ]
}

@test "the serial port into a file, at the restore too" {
    saved
    back --console=serial.txt
    [ -f serial.txt ]
    run -0 spore kill b
    not_back "--virtio-console: .*has none" --virtio-console
    run -0 spore snapshot rm s
    saved --virtio-console=v.txt
    back --virtio-console=w.txt
    [ -f w.txt ]
    run -0 spore kill b
}

@test "what contradicts the snapshot is refused by the option's name" {
    saved --mem 64 --cpus 2
    not_back "--kernel: what a machine is made of" --kernel x
    not_back "--initrd: what" --initrd x
    not_back "--cmdline: what" --cmdline x
    echo '{}' > c.json
    not_back "--config: what" --config c.json
    not_back "--cpu-template: what" --cpu-template none
    not_back "--mem: .*65536 KiB" --mem 128
    not_back "--cpus: .*has 2" --cpus 4
    not_back "--discovery: " --discovery cmdline
    not_back "--rng: .*no entropy" --rng
    not_back "--balloon: .*none" --balloon 8
    not_back "--disk: .*no drive: leave it out" --disk a.img
    not_back "--pmem: .*no persistent memory: leave" --pmem p.img
    not_back "--net: .*no network interface: leave" --net user
    # What it is anyway contradicts nothing.
    back --mem 64 --cpus 2 --discovery acpi --no-rng --rootfs none
    run -0 spore kill b
}

@test "a CPU template stays with the machine; names are checked" {
    saved --cpu-template kvmclock,kvm_steal_time
    back
    [ "$(config '.spore.cpu_template | join(" ")')" = \
        "kvmclock kvm_steal_time" ]
    run -0 spore kill b
    run -125 bare spin --cpu-template avx9
    [[ $output == *"--cpu-template: 'avx9' is no CPU feature"* ]]
}
