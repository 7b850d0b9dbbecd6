#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What cmake --install puts into a prefix, and that it finds its parts there.

load helper

setup_file() {
    build=$(dirname "$SPORE")
    [ -f "$build/cmake_install.cmake" ] || return 0
    # No guest is in this cache, so none goes along.
    HOME=$BATS_FILE_TMPDIR XDG_CACHE_HOME=$BATS_FILE_TMPDIR/cache \
        cmake --install "$build" --prefix "$BATS_FILE_TMPDIR/prefix" \
        > "$BATS_FILE_TMPDIR/log" 2>&1
}

setup() {
    common_setup
    prefix=$BATS_FILE_TMPDIR/prefix
    [ -d "$prefix" ] || skip "$SPORE is in no build folder"
    export HOME=$BATS_TEST_TMPDIR XDG_CACHE_HOME=$BATS_TEST_TMPDIR/cache
    unset SPORE_KERNEL SPORE_ROOTFS
}

@test "programs run, also by their other names" {
    run -0 "$prefix/bin/spore" --version
    [[ $output == "spore "* ]]
    [ "$(readlink "$prefix/bin/firecracker")" = spore-firecracker ]
    [ "$(readlink "$prefix/bin/jailer")" = spore-jailer ]
    for program in spore-afl firecracker jailer; do
        run -0 "$prefix/bin/$program" --version
    done
}

@test "every manual page is there, and units name the program" {
    for page in "$BATS_TEST_DIRNAME"/../../docs/man/*.1; do
        run -0 gzip -dc "$prefix/share/man/man1/$(basename "$page").gz"
        [ "$output" = "$(cat "$page")" ]
    done
    run -0 grep -h ^ExecStart= "$prefix/lib/systemd/system/spore-serve@.service"
    [[ $output == ExecStart=/*/bin/spore\ serve* ]]
}

@test "a program is built against the library, and finds it" {
    export PKG_CONFIG_PATH
    PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name spore.pc)")
    cat > version.c << 'END'
#include <spore.h>
#include <stdio.h>
int main(void) { return puts(spore_version()) < 0; }
END
    # Where it was put now is not where it was built for.
    # shellcheck disable=SC2046 # words of their own
    run -0 gcc -std=c99 -pedantic -Wall -Wextra -Werror version.c -o version \
        $(pkg-config --define-variable=prefix="$prefix" \
            --define-variable=libdir="$(dirname "$PKG_CONFIG_PATH")" \
            --define-variable=includedir="$prefix/include" --cflags --libs spore)
    run -0 env LD_LIBRARY_PATH="$(dirname "$PKG_CONFIG_PATH")" ./version
    [ "spore $output" = "$("$prefix/bin/spore" --version)" ]
    [ -f "$prefix/share/man/man3/libspore.3.gz" ]
}

@test "a guest beside the program is found, and a recipe where there is none" {
    run -125 spore_installed run --timeout 0.001 -- true
    [[ $output == *"run $prefix/share/spore/guest/build.sh "* ]]
    [ -x "$prefix/share/spore/guest/build.sh" ]
    [ -x "$prefix/share/spore/guest/kernel/build.sh" ]
    : > "$prefix/share/spore/vmlinux"
    run -125 spore_installed run --timeout 0.001 -- true
    [[ $output == *"no root file system"* ]]
    rm "$prefix/share/spore/vmlinux"
}

@test "the recipe of the root file system needs nothing of the source tree" {
    run -0 "$prefix/share/spore/guest/build.sh" --help
    [[ $output == usage:* ]]
    run -0 "$prefix/share/spore/guest/rootfs/build.sh" --print-hash
    [ "$output" = "$("$BATS_TEST_DIRNAME/../../guest/rootfs/build.sh" \
        --print-hash)" ]
}

spore_installed() {
    timeout "$LIMIT" "$prefix/bin/spore" "$@"
}
