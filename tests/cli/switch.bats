#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# spore switch from outside, with sockets for VMs. Needs no /dev/kvm.

load helper

setup() {
    common_setup
    export XDG_RUNTIME_DIR=$BATS_TEST_TMPDIR
    net=$XDG_RUNTIME_DIR/spore/net
}

teardown() {
    kill_marked
}

# Waits until a file is there.
await() {
    local i

    for ((i = 0; i < 1000; i++)); do
        [ ! -e "$1" ] || return 0
        sleep 0.02
    done
    echo "waited for $1"
    return 1
}

# Two ports that send each other a frame.
exchange() {
    timeout "$LIMIT" python3 - "$1" << 'EOF'
import socket, struct, sys

def port():
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60)
    s.connect(sys.argv[1])
    return s

def frame(to, source, data):
    f = bytes.fromhex(to) + bytes.fromhex(source) + b"\x88\xb5" + data
    return struct.pack(">I", len(f)) + f

# The first frame may come before the second port is there.
a, b = port(), port()
hello = frame("020000000001", "020000000002", b"hello " * 8)
b.sendall(hello)
assert a.recv(1000) == hello
back = frame("020000000002", "020000000001", b"back " * 8)
a.sendall(back)
assert b.recv(1000) == back
print("ok")
EOF
}

# wrong PATTERN ARGUMENT...: status 2 and one line that matches.
# shellcheck disable=SC2154 # bats sets stderr and stderr_lines
wrong() {
    local pattern=$1

    shift
    run -2 --separate-stderr spore switch "$@"
    [ -z "$output" ]
    [ "${#stderr_lines[@]}" -eq 1 ]
    [[ $stderr =~ $pattern ]]
}

@test "switch: --help, and options that it does not have" {
    run -0 spore switch --help
    [[ $output == "usage: spore switch"* ]]
    wrong '^spore: switch: --bogus .*--help$' --bogus
    wrong '^spore: switch: .*--ports' --ports 0
    wrong '^spore: switch: .*--ports' --ports 1025
    wrong '^spore: switch: --rate' --rate fast
    wrong '^spore: switch: --rate' --rate 0
    wrong '^spore: switch: .*argument' lab
    [ ! -e "$net" ]
}

@test "switch: names, and paths that cannot be" {
    run -1 --separate-stderr spore switch --listen 'a b'
    [[ $stderr == "spore: switch 'a b': "* ]]
    run -1 --separate-stderr spore switch --listen /nonexistent/x
    [[ $stderr == "spore: switch: "*"No such file or directory" ]]
    echo data > file
    run -1 --separate-stderr spore switch --listen ./file
    [[ $stderr == *"no socket"* ]]
    [ "$(cat file)" = data ]
    run -1 --separate-stderr spore switch --inherited 3< /dev/null
    [[ $stderr == *"--inherited"* ]]
}

@test "switch: frames pass, counters are printed, it ends when empty" {
    start switch --listen lab --until-empty --json
    await "$net/lab.sock"
    [ "$(stat -c %a "$net/lab.sock")" = 600 ]
    [ "$(stat -c %a "$net")" = 700 ]
    # shellcheck disable=SC2154 # start sets it
    kill -USR1 "$pid"
    read -r line <&8
    [[ $line == *'"opened":0'* ]]
    # A second one of that name is refused, and takes nothing away.
    run -1 --separate-stderr spore switch --listen lab
    [[ $stderr == *"already"* ]]
    run -0 exchange "$net/lab.sock"
    [ "$output" = ok ]
    read -r line <&8
    end_status
    [ "$status" -eq 0 ]
    python3 - "$line" << 'EOF'
import json, sys

stats = json.loads(sys.argv[1])
assert stats["version"] == 1 and stats["opened"] == 2 and stats["ports"] == []
assert stats["total"]["rx_frames"] == stats["total"]["tx_frames"] == 2
assert stats["total"]["tx_dropped"] == 0
EOF
    [ -z "$(ls -A "$net")" ]
    [ ! -s err ]
}

@test "switch: TERM ends it and nothing stays; KILL leaves what is replaced" {
    start switch --listen ./sock
    await sock
    kill -TERM "$pid"
    end_status
    [ "$status" -eq 0 ]
    [ ! -e sock ]
    [ ! -e sock.lock ]
    start switch --listen ./sock
    await sock
    kill -KILL "$pid"
    end_status
    [ -e sock ]
    start switch --listen ./sock --until-empty --json
    # Refused until the old socket, which is there all the time, is replaced.
    for ((i = 0; i < 100; i++)); do
        run exchange ./sock
        [ "$status" -ne 0 ] || break
    done
    [ "$output" = ok ]
    end_status
    [ "$status" -eq 0 ]
    [ ! -e sock ]
}

@test "switch: no more than --ports" {
    start switch --listen lab --ports 1
    await "$net/lab.sock"
    timeout "$LIMIT" python3 - "$net/lab.sock" << 'EOF'
import socket, sys

a = socket.socket(socket.AF_UNIX)
a.connect(sys.argv[1])
b = socket.socket(socket.AF_UNIX)
b.connect(sys.argv[1])
b.settimeout(60)
assert b.recv(1) == b""
EOF
    grep -q "all 1 ports" err
    kill -TERM "$pid"
    end_status
    [ "$status" -eq 0 ]
}
