#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# spore-jailer from outside, as root, with a program that says what it finds.

load helper

setup() {
    common_setup
    : "${SPORE_JAILER:?}" "${SPORE_JAILED:?}"
    # Not below the test's own folder: cgroups are called by id.
    id=test-$BATS_TEST_NUMBER-$$
    base=$BATS_TEST_TMPDIR/base
    mkdir -m 755 "$base"
    root=$base/jailed/$id/root
    cp "$SPORE_JAILED" jailed
}

teardown() {
    local pid dir

    while read -r pid; do
        if [ "$(readlink "/proc/$pid/exe")" = /jailed ]; then
            kill -KILL "$pid"
            tail --pid="$pid" -f /dev/null
        fi
    done < <(find "$base" -name '*.pid' -exec awk 1 {} +)
    for dir in /sys/fs/cgroup/spore-jailer-test /sys/fs/cgroup/*/spore-jailer-test; do
        [ ! -d "$dir" ] || rmdir "$dir"/*/ "$dir"
    done
}

need_root() {
    [ "$(id -u)" = 0 ] || cannot_run "only root can jail"
}

# jailer [OPTION...]: with what every call needs.
jailer() {
    timeout "$LIMIT" "$SPORE_JAILER" --id "$id" --exec-file jailed --uid 1234 \
        --gid 1235 --chroot-base-dir "$base" "$@"
}

says() {
    if ! grep -qxF -- "$1" <<< "$output"; then
        echo "no line '$1' in: $output"
        return 1
    fi
}

# refused TEXT OPTION...: status 1, and TEXT on standard error.
refused() {
    local text=$1

    shift
    run timeout "$LIMIT" "$SPORE_JAILER" "$@"
    echo "$output"
    [ "$status" -eq 1 ]
    [[ $output == *"$text"* ]]
}

# The process number that is in the file, as written there without a newline.
pid_of() {
    local pid

    pid=$(cat "$root/jailed.pid")
    [[ $pid =~ ^[0-9]+$ ]]
    echo "$pid"
}

# Waits until the program has written all of its report.
await_report() {
    local i

    for ((i = 0; i < 500; i++)); do
        ! grep -qsx "done" "$root/report" || return 0
        sleep 0.02
    done
    echo "the program does not report"
    return 1
}

@test "help, version and being called jailer" {
    run -0 "$SPORE_JAILER" --help
    for option in id exec-file uid gid chroot-base-dir netns daemonize \
        new-pid-ns cgroup cgroup-version parent-cgroup resource-limit version; do
        [[ $output == *"--$option "* ]]
    done
    run -0 "$SPORE_JAILER" --version
    [[ $output == "spore-jailer "* ]]
    ln -s "$SPORE_JAILER" jailer
    run -0 ./jailer --version
    [[ $output == "Jailer v"* ]]
}

@test "arguments are refused with the texts that clients know" {
    local need=(--exec-file jailed --uid 1 --gid 1)

    refused "Failed to parse arguments: Argument 'id' required, but not found." "${need[@]}"
    refused "The argument 'id' requires a value, but none was supplied." --id
    refused "The argument 'id' requires a value" --id --uid 1
    refused "The argument 'uid' was provided more than once." --uid 1 --uid 2
    refused "Found argument 'node' which wasn't expected, or isn't valid in this context." --node 0
    refused "Found argument 'x'" x
    refused "Found argument 'daemonize=1'" --daemonize=1
    refused "Invalid instance ID: Invalid len (0);  the length must be between 1 and 64" --id ""
    refused "Invalid len (65)" --id "$(printf 'a%.0s' {1..65})"
    refused "Invalid instance ID: Invalid char (_) at position 1" --id a_b
    refused "Invalid char (/) at position 1" --id=a/b
    refused "Invalid uid: x" --uid x
    refused "Invalid uid: 4294967295" --uid 4294967295
    refused "Invalid gid: -1" --gid -1
    refused "3 is an invalid cgroup version specifier" --cgroup-version 3
    refused "Invalid format for cgroups: pids.max" --cgroup pids.max
    refused "Invalid format for cgroups: pids.max=" --cgroup pids.max=
    refused "Cgroup invalid file: ../pids.max=1" --cgroup ../pids.max=1
    refused "decides what is in the cgroup" --cgroup cgroup.procs=1
    refused "Parent cgroup path is invalid." --parent-cgroup /a
    refused "Parent cgroup path is invalid." --parent-cgroup a/../b
    refused "Invalid format for resources limits: fsize" --resource-limit fsize
    refused "Invalid resource argument: files" --resource-limit files=1
    refused "Invalid limit value for resource: x" --resource-limit fsize=x
}

