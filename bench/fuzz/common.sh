# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034,SC2154
#
# What compare.sh and hunt.sh have in common: where programs are, how AFL++ is
# given them. Sourced, with `here` set.

build=$here/../../build/release
programs=$here/../../build/fuzz-targets
packed=
seconds=60
repeats=5

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Once options have been read.
set_up() {
    build=$(cd "$build" && pwd) || die "there is no build"
    programs=$(cd "$programs" && pwd) || die "build.sh makes the programs"
    mkdir -p "${packed:=$programs/packed}"
    packed=$(cd "$packed" && pwd)
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    export AFL_SKIP_CPUFREQ=1 AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1
    export AFL_NO_UI=1 AFL_PATH=$build SPORE=$build/spore
}

# pack TARGET [CMPLOG]: for spore, unless that was done before; with a second
# argument its program for CmpLog, too. On a machine that is busy with other runs
# boots take their time.
pack() {
    local dir=$packed/$1
    local pack=("$build/spore" fuzz pack --memory 192
        --boot-timeout 600 --seed "$programs/$1.seeds")

    [ -e "$dir" ] || "${pack[@]}" "$programs/$1.persistent" -o "$dir" >&2
    [ $# -lt 2 ] || [ -e "$dir/cmplog" ] ||
        "${pack[@]}" "$programs/$1.cmplog" -o "$dir/cmplog" \
            --conf cmplog=1 >&2
}

# measure FOLDER TARGET MODE OPTION... [-- OPTION-OF-AFL-FUZZ...]: one run, which
# has FOLDER to itself. The first options are those of afl_run.py.
measure() {
    local folder=$1 target=$2 mode=$3
    local own=() more=() command=()
    shift 3
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        own+=("$1")
        shift
    done
    [ $# -eq 0 ] || more=("${@:2}")
    case $mode in
    nyx) command=(-X -- "$packed/$target") ;;
    spore-afl) command=(-- "$build/spore-afl" "$packed/$target") ;;
    fork | deferred | persistent) command=(-- "$programs/$target.$mode") ;;
    *) die "there is no mode $mode" ;;
    esac
    rm -rf "$folder"
    mkdir -p "$folder/tmp"
    # Files that a program leaves are its own, and gone with the run.
    TMPDIR=$folder/tmp python3 "$here/afl_run.py" --target "$target" \
        --mode "$mode" --seconds "$seconds" --folder "$folder" "${own[@]}" -- \
        -i "$programs/$target.seeds" -m none "${more[@]}" "${command[@]}"
}
