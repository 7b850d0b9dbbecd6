#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the root file system image of a spore guest, without privileges, and
# prints its path. Built once: the result is kept under the hash of everything
# that decides it.

set -euo pipefail

readonly UUID=5b0e5b0e-0000-4000-8000-73706f726531
readonly EPOCH=${SOURCE_DATE_EPOCH:-1700000000}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/spore
arguments=("$@")
type=ext4
from=
agent=
size=
output=
work=

usage() {
    cat <<'END'
usage: build.sh [--from DIR] [--size MB] [--type ext4|erofs|squashfs]
                [--agent FILE] [--print-hash] [-o IMG] [--help]

Prints the path of a root file system image, after building it if it is not in
the cache. Without --from it holds busybox, a minimal /etc and the agent.

  --from DIR    put this tree into the image, and the agent, instead
  --size MB     size of an ext4 image; default: the contents and 32 MB
  --type TYPE   ext4 (default; without a journal), erofs or squashfs
  --agent FILE  the agent's executable; default: built with musl-gcc
  --print-hash  print the hash that names the image, build nothing
  -o IMG        copy the image to IMG and print that path
  --help        this text

DIR is known by the names, sizes, modes and times of its files. The cache is
$XDG_CACHE_HOME/spore, else ~/.cache/spore. Needs the packages busybox-static
musl-tools gcc e2fsprogs, fakeroot unless root runs it, and erofs-utils or
squashfs-tools for those types.
END
}

die() {
    printf 'build.sh: %s\n' "$*" >&2
    exit 1
}

need() {
    command -v "$1" >/dev/null || die "$1 is missing: apt install $2"
}

clean_up() {
    if [ -n "$work" ]; then
        chmod -R u+rwX -- "$work" 2>/dev/null || true
        rm -rf -- "$work"
    fi
}

list_tree() {
    (cd "$from" && LC_ALL=C find . -printf '%y %m %U:%G %s %T@ %p -> %l\0' |
        LC_ALL=C sort -z)
}

