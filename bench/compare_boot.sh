#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# compare_boot.sh BUILD-FOLDER [RUNS]: the same bare guest under spore and
# under QEMU's microvm machine, in one run: process start to the guest's first
# byte on its serial port, and the monitor's private memory.

set -euo pipefail
build=${1:?usage: compare_boot.sh BUILD-FOLDER [RUNS]}
runs=${2:-200}
hello=$build/tests/guests/hello.elf
spin=$build/tests/guests/spin.elf
first_byte=$build/bench/bench_first_byte
memory=$build/bench/bench_memory
# The commas belong to the options.
# shellcheck disable=SC2054
qemu=(qemu-system-x86_64 -M "microvm,acpi=off,pit=off,pic=off,rtc=off"
  -enable-kvm -cpu host,-arch-capabilities -m 128 -nodefaults -no-user-config -display none
  -serial stdio -no-reboot)

with_qemu=1
command -v qemu-system-x86_64 >/dev/null || with_qemu=0
[ $with_qemu -eq 1 ] ||
  printf '%s\n' "qemu-system-x86_64 is missing: apt-get install qemu-system-x86" >&2

# One run of each in turn would be fairer still, but start-up caches are warm
# after the first few either way.
"$first_byte" -n "$runs" -- "$build/spore" run --kernel "$hello" --console
[ $with_qemu -eq 0 ] || "$first_byte" -n "$((runs / 4))" -- \
  timeout -s KILL 1 "${qemu[@]}" -kernel "$hello" \
  -device isa-debug-exit,iobase=0xf4,iosize=4
"$memory" -m 128 -- "$build/spore" run --kernel "$spin" --console
[ $with_qemu -eq 0 ] || "$memory" -m 128 -- "${qemu[@]}" -kernel "$spin"
