#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What the jail adds to the start of a VM: process start to the first byte of a
# bare guest, without and with it, in turns; as root and as an ordinary user,
# with as many more mounts as are asked for.
# usage: bench/jail.sh BUILD [RUNS [MOUNTS]]
set -euo pipefail
build=$(realpath "$1")
runs=${2:-200}
more=${3:-0}
tools=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../tests/tools")
rounds=4

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$build/spore" "$build/bench/bench_first_byte" \
    "$build/tests/guests/hello.elf" "$work/"
chmod -R a+rX "$work"

cat > "$work/measure" << 'END'
cd "$(dirname "$0")" || exit 1
for _ in $(seq "$3"); do
    for level in off strict; do
        SPORE_JAIL=$level ./bench_first_byte -n "$(($2 / $3))" -- ./spore run \
            --no-api --console --kernel hello.elf 2> /dev/null |
            jq -c --arg level "$level" --arg who "$1" \
                --arg mounts "$(wc -l < /proc/self/mountinfo)" \
                '{who: $who, mounts: $mounts, jail: $level,
                  p50: .first_byte.p50, p99: .first_byte.p99,
                  reaped: .reaped.p50, n: .first_byte.n}'
    done
done
END

# The namespace is the script's own, and so are the mounts.
cat > "$work/with_mounts" << 'END'
mount -t tmpfs none m && mkdir m/0 || exit 1
for i in $(seq "$1"); do
    mkdir "m/$i" && mount --bind m/0 "m/$i"
done
shift
exec "$@"
END

cd "$work"
mkdir m
unshare --mount bash ./with_mounts "$more" bash ./measure root "$runs" "$rounds"
unshare --mount bash ./with_mounts "$more" "$tools/own_root.sh" --user \
    bash ./measure user "$runs" "$rounds"
