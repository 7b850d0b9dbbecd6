#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What cannot be run: one line, status 125, nothing left behind.

load helper

setup() {
    common_setup
    need_kvm
    cp "$SPORE_GUESTS/hello.elf" kernel
}

with_kernel() {
    spore run --console --kernel "$1" "${@:2}" < /dev/null
}

# patch FILE OFFSET HEX...: overwrites bytes.
patch() {
    local file=$1 offset=$2

    shift 2
    printf '%b' "$(printf '\\x%s' "$@")" |
        dd of="$file" bs=1 seek="$offset" conv=notrunc status=none
}

# Where the ELF32 program header n of `kernel` begins.
phdr() {
    echo $((52 + 32 * $1))
}

@test "kernel: missing, a folder, a FIFO, a device, unreadable path" {
    refused '/nonexistent/vmlinux: No such file or directory$' \
        with_kernel /nonexistent/vmlinux
    refused '/: not a regular file$' with_kernel /
    mkfifo fifo
    refused 'fifo: not a regular file$' with_kernel fifo
    refused '/dev/null: not a regular file$' with_kernel /dev/null
    refused 'kernel/x: Not a directory$' with_kernel kernel/x
}

@test "kernel: empty, text, cut short anywhere" {
    local size

    : > empty
    refused 'empty: neither an x86 ELF' with_kernel empty
    seq 1 1000 > text
    refused 'text: neither an x86 ELF' with_kernel text
    for size in 1 3 4 16 30 51 52 60 83 115 116 4095 4096 4100; do
        head -c "$size" kernel > cut
        refused '^spore: run: cut: ' with_kernel cut
    done
}

@test "kernel: another machine's, another type's" {
    patch kernel 18 b7 00
    refused 'kernel: an ELF for machine 183, not x86$' with_kernel kernel
    patch kernel 18 03 00
    patch kernel 16 01 00
    refused 'kernel: an ELF of type 1' with_kernel kernel
}

@test "kernel: a segment beyond memory, below it, over devices" {
    patch kernel $(($(phdr 0) + 12)) 00 00 f0 07
    patch kernel $(($(phdr 0) + 20)) 00 00 20 00
    refused 'kernel: segment 0 .* beyond 128 MiB .*--mem' with_kernel kernel
    patch kernel $(($(phdr 0) + 12)) 00 00 00 00
    refused 'kernel: segment 0 ' with_kernel kernel
    patch kernel $(($(phdr 0) + 12)) 00 00 00 d0
    refused 'kernel: segment 0,? .*devices' with_kernel kernel
}

@test "kernel: sizes that overflow" {
    patch kernel $(($(phdr 0) + 20)) ff ff ff ff
    refused '^spore: run: kernel: ' with_kernel kernel
    cp "$SPORE_GUESTS/hello.elf" kernel
    patch kernel $(($(phdr 0) + 16)) ff ff ff ff
    refused '^spore: run: kernel: ' with_kernel kernel
    cp "$SPORE_GUESTS/hello.elf" kernel
    patch kernel $(($(phdr 0) + 4)) ff ff ff ff
    refused '^spore: run: kernel: ' with_kernel kernel
    cp "$SPORE_GUESTS/hello.elf" kernel
    patch kernel 28 ff ff ff ff
    refused '^spore: run: kernel: ' with_kernel kernel
    cp "$SPORE_GUESTS/hello.elf" kernel
    patch kernel 44 ff ff
    refused '^spore: run: kernel: ' with_kernel kernel
}

@test "kernel: 64-bit segment that wraps around" {
    cp "$SPORE_GUESTS/user.elf" kernel
    patch kernel $((64 + 24)) 00 f0 ff ff ff ff ff ff
    refused '^spore: run: kernel: ' with_kernel kernel
    cp "$SPORE_GUESTS/user.elf" kernel
    patch kernel $((64 + 40)) ff ff ff ff ff ff ff ff
    refused '^spore: run: kernel: ' with_kernel kernel
}

@test "kernel: no PVH note, an entry outside" {
    patch kernel "$(phdr 1)" 00 00 00 00
    refused 'kernel: a 32-bit ELF without a PVH note' with_kernel kernel
    cp "$SPORE_GUESTS/hello.elf" kernel
    # The note's owner, its type and its entry: 16 bytes and the address.
    offset=$(grep -obUaP 'Xen\0' kernel | head -n 1 | cut -d : -f 1)
    patch kernel $((offset + 4)) 00 00 00 00
    refused 'kernel: its PVH entry 0x0 is not in what it loads' \
        with_kernel kernel
}

@test "memory: too little for the kernel" {
    refused 'kernel: segment 0 ends at .*beyond 1 MiB .*--mem 2' \
        with_kernel kernel --mem 1
}

@test "initrd: missing, a folder, too large" {
    refused '/nonexistent: No such file or directory$' \
        with_kernel kernel --initrd /nonexistent
    refused '/: not a regular file$' with_kernel kernel --initrd /
    truncate -s 1G big
    refused 'big: an initrd of 1073741824 bytes .*--mem [0-9]+' \
        with_kernel kernel --initrd big
    truncate -s 3G huge
    refused 'huge: an initrd of .* does not fit' \
        with_kernel kernel --mem 16G --initrd huge
}

@test "disk: missing, a folder, not writable" {
    refused '/nonexistent: No such file or directory$' \
        with_kernel kernel --disk /nonexistent
    mkdir folder
    refused 'folder: Is a directory$' with_kernel kernel --disk folder
    refused 'folder: ' with_kernel kernel --disk folder,ro
}

@test "disk: more than there is room for" {
    local args=()

    truncate -s 1M disk
    for ((i = 0; i < 17; i++)); do
        args+=(--disk disk,ro)
    done
    refused 'more than 16 drives' with_kernel kernel "${args[@]}"
}

