#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A fuzzing campaign over the harnesses of devices: most inputs with the fast
# build, a share of them with the address sanitizer, and then a table of
# inputs, coverage and crashes. What it finds is kept between calls, so that
# a campaign can go on another day.
#
#   tests/fuzz/campaign.sh                    10 million inputs of each device
#   tests/fuzz/campaign.sh -n 1000 rng queue  a few, of these
#   tests/fuzz/campaign.sh -n 0               only the table
#
#   -n INPUTS    for each harness, with those of earlier campaigns (10000000)
#   -s SECONDS   for each harness instead, as many inputs as that gives
#   -a PERCENT   of the inputs are run again with the address sanitizer (2)
#   -j JOBS      harnesses at a time (1)
#   -l BYTES     the longest input (256)
#   -o FOLDER    where everything is kept (build/campaign)
#   -k           keep: minimise the corpora into tests/fuzz/corpus
#   -u           the unit tests count for the coverage too
#   -b           use the binaries that are there, build nothing

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=cmake/setup.sh
. cmake/setup.sh

ALL=(queue virtio_mmio blk blk_overlay net net_stream rng vconsole balloon
  vsock pmem netswitch mmds)

# What a harness is there to reach; device code that all share is the
# transport's.
declare -A SOURCES=(
  [queue]="virtio/queue.c"
  [virtio_mmio]="virtio/mmio.c virtio/device.c"
  [blk]="virtio/blk.c virtio/iov.c"
  [blk_overlay]="virtio/blk_overlay.c virtio/blk_overlay_clusters.c
    virtio/blk_overlay_flush.c virtio/blk_overlay_format.c"
  [net]="virtio/net.c virtio/net_rx.c virtio/queue_group.c"
  [net_stream]="virtio/net_stream.c"
  [rng]="virtio/rng.c"
  [vconsole]="virtio/vconsole.c"
  [balloon]="virtio/balloon.c"
  [vsock]="virtio/vsock.c virtio/vsock_conn.c virtio/vsock_table.c
    virtio/vsock_uds.c"
  [pmem]="virtio/pmem.c"
  [mmds]="vmm/mmds_tcp.c vmm/mmds_http.c"
  [netswitch]="vmm/netswitch.c vmm/netswitch_macs.c"
)

# Inputs that one process of libFuzzer tries.
SLICE=1000000

inputs=10000000
seconds=0
asan_percent=2
jobs=1
length=256
out=build/campaign
keep=0
units=0
compile=1
while getopts n:s:a:j:l:o:kub option; do
  case $option in
  n) inputs=$OPTARG ;;
  s) seconds=$OPTARG ;;
  a) asan_percent=$OPTARG ;;
  j) jobs=$OPTARG ;;
  l) length=$OPTARG ;;
  o) out=$OPTARG ;;
  k) keep=1 ;;
  u) units=1 ;;
  b) compile=0 ;;
  *) die "see the head of tests/fuzz/campaign.sh for its arguments" ;;
  esac
