#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# spore beside QEMU's microvm machine, AFL++ and plain processes, the same work
# for all, in one run on one machine: about 30 minutes, or 4.
#
#   bench/compare.sh [--quick] [--only NAME,...] [--targets FOLDER]
#       [BUILD [OUTPUT-FOLDER]]
#
# BUILD (build/release) has spore and its bench programs (SPORE_TESTS=ON).
# OUTPUT-FOLDER (build/compare/DATE) gets compare.json with every sample,
# compare.md, and pictures. Names: start memory restore save stages crowd dirty
# log clones fuzz. Snapshots are put below $TMPDIR, or /var/tmp: let it be a
# disk. Peers that are not installed are left out, and the output says so.
# Targets for AFL++ are those that bench/fuzz/build.sh made (build/fuzz-targets);
# the empty one is made here.

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
targets=$root/build/fuzz-targets
options=()

die() {
  printf 'compare.sh: %s\n' "$*" >&2
  exit 1
}

usage() {
  sed -n '4,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
}

while [ $# -gt 0 ]; do
  case $1 in
  --quick) options+=(--quick) ;;
  --only)
    [ $# -gt 1 ] || usage
    options+=("$1" "$2")
    shift
    ;;
  --targets)
    [ $# -gt 1 ] || usage
    targets=$2
    shift
    ;;
  -*) usage ;;
  *) break ;;
  esac
  shift
done
[ $# -le 2 ] || usage
build=${1:-$root/build/release}
output=${2:-$root/build/compare/$(date -u +%Y-%m-%d-%H%M)}

command -v python3 >/dev/null || die "python3 is missing: apt-get install python3"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  die "python3 is older than 3.11, which Debian 12 has"
[ -w /dev/kvm ] || die "/dev/kvm cannot be opened: spore doctor says what to do"
for program in spore tests/guests/beacon.elf bench/bench_first_byte \
  bench/bench_restore bench/bench_reset bench/bench_fork bench/bench_save \
  bench/bench_dirty bench/bench_clone bench/bench_clones; do
  [ -e "$build/$program" ] || die "$build/$program is missing: \
cmake --preset release -DSPORE_TESTS=ON && cmake --build --preset release"
done

missing=()
command -v qemu-system-x86_64 >/dev/null || missing+=(qemu-system-x86)
command -v afl-fuzz >/dev/null || missing+=(afl++)
command -v gnuplot >/dev/null || missing+=(gnuplot-nox)
[ ${#missing[@]} -eq 0 ] ||
  printf 'compare.sh: left out, as packages are missing: apt-get install --no-install-recommends %s\n' \
    "${missing[*]}" >&2

if command -v afl-clang-fast >/dev/null &&
  [ ! -e "$targets/empty.persistent" ]; then
  "$here/fuzz/build.sh" -o "$targets" empty >/dev/null 2>&1 ||
    printf 'compare.sh: bench/fuzz/build.sh empty fails: no fuzzing\n' >&2
fi

exec python3 "$here/compare" --targets "$targets" "${options[@]}" \
  "$build" "$output"
