#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the guest that spore runs by default, kernel and root file system, and
# puts both where it looks for them. Built once: what is in the cache is taken
# from there.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/spore

usage() {
    cat <<'END'
usage: build.sh [kernel|rootfs]... [--help]

Builds what is named, or both, as far as it is not in the cache
($XDG_CACHE_HOME/spore, else ~/.cache/spore), and makes it what spore takes by
default. A kernel takes about five minutes. What is needed for it:
kernel/build.sh --help and rootfs/build.sh --help.
END
}

# publish FOLDER NAME FILE: makes it the default.
publish() {
    mkdir -p "$cache/$1"
    ln -sfn "$3" "$cache/$1/$2"
    printf '%s\n' "$cache/$1/$2"
}

build() {
    local path
    path=$("$here/$1/build.sh")
    publish "$1" "$2" "$path"
}

for word in "$@"; do
    case $word in
    kernel | rootfs) ;;
    --help)
        usage
        exit 0 ;;
    *)
        printf 'build.sh: unknown argument %s: see --help\n' "$word" >&2
        exit 1 ;;
    esac
done
[ $# -gt 0 ] || set -- kernel rootfs
for word in "$@"; do
    case $word in
    kernel) build kernel vmlinux ;;
    rootfs) build rootfs rootfs.ext4 ;;
    esac
done
