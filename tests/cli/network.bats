#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Linux guests with networks, entropy and a balloon. A boot takes long on a
# host that interprets guest kernels, so each answers many questions.
#
# SPORE_NET_MIB: what is fetched over the network, 1 MiB without.

# shellcheck disable=SC2016,SC2030,SC2031 # scripts are for the guest's shell;
# each test is a process of its own.

load helper

LIMIT=600

setup() {
    common_setup
    need_linux
}

teardown() {
    local pid

    for pid in "${helpers[@]}"; do
        kill "$pid" 2> /dev/null || true
    done
    kill_marked
    [ -z "${netns:-}" ] || ip netns del "$netns"
}

# Serves the folder www on a free port of the host's loopback: its number is
# in `port`.
serve_www() {
    /usr/bin/python3 - > port 2> /dev/null 3>&- << 'END' &
import functools, http.server, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler,
                            directory="www")
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
print(server.server_port, flush=True)
server.serve_forever()
END
    helpers+=("$!")
    until [ -s port ]; do
        kill -0 "$!"
        sleep 0.1
    done
    port=$(cat port)
}

# Kernel and root file system where any user can read them.
share_artifacts() {
    local cache=${XDG_CACHE_HOME:-$HOME/.cache}/spore

    SPORE_KERNEL=${SPORE_KERNEL:-$cache/kernel/vmlinux}
    SPORE_ROOTFS=${SPORE_ROOTFS:-$cache/rootfs/rootfs.ext4}
    if [ ! -r "$SPORE_KERNEL" ] || [ ! -r "$SPORE_ROOTFS" ]; then
        cannot_run "kernel and root file system are not where they are made"
    fi
    cp "$SPORE_KERNEL" vmlinux
    cp --sparse=always "$SPORE_ROOTFS" rootfs.ext4
    cp "$SPORE" spore
    chmod -R a+rX .
    export SPORE_KERNEL=$PWD/vmlinux SPORE_ROOTFS=$PWD/rootfs.ext4
}

own_root=$BATS_TEST_DIRNAME/../tools/own_root.sh

# As an ordinary user who may use /dev/kvm, or as whoever we are.
as_user() {
    if [ "$(id -u)" -ne 0 ]; then
        "$@"
        return
    fi
    env SPORE_KERNEL=/w/vmlinux SPORE_ROOTFS=/w/rootfs.ext4 \
        "$own_root" --user "$@"
}

# Where / is closed to others passt, which gives up being root, cannot work.
open_root() {
    [ "$(id -u)" -eq 0 ] || return 0
    [ "$(stat -c %a /)" -lt 755 ] || return 0
    {
        echo "#!/bin/sh"
        printf "exec '%s' '%s' \"\$@\"\n" "$own_root" "$SPORE"
    } > spore-in-root
    chmod +x spore-in-root
    SPORE=$PWD/spore-in-root
}

# The passt whose parent is this process.
passt_of() {
    local stat name parent rest

    for stat in /proc/[0-9]*/stat; do
        { read -r rest < "$stat"; } 2> /dev/null || continue
        name=${rest#*(}
        name=${name%)*}
        read -r _ parent _ <<< "${rest##*) }"
        [[ $name != passt* ]] || [ "$parent" != "$1" ] || {
            stat=${stat#/proc/}
            echo "${stat%/stat}"
        }
    done
}

# passt ends by itself, soon after its monitor.
no_passt_left() {
    local tries

    for ((tries = 0; tries < 50; tries++)); do
        [ -n "$(passt_of 1)$(passt_of $$)" ] || return 0
        sleep 0.1
    done
    return 1
}

fetch() {
    /usr/bin/python3 -c '
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=120).read().decode(), end="")
' "$1"
}