@test "only root can jail" {
    # Nobody in particular, who may still open the program and its libraries.
    run -1 unshare -U "$SPORE_JAILER" --id a --exec-file jailed --uid 1 --gid 1
    [[ $output == *"must be started by root"* ]]
}

@test "paths that are not as they should be" {
    need_root
    refused "Failed to canonicalize path nothing:" --id a --uid 1 --gid 1 --exec-file nothing
    refused "$PWD is not a file" --id a --uid 1 --gid 1 --exec-file "$PWD" --chroot-base-dir "$base"
    refused "Failed to canonicalize path nowhere:" --id a --uid 1 --gid 1 --exec-file jailed \
        --chroot-base-dir nowhere
    refused "is not a directory" --id a --uid 1 --gid 1 --exec-file jailed \
        --chroot-base-dir jailed
    run jailer --netns nowhere
    [ "$status" -eq 1 ]
    [[ $output == *"Failed to open file nowhere"* ]]
    rm "$root/jailed"
    run jailer --netns jailed
    [ "$status" -eq 1 ]
    [[ $output == *"Failed to join network namespace: netns"* ]]
}

@test "the program finds its devices, its arguments and nothing of the host" {
    need_root
    export LEAKED=1
    run -7 jailer -- --config-file a.json status=7 7< /etc/passwd
    says "arg /jailed"
    says "arg --id"
    says "arg $id"
    says "arg --start-time-us"
    says "arg --start-time-cpu-us"
    says "arg --parent-cpu-time-us"
    says "arg --config-file"
    says "arg a.json"
    says "ids 1234 1234 1235 1235"
    says "groups 0"
    says "variables 0"
    says "privileges none"
    says "nofile 2048 2048"
    [[ $output != *descriptor* ]]
    [ "$(grep ^entry <<< "$output" | sort | tr '\n' ' ')" = "entry dev entry jailed entry jailed.pid entry run " ]
    says "open /dev/urandom yes"
    says "open /run/made yes"
    says "open /etc/passwd ENOENT"
    says "open ../../../../etc/passwd ENOENT"
    [ ! -r /dev/kvm ] || says "open /dev/kvm yes"
    [ "$(stat -c '%U %a' "$base/jailed/$id")" = "root 755" ]
    [ "$(stat -c '%u %g %a' "$root" "$root/dev" "$root/dev/net" "$root/run" | sort -u)" = "1234 1235 700" ]
    [ "$(stat -c '%u %g %a %h' "$root/jailed")" = "1234 1235 $(stat -c %a jailed) 1" ]
    cmp jailed "$root/jailed"
    [ "$(stat -c '%u %g %a %t %T' "$root/dev/kvm")" = "1234 1235 600 a e8" ]
    [ "$(stat -c '%u %g %a %t %T' "$root/dev/net/tun")" = "1234 1235 600 a c8" ]
    [ "$(stat -c '%u %g %a %t %T' "$root/dev/urandom")" = "1234 1235 600 1 9" ]
    run ! grep -qF "$base" /proc/self/mountinfo
}

@test "the pid file names the process, and a second one is refused" {
    need_root
    jailer -- wait report=/report 3>&- &
    await_report
    pid=$(pid_of)
    [ "$(stat -c %u "/proc/$pid")" = 1234 ]
    [ "$(readlink "/proc/$pid/exe")" = /jailed ]
    grep -qx "pid $pid" "$root/report"
    run -1 jailer
    [[ $output == *"Failed to open $root/jailed: Text file busy"* ]]
    kill -KILL "$pid"
    wait || true
    run -1 jailer
    [[ $output == *"Failed to create /dev/net/tun via mknod inside the jail: File exists"* ]]
}

