#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# AFL++ as it is packaged, over an executor that stands in for guests
# (tests/fuzz_standin/standin.h says what it does with which input).

# shellcheck disable=SC2030,SC2031 # each test is a process of its own
# shellcheck disable=SC2154 # bats sets stderr

load helper

setup() {
    common_setup
    : "${SPORE_STANDIN:?}"
    command -v afl-fuzz > /dev/null || cannot_run "afl-fuzz is not installed"
    export AFL_NO_UI=1 AFL_SKIP_CPUFREQ=1 AFL_ALLOW_TMP=1 NO_COLOR=1
    export AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1
    export AFL_PATH=$SPORE_STANDIN
    afl=$SPORE_STANDIN/spore-afl
    mkdir target in
    echo '()' > target/config.ron
    cat > target/target.json <<'E2'
{"version": 1, "argv": ["/bin/x"], "env": [], "input": "stdin",
 "mem_size_mib": 128, "boot_timeout_ms": 60000, "boot_args": "", "asan": false}
E2
    printf FUZA > in/seed # a byte away
}

teardown() {
    kill_marked
}

marked() {
    SPORE_TEST_MARK=$BATS_TEST_TMPDIR timeout "$LIMIT" "$@"
}

# A library with a sanitizer's code needs a program that has its runtime.
need_nyx() {
    if grep -qa __asan_init "$SPORE_STANDIN/libnyx.so" ||
        grep -qa __tsan_init "$SPORE_STANDIN/libnyx.so"; then
        skip "a sanitizer's library cannot be loaded by afl-fuzz"
    fi
}

# patient LOG OPTION...: afl-fuzz, which with -X and -Y insists on a processor
# of its own, again until nobody else has it.
patient() {
    local log=$1 status

    shift
    for _ in $(seq 200); do
        status=0
        marked afl-fuzz "$@" > "$log" 2>&1 3>&- || status=$?
        grep -q "No more free CPU cores" "$log" || return $status
        timeout 0.3 tail -f /dev/null || true
    done
    return 1
}

# until_crash OPTION... -- COMMAND...
until_crash() {
    local status=0

    AFL_BENCH_UNTIL_CRASH=1 patient log -i in -o out "$@" || status=$?
    cat log
    return $status
}

crash_in() {
    grep -lx FUZZ "$1"/crashes/id* > /dev/null ||
        grep -l ^FUZZ "$1"/crashes/id*
}

# below PID: the processes that it and its children have started.
below() {
    local child

    for child in $(pgrep -P "$1"); do
        echo "$child"
        below "$child"
    done
}

# until_busy PID: until one of ours computes, which is what a hang does. By
# parents, not marks: an ordinary user does not see a jailed one's environment.
until_busy() {
    local child ticks

    while kill -0 "$1"; do
        for child in $(below "$1"); do
            ticks=$(cut -d' ' -f14 "/proc/$child/stat" 2> /dev/null) ||
                continue
            [ "$ticks" -lt 30 ] || return 0
        done
    done
    return 1
}

# ---- libnyx.so ---------------------------------------------------------------

@test "afl-fuzz -X finds the crash, and keeps what was said of it" {
    need_nyx
    run -0 until_crash -X -- ./target
    [[ $output == *"Target map size: 1000"* ]]
    [[ $output == *"no root yet"*"its root is saved"* ]]
    crash_in out/default
    grep -q "stand-in: crash at 0x401234" out/default/crashes/id*.log
    [ "$(cat target/snapshots/root)" = saved ]
    nobody_left
}

@test "afl-fuzz -X, in its own process" {
    need_nyx
    SPORE_JAIL=off run -0 until_crash -X -- ./target
    crash_in out/default
}

