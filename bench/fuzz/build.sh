#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the programs that fuzzing is measured with, all with AFL++'s
# afl-clang-fast, out of Debian's sources:
#
#   bench/fuzz/build.sh [-o FOLDER] [TARGET...]
#
# Targets: empty zlib png xml2 sqlite tiff, and with bugs that were planted,
# which are built if they are named: planted goat lava untidy; tiff, planted and
# goat have AddressSanitizer. Of each FOLDER (build/fuzz-targets) gets NAME.fork
# (AFL++ forks in front of main), NAME.deferred (behind LLVMFuzzerInitialize) and
# NAME.persistent (libAFLDriver: AFL_LOOP and shared-memory test cases), and
# seeds in NAME.seeds. Of those with bugs it gets besides NAME.plain, without
# AFL++, to run an input by hand, and for CmpLog NAME.cmplog, persistent, and
# NAME.cmplog.fork.
#
# Needs afl++ tcl xz-utils bzip2 and a network for what is not in FOLDER/src.

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=$here/../../build/fuzz-targets

die() {
    printf 'build.sh: %s\n' "$*" >&2
    exit 1
}

while getopts o: opt; do
    case $opt in
    o) out=$OPTARG ;;
    *) die "usage: build.sh [-o FOLDER] [TARGET...]" ;;
    esac
done
shift $((OPTIND - 1))
mkdir -p "$out/src" "$out/apt/lists/partial" "$out/apt/cache/archives/partial"
out=$(cd "$out" && pwd)

command -v afl-clang-fast >/dev/null || die "afl++ is missing: apt-get install afl++"
export AFL_QUIET=1 CC=afl-clang-fast CFLAGS="-O2 -g -w"

apt=(apt-get -q -o "Dir::Etc::SourceList=$out/apt/sources.list"
    -o Dir::Etc::SourceParts=/dev/null -o "Dir::State::Lists=$out/apt/lists"
    -o "Dir::Cache=$out/apt/cache")

# What Debian's patches touch does not have to be made again.
export ACLOCAL=: AUTOCONF=: AUTOHEADER=: AUTOMAKE=:

# Debian's source package $1, unpacked and patched; prints its folder.
fetch() {
    local dir
    cd "$out/src"
    if [ ! -e "$1.done" ]; then
        if [ ! -e "$out/apt/sources.list" ]; then
            echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main" \
                >"$out/apt/sources.list"
            "${apt[@]}" update >&2 2>/dev/null
        fi
        "${apt[@]}" source --download-only "$1" >&2 2>/dev/null
        rm -rf "$1"
        dpkg-source --no-check -x "$1"_*.dsc "$1" >&2
        touch "$1.done"
    fi
    dir=$out/src/$1
    printf '%s\n' "$dir"
}

# The three programs of target $1 out of its harness and the flags behind it.
# shellcheck disable=SC2086 # flags are words
link_target() {
    local name=$1
    shift
    $CC $CFLAGS -o "$out/$name.fork" "$here/main.c" "$here/$name.c" "$@"
    $CC $CFLAGS -DDEFERRED -o "$out/$name.deferred" "$here/main.c" \
        "$here/$name.c" "$@"
    $CC $CFLAGS -fsanitize=fuzzer -o "$out/$name.persistent" \
        "$here/$name.c" "$@"
}

seed() {
    mkdir -p "$out/$1.seeds"
    base64 -d >"$out/$1.seeds/$2"
}

build_empty() {
    link_target empty
    mkdir -p "$out/empty.seeds"
    printf 'seed' >"$out/empty.seeds/a"
}

build_zlib() {
    local src
    src=$(fetch zlib)
    cd "$src"
    [ -e libz.a ] || { ./configure --static && make -s libz.a; } >&2
    link_target zlib -I"$src" "$src/libz.a"
    mkdir -p "$out/zlib.seeds"
    python3 -c 'import sys, zlib; sys.stdout.buffer.write(zlib.compress(
        b"the quick brown fox jumps over the lazy dog " * 20))' \
        >"$out/zlib.seeds/a"
}

