#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Persistent memory in a Linux guest. A boot takes seconds on a host that
# interprets guest kernels, so one boot answers all questions.

load helper

# A boot there, with another machine's load beside it.
LIMIT=300

setup() {
    common_setup
    need_linux
}

teardown() {
    kill_marked
}

# An ext4 file system of 16 MiB with 1 MiB of data in it.
make_image() {
    mkdir -p tree
    head -c 1M /dev/urandom > tree/big
    truncate -s 16M "$1"
    /sbin/mkfs.ext4 -q -b 4096 -O ^has_journal -d tree "$1"
}

@test "a root, a writable and a read-only file in the guest's memory" {
    local root=${XDG_CACHE_HOME:-$HOME/.cache}/spore/rootfs/rootfs.ext4
    local before

    [ -r "$root" ] || cannot_run "$root: not there"
    make_image data.img
    make_image fixed.img
    before=$(sha256sum fixed.img)
    run -0 --separate-stderr spore run --rootfs "$root,ro,pmem" \
        --pmem data.img --pmem fixed.img,ro -- sh -c '
            grep " / " /proc/mounts
            mount -t tmpfs none /mnt && mkdir /mnt/data /mnt/fixed
            mount -o dax /dev/pmem1 /mnt/data
            mount -o ro,dax /dev/pmem2 /mnt/fixed
            grep -c "dax=always" /proc/mounts
            sha256sum < /mnt/data/big
            sha256sum < /mnt/fixed/big
            echo "from the guest" > /mnt/data/new
            sync
            umount /mnt/data /mnt/fixed
            dd if=/dev/zero of=/dev/pmem2 bs=4096 count=1 conv=fsync 2> /dev/null
            echo $?' < /dev/null
    [[ ${lines[0]} == "/dev/pmem0 / ext4 ro"*"dax=always"* ]]
    [ "${lines[1]}" = 3 ]
    [ "${lines[2]}" = "$(debugfs -R 'cat big' data.img 2> /dev/null | sha256sum)" ]
    [ "${lines[3]}" = "$(sha256sum < tree/big)" ]
    # What is not written cannot be synced either.
    [ "${lines[4]}" = 1 ]
    [ "$(debugfs -R 'cat new' data.img 2> /dev/null)" = "from the guest" ]
    [ "$(sha256sum fixed.img)" = "$before" ]
    [[ $stderr == *"is read-only: what the guest writes to it is dropped"* ]]
    assert_nothing_left
}
