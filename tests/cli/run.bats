#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# spore run from outside with bare guests: time-out, signals, output that
# nobody takes, the terminal, timings, help.

load helper

setup() {
    common_setup
    need_kvm
}

teardown() {
    kill_marked
}

start_bare() {
    start run --console --timeout "$LIMIT" \
        --kernel "$SPORE_GUESTS/$1.elf" "${@:2}" < /dev/null
}

on_terminal() {
    SPORE_TEST_MARK=$BATS_TEST_TMPDIR \
        python3 "$BATS_TEST_DIRNAME/terminal.py" "$@"
}

@test "--timeout: 124, and where the guest was" {
    run -124 --separate-stderr bare spin --timeout 0.3
    [ "$output" = spinning ]
    [ "${stderr_lines[0]}" = "spore: run: timed out after 0.3 s" ]
    [[ ${stderr_lines[1]} =~ "vCPU 0 was at rip 0x1000"[0-9a-f]{2}$ ]]
    run -124 --separate-stderr bare halt --timeout 0.3 --cpus 2
    [ "${#stderr_lines[@]}" -eq 3 ]
    assert_nothing_left
}

@test "--timeout does not matter to a guest that ends before" {
    run -42 bare exit42 --timeout 31536000
}

@test "SIGINT, SIGTERM, SIGHUP, SIGQUIT end a bare guest" {
    local name

    for name in INT TERM HUP QUIT; do
        start_bare spin
        read_line spinning
        kill -s "$name" "$pid"
        end_status
        [ "$status" -eq $((128 + $(kill -l "$name"))) ]
        [ ! -s err ]
        assert_nothing_left
    done
}

@test "a signal while no vCPU runs any instruction" {
    start_bare halt --cpus 4
    read_line halted
    kill -TERM "$pid"
    end_status
    [ "$status" -eq 143 ]
}

@test "a reader that goes away: the guest runs on to its end" {
    run -0 bash -c '"$0" run --console --timeout 60 --kernel "$1" \
        < /dev/null | head -c 1; exit "${PIPESTATUS[0]}"' \
        "$SPORE" "$SPORE_GUESTS/outsb.elf"
    run -42 bash -c '"$0" run --console --timeout 60 --kernel "$1" \
        < /dev/null >&-' "$SPORE" "$SPORE_GUESTS/exit42.elf"
}

@test "a reader that is slow gets everything" {
    bare outsb > want
    bare outsb | { sleep 0.5; cat; } > got
    cmp got want
    [ "$(wc -c < got)" -eq 4096 ]
}

@test "a full disk under the output neither hangs nor changes the status" {
    run -42 bash -c '"$0" run --console --timeout 60 --kernel "$1" \
        < /dev/null > /dev/full' "$SPORE" "$SPORE_GUESTS/exit42.elf"
    run -0 bash -c '"$0" run --console --timeout 60 --kernel "$1" \
        < /dev/null > /dev/full' "$SPORE" "$SPORE_GUESTS/hello.elf"
}

@test "output of our own that cannot be written is an error" {
    local command

    for command in version help "run --help"; do
        # shellcheck disable=SC2086
        run -125 --separate-stderr bash -c '"$0" "$@" > /dev/full' \
            "$SPORE" $command
        [ "$stderr" = "spore: standard output: No space left on device" ]
    done
}

@test "without standard descriptors nothing of ours gets their numbers" {
    local end=$((SECONDS + LIMIT)) fd monitor

    run -42 bash -c '"$0" run --console --timeout 60 --kernel "$1" \
        <&- >&- 2>&-' "$SPORE" "$SPORE_GUESTS/exit42.elf"
    SPORE_TEST_MARK=$BATS_TEST_TMPDIR "$SPORE" run --console \
        --kernel "$SPORE_GUESTS/spin.elf" <&- >&- 2>&- 3>&- &
    pid=$!
    # In a jail the monitor is the child of who was started.
    until monitor=$(pgrep -P "$pid" || echo "$pid") &&
        ls -l "/proc/$monitor/fd" | grep -q kvm-vcpu; do
        [ "$SECONDS" -lt "$end" ]
        # What is in a jail hides its descriptors from its own user.
        [ "$monitor" = "$pid" ] || [ "$(id -u)" -eq 0 ] || break
    done
    for fd in 0 1 2; do
        [ "$(readlink "/proc/$pid/fd/$fd")" = /dev/null ]
        [ "$monitor" != "$pid" ] && [ "$(id -u)" -ne 0 ] ||
            [ "$(readlink "/proc/$monitor/fd/$fd")" = /dev/null ]
    done
    kill "$pid"
    end_status
    [ "$status" -eq 143 ]
}

# Without an agent in them, these guests fail; what they wrote is there.
@test "--console=FILE, --console=stderr: the serial port's output" {
    local args=(--rootfs none --timeout 60
        --kernel "$SPORE_GUESTS/pvpanic.elf")

    run -125 --separate-stderr spore run "${args[@]}" --console=log \
        < /dev/null
    [ -z "$output" ]
    [ "$(cat log)" = "about to panic" ]
    [ "$(stat -c %a log)" = 600 ]
    run -125 --separate-stderr spore run "${args[@]}" --console=stderr \
        < /dev/null
    [ -z "$output" ]
    [ "${stderr_lines[0]}" = "about to panic" ]
    [ "${stderr_lines[1]}" = "spore: run: the guest's kernel panicked" ]
    [ "${#stderr_lines[@]}" -eq 2 ]
    run -125 --separate-stderr spore run "${args[@]}" < /dev/null
    [ -z "$output" ]
    [ "${stderr_lines[-1]}" = "about to panic" ]
}

