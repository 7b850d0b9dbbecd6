#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The jail from outside: what it allows, and that a machine that runs is in it.

# shellcheck disable=SC2030,SC2031 # each test is a process of its own

load helper

setup() {
    common_setup
}

teardown() {
    kill_marked
}

# ---- spore jail show ---------------------------------------------------------

@test "jail show: each role, what it may call and why, and the host" {
    run -0 --separate-stderr spore jail show
    [ -z "$stderr" ]
    for role in main vcpu worker page-server fuzz; do
        [[ $output == *"role $role"$'\n'* ]]
    done
    [[ $output == *"KVM_RUN: runs the guest"* ]]
    [[ $output == *"refused with ENOSYS"* ]]
    [[ $output == *landlock*namespaces*cgroups* ]]
    run -0 --separate-stderr spore jail show --role worker
    [[ $output == *"role worker"* ]]
    [[ $output != *"role main"* ]]
    [[ $output != *KVM_RUN* ]]
}

@test "jail show: JSON agrees with itself, and no role can do what must not be" {
    spore jail show --json > policy
    jq -e '.version == 1 and (.roles | length) == 5' policy
    jq -e '.roles[] | .calls == ([.rules[] | select(.refusal == null) | .call]
        | unique | length)' policy
    jq -e 'all(.roles[]; any(.rules[]; .call == "futex"))' policy
    jq -e 'all(.roles[].rules[]; .reason | length > 0)' policy
    jq -e '[.roles[].rules[] | select(.refusal == null) | .call] |
        all(. != ("open", "openat", "openat2", "execve", "execveat", "ptrace",
            "socket", "connect", "bind", "fork", "vfork", "clone3", "unshare",
            "setns", "mount", "bpf", "io_uring_setup", "userfaultfd", "kill"))' \
        policy
    jq -e 'any(.roles[] | select(.role == "vcpu") | .rules[];
        .call == "ioctl" and .with == "KVM_RUN")' policy
    jq -e '[.host[].name] == ["seccomp", "landlock", "namespaces", "cgroups"]' \
        policy
    # The documented numbers are the policy's.
    while read -r role calls; do
        grep -q "^| .$role. |.* $calls |\$" \
            "$BATS_TEST_DIRNAME/../../jail/README.md"
    done < <(jq -r '.roles[] | "\(.role) \(.calls)"' policy)
    [ "$(spore jail show --json --role fuzz | jq -r '.roles[].role')" = fuzz ]
}

@test "jail show: what it does not know is an error" {
    run -2 --separate-stderr spore jail show --role guard
    [ -z "$output" ]
    [[ $stderr == *"guard"*"main, vcpu"* ]]
    run -2 spore jail
    run -2 spore jail hide
    run -2 spore jail show more
    run -2 spore jail show --roles
}

# ---- machines in it ----------------------------------------------------------

@test "a bare guest runs in a strict jail" {
    need_kvm
    run -0 --separate-stderr bare hello --jail=strict
    [ "$output" = "hello from a bare guest" ]
    [ -z "$stderr" ]
    run -42 --separate-stderr bare exit42 --jail=strict
    [ -z "$stderr" ]
    assert_nothing_left
}

@test "no jail is said every time, and by the environment too" {
    need_kvm
    run -0 --separate-stderr bare hello --jail=off
    [ "$output" = "hello from a bare guest" ]
    [[ $stderr == "spore: run: no jail"* ]]
    SPORE_JAIL=off run -0 --separate-stderr bare hello
    [[ $stderr == "spore: run: no jail"* ]]
    # The option is above the environment.
    SPORE_JAIL=off run -0 --separate-stderr bare hello --jail=strict
    [ -z "$stderr" ]
    SPORE_JAIL=none refused "SPORE_JAIL=none" bare hello
    refused "jail=on" bare hello --jail=on
}

