#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# From a bare Debian 12 to a command run in a microVM: installs what is
# missing, builds spore and its guest, boots it, shows the result. A second
# call finds everything in place and only boots.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=cmake/setup.sh
. cmake/setup.sh

if [ "${1:-}" = --help ] || [ "${1:-}" = -h ]; then
  printf '%s\n' "usage: ./quickstart.sh" \
    "Installs what is missing (as root), builds spore, its guest kernel and" \
    "root file system, boots them and shows a command's output." \
    "Built artefacts are kept in $CACHE."
  exit 0
fi

check_kvm || die "spore needs /dev/kvm"
need_packages "${BUILD_PACKAGES[@]}" "${GUEST_PACKAGES[@]}"
build release -DSPORE_TESTS=OFF
guest_artefacts

spore=build/release/spore
printf '\n$ %s doctor\n' "$spore"
"$spore" doctor | head -n 1
printf '\n$ %s run -- uname -a\n' "$spore"
"$spore" run -- uname -a
printf '\nThat was a Linux of its own. Next: %s run   (a shell in a fresh VM)\n' \
  "$spore"
