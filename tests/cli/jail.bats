#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The jail from outside: what it allows, and that a machine that runs is in it.

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