build_png() {
    local src zlib
    zlib=$out/src/zlib
    [ -e "$zlib/libz.a" ] || build_zlib
    src=$(fetch libpng1.6)
    cd "$src"
    [ -e .libs/libpng16.a ] || {
        ./configure --disable-shared --disable-hardware-optimizations \
            CPPFLAGS="-I$zlib" LDFLAGS="-L$zlib" && make -s libpng16.la
    } >&2
    link_target png -I"$src" "$src/.libs/libpng16.a" "$zlib/libz.a" -lm
    mkdir -p "$out/png.seeds"
    cp contrib/pngsuite/basn*.png "$out/png.seeds"
}

build_xml2() {
    local src
    src=$(fetch libxml2)
    cd "$src"
    [ -e .libs/libxml2.a ] || {
        ./configure --disable-shared --without-python --without-lzma \
            --without-zlib --without-iconv --without-http --without-ftp \
            --without-threads && make -s libxml2.la
    } >&2
    link_target xml2 -I"$src/include" "$src/.libs/libxml2.a" -lm
    mkdir -p "$out/xml2.seeds"
    printf '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY e "v">]><a b="c"><d>&e;</d><!-- x --></a>' \
        >"$out/xml2.seeds/a"
}

# shellcheck disable=SC2086
build_sqlite() {
    local src
    src=$(fetch sqlite3)
    command -v tclsh >/dev/null || die "tcl is missing: apt-get install tcl"
    cd "$src"
    [ -e sqlite3.c ] || {
        CC=gcc CFLAGS=-O1 ./configure --disable-shared --disable-tcl &&
            CC=gcc make -s sqlite3.c
    } >&2
    [ -e sqlite3-afl.o ] ||
        $CC $CFLAGS -DSQLITE_THREADSAFE=0 -DSQLITE_OMIT_LOAD_EXTENSION \
            -DSQLITE_DEFAULT_MEMSTATUS=0 -c -o sqlite3-afl.o sqlite3.c
    link_target sqlite -I"$src" "$src/sqlite3-afl.o" -lm
    mkdir -p "$out/sqlite.seeds"
    printf 'CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);INSERT INTO t VALUES(1,"x");SELECT * FROM t WHERE a=1 ORDER BY b;' \
        >"$out/sqlite.seeds/a"
}

build_tiff() {
    local src
    src=$(fetch tiff)
    CFLAGS="$CFLAGS -fsanitize=address"
    cd "$src"
    [ -e made/libtiff/libtiff.a ] || {
        cmake -S . -B made -DCMAKE_C_COMPILER="$CC" -DCMAKE_C_FLAGS="$CFLAGS" \
            -DBUILD_SHARED_LIBS=OFF -Dcxx=OFF -Djpeg=OFF -Dzlib=OFF \
            -Dlzma=OFF -Dwebp=OFF -Dzstd=OFF -Djbig=OFF -Dlibdeflate=OFF \
            -Dlerc=OFF -Dpixarlog=OFF -Dtiff-tools=OFF -Dtiff-tests=OFF \
            -Dtiff-contrib=OFF -Dtiff-docs=OFF && make -s -C made tiff
    } >&2
    link_target tiff -I"$src/libtiff" -I"$src/made/libtiff" \
        "$src/made/libtiff/libtiff.a" -lm
    seed tiff a <<'END'
SUkqAAwAAAAAAAAKAAABAwABAAAABAAAAAEBAwABAAAAAgAAAAIBAwABAAAACAAAAAMBAwABAAAAAQAA
AAYBAwABAAAAAQAAABEBBAABAAAACAAAABUBAwABAAAAAQAAABYBAwABAAAAAgAAABcBBAABAAAABAAA
ABwBAwABAAAAAQAAAAAAAAA=
END
}