# in_jail ID: what /proc says of the machine's process.
in_jail() {
    local pid state fd kind parent

    detached sleeper "$1"
    pid=$(api "$1" GET /spore | head -n 1 | jq -r .pid)
    parent=$(keeper_of "$pid")
    [ -n "$parent" ]
    for state in "/proc/$pid"/task/*/status; do
        grep -qx $'Seccomp:\t2' "$state"
        grep -qx $'NoNewPrivs:\t1' "$state"
        grep -qx $'CapEff:\t0000000000000000' "$state"
        grep -qx $'CapPrm:\t0000000000000000' "$state"
    done
    # The loop and a vCPU at least.
    [ "$(find "/proc/$pid/task" -mindepth 1 -maxdepth 1 | wc -l)" -ge 2 ]
    if [ "$(id -u)" -eq 0 ]; then
        [ -z "$(ls -A "/proc/$pid/root/")" ]
        # No folder is open.
        for fd in "/proc/$pid"/fd/*; do
            [ ! -d "$fd" ]
        done
        for kind in net ipc uts pid; do
            [ "$(readlink "/proc/$pid/ns/$kind")" != \
                "$(readlink "/proc/self/ns/$kind")" ]
        done
        [ "$(awk '/^Uid:/ { print $2 }' "/proc/$pid/status")" -eq \
            $((0x70000000 + pid)) ]
    fi
    spore kill "$1"
}

@test "a machine that runs: no rights, no files, no folders, its own spaces" {
    need_kvm
    SPORE_JAIL=strict in_jail one
    SPORE_JAIL=default in_jail two
}

gone() {
    [ ! -e "/proc/$1" ]
}

# A keeper is killed, not asked.
keeper_dies() {
    local pid parent

    detached sleeper "$1"
    pid=$(api "$1" GET /spore | head -n 1 | jq -r .pid)
    parent=$(keeper_of "$pid")
    [ -n "$parent" ]
    kill -KILL "$parent"
    await gone "$pid"
    # What it left counts as no machine.
    [[ $(spore ps) != *"$1"* ]]
}

@test "a keeper that is killed takes its monitor along" {
    need_kvm
    SPORE_JAIL=strict keeper_dies one
    SPORE_JAIL=default keeper_dies two
    await assert_nothing_left
}

@test "a monitor that is killed is missed, and nothing of it is left" {
    need_kvm
    start run --jail=strict --console --id vm --timeout "$LIMIT" \
        --kernel "$SPORE_GUESTS/sleeper.elf"
    await test -S "$XDG_RUNTIME_DIR/spore/vm/api.sock"
    kill -KILL "$(api vm GET /spore | head -n 1 | jq -r .pid)"
    end_status
    [ "$status" -eq 137 ]
    grep -q "ended by signal 9" err
    assert_nothing_left
}

@test "as root: a chosen user and group" {
    need_kvm
    [ "$(id -u)" -eq 0 ] || skip "only root can become another user"
    detached sleeper vm --jail=strict --uid 1234 --gid 1235
    pid=$(api vm GET /spore | head -n 1 | jq -r .pid)
    grep -qP '^Uid:\t1234\t1234\t1234\t1234$' "/proc/$pid/status"
    grep -qP '^Gid:\t1235\t1235\t1235\t1235$' "/proc/$pid/status"
    grep -qP '^Groups:\t *$' "/proc/$pid/status"
    spore kill vm
}

# ---- as an ordinary user -----------------------------------------------------

# user_spore ARGUMENT...: spore as an ordinary user, in a folder of its own.
user_spore() {
    SPORE_TEST_MARK=$BATS_TEST_TMPDIR timeout "$LIMIT" \
        "$BATS_TEST_DIRNAME/../tools/own_root.sh" --user \
        env XDG_RUNTIME_DIR=/w/run ./spore "$@" < /dev/null
}

need_user() {
    need_kvm
    cp "$SPORE" spore
    cp "$SPORE_GUESTS/hello.elf" "$SPORE_GUESTS/exit42.elf" .
    mkdir run
    open_to_users
    if [ "$(id -u)" -eq 0 ]; then
        chown -R 65534:65534 run
        chmod 700 run
    fi
    run user_spore version
    [ "$status" -eq 0 ] || cannot_run "$output"
}

@test "an ordinary user: a strict jail without any privilege" {
    need_user
    run -0 --separate-stderr user_spore run --console --jail=strict \
        --timeout 60 --kernel hello.elf
    [ "$output" = "hello from a bare guest" ]
    [ -z "$stderr" ]
    run -42 --separate-stderr user_spore run --console --timeout 60 \
        --kernel exit42.elf
    [ -z "$stderr" ]
}

@test "an ordinary user can become nobody else" {
    need_user
    run -125 --separate-stderr user_spore run --console --uid 0 \
        --timeout 60 --kernel hello.elf
    [ -z "$output" ]
    [[ $stderr == *"only root"* ]]
    run -125 --separate-stderr user_spore run --console --gid 0 \
        --timeout 60 --kernel hello.elf
    [[ $stderr == *"only root"* ]]
}

# ---- its cgroup --------------------------------------------------------------

@test "a guest that takes more memory than it may: it ends, its neighbour not" {
    need_kvm
    detached tally neighbour
    run spore run --console --timeout 60 --memory-max 64M \
        --kernel "$SPORE_GUESTS/hello.elf" < /dev/null
    [ "$status" -eq 0 ] || cannot_run "no cgroup can be made: $output"
    run -137 --separate-stderr spore run --console --id eater --mem 512 \
        --memory-max 64M --timeout "$LIMIT" --cmdline flood=memory \
        --kernel "$SPORE_GUESTS/flood.elf" < /dev/null
    [[ $stderr == *"more memory than its cgroup has"*"--memory-max"* ]]
    [[ $(spore ps) == *neighbour* ]]
    [[ $(spore ps) != *eater* ]]
    [ -z "$(find /sys/fs/cgroup -type d -name eater)" ]
    spore kill neighbour
}
