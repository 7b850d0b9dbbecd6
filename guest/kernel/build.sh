#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the kernel of a spore guest from the distribution's kernel source and
# prints the path of its vmlinux, a stripped ELF with a PVH entry note. Built
# once: the result is kept under the hash of everything that decides it.

set -euo pipefail

readonly PACKAGE=linux-source-6.12
readonly TARBALL=/usr/src/$PACKAGE.tar.xz
readonly TOOLS=(gcc ld make flex bison bc patch tar xz strip readelf flock
                sha256sum)

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/spore
variant=
work=

usage() {
    cat <<'END'
usage: build.sh [--variant NAME] [--print-hash] [--help]

Prints the path of the guest kernel (vmlinux; System.map and config lie beside
it), after building it if it is not in the cache. Takes some minutes the first
time and no time afterwards.

  --variant NAME  put the configuration fragment config.NAME on top
  --print-hash    print the hash that names the kernel, build nothing
  --help          this text

The cache is $XDG_CACHE_HOME/spore, else ~/.cache/spore. Needs the packages
linux-source-6.12 gcc binutils make flex bison bc patch xz-utils libelf-dev.
END
}

die() {
    printf 'build.sh: %s\n' "$*" >&2
    exit 1
}

# A line that replaces itself on a terminal, an ordinary one elsewhere.
say() {
    if [ -t 2 ]; then
        printf '\r\033[Kguest kernel: %s' "$*" >&2
    else
        printf 'guest kernel: %s\n' "$*" >&2
    fi
}

end_progress() {
    if [ -t 2 ]; then
        printf '\r\033[K' >&2
    fi
}

clean_up() {
    if [ -n "$work" ]; then
        rm -rf -- "$work"
    fi
}

check_tools() {
    local tool
    for tool in "${TOOLS[@]}"; do
        command -v "$tool" >/dev/null ||
            die "$tool is missing: install the packages that --help names"
    done
}

# The fragments that make up the configuration, in order.
list_fragments() {
    printf '%s\n' "$here/config"
    if [ -n "$variant" ]; then
        printf '%s\n' "$here/config.$variant"
    fi
}

hash_inputs() {
    local version fragments patches
    # shellcheck disable=SC2016
    version=$(dpkg-query -W -f '${Version}' "$PACKAGE" 2>/dev/null) ||
        die "$PACKAGE is not installed: apt install $PACKAGE"
    [ -r "$TARBALL" ] || die "$TARBALL is missing: reinstall $PACKAGE"
    mapfile -t fragments < <(list_fragments)
    patches=("$here"/patches/*.patch)
    {
        printf '%s\n' "$version" "$variant" "${patches[@]##*/}"
        gcc --version
        ld --version
        sha256sum <"$here/build.sh"
        sha256sum "${fragments[@]}" "${patches[@]}" | cut -d ' ' -f 1
    } | sha256sum | cut -c 1-16
}

# Names every option of the fragments that is not in the final .config.
list_lost_options() {
    awk '
        /^# CONFIG_[A-Za-z0-9_]+ is not set$/ { key = $2; value = "n" }
        /^CONFIG_/ {
            key = substr($0, 1, index($0, "=") - 1)
            value = substr($0, index($0, "=") + 1)
        }
        !/^(# )?CONFIG_/ { next }
        FILENAME == ARGV[1] { want[key] = value; next }
        { got[key] = value }
        END {
            for (key in want)
                if ((key in got ? got[key] : "n") != want[key])
                    printf "%s ", key
        }' "$1" "$2"
}

unpack() {
    say "unpacking $TARBALL"
    # What no x86 build reads is a third of the tree.
    tar -C "$work" -xf "$TARBALL" --no-same-owner \
        --exclude='*.rst' --exclude='*.dts' --exclude='*.dtsi' \
        --exclude='*/Documentation/devicetree/*' \
        --exclude='*/tools/testing/*' \
        --exclude='*/drivers/gpu/drm/amd/include/*' ||
        die "cannot unpack $TARBALL: is there room for 2 GiB in $cache?"

    local file
    for file in "$here"/patches/*.patch; do
        patch -d "$src" -p1 -s -F0 --no-backup-if-mismatch <"$file" >&2 ||
            die "${file##*/} does not apply to this $PACKAGE: refresh it"
    done
}

configure() {
    local lost fragments
    say 'configuring'
    mapfile -t fragments < <(list_fragments)
    cat "${fragments[@]}" >"$work/wanted"
    make -C "$src" -s KCONFIG_ALLCONFIG="$work/wanted" allnoconfig \
        >"$log" 2>&1 || die "cannot configure: see $(keep_log)"
    lost=$(list_lost_options "$work/wanted" "$src/.config")
    [ -z "$lost" ] ||
        die "kconfig did not take $lost: name what they depend on"
}

# Moves the log out of the folder that goes away and prints where it is now.
keep_log() {
    mv -f "$log" "$cache/kernel-$hash.log"
    printf '%s' "$cache/kernel-$hash.log"
}

count_objects() {
    local line step=100 n=0
    if [ -t 2 ]; then
        step=5
    fi
    while read -r line; do
        printf '%s\n' "$line" >>"$log"
        case $line in
        CC*|AS*|AR*|LD*|HOSTCC*)
            n=$((n + 1))
            if ((n % step == 0)); then
                say "compiling, $n files done"
            fi ;;
        esac
    done
}

compile() {
    say 'compiling'
    # Neither the date nor the machine may show in the result.
    make -C "$src" -j"$(nproc)" vmlinux \
        KBUILD_BUILD_TIMESTAMP='1970-01-01 00:00:00 UTC' \
        KBUILD_BUILD_USER=spore KBUILD_BUILD_HOST=spore \
        KBUILD_BUILD_VERSION=1 2>&1 | count_objects ||
        die "cannot compile: see $(keep_log)"

    mkdir "$work/out"
    strip -s -o "$work/out/vmlinux" "$src/vmlinux"
    readelf -n "$work/out/vmlinux" 2>/dev/null | grep -q Xen ||
        die 'the result has no PVH note: CONFIG_PVH is off'
    cp "$src/System.map" "$work/out/System.map"
    cp "$src/.config" "$work/out/config"
}

build() {
    check_tools
    mkdir -p "$cache" || die "cannot make $cache: set XDG_CACHE_HOME"
    exec 9>"$cache/kernel-$hash.lock"
    if ! flock -n 9; then
        say 'waiting for the build that another process is running'
        flock 9
        if [ -f "$target/vmlinux" ]; then
            return
        fi
    fi

    work=$(mktemp -d "$cache/kernel-build.XXXXXX")
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    src=$work/$PACKAGE
    log=$work/log

    unpack
    configure
    compile
    mv -T "$work/out" "$target"
    end_progress
}

action=build
while [ $# -gt 0 ]; do
    case $1 in
    --variant)
        [ $# -ge 2 ] || die '--variant needs a name: see --help'
        variant=$2
        [[ $variant =~ ^[a-z0-9-]+$ && -f $here/config.$variant ]] ||
            die "there is no variant $variant: no file $here/config.$variant"
        shift ;;
    --print-hash)
        action=print-hash ;;
    --help)
        usage
        exit 0 ;;
    *)
        die "unknown argument $1: see --help" ;;
    esac
    shift
done

hash=$(hash_inputs)
if [ "$action" = print-hash ]; then
    printf '%s\n' "$hash"
    exit 0
fi
target=$cache/kernel-$hash
if [ ! -f "$target/vmlinux" ]; then
    build
fi
printf '%s\n' "$target/vmlinux"
