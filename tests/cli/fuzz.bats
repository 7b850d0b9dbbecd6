#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# spore fuzz: targets are made, looked after and fuzzed.

load helper

# A program that crashes for inputs with CRA at the beginning. Both builds of
# it are shared by all tests, and so is the target, which takes a boot.
setup_file() {
    cd "$BATS_FILE_TMPDIR" || return 1
    cat > prog.c << 'END'
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#ifdef __AFL_FUZZ_TESTCASE_LEN
__AFL_FUZZ_INIT();
#endif

static void eat(const unsigned char *data, int size)
{
    if (size > 3 && data[0] == 'C')
        if (data[1] == 'R')
            if (data[2] == 'A') {
                fprintf(stderr, "that was CRA\n");
                abort();
            }
}

int main(void)
{
#ifdef __AFL_FUZZ_TESTCASE_LEN
    unsigned char *data = __AFL_FUZZ_TESTCASE_BUF;
    while (__AFL_LOOP(1000))
        eat(data, __AFL_FUZZ_TESTCASE_LEN);
#else
    unsigned char data[64];
    eat(data, (int)read(0, data, sizeof(data)));
#endif
    return 0;
}
END
    gcc -o plain prog.c
    if command -v afl-clang-fast > /dev/null; then
        AFL_QUIET=1 afl-clang-fast -o prog prog.c > compiled 2>&1
    fi
    mkdir in
    echo hello > in/hello
}

setup() {
    common_setup
    files=$BATS_FILE_TMPDIR
}

teardown() {
    kill_marked
}

# The target with a root, made by the first test that needs it.
need_target() {
    need_kvm
    [ -x "$files/prog" ] || cannot_run "there is no afl-clang-fast (afl++)"
    [ -d "$files/target" ] && return 0
    # What did not come to its root once is not waited for again.
    [ ! -e "$files/tried" ]
    : > "$files/tried"
    run -0 spore fuzz pack "$files/prog" -o "$files/target" --seed "$files/in"
    [[ $output == *"target: input by memory, "*" bytes"* ]]
}

need_afl() {
    need_target
    command -v afl-fuzz > /dev/null || cannot_run "there is no afl-fuzz (afl++)"
    [ -r "$(dirname "$SPORE")/libnyx.so" ] ||
        cannot_run "libnyx.so is not beside $SPORE"
}

nothing_marked() {
    [ -z "$(marked_processes)" ]
}

# shellcheck disable=SC2154 # bats sets stderr
bad_usage() {
    local pattern=$1

    shift
    run -2 --separate-stderr spore fuzz "$@"
    [ -z "$output" ]
    [[ $stderr =~ $pattern ]]
}

@test "usage: what is not understood is named" {
    bad_usage 'usage: spore fuzz COMMAND'
    bad_usage "no command 'frob'" frob
    bad_usage 'the program is missing' pack
    bad_usage 'unknown option --frob' pack --frob
    bad_usage 'arguments go behind --: b' pack a b
    bad_usage "none of stdin, file, memory" pack a --input pipe
    bad_usage '--port' pack a --port 65536
    bad_usage '--env.*NAME=VALUE' pack a --env A
    bad_usage '--conf.*KEY=VALUE' pack a --conf arg=x
    bad_usage '-i IN and -o OUT' run target
    bad_usage 'options go behind --: x' run target x -i in -o out
    bad_usage 'neither nyx nor afl' run target -i in -o out --with x
    bad_usage 'one target is needed' check
    bad_usage 'a target and an input' repro target
    for command in pack run check repro; do
        run -0 spore fuzz "$command" --help
        [[ $output == "usage: spore fuzz $command"* ]]
    done
}

@test "pack: programs that cannot be, with the cure, leave nothing" {
    cannot '/nonexistent: No such file' spore fuzz pack /nonexistent -o out
    printf '#!/bin/sh\n' > script
    chmod +x script
    cannot 'a script: pack the program that it runs' \
        spore fuzz pack ./script -o out
    echo text > text
    cannot 'cannot be executed' spore fuzz pack ./text -o out
    chmod +x text
    cannot 'not an ELF file' spore fuzz pack ./text -o out
    gcc -static -o static "$files/prog.c"
    cannot 'a static program takes stdin or file only' \
        spore fuzz pack ./static -o out --input memory
    cannot 'AFL\+\+.s shared test cases' \
        spore fuzz pack "$files/plain" -o out --input memory
    cannot 'give the port' spore fuzz pack "$files/plain" -o out --input socket
    cannot 'needs an argument @@' \
        spore fuzz pack "$files/plain" -o out --input file
    cannot '@@ is for input "file"' \
        spore fuzz pack "$files/plain" -o out --input stdin -- @@
    cannot 'HOST:GUEST' spore fuzz pack "$files/plain" -o out --file x
    cannot 'must be an absolute path' \
        spore fuzz pack "$files/plain" -o out --file script:x
    cannot 'spore.s own' \
        spore fuzz pack "$files/plain" -o out --file script:/spore/fuzz.conf
    mkdir there
    cannot 'there: is there already' spore fuzz pack "$files/plain" -o there
    cannot 'nowhere/out: No such file' \
        spore fuzz pack "$files/plain" -o nowhere/out
    [ "$(ls -A)" = "$(printf '%s\n' script static text there)" ]
}