@test "config: missing, a folder, not JSON, unknown key, wrong type" {
    refused '/nonexistent: No such file' spore run --config /nonexistent
    refused 'Is a directory' spore run --config /
    : > c.json
    refused 'c.json: line 1' spore run --config c.json
    echo '{"boot-source": {' > c.json
    refused 'c.json: line 2' spore run --config c.json
    echo '[]' > c.json
    refused '^spore: run: c.json: ' spore run --config c.json
    echo '{"network-interfaces": [{"iface_id": "e", "mac": 1}]}' > c.json
    refused 'c.json: network-interfaces.0..mac: unknown key$' \
        spore run --config c.json
    echo '{"boot-sauce": {}}' > c.json
    refused 'c.json: boot-sauce: unknown key$' spore run --config c.json
    echo '{"machine-config": {"vcpu_count": "two"}}' > c.json
    refused 'c.json: machine-config.vcpu_count: must be' \
        spore run --config c.json
    echo '{"machine-config": {"vcpu_count": 33}}' > c.json
    refused 'c.json: machine-config.vcpu_count: 33' spore run --config c.json
    echo '{"machine-config": {"vcpu_count": 1, "vcpu_count": 2}}' > c.json
    refused '^spore: run: c.json: ' spore run --config c.json
    head -c 2M /dev/zero > c.json
    refused '^spore: run: c.json: ' spore run --config c.json
}

@test "options: values out of range" {
    local v

    for v in 0 33 x '' -1 1.5 99999999999999999999; do
        refused "--cpus $v: it must be 1 to 32$" \
            with_kernel kernel --cpus "$v"
    done
    for v in x '' 1T -1 1.5 99999999999999999999 3K 128MB; do
        refused "'$v' is " with_kernel kernel --mem "$v"
    done
    for v in 0 0K 999999G; do
        refused 'mem_size_mib: not within 1 to' with_kernel kernel --mem "$v"
    done
    for v in x '' 0 -1 nan inf 1e99 1s; do
        refused "--timeout $v: it must be" with_kernel kernel --timeout "$v"
    done
    refused '--console= is empty$' spore run --console= --kernel kernel
    refused '--stay is for a machine with an agent' spore run --stay -- true
    refused '--stay is for a machine with an agent' spore run --stay --detach
    refused '--timings=xml: it must be' with_kernel kernel --timings=xml
    refused '--discovery x: it must be' with_kernel kernel --discovery x
    refused '--env x: it must be NAME=VALUE' with_kernel kernel --env x
    refused '--env =x: it must be NAME=VALUE' with_kernel kernel --env =x
}

@test "options: devices" {
    refused '--net : it must begin with user, tap=NAME' \
        with_kernel kernel --net ''
    refused 'eth0: .*no interface nosuchtap; make it with .ip tuntap' \
        with_kernel kernel --net tap=nosuchtap
    refused '--net user,mtu=67: mtu: .67. is not a number from 68' \
        with_kernel kernel --net user,mtu=67
    refused '--net tap=t,tcp=80:80: tcp and udp are for user only' \
        with_kernel kernel --net tap=t,tcp=80:80
    refused 'eth0: network: nobody listens at /nonexistent' \
        with_kernel kernel --net stream=/nonexistent
    refused 'eth0: descriptor 99: Bad file descriptor' \
        with_kernel kernel --net fd=99
    refused 'network-interfaces.1..spore.address: network-interfaces.0. has' \
        with_kernel kernel --net user,ip=10.0.0.2/24 --net tap=t,ip=10.0.0.3/24
    refused 'more than 8 network interfaces' with_kernel kernel \
        --net user --net user --net user --net user --net user --net user \
        --net user --net user --net user
    refused '--balloon x: .x. is not a number' with_kernel kernel --balloon x
    refused 'balloon.amount_mib: 129 is more than the guest' \
        with_kernel kernel --balloon 129
    refused '--virtio-console= is empty' with_kernel kernel --virtio-console=
    refused '/nonexistent/log: No such file' \
        with_kernel kernel --virtio-console=/nonexistent/log
    refused '--disk d,queues=0: queues: .0. is not a number from 1 to 8' \
        with_kernel kernel --disk d,queues=0
}

@test "user network: passt is not installed, a port is taken" {
    mkdir empty
    refused 'eth0: cannot forward TCP port 9 of 203.0.113.1: Cannot assign' \
        with_kernel kernel --net user,tcp=203.0.113.1/9
    run -125 --separate-stderr env "PATH=$PWD/empty" "$SPORE" run --console \
        --kernel kernel --net user < /dev/null
    [ -z "$output" ]
    [[ $stderr == *"eth0: passt is not installed: "*apt-get* ]]
}

@test "options: unknown, without a value, a command without an agent" {
    refused '--bogus: unknown option' with_kernel kernel --bogus
    refused '-Z: unknown option' with_kernel kernel -Z
    refused '--cpus: its value is missing' \
        with_kernel kernel --cpus
    refused 'a command needs the agent' with_kernel kernel -- true
}

@test "console file that cannot be made" {
    refused '/nonexistent/log: No such file' \
        spore run --rootfs none --kernel kernel --console=/nonexistent/log
}

@test "kernel named by the environment that is not there" {
    SPORE_KERNEL=/nonexistent/vmlinux \
        refused 'SPORE_KERNEL: /nonexistent/vmlinux: No such file' \
        spore run --console
}

@test "unknown command, no command" {
    run -2 --separate-stderr spore nonsense
    [ -z "$output" ]
    [ "$stderr" = "spore: there is no command 'nonsense': see spore --help" ]
    run -2 --separate-stderr spore
    [ -z "$output" ]
    [[ $stderr == "usage: spore COMMAND"* ]]
}