hash_inputs() {
    {
        printf '%s\n' "$type" "$size" "$EPOCH"
        sha256sum <"$here/build.sh"
        if [ -n "$agent" ]; then
            sha256sum <"$agent"
        else
            cat "$top"/guest/agent/*.[ch] | sha256sum
        fi
        if [ -n "$from" ]; then
            list_tree | sha256sum
        else
            sha256sum <"$busybox"
        fi
    } | sha256sum | cut -c 1-16
}

# Files belong to root in the image whoever builds it.
become_root() {
    if [ "$EUID" -eq 0 ]; then
        return
    fi
    if command -v fakeroot >/dev/null; then
        exec fakeroot -- "$here/build.sh" "${arguments[@]}"
    fi
    unshare -r true 2>/dev/null ||
        die 'neither fakeroot nor user namespaces: apt install fakeroot'
    exec unshare -r -- "$here/build.sh" "${arguments[@]}"
}

make_etc() {
    local etc=$stage/etc
    cat >"$etc/passwd" <<'END'
root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
END
    cat >"$etc/group" <<'END'
root:x:0:
tty:x:5:
nogroup:x:65534:
END
    cat >"$etc/hosts" <<'END'
127.0.0.1 localhost
::1 localhost
END
    cat >"$etc/profile" <<'END'
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PS1='\u@\h:\w\$ '
umask 022
END
    cat >"$etc/os-release" <<'END'
NAME="spore guest"
ID=spore
PRETTY_NAME="spore guest"
END
    : >"$etc/resolv.conf"
}

make_default_tree() {
    local dir applet
    readelf -l "$busybox" | grep -q INTERP &&
        die "$busybox is not static: apt install busybox-static"
    for dir in bin dev etc home lib mnt opt proc run sbin srv sys \
        usr/bin usr/lib usr/sbin usr/local/bin usr/local/sbin \
        var/cache var/lib var/log var/spool; do
        mkdir -p "$stage/$dir"
    done
    ln -s /run "$stage/var/run"
    mkdir -m 0700 "$stage/root"
    mkdir -m 1777 "$stage/tmp" "$stage/var/tmp"
    cp "$busybox" "$stage/bin/busybox"
    chmod 0755 "$stage/bin/busybox"
    while read -r applet; do
        case $applet in
        bin/busybox | linuxrc) ;;
        bin/* | sbin/* | usr/bin/* | usr/sbin/*)
            ln -sf /bin/busybox "$stage/$applet" ;;
        esac
    done < <("$busybox" --list-full)
    make_etc
}

make_agent() {
    local sbin=$stage/sbin
    [ -d "$sbin" ] || mkdir -p "$sbin"
    if [ -n "$agent" ]; then
        cp -- "$agent" "$work/agent"
    else
        (cd "$top" && musl-gcc -std=c11 -D_GNU_SOURCE -I. -Os -static -s \
            -ffunction-sections -fdata-sections -Wl,--gc-sections \
            -fno-asynchronous-unwind-tables -Wl,-z,noseparate-code \
            -o "$work/agent" guest/agent/*.c) ||
            die 'cannot compile the agent: see above'
    fi
    cp -- "$work/agent" "$sbin/spore-agent"
    chmod 0755 "$sbin/spore-agent"
}

make_tree() {
    umask 022
    stage=$work/stage
    mkdir "$stage"
    if [ -n "$from" ]; then
        cp -a -- "$from/." "$stage" ||
            die "cannot copy $from: is every file in it readable?"
        make_agent
        touch -h -d "@$EPOCH" "$stage/sbin/spore-agent" "$stage/sbin/."
        return
    fi
    make_default_tree
    make_agent
    find "$stage" -depth -exec touch -h -d "@$EPOCH" {} +
}

# mke2fs takes over access and change times, which are those of this copy.
settle_times() {
    local inodes i
    inodes=$(dumpe2fs -h "$1" 2>/dev/null | awk '
        /^Inode count:/ { count = $3 }
        /^Free inodes:/ { print count - $3 }')
    for ((i = 2; i <= inodes; i++)); do
        if ((i == 2 || i > 10)); then
            printf 'set_inode_field <%d> %s @%d\n' \
                "$i" atime "$EPOCH" "$i" ctime "$EPOCH"
        fi
    done >"$work/times"
    # The command's names and answers are of no interest, its failures are.
    debugfs -w -f "$work/times" "$1" >/dev/null 2>"$work/log" ||
        die "cannot set times in the image: $(tail -n 1 "$work/log")"
}

# No journal: a read-only root has no use for one, and a snapshot of a running
# guest holds the page cache that a journal would protect. No checksums: where
# guest kernel code is interpreted they are most of a read.
make_ext4() {
    local megabytes=$size
    if [ -z "$megabytes" ]; then
        megabytes=$(($(du -sm --apparent-size "$stage" | cut -f 1) * 11 / 10 +
            32))
    fi
    truncate -s "${megabytes}M" "$1"
    export E2FSPROGS_FAKE_TIME=$EPOCH
    mke2fs -q -t ext4 -d "$stage" -U "$UUID" \
        -b 4096 -m 0 -L spore-root \
        -O '^has_journal,^metadata_csum,^resize_inode' \
        -E "hash_seed=$UUID,lazy_itable_init=0,root_owner=0:0,nodiscard" \
        "$1" 2>"$work/log" ||
        die "cannot make an ext4 of $megabytes MB: $(tail -n 1 "$work/log");" \
            'does --size suffice?'
    settle_times "$1"
}

make_erofs() {
    mkfs.erofs --quiet -T "$EPOCH" -U "$UUID" -x-1 "$1" "$stage" \
        >"$work/log" 2>&1 ||
        die "cannot make the image: $(tail -n 1 "$work/log")"
}

make_squashfs() {
    # The tool refuses its own time options beside the variable.
    env -u SOURCE_DATE_EPOCH mksquashfs "$stage" "$1" -noappend -no-progress \
        -quiet -reproducible -mkfs-time "$EPOCH" -all-time "$EPOCH" \
        -no-xattrs -comp zstd >"$work/log" 2>&1 ||
        die "cannot make the image: $(tail -n 1 "$work/log")"
}

check_tools() {
    if [ -z "$agent" ]; then
        need musl-gcc musl-tools
    fi
    need readelf binutils
    case $type in
    ext4)
        need mke2fs e2fsprogs
        need debugfs e2fsprogs ;;
    erofs)
        need mkfs.erofs erofs-utils ;;
    squashfs)
        need mksquashfs squashfs-tools ;;
    esac
}

build() {
    check_tools
    become_root
    mkdir -p "$cache" || die "cannot make $cache: set XDG_CACHE_HOME"
    exec 9>"$cache/rootfs-$hash.lock"
    flock 9
    if [ -f "$target" ]; then
        return
    fi
    work=$(mktemp -d "$cache/rootfs-build.XXXXXX")
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    make_tree
    mkdir "$work/out"
    "make_$type" "$work/out/rootfs.$type"
    rm -rf -- "${target%/*}"
    mv -T "$work/out" "${target%/*}"
}

copy_output() {
    local dir temporary
    dir=$(dirname -- "$output")
    temporary=$(mktemp "$dir/.rootfs.XXXXXX") ||
        die "cannot write into $dir: choose another -o"
    if ! cp --sparse=always -- "$target" "$temporary"; then
        rm -f -- "$temporary"
        die "cannot write $output: is there room in $dir?"
    fi
    chmod 0644 "$temporary"
    mv -fT -- "$temporary" "$output"
}

action=build
while [ $# -gt 0 ]; do
    case $1 in
    --from | --size | --type | --agent | -o)
        [ $# -ge 2 ] || die "$1 needs a value: see --help" ;;&
    --from)
        [ -d "$2" ] || die "--from $2 is not a directory: name a tree"
        from=$(cd "$2" && pwd)
        shift ;;
    --size)
        [[ $2 =~ ^[1-9][0-9]{0,6}$ ]] ||
            die "--size $2 is not a number of megabytes: give 1 or more"
        size=$2
        shift ;;
    --type)
        [[ $2 =~ ^(ext4|erofs|squashfs)$ ]] ||
            die "--type $2 is unknown: ext4, erofs or squashfs"
        type=$2
        shift ;;
    --agent)
        [ -r "$2" ] || die "--agent $2 cannot be read: build it first"
        agent=$(cd "$(dirname -- "$2")" && pwd)/$(basename -- "$2")
        shift ;;
    -o)
        output=$2
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

if [ -z "$from" ]; then
    busybox=$(type -P busybox) ||
        die 'busybox is missing: apt install busybox-static'
fi
hash=$(hash_inputs)
if [ "$action" = print-hash ]; then
    printf '%s\n' "$hash"
    exit 0
fi
target=$cache/rootfs-$hash/rootfs.$type
if [ ! -f "$target" ]; then
    build
fi
if [ -n "$output" ]; then
    copy_output
    target=$output
fi
printf '%s\n' "$target"
