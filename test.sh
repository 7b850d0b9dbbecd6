#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# All tests, as CI runs them: set-up as quickstart.sh does it, then every
# preset that the tests run in. Prints one closing line with the counts.
#
#   ./test.sh          everything
#   ./test.sh --quick  release preset only
#   ./test.sh --kcov   everything, and the kernel that is a fuzzing target:
#                      minutes to build it the first time
#   ./test.sh --package  everything, and Debian packages on a clean root made
#                        by debootstrap: minutes, and the archive

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=cmake/setup.sh
. cmake/setup.sh

quick=0
kcov=0
package=0
case ${1:-} in
--quick) quick=1 ;;
--kcov) kcov=1 ;;
--package) package=1 ;;
"") ;;
*) die "usage: ./test.sh [--quick|--kcov|--package]" ;;
esac

need_packages "${BUILD_PACKAGES[@]}" "${GUEST_PACKAGES[@]}" \
  "${TEST_PACKAGES[@]}"
if check_kvm; then
  # A machine that can run guests must run all tests of guests.
  export SPORE_MUST_WORK=1
else
  printf '%s\n' "Tests that need /dev/kvm are skipped."
fi

passed=0
failed=0
skipped=0
logs=build/logs
mkdir -p "$logs"

# count LOG: adds what cmocka and bats report, one by one.
count() {
  local n
  n=$(grep -cE '^[0-9]+: (\[       OK \]|ok [0-9]+ )' "$1" || true)
  passed=$((passed + n))
  n=$(grep -cE '^[0-9]+: (ok [0-9]+ .*# skip|\[  SKIPPED \] [^0-9])' "$1" ||
    true)
  skipped=$((skipped + n))
  n=$(grep -cE '^[0-9]+: ok [0-9]+ .*# skip' "$1" || true)
  passed=$((passed - n))
}

# check NAME COMMAND...: one test that is a command.
check() {
  local name=$1
  shift
  if step "$name" "$@"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
  fi
}

# run PRESET CTEST-ARGUMENT...
run() {
  local preset=$1 log
  shift
  log=$logs/$preset.log
  if ! step "tests of $preset" ctest --preset "$preset" -V "$@" \
    --output-log "$log"; then
    grep -E '\*\*\*(Failed|Timeout|Exception)|: not ok |\[  FAILED  \]' "$log" ||
      true
    failed=$((failed + $(grep -cE '\*\*\*(Failed|Timeout|Exception)' "$log" || true)))
    [ "$failed" -gt 0 ] || failed=1
  fi
  grep -E '\*\*\*Skipped|# skip|\[  SKIPPED \] [^0-9]' "$log" | sort -u || true
  count "$log"
}

check "shell scripts" shellcheck -x quickstart.sh test.sh \
  guest/kernel/build.sh guest/kernel/build_kcov.sh guest/rootfs/build.sh guest/initrd/build.sh \
  bench/compare.sh bench/fuzz/build.sh bench/fuzz/common.sh bench/fuzz/compare.sh bench/fuzz/hunt.sh \
  tests/fuzz/campaign.sh tests/tools/make_oci.sh tests/tools/own_root.sh \
  tests/tools/package_root.sh guest/build.sh .ci/run
# The headers of the bare guests are assembly.
check "formatting" sh -c 'git ls-files "*.c" "*.h" ":!tests/guests" |
  xargs clang-format --dry-run --Werror'

build release -DSPORE_TESTS=ON
guest_artefacts
if [ $kcov -eq 1 ]; then
  step "guest kernel with KCOV (minutes the first time)" \
    guest/kernel/build_kcov.sh || die "the kernel with KCOV could not be built"
fi
run release

if [ $quick -eq 0 ]; then
  build dev -DSPORE_TESTS=ON
  run dev -L 'unit|fuzz'
  build asan -DSPORE_TESTS=ON
  run asan -L 'unit|fuzz|kvm'
  build tsan -DSPORE_TESTS=ON
  # The agent, which test_serve_exec has too, has one thread, and starts
  # commands by a clone that the sanitizer's runtime cannot follow.
  # Clones in their jails (test_pool) may not make the runtime's system calls.
  # test_dirty reads guest memory while others write to it: what it is about.
  run tsan -L 'unit|kvm' -E '^test_agent_|^test_dirty$|^test_serve_exec$|^test_pool$'
fi

if [ $package -eq 1 ]; then
  need_packages debootstrap
  check "packages on a clean Debian 12" tests/tools/package_root.sh
fi

printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ]