# Target $1, in which bugs are to be found. The dictionary is what the compiler
# saw compared; compares are split besides, since afl-fuzz -X has no CmpLog: at
# -O2 two letters are one number of 16 bits.
# shellcheck disable=SC2086
link_bugs() {
    local name=$1
    rm -f "$out/$name.dict"
    AFL_LLVM_DICT2FILE=$out/$name.dict AFL_LLVM_LAF_ALL=1 link_target "$name"
    AFL_LLVM_CMPLOG=1 $CC $CFLAGS -fsanitize=fuzzer -o "$out/$name.cmplog" \
        "$here/$name.c"
    AFL_LLVM_CMPLOG=1 $CC $CFLAGS -o "$out/$name.cmplog.fork" "$here/main.c" \
        "$here/$name.c"
    clang -O1 -g -fsanitize=address -o "$out/$name.plain" "$here/main.c" \
        "$here/$name.c"
    mkdir -p "$out/$name.seeds"
}

build_planted() {
    CFLAGS="$CFLAGS -fsanitize=address"
    link_bugs planted
    printf '0' >"$out/planted.seeds/a"
}

build_goat() {
    CFLAGS="$CFLAGS -fsanitize=address"
    link_bugs goat
    printf '{"a": [1, "b\\n", {"c": null}], "d": true}' >"$out/goat.seeds/a"
    # Of all sizes: what an allocator does the first time it does in the guest's
    # kernel, and --seed has it done before the root.
    python3 -c 'import json; print(json.dumps(list(range(100))))' \
        >"$out/goat.seeds/b"
    python3 -c 'import json; print(json.dumps(
        {"n" * 2**i: "\u00e9" * 2**i for i in range(8)}))' >"$out/goat.seeds/c"
    printf '%s' '[[[[[[[[-1.5e3, {"a": {"b": {}}}]]]]]]], false]' \
        >"$out/goat.seeds/d"
}

build_lava() {
    link_bugs lava
    seed lava a <<'END'
V0hPMQAAAAACAAAAAAAAAH4AAAAAAAAAfn4AAHJlYm9vdAAAAAAAAAAAAAAAAAAAAAAAAAAAAADoAwAA
AAAAAAAAAAAAAAAAAQAAADVOAAB+AAAAAAAAAH5+AABydW5sZXZlbAAAAAA2LjEAAAAAAAAAAAAAAAAA
6QMAAAAAAAAAAAAAAAAAAAQAAAAAAAAAfAAAAAAAAAB+fgAAZGF0ZQAAAAAAAAAAAAAAAAAAAAAAAAAA
AAAAAOoDAAAAAAAAAAAAAAAAAAADAAAAAAAAAHsAAAAAAAAAfn4AAGRhdGUAAAAAAAAAAAAAAAAAAAAA
AAAAAAAAAADrAwAAAAAAAAAAAAAAAAAABQAAAJEBAAAAAAAAAAAAADEAAAAAAAAAAAAAAAAAAAAAAAAA
AAAAAAAAAAAAAAAA7AMAAAAAAAAAAAAAAAAAAAYAAACSAQAAdHR5MQAAAAAxAAAATE9HSU4AAAAAAAAA
AAAAAAAAAAAAAAAAAAAAAO0DAAAAAAAAAAAAAAAAAAAHAAAAkwEAAHAvMQAAAAAAdHMxAGFubgAAAAAA
AAAAAGd3AAAAAAAAAAAAAAAAAADyAwAAAAAAAAAAAAAAAAAACAAAAJMBAABwLzEAAAAAAHRzMQAAAAAA
AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA/AMAAAAAAAAAAAAAAAAAAHJlc3Q=
END
}

build_untidy() {
    link_bugs untidy
    printf 'd one u one c x d Two s it u two' >"$out/untidy.seeds/a"
}

[ $# -gt 0 ] || set -- empty zlib png xml2 sqlite tiff
for target in "$@"; do
    printf '%s\n' "$target" >&2
    (build_"$target")
done
