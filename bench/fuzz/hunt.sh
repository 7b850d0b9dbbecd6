#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# How soon bugs are found that were planted in programs (build.sh planted goat
# lava): by AFL++ forking, and on spore by -X (libnyx.so) and by spore-afl.
#
#   bench/fuzz/hunt.sh [-b BUILD] [-t FOLDER] [-p FOLDER] [-V SECONDS]
#       [-n REPEATS] [-m MODE]... [-d] [-x] [-l LENGTH] [-c CPU] [-k FOLDER]
#       [TARGET...]
#
# -b  build with spore, libnyx.so and spore-afl (build/release)
# -t  what build.sh made (build/fuzz-targets)
# -p  packed targets, made where they are missing (FOLDER of -t, /packed)
# -m  fork, deferred, persistent, nyx, spore-afl: not given, fork, nyx and
#     spore-afl in turn
# -d  with what the compiler saw compared as a dictionary
# -x  without CmpLog
# -l  the longest input that AFL++ makes, in bytes
# -c  the CPU to be bound to (AFL++ takes one that is free)
# -k  what afl-fuzz has made is kept there
#
# A line of JSON for each run: which bugs, and after how many seconds AFL++ saved
# the first input for each. What it saved is run again by the program without
# AFL++ (NAME.plain); what does no harm there is a false crash or hang. All but
# -X have CmpLog, which AFL++ (4.04c) does not do there: compares are split by the
# compiler in all programs.

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$here/common.sh"
repeats=1
modes=()
bind=()
has_cmplog=1
has_dict=
length=()
keep=

while getopts b:t:p:V:n:m:dxl:c:k: opt; do
    case $opt in
    b) build=$OPTARG ;;
    t) programs=$OPTARG ;;
    p) packed=$OPTARG ;;
    V) seconds=$OPTARG ;;
    n) repeats=$OPTARG ;;
    m) modes+=("$OPTARG") ;;
    d) has_dict=1 ;;
    x) has_cmplog= ;;
    l) length=(-G "$OPTARG") ;;
    c) bind=(--cpu "$OPTARG") ;;
    k) keep=$OPTARG ;;
    *) die "usage: hunt.sh [-b BUILD] [-t FOLDER] [-p FOLDER] [-V SECONDS] [-n REPEATS] [-m MODE]... [-d] [-x] [-l LENGTH] [-c CPU] [-k FOLDER] [TARGET...]" ;;
    esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || set -- planted goat lava
[ ${#modes[@]} -gt 0 ] || modes=(fork nyx spore-afl)
set_up

for target in "$@"; do
    [ -e "$programs/$target.plain" ] || die "build.sh $target makes it"
    pack "$target" ${has_cmplog:+cmplog}
done
for ((i = 0; i < repeats; i++)); do
    for target in "$@"; do
        for mode in "${modes[@]}"; do
            case $mode in
            nyx) compares=() ;;
            spore-afl) compares=(-c 0) ;;
            persistent) compares=(-c "$programs/$target.cmplog") ;;
            *) compares=(-c "$programs/$target.cmplog.fork") ;;
            esac
            [ -n "$has_cmplog" ] || compares=()
            [ -z "$has_dict" ] || compares+=(-x "$programs/$target.dict")
            measure "$work/run" "$target" "$mode" \
                --plain "$programs/$target.plain" "${bind[@]}" -- \
                "${compares[@]}" "${length[@]}"
            if [ -n "$keep" ] && [ -e "$work/run/out" ]; then
                mkdir -p "$keep"
                cp -rT "$work/run/out" "$keep/$target.$mode.$i"
            fi
        done
    done
done
