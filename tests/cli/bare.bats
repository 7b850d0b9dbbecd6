#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Bare guests from outside: one behaviour each.

load helper

setup() {
    common_setup
    need_kvm
}

# The guest checks itself and ends with 0, or with the step that failed.
passes() {
    run -0 bare "$@"
    assert_nothing_left
}

@test "hello: output and status 0" {
    run -0 --separate-stderr bare hello
    [ "$output" = "hello from a bare guest" ]
    [ -z "$stderr" ]
    assert_nothing_left
}

@test "exit port: the guest's status, of a 32-bit write its low byte" {
    run -42 --separate-stderr bare exit42
    [ -z "$output$stderr" ]
}

@test "triple fault: 125 and where" {
    refused "the guest triple-faulted: vCPU 0, rip 0x[0-9a-f]+" \
        bare triple_fault
}

@test "reset through the keyboard controller: 0" {
    passes reset
}

@test "ACPI power-off: 0" {
    passes power_off
}

@test "pvpanic: 125 and a line that says so" {
    run -125 --separate-stderr bare pvpanic
    [ "$output" = "about to panic" ]
    [ "$stderr" = "spore: run: the guest's kernel panicked" ]
}

@test "an instruction that KVM's emulator lacks is named, with the cure" {
    run --separate-stderr bare missing_insn
    if [ "$status" -eq 0 ]; then
        skip "this host runs guest kernels in hardware"
    fi
    [ "$status" -eq 125 ]
    [ "${#stderr_lines[@]}" -eq 1 ]
    [[ $stderr =~ "cannot emulate popcnt at rip 0x"[0-9a-f]+ ]]
    [[ $stderr == *"f3 0f b8 c1"* ]]
    [[ $stderr == *"or a host with VMX or SVM" ]]
}

@test "every port read and written" {
    run -0 bash -c '"$0" run --console --timeout 60 --kernel "$1" |
        wc -c; exit "${PIPESTATUS[0]}"' "$SPORE" "$SPORE_GUESTS/ports.elf"
}

@test "MMIO where no device is" {
    passes mmio
}

@test "PVH start: registers, memory map, command line, ACPI tables" {
    local cpus

    for cpus in 1 2 32; do
        passes entry --cpus "$cpus" --cmdline "mem=128 cpu=$cpus"
    done
    passes entry --mem 2 --cmdline "mem=2 cpu=1"
    passes entry --mem 3G --cmdline "mem=3072 cpu=1"
    passes entry --mem 5G --cmdline "mem=5120 cpu=1"
}

@test "MP table in place of ACPI" {
    local cpus

    for cpus in 1 3 32; do
        passes mptable --discovery cmdline --cpus "$cpus" \
            --cmdline "cpu=$cpus"
    done
}

@test "RAM is zero, writable and everywhere its own" {
    local mem

    for mem in 2 7 128 3G 5G; do
        passes memory --mem "$mem"
    done
}

@test "local APIC timer: one shot, periodic, deadline" {
    passes timer
}

@test "multiprocessor start" {
    local cpus

    for cpus in 1 2 5 32; do
        passes smp --cpus "$cpus" --cmdline "cpu=$cpus"
    done
}

@test "all processors end the machine at once" {
    run bare exit_race --cpus 4 --cmdline cpu=4
    [ "$status" -lt 4 ]
    [ -z "$output" ]
    assert_nothing_left
}

@test "the clock shows the host's time" {
    local before after

    before=$(date -u '+%F %T')
    run -0 --separate-stderr bare rtc
    after=$(date -u '+%F %T')
    [[ ! $output < $before && ! $output > $after ]]
}

@test "ring 3: port I/O as the task state permits, calls into ring 0" {
    run -0 --separate-stderr bare user
    [ "$output" = "hello from ring 3" ]
}

@test "rep outsb: 4 KiB arrive as they were sent" {
    bare outsb > got
    python3 - > want << 'END'
import sys
sys.stdout.buffer.write(bytes((i ^ i >> 8) & 255 for i in range(4096)))
END
    cmp got want
}

@test "serial input by interrupt, echoed" {
    seq 1 800 > want
    mkfifo in
    exec 7<> in
    start run --console --timeout "$LIMIT" \
        --kernel "$SPORE_GUESTS/echo.elf" < in 7>&-
    read_line ready
    cat want >&7
    printf '\004' >&7
    exec 7>&-
    end_status
    [ "$status" -eq 0 ]
    cat <&8 | diff - want
    assert_nothing_left
}

@test "virtio window of a drive" {
    truncate -s 1M disk other
    passes virtio --disk disk
    passes virtio --disk disk,ro
    passes virtio --disk disk --disk other,ro --cpus 2
}
