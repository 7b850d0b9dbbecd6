#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What is done with crashes and corpora. A boot takes seconds on a host that
# interprets guest kernels, so one target answers all questions.

load helper

LIMIT=300

setup() {
    common_setup
    need_linux
}

teardown() {
    kill_marked
}

# Two places to crash, one to stay in, and lines that no input reaches.
make_program() {
    cat > bugs.c << 'EOF'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((noinline)) static int deref(char *p)
{
    return *p;
}

__attribute__((noinline)) static int parse(const char *text, size_t n)
{
    int sum = 0;

    if (n > 3 && memcmp(text, "BUG", 3) == 0)
        return deref((char *)8) + 1;
    if (n > 2 && text[0] == 'A' && text[n - 1] == 'T')
        abort();
    if (n > 4 && memcmp(text, "LOOP", 4) == 0)
        for (;;)
            __asm__ volatile("");
    for (size_t i = 0; i < n; i++) {
        if (text[i] == 'x')
            sum += 2;
        else if (text[i] == 'y')
            sum -= 1;
    }
    return sum;
}

int main(void)
{
    char text[256];
    ssize_t n = read(0, text, sizeof(text));

    if (n < 0)
        return 1;
    printf("%d\n", parse(text, (size_t)n));
    return 0;
}
EOF
    clang -g -O0 -o bugs bugs.c
    clang -g -O0 -fprofile-instr-generate -fcoverage-mapping -o counted bugs.c
    mkdir crashes corpus
    printf 'BUG and more of it' > crashes/1
    printf 'BUGx' > crashes/2
    printf 'AbbbbT' > crashes/3
    printf 'LOOPx' > crashes/4
    printf 'fine' > corpus/1
    printf 'xx' > corpus/2
}

# The lines that llvm-cov and we both know of: "number count", 0 or 1.
lines_of() {
    awk -F '[:,]' '$1 == "SF" { ours = $2 ~ /bugs\.c$/ }
        $1 == "DA" && ours { print $2, ($3 > 0) }' "$1" | sort
}

@test "crashes are grouped, made smaller, debugged; a corpus is covered" {
    local i group

    make_program
    run -0 --separate-stderr spore fuzz pack ./bugs --seed corpus

    # Groups, in a table, as JSON and as bundles.
    run -1 --separate-stderr spore fuzz triage bugs.fuzz crashes corpus \
        -t 500 -o out --json
    [ "$(jq '.groups | length' <<< "$output")" = 3 ]
    [ "$(jq '.harmless' <<< "$output")" = 2 ]
    [ "$(jq -r '.groups[0].where' <<< "$output" | cut -d ' ' -f 1)" = deref ]
    [ "$(jq -r '.groups[0].smallest' <<< "$output")" = crashes/2 ]
    [ "$(jq -r '.groups[0].inputs | length' <<< "$output")" = 2 ]
    group=$(jq -r '.groups[0].group' <<< "$output")
    grep -q '^#1 .* in parse .*bugs.c:' "out/$group/backtrace.txt"
    grep -q '^#2 .* in main .*bugs.c:' "out/$group/backtrace.txt"
    [ "$(jq -r .signal "out/$group/result.json")" = 11 ]
    cmp "out/$group/input" crashes/2
    run -0 --separate-stderr spore fuzz triage bugs.fuzz corpus
    [ "$output" = "no crash among 2 inputs" ]

    # The same crash in fewer bytes.
    run -0 --separate-stderr spore fuzz min bugs.fuzz crashes/1 -o small
    [ "$(cat small)" = BUG0 ]
    [[ $output = *"$group" ]]
    run -125 --separate-stderr spore fuzz min bugs.fuzz corpus/1 -o no
    [[ $stderr = *"corpus/1 does not crash the target" ]]
    [ ! -e no ]

    # Lines, as llvm-cov counts them for the same corpus.
    run -0 --separate-stderr spore fuzz cov bugs.fuzz corpus -o cov
    [ -e cov/index.html ]
    for i in corpus/*; do
        LLVM_PROFILE_FILE=$(basename "$i").raw ./counted < "$i"
    done
    llvm-profdata merge -o all.data ./*.raw
    llvm-cov export -format=lcov -instr-profile all.data ./counted > llvm.info
    lines_of llvm.info > theirs
    lines_of cov/lcov.info > ours
    # A function begins at its name in one and at its brace in the other.
    [ "$(join ours theirs | wc -l)" -gt 15 ]
    run -0 awk '$2 != $3 { print }' <(join ours theirs)
    [ -z "$output" ]
    grep -q ' 0$' ours
    grep -q ' 1$' ours
}

@test "what is no command line is told" {
    local verb

    run -2 --separate-stderr spore fuzz triage
    run -2 --separate-stderr spore fuzz min a b
    run -2 --separate-stderr spore fuzz cov a b
    run -2 --separate-stderr spore fuzz gdb a
    for verb in triage min cov gdb; do
        run -0 --separate-stderr spore fuzz "$verb" --help
        [[ $output = "usage: spore fuzz $verb "* ]]
    done
    run -125 --separate-stderr spore fuzz triage /nonexistent "$BATS_TEST_FILENAME"
}