@test "terminal: raw while the guest runs, restored at its end" {
    run -0 on_terminal expect=ready mode 'send=a\x03b\r\x04' -- \
        "$SPORE" run --console --kernel "$SPORE_GUESTS/echo.elf"
    [ "${lines[0]}" = "terminal: raw" ]
    # Ctrl-C and carriage return reach the guest as they are.
    [[ $output == *$'a\x03b\r'* ]]
    [[ $output == *"terminal: restored" ]]
}

@test "terminal: restored after Ctrl-], signals, time-out, faults" {
    local name

    run -130 on_terminal expect=spinning mode 'send=\x1d' -- \
        "$SPORE" run --console --kernel "$SPORE_GUESTS/spin.elf"
    [ "${lines[0]}" = "terminal: raw" ]
    [[ $output == *"terminal: restored" ]]
    for name in INT TERM HUP QUIT; do
        run on_terminal expect=spinning "signal=$name" -- \
            "$SPORE" run --console --kernel "$SPORE_GUESTS/spin.elf"
        [ "$status" -eq $((128 + $(kill -l "$name"))) ]
        [[ $output == *"terminal: restored" ]]
    done
    run -124 on_terminal -- "$SPORE" run --console --timeout 0.2 \
        --kernel "$SPORE_GUESTS/spin.elf"
    [[ $output == *"timed out after 0.2 s"$'\r\n'* ]]
    [[ $output == *"terminal: restored" ]]
    run -125 on_terminal -- "$SPORE" run --console \
        --kernel "$SPORE_GUESTS/triple_fault.elf"
    [[ $output == *"triple-faulted"*$'\r\n'* ]]
    [[ $output == *"terminal: restored" ]]
    run -42 on_terminal -- "$SPORE" run --console \
        --kernel "$SPORE_GUESTS/exit42.elf"
    [[ $output == *"terminal: restored" ]]
    run -125 on_terminal -- "$SPORE" run --console --kernel /nonexistent
    [[ $output == *"terminal: restored" ]]
}

@test "--timings: a table of what was reached" {
    run -0 --separate-stderr bare hello --timings
    [ "$output" = "hello from a bare guest" ]
    [[ ${stderr_lines[0]} =~ ^phase\ +at\ ms\ +took\ ms$ ]]
    [[ $stderr =~ "first guest instruction "\ +[0-9]+\.[0-9]{3} ]]
    [[ $stderr != *"agent ready"* ]]
    [[ ${stderr_lines[-1]} =~ ^exit\  ]]
}

@test "--timings=json: every phase, in order, null if not reached" {
    run -42 --separate-stderr bare exit42 --timings=json
    [ -z "$output" ]
    jq -e '
        .unit == "ns" and .main == 0 and .process_start <= 0
        and (keys | length) == 13
        and (.emulated_instructions | type == "object"
             and all(.[]; type == "number" and . > 0))
        and .agent_ready == null and .command == null
        and ([.main, .kvm_ready, .kernel_loaded, .first_guest_instruction,
              .exit] | . == sort and all(type == "number"))
    ' <<< "$stderr"
}

@test "--timings=svg: a picture with each phase that was reached" {
    local check='
import sys
import xml.etree.ElementTree as xml
root = xml.parse(sys.argv[1]).getroot()
assert root.tag == "{http://www.w3.org/2000/svg}svg", root.tag
print("\n".join(e.text for e in root.iter() if e.text))'

    run -42 --separate-stderr bare exit42 "--timings=svg:a <b> & c.svg"
    [ -z "$output$stderr" ]
    run -0 python3 -c "$check" "a <b> & c.svg"
    for phase in main "KVM ready" "kernel loaded" "first guest instruction" exit
    do
        [[ $output == *"$phase"* ]]
    done
    [[ $output != *"agent ready"* ]]
    run -42 --separate-stderr bare exit42 --timings=svg
    printf '%s\n' "$stderr" > err.svg
    python3 -c "$check" err.svg
    cannot "svg:FILE" bare exit42 --timings=svg:
    cannot "No such file or directory" bare exit42 --timings=svg:none/x.svg
}

@test "a configuration file, and options on top of it" {
    cat > c.json << END
{"boot-source": {"kernel_image_path": "$SPORE_GUESTS/entry.elf",
                 "boot_args": "mem=64 cpu=2"},
 "machine-config": {"vcpu_count": 2, "mem_size_mib": 64}}
END
    run -0 spore run --config c.json --console --timeout 60 < /dev/null
    run -0 spore run --console --timeout 60 --mem 32 --cpus 3 \
        --cmdline "mem=32 cpu=3" --config c.json < /dev/null
    # The guest sees that memory and command line differ.
    run -25 spore run --config c.json --console --timeout 60 --mem 32 \
        < /dev/null
}

@test "--help of every command; version" {
    local name

    run -0 --separate-stderr spore --help
    [ -z "$stderr" ]
    [[ ${lines[0]} == "usage: spore COMMAND"* ]]
    # shellcheck disable=SC2154
    for name in $(sed -n 's/^  \([a-z]*\) .*/\1/p' <<< "$output"); do
        run -0 --separate-stderr spore "$name" --help
        [ -n "$output" ]
        [ -z "$stderr" ]
    done
    run -0 --separate-stderr spore run --help
    [[ ${lines[0]} == "usage: spore run "* ]]
    # No line wider than a terminal.
    [ "$(wc -L <<< "$output")" -le 80 ]
    run -0 --separate-stderr spore version
    [[ $output =~ ^spore\ [0-9a-z.]+$ ]]
    want=$output
    run -0 spore --version
    [ "$output" = "$want" ]
}