done
shift $((OPTIND - 1))
names=("$@")
[ ${#names[@]} -gt 0 ] || names=("${ALL[@]}")
for name in "${names[@]}"; do
  [ -f "tests/fuzz/fuzz_$name.c" ] || die "there is no harness fuzz_$name"
done

need_packages "${BUILD_PACKAGES[@]}" "${TEST_PACKAGES[@]}" llvm
renice -n 19 -p $$ >/dev/null
mkdir -p "$out/log" "$out/corpus" "$out/crashes" "$out/profiles"

# compile PRESET TARGET...
compile() {
  local preset=$1
  shift
  step "setting up $preset" cmake --preset "$preset" || return
  step "building $preset" \
    cmake --build --preset "$preset" -j "$JOBS" --target "$@"
}

# play BUILD NAME LIMIT...: one process of libFuzzer; adds a line to the
# harness's account: build, inputs, seconds.
play() {
  local build=$1 name=$2 log corpus=$out/corpus/$2 start=$SECONDS count failed=0
  shift 2
  log=$out/log/$name.$build
  mkdir -p "$corpus"
  "build/$build/tests/fuzz_$name" -max_len="$length" -entropic=0 -reload=0 -timeout=20 \
    -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="$out/crashes/$name-" "$@" \
    "$corpus" "tests/fuzz/corpus/$name" >"$log" 2>&1 || {
    failed=1
    printf '%s: stopped, see %s\n' "$name" "$log"
  }
  count=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  printf '%s %d %d\n' "$build" "${count:-0}" $((SECONDS - start)) \
    >>"$out/log/$name.account"
  return $failed
}

# tried BUILD NAME: inputs in the account.
tried() {
  awk -v build="$1" '$1 == build { n += $2 } END { printf "%d", n }' \
    "$out/log/$2.account" 2>/dev/null || printf 0
}

# play_up_to BUILD NAME INPUTS: in slices, so that a campaign that is stopped
# loses no more than one from its account. Over at the first crash.
play_up_to() {
  local build=$1 name=$2 wanted=$3 left
  while left=$((wanted - $(tried "$build" "$name"))) && [ $left -gt 0 ]; do
    # The corpus is replayed before anything else, and counts.
    left=$((left + $(find "$out/corpus/$name" -type f | wc -l)))
    play "$build" "$name" -runs=$((left < SLICE ? left : SLICE)) || return 0
  done
}

campaign() {
  local name=$1
  if [ "$seconds" -gt 0 ]; then
    play fuzz-fast "$name" -max_total_time="$seconds" || return 0
    [ "$asan_percent" -eq 0 ] || play fuzz "$name" \
      -max_total_time=$((seconds * asan_percent / 100 + 1)) || return 0
    return
  fi
  play_up_to fuzz-fast "$name" "$inputs"
  play_up_to fuzz "$name" $((inputs * asan_percent / 100))
}

# minimise NAME: few small files that reach as many lines of code.
minimise() {
  local name=$1 least
  least=$(mktemp -d "$out/least.XXXXXX")
  "build/fuzz-fast/tests/fuzz_$name" -merge=1 -use_counters=0 -timeout=20 \
    -max_len="$length" "$least" "$out/corpus/$name" "tests/fuzz/corpus/$name" \
    >"$out/log/$name.merge" 2>&1 || {
    rm -rf "$least"
    printf '%s: not minimised, see %s\n' "$name" "$out/log/$name.merge"
    return
  }
  rm -rf "tests/fuzz/corpus/$name"
  mkdir "tests/fuzz/corpus/$name"
  cp "$least"/* "tests/fuzz/corpus/$name"
  rm -rf "$least"
}

# covered NAME: per cent of the lines of its sources, and what is missing in a
# file of its own.
covered() {
  local name=$1 replay=build/coverage/tests/replay_$1 sources=() objects=() unit
  local profiles=("$out/profiles/$1.raw")
  local folders=("tests/fuzz/corpus/$name")
  [ -d "$out/corpus/$name" ] && folders+=("$out/corpus/$name")
  read -r -a sources <<<"$(tr '\n' ' ' <<<"${SOURCES[$name]:-}")"
  [ ${#sources[@]} -gt 0 ] || {
    printf -- '-'
    return
  }
  LLVM_PROFILE_FILE=$out/profiles/$name.raw "$replay" "${folders[@]}" \
    >/dev/null 2>&1 || true
  if [ $units -eq 1 ]; then
    profiles+=("$out/profiles/units.data")
    for unit in build/coverage/tests/test_*; do
      [ -f "$unit" ] && [ -x "$unit" ] && objects+=(-object "$unit")
    done
  fi
  llvm-profdata merge -sparse -o "$out/profiles/$name.data" "${profiles[@]}"
  llvm-cov report "$replay" "${objects[@]}" \
    -instr-profile="$out/profiles/$name.data" "${sources[@]}" |
    awk '/^TOTAL/ { printf "%s", $10 }'
  llvm-cov show "$replay" "${objects[@]}" \
    -instr-profile="$out/profiles/$name.data" "${sources[@]}" |
    grep -E '^(/|virtio|vmm)|^ +[0-9]+\| +0\|' >"$out/log/$name.missing" || true
}

row() {
  local name=$1 fast asan rate
  fast=$(tried fuzz-fast "$name")
  asan=$(tried fuzz "$name")
  rate=$(awk '$1 == "fuzz-fast" { n += $2; s += $3 }
    END { printf "%d", (s > 0 ? n / s : 0) }' \
    "$out/log/$name.account" 2>/dev/null || printf 0)
  printf '%-12s %12d %10d %10d %9s %8d %8d\n' "$name" "$fast" "$asan" "$rate" \
    "$(covered "$name")" "$(find "tests/fuzz/corpus/$name" -type f | wc -l)" \
    "$(find "$out/crashes" -name "$name-*" | wc -l)"
}

if [ $compile -eq 1 ]; then
  compile fuzz-fast "${names[@]/#/fuzz_}"
  compile fuzz "${names[@]/#/fuzz_}"
  compile coverage "${names[@]/#/replay_}"
fi
if [ "$inputs" -gt 0 ] || [ "$seconds" -gt 0 ]; then
  for name in "${names[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do
      wait -n || true
    done
    campaign "$name" &
  done
  wait
fi
if [ $keep -eq 1 ]; then
  for name in "${names[@]}"; do
    minimise "$name"
  done
fi
if [ $units -eq 1 ]; then
  compile coverage all
  LLVM_PROFILE_FILE=$PWD/$out/profiles/unit-%p.raw \
    step "unit tests" ctest --preset coverage -L unit || true
  llvm-profdata merge -sparse -o "$out/profiles/units.data" \
    "$out"/profiles/unit-*.raw
  rm -f "$out"/profiles/unit-*.raw
fi
printf '%-12s %12s %10s %10s %9s %8s %8s\n' harness inputs "with asan" \
  "inputs/s" lines corpus crashes
crashes=0
for name in "${names[@]}"; do
  row "$name"
  [ "$(find "$out/crashes" -name "$name-*" | wc -l)" -eq 0 ] || crashes=1
done
exit $crashes
