#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# One Linux guest that stays, and everything that commands do with its agent.
# A boot takes seconds where guest kernels are interpreted, so there is one for
# the whole file.

load helper

# A boot there, with another machine's load beside it.
LIMIT=300

setup_file() {
    boot_for_file box || true
}

teardown_file() {
    SPORE_TEST_MARK='' "$SPORE" kill box 2> /dev/null || true
}

setup() {
    need_booted box
}

@test "exec: status, streams, environment, directory, user" {
    run -42 --separate-stderr spore exec -e "A=b c" -w /tmp box -- \
        sh -c 'echo "$A"; pwd; id -u; cat; echo oops >&2; exit 42'
    [ "$output" = "b c
/tmp
0" ]
    [ "$stderr" = oops ]
    run -0 spore exec -u 12:34 box id
    [[ $output == *"uid=12"*"gid=34"* ]]
}

@test "exec: what cannot be run; signals that end a command" {
    run -127 --separate-stderr spore exec box -- no-such-command
    [[ $stderr == "spore: exec: "*no-such-command* ]]
    run -126 --separate-stderr spore exec box -- /etc/passwd
    run -125 --separate-stderr spore exec -u no-such-user box -- true
    run -125 --separate-stderr spore exec -w /no/such/folder box -- true
    run -143 spore exec box -- sh -c 'kill -TERM $$'
}

@test "exec -i: 200 kB go through; without it there is no input" {
    head -c 200000 /dev/urandom > data
    run -0 --separate-stderr spore exec -i box -- sha256sum < data
    [ "$output" = "$(sha256sum < data)" ]
    run -0 spore exec box -- wc -c < data
    [ "$output" -eq 0 ]
}

@test "exec: several at once" {
    local i

    for i in 1 2 3; do
        spore exec box -- sh -c "echo $i
            while [ ! -e /tmp/go ]; do :; done; echo done $i" \
            > "out$i" 3>&- &
    done
    for i in 1 2 3; do
        while ! grep -qx "$i" "out$i"; do :; done
    done
    run -0 spore exec box -- touch /tmp/go
    wait
    for i in 1 2 3; do
        [ "$(tail -n 1 "out$i")" = "done $i" ]
    done
    run -0 spore exec box -- rm /tmp/go
}

@test "exec: TERM reaches the command, which may end as it likes" {
    start exec box -- sh -c 'trap "echo terminated; exit 7" TERM; echo up
        while :; do :; done'
    read_line up
    kill -TERM "$pid"
    end_status
    [ "$status" -eq 7 ]
    [ "$(cat <&8)" = terminated ]
}

@test "exec: a command whose caller is killed ends" {
    start exec box -- sh -c 'echo $$; while :; do :; done'
    read -r inside <&8
    kill -KILL "$pid"
    end_status
    # It gets SIGHUP, and SIGKILL a second later.
    run -0 spore exec box -- sh -c \
        "while kill -0 $inside 2> /dev/null; do :; done"
}

@test "exec -it: a terminal of the right size, Ctrl-C" {
    run -5 python3 "$BATS_TEST_DIRNAME/terminal.py" --size 31x97 \
        expect=READY mode size=40x120 'send=go\r' -- \
        "$SPORE" exec -it box -- \
        sh -c 'tty; stty size; echo REA""DY; read -r word
               echo "<$word>"; stty size; exit 5'
    [ "${lines[0]}" = "terminal: raw" ]
    [[ $output == */dev/* && $output == *"31 97"* ]]
    [[ $output == *"<go>"*"40 120"* ]]
    [[ $output == *"terminal: restored" ]]
    run -3 python3 "$BATS_TEST_DIRNAME/terminal.py" \
        expect=READY 'send=\x03' -- "$SPORE" exec -it box -- \
        sh -c 'trap "echo interrupted; exit 3" INT; echo REA""DY
               while :; do :; done'
    [[ $output == *interrupted* ]]
    [[ $output == *"terminal: restored" ]]
}

@test "exec -it: input that is not a terminal ends, and so does a shell" {
    run -0 spore exec -it box -- sh < /dev/null
    printf 'echo fir""st\nsh\necho sec""ond\n' > input
    run -0 spore exec -it box -- sh < input
    [[ $output == *first*second* ]]
    run -0 spore exec -it box -- sh -c 'cat; echo done' \
        < <(printf partly)
    [[ $output == *partlydone* ]]
    # It takes Control-D for "delete" here, every time.
    run -129 spore exec -it box -- sh < <(printf 'exit 3')
}

# What a tree holds: names, kinds, modes, targets, content.
describe() {
    (
        cd "$1" || exit
        find . ! -type l -printf '%P %y %m\n'
        find . -type l -printf '%P %l\n'
        find . -type f -exec sha256sum {} +
    ) | sort
}

@test "cp: a tree with links, an empty folder and 1 MiB, both ways" {
    mkdir -p src/deep/er src/empty
    head -c 1M /dev/urandom > src/big
    printf x > "src/deep/er/a name with spaces"
    : > src/nothing
    chmod 640 src/big
    chmod 750 src/deep
    ln -s ../big src/deep/link
    ln -s /etc/passwd src/absolute
    run -0 spore cp src box:/tmp/
    [ -z "$output" ]
    run -0 spore exec box -- sh -c 'sha256sum < /tmp/src/big
        ls /tmp/src/empty | wc -l; readlink /tmp/src/deep/link'
    [ "${lines[0]}" = "$(sha256sum < src/big)" ]
    [ "${lines[1]}" = 0 ]
    [ "${lines[2]}" = ../big ]
    run -0 spore cp box:/tmp/src back
    diff <(describe src) <(describe back)
    # Into a folder that is there: under its own name.
    run -0 spore cp box:/tmp/src back
    diff <(describe src) <(describe back/src)
}

@test "cp: files, new names, contents of a folder" {
    mkdir src
    echo one > src/1
    echo two > src/2
    run -0 spore cp src/1 box:/tmp/one
    run -0 spore cp src/. box:/tmp/new
    run -0 spore exec box -- sh -c 'cat /tmp/one /tmp/new/2; ls /tmp/new'
    [ "$output" = "one
two
1
2" ]
    run -0 spore cp box:/tmp/new/1 here
    [ "$(cat here)" = one ]
    mkdir folder
    run -0 spore cp box:/tmp/new/. folder
    [ "$(ls folder)" = "1
2" ]
    run -0 spore cp box:/etc/passwd folder/
    [ -s folder/passwd ]
}

@test "cp: what cannot be, and why" {
    run -125 --separate-stderr spore cp box:/no/such/file here
    [[ $stderr == "spore: cp: "*"/no/such/file"* ]]
    run -125 --separate-stderr spore cp nowhere box:/tmp/
    [[ $stderr == "spore: cp: "*nowhere* ]]
    run -125 --separate-stderr spore cp box:relative here
    [[ $stderr == *"begins with a slash"* ]]
    run -125 --separate-stderr spore cp here there
    [[ $stderr == *"must be ID:PATH"* ]]
    run -125 --separate-stderr spore cp box:/a box:/b
    run -125 --separate-stderr spore cp --max-size 4K box:/bin/busybox here
    [[ $stderr == *"--max-size"* ]]
    [ ! -e here ]
}

@test "vsock over the control socket: what is not listened to is refused" {
    run -0 python3 - "$XDG_RUNTIME_DIR/spore/box/api.sock" << 'END'
import socket, sys
def ask(port):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(200)
    s.connect(sys.argv[1])
    s.sendall(b'GET /spore/vsock/%d HTTP/1.1\r\nConnection: Upgrade\r\n'
              b'Upgrade: vsock\r\n\r\n' % port)
    return s.recv(100)
assert ask(12345) == b''
assert ask(777).startswith(b'HTTP/1.1 101 ')
END
}

@test "pause: commands wait; resume: they go on" {
    run -0 spore pause box
    spore exec box -- echo late > out 2>&1 3>&- &
    run -0 spore ps --json
    [ "$(jq -r '.[0].state' <<< "$output")" = Paused ]
    [ ! -s out ]
    run -0 spore resume box
    wait
    [ "$(cat out)" = late ]
}

@test "stop: in order, and nothing is left" {
    run -0 spore stop --timeout 200 box
    [ -z "$output" ]
    [ "$(spore ps --json)" = "[]" ]
    assert_nothing_left
}