@test "a pid namespace of its own" {
    need_root
    jailer --new-pid-ns -- wait report=/report > log 2>&1 3>&-
    pid=$(pid_of)
    await_report
    grep -qx "pid 1" "$root/report"
    [ "$(awk '/^NSpid:/ { print $2, $3 }' "/proc/$pid/status")" = "$pid 1" ]
}

@test "in the background, with or without a pid namespace" {
    need_root
    run -0 jailer --daemonize -- wait report=/report
    [ -z "$output" ]
    pid=$(pid_of)
    [ "$(readlink "/proc/$pid/fd/0" "/proc/$pid/fd/1" "/proc/$pid/fd/2" | sort -u)" = /dev/null ]
    read -r _ _ _ _ _ session terminal _ < "/proc/$pid/stat"
    [ "$session" != "$pid" ]
    [ "$session" != "$(awk '{ print $6 }' /proc/$$/stat)" ]
    [ "$terminal" = 0 ]
    kill -KILL "$pid"
    id=$id-b
    root=$base/jailed/$id/root
    run -0 jailer --daemonize --new-pid-ns -- wait report=/report
    pid=$(pid_of)
    [ "$(awk '/^NSpid:/ { print $3 }' "/proc/$pid/status")" = 1 ]
}

@test "a program that cannot be started is told of, in the background too" {
    need_root
    printf '#!/bin/nothing\n' > jailed
    chmod 755 jailed
    for options in "" --daemonize --new-pid-ns "--daemonize --new-pid-ns"; do
        # shellcheck disable=SC2086
        run -1 jailer $options
        [[ $output == *"Failed to exec into jailed:"*"link it statically"* ]]
        rm -r "$base/jailed"
    done
    chmod 644 jailed
    run -1 jailer --daemonize
    [[ $output == *"Failed to exec into jailed: Permission denied"* ]]
}

# has_v1 CONTROLLER: whether version 1 has it.
has_v1() {
    grep -q "^[0-9]*:\(.*,\)\?$1[,:]" /proc/self/cgroup
}

@test "a cgroup" {
    need_root
    has_v1 pids || [ -e /sys/fs/cgroup/cgroup.controllers ] || cannot_run "no cgroups"
    run -0 jailer --daemonize --parent-cgroup spore-jailer-test --cgroup pids.max=17 \
        --cgroup cpuset.cpus=0 -- wait
    pid=$(pid_of)
    ! has_v1 pids || [[ $output != *warning* ]]
    has_v1 pids || [[ $output == *"warning: cgroup version 1 was asked for"* ]]
    grep -q ":/spore-jailer-test/$id\$" "/proc/$pid/cgroup"
    if has_v1 pids; then
        # Nothing in hierarchies that were not named.
        [ "$(grep -c ":/spore-jailer-test/$id\$" "/proc/$pid/cgroup")" -eq 2 ]
    fi
    [ "$(cat /sys/fs/cgroup/{,*/}spore-jailer-test/"$id"/pids.max 2> /dev/null)" = 17 ]
    [ "$(cat /sys/fs/cgroup/{,*/}spore-jailer-test/"$id"/cpuset.cpus 2> /dev/null)" = 0 ]
    kill -KILL "$pid"
    tail --pid="$pid" -f /dev/null
    # It stays, as there; a new VM of this name can have it.
    rm -r "$base/jailed"
    run -0 jailer --daemonize --parent-cgroup spore-jailer-test --cgroup pids.max=18 -- wait
    [ "$(cat /sys/fs/cgroup/{,*/}spore-jailer-test/"$id"/pids.max 2> /dev/null)" = 18 ]
    id=$id-b
    run -1 jailer --parent-cgroup spore-jailer-test --cgroup nothing.max=18
    [[ $output == *nothing* ]]
}

