#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Disks in saves, restores, clones and resets from outside: what is refused
# with bare guests, and a file system of a Linux guest, of which there is one
# boot, since it takes seconds where guest kernels are interpreted.

load helper

LIMIT=300

setup() {
    common_setup
    need_kvm
    export XDG_DATA_HOME=$BATS_TEST_TMPDIR/data
}

teardown() {
    kill_marked
}

# counting OPTION...: a guest that goes on for ever, as the machine "vm".
counting() {
    detached counter vm --timeout 200 "$@"
}

# restores OPTION...: detached, and is gone again.
restores() {
    run -0 --separate-stderr spore restore "$@" --console --detach --id back
    run -0 spore kill back
}

# is_gone ID: it is no longer among the machines that run.
is_gone() {
    ! spore ps | grep -qw "$1"
}

@test "a disk's file must be as it was, or --allow-changed-disks" {
    truncate -s 1M disk.img
    counting --disk disk.img,overlay
    run -0 spore save --name one vm
    run -0 spore kill vm
    run -0 spore snapshot inspect one
    [[ $output == *"disk 0"*"$PWD/disk.img, 1024 KiB"*"0 KiB over it"* ]]
    restores one
    # From another folder too: the whole path is in it.
    (cd / && restores one)
    touch -d @1000 disk.img
    refused "drive .*$PWD/disk.img was written to since.*touch -d @.*allow" \
        spore restore one --console
    restores one --allow-changed-disks
    truncate -s 2M disk.img
    refused "has 2097152 bytes and had 1048576" spore restore one --console
    rm disk.img
    refused "disk.img: No such file" spore restore one --console
}

@test "a file that the guest writes to itself is good for nothing later" {
    truncate -s 1M disk.img
    counting --disk disk.img
    run -0 spore save --name one vm
    run -125 --separate-stderr spore restore one --console
    [[ $stderr == *"in use by another"* ]]
    run -0 spore kill vm
    restores one
    printf x | dd of=disk.img conv=notrunc 2> /dev/null
    refused "overlay is saved whole" spore restore one --console
    counting --disk disk.img
    run -125 --separate-stderr spore push vm
    [[ $stderr == *"the guest writes to $PWD/disk.img itself"*overlay* ||
        $stderr == *"the guest writes to disk.img itself"*overlay* ]]
}

@test "an overlay in a file is the saved machine's, clones have their own" {
    truncate -s 1M disk.img
    counting --disk disk.img,overlay=over
    run -0 spore save --name one vm
    before=$(sha256sum over)
    # While the saved one runs, and twice.
    restores one
    run -0 spore clone -n 2 vm
    for id in $output; do
        run -0 spore kill "$id"
    done
    [ "$(sha256sum over)" = "$before" ]
    run -0 spore push vm
    run -0 spore reset vm
    run -0 spore kill vm
    rm over
    restores one
}

@test "a file system of a Linux guest: saved, diffed, cloned, put back" {
    need_linux
    mkdir tree
    head -c 1M /dev/urandom > tree/big
    truncate -s 16M disk.img
    /sbin/mkfs.ext4 -q -b 4096 -d tree disk.img
    before=$(sha256sum disk.img)
    run -0 spore run --detach --id vm --timeout 1000 --disk disk.img,overlay
    run -0 spore exec vm -- sh -c 'disk=/dev/$(ls /sys/block | grep ^vd | tail -1)
        mount -t tmpfs none /mnt && mkdir /mnt/d && mount $disk /mnt/d
        cp /mnt/d/big /mnt/d/copy; rm /mnt/d/big; echo one > /mnt/d/stage; sync'
    run -0 spore save --name one --track vm
    run -0 spore exec vm -- sh -c 'echo two > /mnt/d/stage
        head -c 300000 /dev/urandom > /mnt/d/more; sha256sum < /mnt/d/more'
    more=$output
    run -0 spore save --name two --diff vm
    run -0 spore exec vm -- sh -c 'rm /mnt/d/copy; echo three > /mnt/d/stage; sync'
    run -0 spore push vm
    run -0 spore exec vm -- sh -c 'rm -f /mnt/d/*; sync'
    run -0 spore reset vm
    run -0 spore exec vm -- cat /mnt/d/stage
    [ "$output" = three ]
    for i in 1 2; do
        run -0 spore restore two -- sh -c 'cat /mnt/d/stage
            sha256sum < /mnt/d/more; echo 3 > /proc/sys/vm/drop_caches
            sha256sum < /mnt/d/copy; echo mine > /mnt/d/stage; sync'
        [ "${lines[0]}" = two ]
        [ "${lines[1]}" = "$more" ]
        [ "${lines[2]}" = "$(sha256sum < tree/big)" ]
    done
    run -0 spore snapshot flatten two --name flat
    run -0 spore snapshot rm two
    run -0 spore snapshot verify --all
    for name in one flat; do
        run -0 spore restore "$name" -- sh -c 'umount /mnt/d
            disk=/dev/$(ls /sys/block | grep ^vd | tail -1)
            mount $disk /mnt/d; cat /mnt/d/stage; sha256sum < /mnt/d/copy'
        [ "${lines[0]}" = "$([ "$name" = one ] && echo one || echo two)" ]
        [ "${lines[1]}" = "$(sha256sum < tree/big)" ]
    done
    run -0 spore kill vm
    [ "$(sha256sum disk.img)" = "$before" ]
}

@test "an overlay's file after kill -9 of the monitor: what was synced is there" {
    need_linux
    truncate -s 16M disk.img
    /sbin/mkfs.ext4 -q -b 4096 disk.img
    before=$(sha256sum disk.img)
    run -0 spore run --detach --id vm --timeout 1000 --disk disk.img,overlay=over
    # The writer goes on, so that the kill finds writes on their way.
    run -0 spore exec vm -- sh -c 'disk=/dev/$(ls /sys/block | grep ^vd | tail -1)
        mount -t tmpfs none /mnt && mkdir /mnt/d && mount $disk /mnt/d
        head -c 2000000 /dev/urandom > /mnt/d/kept; sync; sha256sum < /mnt/d/kept
        (while :; do dd if=/dev/zero of=/mnt/d/lost bs=4k count=64 conv=fsync
        done) > /dev/null 2>&1 &'
    kept=$output
    run -0 spore ps --json
    kill -KILL "$(jq '.[0].pid' <<< "$output")"
    await is_gone vm
    [ "$(sha256sum disk.img)" = "$before" ]
    run -0 spore run --timeout 1000 --disk disk.img,overlay=over -- sh -c '
        disk=/dev/$(ls /sys/block | grep ^vd | tail -1)
        mount -t tmpfs none /mnt && mkdir /mnt/d && mount $disk /mnt/d
        sha256sum < /mnt/d/kept; dmesg | grep -c "$(basename $disk).*recovery complete"'
    [ "${lines[0]}" = "$kept" ]
    [ "${lines[1]}" = 1 ]
    [ "$(sha256sum disk.img)" = "$before" ]
}
