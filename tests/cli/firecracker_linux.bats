#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Linux, booted over the socket of spore-firecracker by curl alone: a root drive,
# a network, a vsock device, entropy, a balloon, and its end.

load helper

setup() {
    local cache=${XDG_CACHE_HOME:-$HOME/.cache}/spore

    common_setup
    : "${SPORE_FIRECRACKER:?}"
    need_linux
    kernel=${SPORE_KERNEL:-$cache/kernel/vmlinux}
    rootfs=${SPORE_ROOTFS:-$cache/rootfs/rootfs.ext4}
}

teardown() {
    kill_marked
    [ ! -e /sys/class/net/spfctest ] || ip link del spfctest
}

put() {
    local got

    got=$(curl -sS --max-time 60 --unix-socket api.sock -X PUT -d "$2" \
        -w '%{http_code}' "http://localhost$1")
    [ "$got" = 204 ] || {
        echo "$1 was answered with $got"
        return 1
    }
}

@test "a guest of a client of the contract" {
    [ "$(id -u)" -eq 0 ] || cannot_run "taps are for root to make"
    ip tuntap add spfctest mode tap
    SPORE_TEST_MARK=$BATS_TEST_TMPDIR timeout "$LIMIT" "$SPORE_FIRECRACKER" \
        --api-sock api.sock < /dev/null > out 2> err 3>&- &
    pid=$!
    await test -S api.sock
    put /machine-config '{"vcpu_count":1,"mem_size_mib":256}'
    put /boot-source "{\"kernel_image_path\":\"$kernel\",\"boot_args\":\
\"console=ttyS0 reboot=k panic=1 pci=off init=/bin/sh -- -c \\\"\
mkdir -p /dev/x; mount -t sysfs none /sys; ls /sys/class/net /dev/vda; \
cat /sys/class/net/eth0/address; echo it is up; reboot -f\\\"\"}"
    put /drives/root "{\"drive_id\":\"root\",\"is_root_device\":true,
        \"is_read_only\":true,\"path_on_host\":\"$rootfs\"}"
    put /network-interfaces/eth0 '{"iface_id":"eth0",
        "host_dev_name":"spfctest","guest_mac":"06:00:ac:10:00:02",
        "tx_rate_limiter":{"bandwidth":{"size":1000000,"refill_time":100}}}'
    put /vsock '{"guest_cid":3,"uds_path":"v.sock"}'
    put /entropy '{}'
    put /balloon '{"amount_mib":8,"deflate_on_oom":true,
        "stats_polling_interval_s":1}'
    put /actions '{"action_type":"InstanceStart"}'
    wait "$pid" && status=0 || status=$?
    cat out
    [ "$status" -eq 0 ]
    tr -d '\r' < out > plain
    grep -qx 06:00:ac:10:00:02 plain
    grep -q /dev/vda plain
    grep -qx "it is up" plain
    [ ! -e api.sock ]
    [ ! -e v.sock ]
}
