#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the agent's initrd: an uncompressed cpio archive of the agent as
# /init and, for a stock distribution kernel, the modules it needs before it
# can see its devices.

set -euo pipefail

# What a stock kernel has as modules and a spore machine cannot start without;
# one that a kernel has built in, or does not have, is left out.
readonly MODULES=(crc32c_generic crc32c_intel virtio_mmio virtio_pci virtio_blk
                  ext4 erofs squashfs
                  vmw_vsock_virtio_transport virtio_net virtio_rng
                  virtio_balloon vmgenid)

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
agent=
tool=
modules=
output=
extra=()
work=

usage() {
    cat <<'END'
usage: build.sh [--agent FILE] [--mkcpio FILE] [--modules DIR]
                [--module NAME]... -o OUT [--help]

Writes the agent's initrd to OUT and prints that path.

  --agent FILE   the agent's executable; default: built with musl-gcc
  --mkcpio FILE  the archive writer; default: built with gcc
  --modules DIR  add the modules that a stock kernel needs for virtio and its
                 root, with their dependencies, from DIR, such as
                 /lib/modules/6.1.0-18-amd64
  --module NAME  and this one
  -o OUT         the archive
  --help         this text

Needs the packages musl-tools and gcc, and zstd or xz-utils where the modules
are compressed.
END
}

die() {
    printf 'build.sh: %s\n' "$*" >&2
    exit 1
}

clean_up() {
    if [ -n "$work" ]; then
        rm -rf -- "$work"
    fi
}

need() {
    command -v "$1" >/dev/null || die "$1 is missing: apt install $2"
}

make_agent() {
    need musl-gcc musl-tools
    (cd "$top" && musl-gcc -std=c11 -D_GNU_SOURCE -I. -Os -static -s \
        -ffunction-sections -fdata-sections -Wl,--gc-sections \
        -fno-asynchronous-unwind-tables -Wl,-z,noseparate-code \
        -o "$work/agent" guest/agent/*.c) ||
        die 'cannot compile the agent: see above'
    agent=$work/agent
}

make_tool() {
    need gcc gcc
    gcc -std=c11 -D_GNU_SOURCE -O2 -o "$work/mkcpio" "$here/mkcpio.c" ||
        die 'cannot compile mkcpio.c: see above'
    tool=$work/mkcpio
}

# Paths of the modules, below $modules, dependencies before what needs them.
# modules.dep lists those of a module completely, the innermost last.
order_modules() {
    awk -v wanted="$*" '
        function key(path) {
            sub(/.*\//, "", path)
            sub(/\.ko(\.[a-z0-9]+)?$/, "", path)
            gsub(/-/, "_", path)
            return path
        }
        function take(path) {
            if (!(path in taken)) {
                taken[path] = 1
                print path
            }
        }
        {
            path = $1
            sub(/:$/, "", path)
            name = key(path)
            $1 = path
            lines[name] = $0
        }
        END {
            n = split(wanted, names, " ")
            for (i = 1; i <= n; i++) {
                gsub(/-/, "_", names[i])
                if (!(names[i] in lines))
                    continue
                m = split(lines[names[i]], paths, " ")
                for (j = m; j >= 1; j--)
                    take(paths[j])
            }
        }' "$modules/modules.dep"
}

unpack() {
    case $1 in
    *.ko) cat -- "$1" ;;
    *.ko.xz)
        need xz xz-utils
        xz -dc -- "$1" ;;
    *.ko.zst)
        need zstd zstd
        zstd -qdc -- "$1" ;;
    *.ko.gz) gzip -dc -- "$1" ;;
    *) die "$1 is compressed in an unknown way: unpack it first" ;;
    esac
}

collect_modules() {
    local path name known
    [ -r "$modules/modules.dep" ] ||
        die "$modules has no modules.dep: run depmod for that kernel"
    known=$modules/modules.builtin
    [ -r "$known" ] || known=/dev/null
    for name in "${extra[@]}"; do
        if [ -z "$(order_modules "$name")" ] &&
            ! sed 's/-/_/g' "$known" | grep -q "/${name//-/_}\.ko"; then
            die "$modules has no module $name: choose one of modules.dep"
        fi
    done
    mkdir "$work/modules"
    while read -r path; do
        name=${path##*/}
        name=${name%%.ko*}.ko
        unpack "$modules/$path" >"$work/modules/$name" ||
            die "cannot unpack $modules/$path: is it damaged?"
        printf '%s\n' "$name" >>"$work/modules/order"
        files+=("/modules/$name=$work/modules/$name")
    done < <(order_modules "${MODULES[@]}" "${extra[@]}")
    [ -s "$work/modules/order" ] ||
        die "$modules has none of the modules that are needed: leave out" \
            '--modules if that kernel has them built in'
    files+=("/modules/order=$work/modules/order")
}

while [ $# -gt 0 ]; do
    case $1 in
    --agent | --mkcpio | --modules | --module | -o)
        [ $# -ge 2 ] || die "$1 needs a value: see --help" ;;&
    --agent)
        agent=$2
        shift ;;
    --mkcpio)
        tool=$2
        shift ;;
    --modules)
        modules=$2
        shift ;;
    --module)
        extra+=("$2")
        shift ;;
    -o)
        output=$2
        shift ;;
    --help)
        usage
        exit 0 ;;
    *)
        die "unknown argument $1: see --help" ;;
    esac
    shift
done

[ -n "$output" ] || die 'where to? give -o OUT'
[ -n "$modules" ] || [ ${#extra[@]} -eq 0 ] ||
    die '--module needs --modules DIR to find it in'
work=$(mktemp -d)
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

[ -n "$agent" ] || make_agent
[ -n "$tool" ] || make_tool
files=("/init=$agent")
if [ -n "$modules" ]; then
    collect_modules
fi
"$tool" -o "$work/initrd" "${files[@]}" || die 'cannot write the archive'
temporary=$(mktemp "$(dirname -- "$output")/.initrd.XXXXXX") ||
    die "cannot write beside $output: choose another -o"
if ! cat -- "$work/initrd" >"$temporary"; then
    rm -f -- "$temporary"
    die "cannot write $output: is there room?"
fi
chmod 0644 "$temporary"
mv -fT -- "$temporary" "$output"
printf '%s\n' "$output"