@test "version 2: a parent that is there is entered, and a missing one left out" {
    need_root
    v2=$(awk '$(NF - 2) == "cgroup2" { print $5; exit }' /proc/self/mountinfo)
    [ -n "$v2" ] || cannot_run "cgroup v2 is not mounted"
    run -0 jailer --cgroup-version 2 --parent-cgroup spore-jailer-test
    [ ! -e "$v2/spore-jailer-test" ]
    rm -r "$base/jailed"
    mkdir -p "$v2/spore-jailer-test/mine"
    run -0 jailer --daemonize --cgroup-version 2 --parent-cgroup spore-jailer-test/mine -- wait
    grep -qx "0::/spore-jailer-test/mine" "/proc/$(pid_of)/cgroup"
}

@test "resource limits" {
    need_root
    run -0 jailer --resource-limit no-file=100 --resource-limit fsize=250000000 \
        --resource-limit core=0 --daemonize -- wait
    limits=/proc/$(pid_of)/limits
    grep -q "^Max open files  *100  *100 " "$limits"
    grep -q "^Max file size  *250000000  *250000000 " "$limits"
    grep -q "^Max core file size  *0  *0 " "$limits"
}

@test "a network namespace is joined" {
    need_root
    unshare -n sleep "$LIMIT" 3>&- &
    other=$!
    for ((i = 0; i < 500; i++)); do
        [ "$(readlink "/proc/$other/ns/net")" = "$(readlink /proc/self/ns/net)" ] || break
        sleep 0.02
    done
    run -0 jailer --netns "/proc/$other/ns/net"
    [ "$(grep ^interface <<< "$output")" = "interface lo" ]
    kill "$other"
}

@test "links that an earlier program left are not followed" {
    need_root
    mkdir -p "$root"
    echo precious > precious
    ln -s "$PWD/precious" "$root/jailed"
    run -1 jailer
    [[ $output == *"Failed to open $root/jailed"* ]]
    rm "$root/jailed"
    ln precious "$root/jailed"
    run -1 jailer
    [[ $output == *"Detected hard link at: $root/jailed"* ]]
    rm "$root/jailed"
    mkfifo "$root/jailed"
    run -1 jailer
    [[ $output == *"Failed to open $root/jailed"* || $output == *"is not a file"* ]]
    rm "$root/jailed"
    ln -s "$PWD" "$root/dev"
    run -1 jailer
    [[ $output == *"Failed to create directory /dev"* ]]
    rm -r "${root:?}/dev" "$root/jailed" "$root/run" 2> /dev/null || true
    ln -s "$PWD/made" "$root/jailed.pid"
    run -1 jailer
    [[ $output == *"Failed to open file /jailed.pid"* ]]
    [ ! -e made ]
    [ "$(cat precious)" = precious ]
    [ "$(stat -c %u precious)" = 0 ]
}

@test "what was put into the folder before is there, mounts too" {
    need_root
    mkdir -p "$root/disks"
    echo image > image
    touch "$root/disks/a"
    if ! mount --bind image "$root/disks/a"; then
        cannot_run "nothing can be mounted"
    fi
    run -0 jailer --daemonize -- wait
    pid=$(pid_of)
    content=$(cat "/proc/$pid/root/disks/a") || true
    mounts=$(wc -l < "/proc/$pid/mountinfo")
    umount "$root/disks/a"
    [ "$content" = image ]
    [ "$mounts" -eq 2 ]
}

@test "spore itself can be started so" {
    need_root
    cp "$SPORE" spore-vmm
    run "$SPORE_JAILER" --id "$id" --exec-file spore-vmm --uid 1234 --gid 1235 \
        --chroot-base-dir "$base"
    if [[ $(ldd spore-vmm) == *"statically linked"* ]]; then
        [[ $output == *"spore: there is no command '--id'"* ]]
    else
        [[ $output == *"Failed to exec into spore-vmm: "*"link it statically"* ]]
    fi
}

@test "a file system on which there are no devices is warned of" {
    need_root
    mount -t tmpfs -o nodev none "$base" || cannot_run "nothing can be mounted"
    run jailer
    umount "$base"
    [ "$status" -eq 0 ]
    [[ $output == *"warning: $base/jailed/$id/root is mounted nodev"* ]]
    says "open /dev/kvm EACCES"
}
