#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The kernel as a target: a driver with planted bugs, coverage by KCOV. Needs a
# kernel of its own, which nobody has to build for the other tests:
# guest/kernel/build_kcov.sh, or ./test.sh --kcov.

load helper

RECIPE=$BATS_TEST_DIRNAME/../../guest/kernel/build_kcov.sh

# The target, which takes a boot, is shared by all tests.
setup_file() {
    local hash

    hash=$("$RECIPE" --print-hash) || return 0
    export KCOV_KERNEL=${XDG_CACHE_HOME:-$HOME/.cache}/spore/kernel-$hash/vmlinux
}

setup() {
    common_setup
    files=$BATS_FILE_TMPDIR
}

teardown() {
    kill_marked
}

need_target() {
    need_kvm
    [ -f "${KCOV_KERNEL:-/nonexistent}" ] ||
        skip "no kernel with KCOV: guest/kernel/build_kcov.sh makes one, in minutes"
    [ -d "$files/target" ] && return 0
    run -0 spore fuzz pack --kernel-device /dev/spore-demo \
        --kernel "$KCOV_KERNEL" --memory 64M -o "$files/target"
    [[ $output == *"input to /dev/spore-demo, coverage by KCOV, map of 65536 bytes"* ]]
}

# A record of the driver's: its kind, then its bytes as printf has them.
record() {
    local bytes=$2
    printf "$1\\x$(printf %02x "$(printf "$bytes" | wc -c)")$bytes"
}

@test "a kernel target needs a kernel with KCOV, and a device" {
    run -125 spore fuzz pack --kernel-device /dev/spore-demo -o t
    [[ $output == *"CONFIG_KCOV"* ]]
    [ ! -e t ]
    run -125 spore fuzz pack --kernel-device spore-demo --kernel /dev/null -o t
    [[ $output == *"/dev/..."* ]]
    run -2 spore fuzz pack /bin/true --kernel-device /dev/spore-demo -o t
    [[ $output == *"no program"* ]]
}

@test "writes to a driver are runs, alike every time" {
    need_target
    { printf SPOR; record M '\1'; record F '\1'; } > good
    run -0 spore fuzz check "$files/target" --seed good -n 100
    [[ $output == *"map in 99 of 99 runs"* ]]
    [[ $output != *"crash"* ]]
}

@test "an oops is a crash, with the console's last lines as its text" {
    need_target
    { printf SPOR; record W '\0\0\1\0'; record F '\1'; } > null
    { printf SPOR; record M '\1'; record W '\xf8\x0f\xff\0'
        record D '0123456789'; } > beyond
    run spore fuzz repro "$files/target" null
    [[ $output == *"NULL pointer dereference"* ]]
    [[ $output == *"demo_"* ]]
    run spore fuzz repro "$files/target" beyond
    [[ $output == *"unable to handle page fault"* ]]
    [[ $output == *"demo_"* ]]
}

@test "afl-fuzz -X finds a bug from an input that has none" {
    need_target
    [ -f "$(dirname "$SPORE")/libnyx.so" ] || cannot_run "there is no libnyx.so"
    command -v afl-fuzz > /dev/null || cannot_run "there is no afl-fuzz (afl++)"
    mkdir in
    { printf SPOR; record M '\1'; record W '\0\0\20\0'; record F '\1'; } > in/seed
    printf '%s\n' 's="S\x01\x01"' 'x="X\x01\x01"' 'm="M\x01\x01"' \
        'f="F\x01\x01"' 'w="W\x04\xf8\x0f\xff\x00"' > dictionary
    AFL_PATH=$(dirname "$SPORE") AFL_BENCH_UNTIL_CRASH=1 AFL_NO_UI=1 \
        AFL_SKIP_CPUFREQ=1 AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1 \
        run timeout 800 afl-fuzz -X -t 20000 -V 700 -x dictionary -i in -o out -- "$files/target"
    ls out/default/crashes
    [ -n "$(find out -path '*/crashes/id*' | head -n 1)" ]
}