@test "afl-fuzz -Y: a parent and a child make one root" {
    need_nyx
    export AFL_BENCH_UNTIL_CRASH=1
    patient parent -Y -M 0 -i in -o out -- ./target &
    patient child -Y -S 1 -i in -o out -- ./target &
    wait -n || tail -n 5 parent child
    wait -n || tail -n 5 parent child
    crash_in out/0
    crash_in out/1
    [ "$(cat target/snapshots/root)" = saved ]
    nobody_left
}

@test "afl-fuzz -X trims what is not needed, and no more" {
    need_nyx
    printf 'L:%0200d\n%0200d\n' 7 7 > in/seed # its ways are its lines
    run -0 patient log -X -V 1 -i in -o out -- ./target
    [ "$(wc -l < out/default/queue/id:000000*)" -eq 2 ]
    [ "$(wc -c < out/default/queue/id:000000*)" -lt 100 ]
    # Where it cannot be told what is tried.
    rm -r out
    AFL_TMPDIR=$PWD/in run -0 patient log -X -V 1 -e x -i in -o out \
        -- ./target
    [ "$(wc -c < out/default/queue/id:000000*)" -eq 404 ]
}

@test "afl-fuzz -X takes the target's dictionary" {
    need_nyx
    mkdir target/dump
    printf '\4FUZZ\3abc' > target/dump/afl_autodict.txt
    run -0 until_crash -X -- ./target
    [[ $output == *"Loaded 2 autodictionary entries"* ]]
}

@test "afl-fuzz -X: a target without a map is fuzzed blindly" {
    need_nyx
    echo 0 > target/map-size
    run -0 patient log -X -V 1 -i in -o out -- ./target
    grep -q "fuzzed blindly" log
}

@test "afl-fuzz -X says what ends it" {
    need_nyx
    : > target/never-boots
    run ! until_crash -X -- ./target
    [[ $output == *"spore: libnyx: ./target: the stand-in does not boot"* ]]
    rm target/never-boots
    printf jailfree > in/seed
    run ! until_crash -X -- ./target
    [[ $output == *"the jail does not allow"* ]]
    printf abortion > in/seed
    rm -r out
    run ! until_crash -X -- ./target
    [[ $output == *"gave up: stand-in: cannot go on"* ]]
    echo '{}' > target/target.json
    run ! until_crash -X -- ./target
    [[ $output == *"spore: libnyx: ./target: "*version* ]]
    nobody_left
}

@test "nothing is left of -X when afl-fuzz is killed in a run" {
    need_nyx
    printf HANG > in/seed
    SPORE_TEST_MARK=$BATS_TEST_TMPDIR afl-fuzz -X -t 100000 -i in -o out \
        -- ./target > log 2>&1 3>&- &
    until_busy $!
    kill -KILL $!
    wait $! || true
    nobody_left
}

# ---- spore-afl ---------------------------------------------------------------

@test "afl-fuzz finds the crash" {
    run -0 until_crash -b 0 -- "$afl" ./target
    [[ $output == *"Target map size: 1000"* ]]
    [[ $output == *"Using SHARED MEMORY FUZZING"* ]]
    crash_in out/default
    [ "$(cat target/snapshots/root)" = saved ]
    nobody_left
}

@test "afl-fuzz, in the process that it starts" {
    run -0 until_crash -b 0 -- "$afl" --jail=off ./target @@
    crash_in out/default
    nobody_left
}

@test "afl-fuzz -c 0 finds the crash by what was compared" {
    : > target/cmp
    run -0 until_crash -b 0 -c 0 -- "$afl" ./target
    [[ $output == *"Cmplog forkserver successfully started"* ]]
    crash_in out/default
}

@test "afl-fuzz takes the target's dictionary" {
    mkdir target/dump
    printf '\4FUZZ\3abc' > target/dump/afl_autodict.txt
    run -0 until_crash -b 0 -- "$afl" ./target
    [[ $output == *"Loaded 2 autodictionary entries"* ]]
    rm -r out
    AFL_NO_AUTODICT=1 run -0 until_crash -b 0 -- "$afl" ./target
    [[ $output != *"Loaded 2"* ]]
}