@test "user network: an ordinary user's guest reaches the host's loopback" {
    command -v passt > /dev/null || cannot_run "passt is not installed"
    mkdir www
    head -c "${SPORE_NET_MIB:-1}M" /dev/urandom > www/data
    serve_www
    share_artifacts
    open_to_users
    as_user sh -c 'test -x ./spore && : < /dev/kvm' ||
        cannot_run "an ordinary user cannot run ./spore or open /dev/kvm"
    run -0 --separate-stderr as_user timeout "$LIMIT" ./spore run --no-api \
        --net user --rng --mem 128 -- sh -c '
            cat /etc/resolv.conf
            wget -q -O - "http://10.0.2.2:$1/data" | sha256sum
            head -c 64 /dev/hwrng | wc -c
            cat /sys/class/misc/hw_random/rng_current
            nslookup localhost 10.0.2.3 > /dev/null 2>&1; echo asked' \
        - "$port" < /dev/null
    echo "$output" "$stderr"
    [[ $output == *"nameserver 10.0.2.3"* ]]
    [[ $output == *"$(sha256sum < www/data)"* ]]
    [[ $output == *$'\n64\n'* ]]
    [[ $output == *virtio_rng* ]]
    [ -z "$stderr" ]
    no_passt_left
}

@test "user network: a forwarded port; passt dies and the guest goes on" {
    command -v passt > /dev/null || cannot_run "passt is not installed"
    open_root
    mkdir www
    serve_www
    # A port that was free a moment ago.
    forward=$port
    kill "${helpers[0]}"
    wait "${helpers[0]}" || true
    start run --timeout "$LIMIT" --net "user,tcp=$forward:80" -- sh -c '
        mkdir -p /tmp/www; echo from the guest > /tmp/www/x
        httpd -p 80 -h /tmp/www; echo serving
        while [ "$(cat /sys/class/net/eth0/carrier)" = 1 ]; do sleep 1; done
        echo link is down' < /dev/null
    read_line serving
    [ "$(fetch "http://127.0.0.1:$forward/x")" = "from the guest" ]
    # On no other address of the host, and no other port.
    ss -Hltn "sport = :$forward" | grep -q "127.0.0.1:$forward"
    [ "$(ss -Hltn "sport = :$forward" | wc -l)" -eq 1 ]
    kill -KILL "$(passt_of "$(monitor_of "$pid")")"
    read_line "link is down" || {
        end_status
        echo "spore ended with status $status"
        return 1
    }
    end_status
    [ "$status" -eq 0 ]
    [ "$(wc -l < err)" -eq 1 ]
    grep -q 'eth0: passt was ended by signal 9: the link is down' err
}

@test "two guests on one bridge reach each other, and not without it" {
    [ "$(id -u)" -eq 0 ] || cannot_run "bridges need root"
    netns=spore-test-$$
    ip netns add "$netns" || cannot_run "no network namespace can be made"
    in_netns() { ip netns exec "$netns" "$@"; }
    in_netns ip link add br0 type bridge || cannot_run "no bridge can be made"
    in_netns ip link set br0 up
    for tap in ta tb; do
        in_netns ip tuntap add "$tap" mode tap
        in_netns ip link set "$tap" master br0 up
    done
    mkfifo go
    SPORE_TEST_MARK=$BATS_TEST_TMPDIR in_netns "$SPORE" run \
        --timeout "$LIMIT" --net tap=ta,ip=10.9.0.1/24 -- \
        sh -c 'echo up; exec sleep 10000' < /dev/null > a.out 2> a.err 3>&- &
    SPORE_TEST_MARK=$BATS_TEST_TMPDIR in_netns "$SPORE" run \
        --timeout "$LIMIT" --net tap=tb,ip=10.9.0.2/24,mtu=1400 -- sh -c '
            while ! ping -c 1 -W 5 10.9.0.1 > /dev/null; do :; done
            cat /sys/class/net/eth0/mtu; echo reached; read x
            ping -c 2 -W 10 10.9.0.1 > /dev/null || echo unreachable' \
        < go > b.out 2> b.err 3>&- &
    pid=$!
    exec 9> go
    until grep -q reached b.out; do
        kill -0 "$pid"
        sleep 1
    done
    in_netns ip link set tb nomaster
    echo >&9
    exec 9>&-
    end_status
    cat b.out b.err a.err
    [ "$status" -eq 0 ]
    [ "$(head -n 1 b.out)" = 1400 ]
    [ "$(tail -n 1 b.out)" = unreachable ]
}
