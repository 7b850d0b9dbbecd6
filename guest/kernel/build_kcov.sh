#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The guest kernel for fuzzing the kernel itself: build.sh's recipe with
# config.kcov and patches.kcov on top. Takes build.sh's arguments but --variant.
#
# The recipe is put together in a folder of its own, so that what the variant
# has more than the ordinary kernel is not in the ordinary kernel's hash.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
recipe=$(mktemp -d)
trap 'rm -rf -- "$recipe"' EXIT

mkdir "$recipe/patches"
cp "$here/build.sh" "$here/config" "$here/config.kcov" "$recipe"
cp "$here"/patches/*.patch "$here"/patches.kcov/*.patch "$recipe/patches"
"$recipe/build.sh" --variant kcov "$@"
