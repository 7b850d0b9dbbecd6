#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Linux guests: spore run with commands. Each boot takes seconds on a host
# that interprets guest kernels, so one boot answers several questions.

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

# The root file system that a run without --rootfs takes, to be written to.
copy_rootfs() {
    local file

    for file in "${SPORE_ROOTFS:-}" \
        "${XDG_CACHE_HOME:-$HOME/.cache}/spore/rootfs/rootfs.ext4" \
        /usr/local/share/spore/rootfs.ext4 /usr/share/spore/rootfs.ext4; do
        if [ -n "$file" ] && [ -r "$file" ]; then
            cp --sparse=always "$file" "$1"
            chmod u+w "$1"
            return
        fi
    done
    cannot_run "the root file system is not where it is looked for"
}

@test "a command: output, errors, environment and status are its own" {
    run -42 --separate-stderr spore run --env "GREETING=hello there" -- \
        sh -c 'uname -r; cut -d. -f1 /proc/uptime; echo "$GREETING"
               echo oops >&2; [ -t 0 ] || echo no tty; exit 42' < /dev/null
    [[ ${lines[0]} =~ ^[0-9]+\.[0-9]+ ]]
    # Seconds since the guest's own start, not the host's.
    [ "${lines[1]}" -lt "$LIMIT" ]
    [ "${lines[2]}" = "hello there" ]
    [ "${lines[3]}" = "no tty" ]
    [ "${#lines[@]}" -eq 4 ]
    [ "$stderr" = oops ]
    assert_nothing_left
}

@test "1 MiB of input arrives; --cpus 2 gives two" {
    head -c 1M /dev/urandom > data
    run -0 --separate-stderr spore run --cpus 2 -- \
        sh -c 'nproc; cat | sha256sum' < data
    [ -z "$stderr" ]
    [ "${lines[0]}" = 2 ]
    [ "${lines[1]}" = "$(sha256sum < data)" ]
}

@test "1 MiB of output arrives, through a reader that starts late" {
    mkfifo late
    { sleep 3; sha256sum < late > got; } 3>&- &
    spore run -- sh -c 'seq 1 200000 | head -c 1048576' \
        < /dev/null > late
    wait
    [ "$(cat got)" = "$(seq 1 200000 | head -c 1048576 | sha256sum)" ]
}

@test "126: it is there and cannot be run" {
    run -126 --separate-stderr spore run -- /etc/passwd < /dev/null
    [ -z "$output" ]
    [ "${#stderr_lines[@]}" -eq 1 ]
    [[ $stderr == *"/etc/passwd"* ]]
}

@test "127: it is not there" {
    run -127 --separate-stderr spore run -- no-such-command < /dev/null
    [ -z "$output" ]
    [ "${#stderr_lines[@]}" -eq 1 ]
    [[ $stderr == *"no-such-command"* ]]
}

@test "128 + signal; devices found through the command line" {
    run -137 --separate-stderr spore run --discovery cmdline -- \
        sh -c 'cat /proc/cmdline; kill -9 $$' < /dev/null
    [[ $output == *acpi=off* && $output == *virtio_mmio.device=* ]]
    [ -z "$stderr" ]
}

@test "SIGTERM reaches the command, which may end as it likes" {
    start run --timeout "$LIMIT" -- \
        sh -c 'trap "echo terminated; exit 7" TERM; echo up
               while :; do sleep 1; done' < /dev/null
    read_line up
    kill -TERM "$pid"
    end_status
    [ "$status" -eq 7 ]
    [ "$(cat <&8)" = terminated ]
    [ ! -s err ]
    assert_nothing_left
}

@test "disks: written to, read back in the next run; ,ro is not written" {
    copy_rootfs root.img
    truncate -s 4M data
    head -c 4M /dev/urandom > fixed
    sha256sum < fixed > before
    run -0 --separate-stderr spore run --rootfs root.img --disk data \
        --disk fixed,ro -- sh -ec '
            echo kept > /root/file
            printf marked | dd of=/dev/vdb bs=512 seek=7 conv=notrunc
            sha256sum < /dev/vdc
            if printf x > /dev/vdc; then exit 9; fi' < /dev/null
    [ "${lines[-1]}" = "$(cat before)" ]
    [ "$(dd if=data bs=512 skip=7 count=1 status=none | head -c 6)" = marked ]
    [ "$(sha256sum < fixed)" = "$(cat before)" ]

    run -0 --separate-stderr spore run --rootfs root.img,ro --disk data,ro \
        -- sh -c 'cat /root/file; dd if=/dev/vdb bs=512 skip=7 count=1 \
            2> /dev/null | head -c 6; echo
            if ( : > /root/other ) 2> /dev/null; then echo written; fi' \
        < /dev/null
    [ "${lines[0]}" = kept ]
    [ "${lines[1]}" = marked ]
    [ "${#lines[@]}" -eq 2 ]
}

@test "--timeout ends a boot, and says where it was" {
    run -124 --separate-stderr spore run --timeout 1 -- true < /dev/null
    [ -z "$output" ]
    [ "${stderr_lines[0]}" = "spore: run: timed out after 1 s" ]
    [[ ${stderr_lines[1]} == *"vCPU 0 was at rip 0x"* ]]
    assert_nothing_left
}

@test "a kernel panic is reported with the console's last lines" {
    run -125 --separate-stderr spore run --rootfs none \
        --cmdline "console=ttyS0 reboot=k panic=-1 rdinit=/nonexistent" -- \
        true < /dev/null
    [ -z "$output" ]
    [[ ${stderr_lines[0]} =~ "kernel panicked"|"ended before its agent" ]]
    [[ $stderr == *"Kernel panic - not syncing"* ]]
    assert_nothing_left
}

@test "terminal: the command has one, of the right size" {
    run -5 python3 "$BATS_TEST_DIRNAME/terminal.py" --size 31x97 \
        expect=READY mode size=40x120 'send=go\r' -- \
        "$SPORE" run --timeout "$LIMIT" -- \
        sh -c 'tty; stty size; echo REA""DY; read -r word
               echo "<$word>"; stty size; exit 5'
    [ "${lines[0]}" = "terminal: raw" ]
    [[ $output == */dev/* && $output == *"31 97"* ]]
    [[ $output == *"<go>"*"40 120"* ]]
    [[ $output == *"terminal: restored" ]]
}

@test "terminal: Ctrl-C interrupts the command, not the machine" {
    run -3 python3 "$BATS_TEST_DIRNAME/terminal.py" \
        expect=READY 'send=\x03' -- "$SPORE" run --timeout "$LIMIT" -- \
        sh -c 'trap "echo interrupted; exit 3" INT; echo REA""DY
               while :; do sleep 1; done'
    [[ $output == *interrupted* ]]
    [[ $output == *"terminal: restored" ]]
}

@test "--timings=json: all phases, and what was emulated, of a machine in its jail" {
    run -0 --separate-stderr spore run --timings=json -- true
    python3 - <<E2
import json

timings = json.loads('''$stderr''')
phases = ("init", "root_mounted", "agent_ready", "command", "command_end")
times = [timings[phase] for phase in phases]
assert times == sorted(times)
# A kernel may not count.
counts = timings.get("emulated_instructions")
assert counts is None or set(counts) <= set(phases)
E2
}
