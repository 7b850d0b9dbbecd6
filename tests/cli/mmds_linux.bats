#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Linux guests that ask for their metadata at 169.254.169.254: version 1, of a
# configuration file and --metadata, and version 2, over the socket.

load helper

setup() {
    local cache=${XDG_CACHE_HOME:-$HOME/.cache}/spore

    common_setup
    : "${SPORE_FIRECRACKER:?}"
    need_linux
    kernel=${SPORE_KERNEL:-$cache/kernel/vmlinux}
    rootfs=${SPORE_ROOTFS:-$cache/rootfs/rootfs.ext4}
    [ "$(id -u)" -eq 0 ] || cannot_run "taps are for root to make"
    ip tuntap add spmmtest mode tap
}

teardown() {
    kill_marked
    [ ! -e /sys/class/net/spmmtest ] || ip link del spmmtest
}

# Describes in vm.json a guest that runs the commands on standard input, with
# the network set up, and the service as $1.
describe() {
    python3 -c '
import json, sys
kernel, rootfs, service = sys.argv[1:]
script = " ".join(sys.stdin.read().split("\n"))
json.dump({
    "boot-source": {
        "kernel_image_path": kernel,
        "boot_args": "console=ttyS0 reboot=k panic=1 init=/bin/sh -- -c "
        "\"mount -t proc none /proc; ip link set eth0 up; "
        "ip addr add 172.16.0.2/24 dev eth0; "
        "ip route add 169.254.169.254 dev eth0; a=http://169.254.169.254; "
        + script + "\""},
    "drives": [{"drive_id": "root", "is_root_device": True,
                "is_read_only": True, "path_on_host": rootfs}],
    "network-interfaces": [{"iface_id": "eth0",
                            "host_dev_name": "spmmtest"}],
    "mmds-config": json.loads(service)}, open("vm.json", "w"))
' "$kernel" "$rootfs" "$1"
}

@test "metadata of version 1" {
    echo '{"name":{"first":"John","more":{}},"n":7}' > data.json
    describe '{"network_interfaces": ["eth0"]}' << 'END'
for p in name/first name/ n nope; do echo ask $p; wget -q -O - $a/$p; echo;
done; wget -q -O - --header Accept:application/json $a/; echo;
echo it is done; reboot -f
END
    SPORE_TEST_MARK=$BATS_TEST_TMPDIR timeout "$LIMIT" "$SPORE_FIRECRACKER" \
        --no-api --config-file vm.json --metadata data.json \
        < /dev/null > out 2> err 3>&-
    tr -d '\r' < out > plain
    cat plain err
    grep -qx 'it is done' plain
    grep -qx John plain
    [ "$(grep -x -A 2 'ask name/' plain)" = "ask name/
first
more/" ]
    grep -q 'HTTP/1.1 501' plain
    grep -q 'HTTP/1.1 404' plain
    grep -qx '{"n":7,"name":{"first":"John","more":{}}}' plain
}

@test "metadata of version 2" {
    local api="curl -sS --max-time 60 --unix-socket api.sock"

    describe '{"network_interfaces": ["eth0"], "version": "V2"}' << 'END'
wget -q -O - $a/k; echo;
t=$(printf 'PUT /latest/api/token HTTP/1.1\r\nConnection: close\r\nX-metadata-token-ttl-seconds: 600\r\n\r\n' | nc 169.254.169.254 80 | tail -n 1);
echo token ${#t}; wget -q -O - --header X-metadata-token:$t $a/k; echo;
wget -q -O - --header X-metadata-token:${t}0 $a/k; echo;
wget -q -O - --header X-metadata-token:$t $a/long | wc -c;
echo it is done; reboot -f
END
    SPORE_TEST_MARK=$BATS_TEST_TMPDIR timeout "$LIMIT" "$SPORE_FIRECRACKER" \
        --api-sock api.sock --config-file vm.json --metrics-path metrics \
        < /dev/null > out 2> err 3>&- &
    pid=$!
    await test -S api.sock
    # While it boots.
    printf '{"k":"v of k","long":"%040000d"}' 0 > data.json
    [ "$($api -X PUT -d @data.json -w '%{http_code}' http://x/mmds)" = 204 ]
    wait "$pid"
    tr -d '\r' < out > plain
    cat plain err
    grep -qx 'it is done' plain
    [ "$(grep -c 'HTTP/1.1 401' plain)" -eq 2 ]
    grep -qx 'token 64' plain
    grep -qx 'v of k' plain
    grep -qx 40000 plain
    [ "$(jq -s 'map(.mmds.rx_invalid_token) | add' metrics)" -eq 1 ]
    [ "$(jq -s 'map(.mmds.rx_no_token) | add' metrics)" -eq 1 ]
}
