#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# AFL++'s speed on the programs of build.sh: its fork server in front of main,
# deferred, its persistent mode, and on spore: -X (libnyx.so) and spore-afl.
#
#   bench/fuzz/compare.sh [-b BUILD] [-t FOLDER] [-p FOLDER] [-V SECONDS]
#       [-n REPEATS] [TARGET...]
#
# -b  build with spore, libnyx.so and spore-afl (build/release)
# -t  what build.sh made (build/fuzz-targets)
# -p  packed targets, made where they are missing (FOLDER of -t, /packed)
#
# A line of JSON for each run: target, mode, runs a second, edges, stability.

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$here/../../build/release
programs=$here/../../build/fuzz-targets
packed=
seconds=60
repeats=5

die() {
    printf 'compare.sh: %s\n' "$*" >&2
    exit 1
}

while getopts b:t:p:V:n: opt; do
    case $opt in
    b) build=$OPTARG ;;
    t) programs=$OPTARG ;;
    p) packed=$OPTARG ;;
    V) seconds=$OPTARG ;;
    n) repeats=$OPTARG ;;
    *) die "usage: compare.sh [-b BUILD] [-t FOLDER] [-p FOLDER] [-V SECONDS] [-n REPEATS] [TARGET...]" ;;
    esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || set -- empty zlib png xml2 sqlite tiff
build=$(cd "$build" && pwd)
programs=$(cd "$programs" && pwd)
mkdir -p "${packed:=$programs/packed}"
packed=$(cd "$packed" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

export AFL_SKIP_CPUFREQ=1 AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1 AFL_NO_UI=1
export AFL_PATH=$build SPORE=$build/spore

# measure TARGET MODE ARGUMENT...: one run of afl-fuzz.
measure() {
    local target=$1 mode=$2
    shift 2
    rm -rf "$work/out"
    if ! timeout $((seconds + 120)) afl-fuzz -i "$programs/$target.seeds" \
        -o "$work/out" -m none -V "$seconds" "$@" >"$work/log" 2>&1 ||
        [ ! -e "$work/out/default/fuzzer_stats" ]; then
        printf '%s: %s: ' "$target" "$mode" >&2
        tail -n 3 "$work/log" >&2
        return
    fi
    awk -v t="$target" -v m="$mode" -F ' *: *' '
        { v[$1] = $2 }
        END {
            printf "{\"target\": \"%s\", \"mode\": \"%s\", ", t, m
            printf "\"per_second\": %s, \"runs\": %s, \"edges\": %s, ",
                v["execs_per_sec"], v["execs_done"], v["edges_found"]
            printf "\"stability\": \"%s\", \"crashes\": %s}\n",
                v["stability"], v["saved_crashes"]
        }' "$work/out/default/fuzzer_stats"
}

for target in "$@"; do
    dir=$packed/$target
    [ -e "$dir" ] || "$build/spore" fuzz pack "$programs/$target.persistent" \
        -o "$dir" --memory 192 --seed "$programs/$target.seeds" >&2
done
for ((i = 0; i < repeats; i++)); do
    for target in "$@"; do
        measure "$target" fork -- "$programs/$target.fork"
        measure "$target" deferred -- "$programs/$target.deferred"
        measure "$target" persistent -- "$programs/$target.persistent"
        measure "$target" nyx -X -- "$packed/$target"
        measure "$target" spore-afl -- "$build/spore-afl" "$packed/$target"
    done
done
