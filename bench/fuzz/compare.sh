#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# AFL++'s speed on the programs of build.sh: its fork server in front of main,
# deferred, its persistent mode, and on spore: -X (libnyx.so) and spore-afl.
#
#   bench/fuzz/compare.sh [-b BUILD] [-t FOLDER] [-p FOLDER] [-V SECONDS]
#       [-n REPEATS] [-j LANES] [TARGET...]
#
# -b  build with spore, libnyx.so and spore-afl (build/release)
# -t  what build.sh made (build/fuzz-targets)
# -p  packed targets, made where they are missing (FOLDER of -t, /packed)
# -j  so many targets at once, each bound to a CPU of its own, on which all
#     modes take turns (one at a time, on a CPU that AFL++ finds free)
#
# A line of JSON for each run, which afl_run.py describes: target, mode, runs a
# second, edges, stability, memory; on spore the pages put back as well.
# compare_table.py makes a table of them.

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$here/common.sh"
lanes=0

while getopts b:t:p:V:n:j: opt; do
    case $opt in
    b) build=$OPTARG ;;
    t) programs=$OPTARG ;;
    p) packed=$OPTARG ;;
    V) seconds=$OPTARG ;;
    n) repeats=$OPTARG ;;
    j) lanes=$OPTARG ;;
    *) die "usage: compare.sh [-b BUILD] [-t FOLDER] [-p FOLDER] [-V SECONDS] [-n REPEATS] [-j LANES] [TARGET...]" ;;
    esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || set -- empty zlib png xml2 sqlite tiff
mapfile -t cpus < <(python3 -c \
    'import os; print(*sorted(os.sched_getaffinity(0)), sep="\n")')
[[ $lanes =~ ^[0-9]+$ && $lanes -le ${#cpus[@]} ]] ||
    die "-j: there are ${#cpus[@]} CPUs"
set_up

# lane NUMBER OPTION... -- TARGET...: a round of each mode of each target.
lane() {
    local number=$1 own=() more target mode
    shift
    while [ "$1" != -- ]; do
        own+=("$1")
        shift
    done
    shift
    for target in "$@"; do
        for mode in fork deferred persistent nyx spore-afl; do
            more=()
            case $mode in
            nyx | spore-afl) more=(--check "$build/spore" "$packed/$target") ;;
            esac
            measure "$work/$number" "$target" "$mode" "${own[@]}" "${more[@]}"
        done
    done
}

for target in "$@"; do
    pack "$target"
done
for ((i = 0; i < repeats; i++)); do
    if [ "$lanes" -eq 0 ]; then
        lane 0 -- "$@"
        continue
    fi
    children=()
    for ((n = 0; n < lanes; n++)); do
        mine=()
        for ((k = n + 1; k <= $#; k += lanes)); do
            mine+=("${!k}")
        done
        [ ${#mine[@]} -gt 0 ] || continue
        lane "$n" --cpu "${cpus[n]}" -- "${mine[@]}" &
        children+=($!)
    done
    for child in "${children[@]}"; do
        wait "$child"
    done
done