@test "pack: without a boot the directory is all there, and the same again" {
    echo data > data
    run -0 --separate-stderr spore fuzz pack "$files/plain" -o one --no-boot \
        --file data:/srv/data --env A=b --memory 64M -- -v @@
    [[ $output == "one: input by file, "*", no snapshot yet" ]]
    [[ $stderr == *"warning: the program has no coverage map"* ]]
    [ "$(ls -A)" = "$(printf '%s\n' data one)" ]
    [ "$(cd one && echo -- *)" = \
        "-- config.ron files.json root.img target.json" ]
    [ "$(jq -c '[.version, .argv[1:], .env, .input, .mem_size_mib, .asan]' \
        one/target.json)" = '[1,["-v","@@"],["A=b"],"file",64,false]' ]
    grep -q 'mem_limit: 64' one/config.ron
    run -0 --separate-stderr debugfs -R 'cat /srv/data' one/root.img
    [ "$output" = data ]
    run -0 --separate-stderr debugfs -R 'cat /spore/preload.so' one/root.img
    [ -n "$output" ]
    run -0 --separate-stderr spore fuzz pack "$files/plain" -o two --no-boot \
        --file data:/srv/data --env A=b --memory 64M -- -v @@
    cmp one/root.img two/root.img
    cmp one/target.json two/target.json
}

@test "pack: what is in its way ends it without a trace" {
    need_kvm
    [ -x "$files/prog" ] || cannot_run "there is no afl-clang-fast (afl++)"
    # It may be done by then where guest kernels are not interpreted.
    start fuzz pack "$files/prog" -o made
    await compgen -G 'made*' > found
    # shellcheck disable=SC2154
    kill -TERM "$pid"
    end_status
    [ "$status" -eq 143 ] || [ "$status" -eq 0 ]
    [ "$status" -eq 0 ] || ! compgen -G 'made*'
    nobody_left
    cannot 'does not come to its root|has not come to its root' \
        spore fuzz pack "$files/prog" -o late --boot-timeout 1
    [ ! -e late ]
}

@test "check: says what a target is like" {
    need_target
    run -0 --separate-stderr spore fuzz check "$files/target" -n 50 \
        --seed "$files/in" --json
    # What only costs may be due to what else this machine does.
    [ "$(jq -c '[.runs, .map_differs, .bad_ends,
        ([.findings[] | select(.kind == "wrong")] | length)]' \
        <<< "$output")" = '[50,0,0,0]' ]
    [ "$(jq '.map_size > 0 and .map_edges > 0' <<< "$output")" = true ]
    printf CRASH > bad
    run -1 --separate-stderr spore fuzz check "$files/target" -n 2 --seed bad
    [[ $output == *"wrong: bad ends as crash"* ]]
    cannot 'neither target.json nor config.ron' spore fuzz check .
}

@test "repro: verdict, signal and text" {
    need_target
    printf CRASH > bad
    run -0 spore fuzz repro "$files/target" "$files/in"
    [[ $output == "$files/in/hello: ok, "*" us" ]]
    run -1 --separate-stderr spore fuzz repro "$files/target" bad "$files/in"
    [[ $output == "bad: crash, signal 6 (SIGABRT)"*"/hello: ok, "* ]]
    run -1 --separate-stderr spore fuzz repro --json "$files/target" bad
    [ "$(jq -c '[.input, .verdict, .signal]' <<< "$output")" = \
        '["bad","crash",6]' ]
    cannot 'none: No such file' spore fuzz repro "$files/target" none
}

@test "run: afl-fuzz runs it, with libnyx.so and with spore-afl" {
    local way

    need_afl
    mkdir empty
    for way in nyx afl; do
        run --separate-stderr spore fuzz run "$files/target" -i empty \
            -o "$way" -V 8 --with "$way" --json
        # Of two CPUs both may be those of others.
        [[ $stderr != *"finds no CPU"* ]] || skip "no CPU is free"
        [ "$status" -eq 0 ]
        [[ $stderr == *"empty is empty"* ]]
        [ "$(tail -n 1 <<< "$output" | jq '.execs > 10')" = true ]
        [ -e "$way/default/fuzzer_stats" ]
        [ -z "$(marked_processes)" ]
    done
    [ "$(echo -- *)" = "-- afl empty nyx" ]
}

@test "run: a fuzzer that cannot says why, and nothing is left" {
    need_afl
    cannot 'No such file' spore fuzz run "$files/target" -i none -o out
    cannot 'neither target.json' spore fuzz run . -i "$files/in" -o out
    run -125 --separate-stderr spore fuzz run "$files/target" -i "$files/in" \
        -o out --with afl -- -x /nonexistent
    [[ $stderr == *"afl-fuzz 0 failed: "*"out/.spore/0.log"* ]]
    [ -z "$(marked_processes)" ]
}

@test "run: ends with a signal, and with SIGKILL, and takes all with it" {
    need_afl
    start fuzz run "$files/target" -i "$files/in" -o ended -V 100 \
        --with afl
    await test -e ended/default/plot_data
    # shellcheck disable=SC2154
    kill -TERM "$pid"
    end_status
    [ "$status" -eq 0 ]
    [ -z "$(marked_processes)" ]
    start fuzz run "$files/target" -i "$files/in" -o kept -V 100 \
        --with afl
    await test -e kept/default/plot_data
    kill -KILL "$pid"
    end_status
    await nothing_marked
}