@test "afl-fuzz with maps of other sizes, and with none" {
    echo 300001 > target/map-size
    run -0 until_crash -b 0 -- "$afl" ./target
    [[ $output == *"Target map size: 300001"* ]]
    echo 0 > target/map-size
    rm -r out
    run -0 marked afl-fuzz -b 0 -V 1 -i in -o out -- "$afl" ./target
}

@test "nothing is left of spore-afl when afl-fuzz is killed in a run" {
    printf HANG > in/seed
    SPORE_TEST_MARK=$BATS_TEST_TMPDIR afl-fuzz -b 0 -t 100000 -i in -o out \
        -- "$afl" ./target > log 2>&1 3>&- &
    until_busy $!
    kill -KILL $!
    wait $! || true
    nobody_left
}

@test "afl-showmap: one input, a crash, a folder of them" {
    run -0 marked afl-showmap -o map -- "$afl" ./target < in/seed
    printf FUZZ > crash
    run -2 marked afl-showmap -o map -- "$afl" ./target crash
    [ "$(cut -d: -f1 map)" = $'000010\n000011\n000012\n000013' ]
    printf FU > in/two
    run -0 marked afl-showmap -i in -o maps -- "$afl" ./target
    [ "$(cut -d: -f1 maps/two)" = $'000010\n000011' ]
    nobody_left
}

@test "afl-tmin, of a crash and of what takes too long" {
    printf 'FUZZ and what is behind it' > big
    run -0 marked afl-tmin -i big -o small -- "$afl" ./target
    [ "$(cat small)" = FUZZ ]
    run -0 marked afl-tmin -i big -o small -- "$afl" ./target @@
    [ "$(cat small)" = FUZZ ]
    printf 'HANG and on' > big
    run -0 marked afl-tmin -H -t 100 -i big -o small -- "$afl" ./target
    [ "$(cat small)" = HANG ]
    nobody_left
}

@test "afl-cmin keeps one input for each way" {
    local word

    for word in F FU FUZ H HA xx yy; do
        printf %s "$word" > "in/$word"
    done
    run -0 marked afl-cmin -i in -o few -- "$afl" ./target
    [ "$(ls few)" = $'FUZ\nHA' ]
}

@test "afl-analyze sees the magic word" {
    printf FUZ > word
    run -0 marked afl-analyze -i word -- "$afl" ./target
    [[ $output == *"Interesting bits: 100.00%"* ]]
}

@test "spore-afl by hand says what came of it" {
    run -0 --separate-stderr marked "$afl" ./target in/seed
    [[ $output == "ok, "* ]]
    printf FUZZ > crash
    run -1 --separate-stderr marked "$afl" ./target crash
    [[ $output == "crash signal 11 at 0x401234, "* ]]
    [ "$stderr" = "stand-in: crash at 0x401234" ]
    printf HANG > hang
    run -1 --separate-stderr marked "$afl" --timeout 20 ./target < hang
    [[ $output == "hang, "* ]]
}

@test "spore-afl: command lines and targets that are wrong" {
    run -2 marked "$afl"
    [[ $output == *"it takes a target's DIR"* ]]
    run -2 marked "$afl" --afl-proto=older ./target
    [[ $output == *"--afl-proto older: it must be old or new"* ]]
    run -2 marked "$afl" --jail=maybe ./target
    run -2 marked "$afl" --timeout 0 ./target
    run -125 marked "$afl" ./nothing
    [ "$output" = "spore-afl: ./nothing: No such file or directory" ]
    run -125 marked "$afl" ./target nothing
    [[ $output == *"nothing: No such file or directory"* ]]
    __AFL_SHM_ID=x run -125 marked "$afl" ./target in/seed
    [[ $output == *"__AFL_SHM_ID: 'x' is no shared memory"* ]]
    run -0 marked "$afl" --help
    [[ $output == *--afl-proto* ]]
    run -0 marked "$afl" --version
}
