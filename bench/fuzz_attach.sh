#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What attaching to AFL++ costs: afl-fuzz over an executor that does nothing
# (tests/fuzz_standin), by libnyx.so and by spore-afl, each with its worker in
# the jail and with none. Prints a table of test cases a second.
#
#     bench/fuzz_attach.sh [BUILD [SECONDS]]

set -euo pipefail

standin=$(realpath "${1:-build/release}")/tests/fuzz_standin
seconds=${2:-10}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

export AFL_NO_UI=1 AFL_SKIP_CPUFREQ=1 AFL_ALLOW_TMP=1
export AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1 AFL_PATH=$standin

cd "$dir"
mkdir target in
printf AAAA > in/seed
echo '()' > target/config.ron
echo '{"version": 1, "argv": ["/bin/x"], "env": [], "input": "stdin",
 "mem_size_mib": 128, "boot_timeout_ms": 60000, "boot_args": "", "asan": false}' \
    > target/target.json

# measure JAIL MAP OPTION... -- COMMAND...
measure() {
    local jail=$1 map=$2

    shift 2
    echo "$map" > target/map-size
    rm -rf out
    SPORE_JAIL=$jail timeout $((seconds + 60)) afl-fuzz -V "$seconds" -i in \
        -o out "$@" > log 2>&1 || { tail -n 5 log >&2; return 1; }
    sed -n 's/^execs_per_sec *: //p' out/default/fuzzer_stats
}

printf '%-12s %-8s %10s %10s\n' attachment jail '1000 B' '64 KiB'
for jail in default off; do
    printf '%-12s %-8s %10s %10s\n' libnyx.so $jail \
        "$(measure $jail 1000 -X -- ./target)" \
        "$(measure $jail 65536 -X -- ./target)"
    printf '%-12s %-8s %10s %10s\n' spore-afl $jail \
        "$(measure $jail 1000 -- "$standin/spore-afl" ./target)" \
        "$(measure $jail 65536 -- "$standin/spore-afl" ./target)"
done
