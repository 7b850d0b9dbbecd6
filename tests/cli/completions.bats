#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# Completions of bash and zsh: what they offer is what the programs say of
# themselves, and what there is of machines, snapshots and templates.

load helper

setup() {
    common_setup
    root=$BATS_TEST_DIRNAME/../..
    mkdir bin
    ln -s "$SPORE" bin/spore
    export PATH=$PWD/bin:$PATH
}

teardown() {
    kill_marked
}

# completes WORD...: what bash offers for the last one, a line each, sorted.
completes() {
    # shellcheck disable=SC2016
    env bash --noprofile --norc -c '
        source "$0"
        COMP_WORDS=("$@")
        COMP_CWORD=$(($# - 1))
        _spore_complete
        printf "%s\n" "${COMPREPLY[@]}"' \
        "$root/docs/completions/spore.bash" "$@" | sort
}

# completes_zsh WORD...: what zsh is given, by functions in the place of its
# own; with descriptions cut off.
completes_zsh() {
    command -v zsh > /dev/null || skip "zsh is not installed"
    # shellcheck disable=SC2016
    zsh -f -c '
        _describe() { print -rl -- ${${(P)2}%%:*} }
        _files() { print FILES }
        compset() { : }
        function compadd() {
            if [[ $1 == -a ]]; then
                print -rl -- ${(P)2}
            elif [[ $1 == -S ]]; then
                print -rl -- ${(P)4}
            else
                print -rl -- ${@:#--}
            fi
        }
        script=$1; shift
        words=("$@")
        CURRENT=$#
        source $script' zsh "$root/docs/completions/_spore" "$@" |
        sed '/^$/d' | sort
}

# Commands with options, two words where there are subcommands.
commands() {
    printf '%s\n' run exec cp ps top stop save clone reset page-server serve \
        switch doctor "template build" "template freeze" "fuzz pack" \
        "fuzz check" "fuzz run" "fuzz repro" "fuzz triage" "fuzz min" \
        "fuzz cov" "fuzz gdb" "snapshot flatten" "jail show"
}

# What --help of a command defines, by the reader that checks the man pages.
options_of() {
    spore "$@" --help | python3 -c '
import sys
sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True
import check_man
print("\n".join(sorted(check_man.options_in_help(sys.stdin.read()))))' \
        "$root/tests/tools" | sort
}

@test "what shells and shellcheck say of them" {
    bash -n "$root/docs/completions/spore.bash"
    if command -v zsh > /dev/null; then
        zsh -n "$root/docs/completions/_spore"
    fi
    command -v shellcheck > /dev/null || skip "shellcheck is not installed"
    shellcheck "$root/docs/completions/spore.bash"
}

@test "bash: all commands, and the beginning of some" {
    diff <(completes spore "") \
        <(spore help | sed -n 's/^  \([a-z-]*\) .*/\1/p' | sort)
    [ "$(completes spore pa | tr '\n' ' ')" = "page-server pause " ]
    [ "$(completes spore template "" | tr '\n' ' ')" = \
        "build freeze inspect ls rm " ]
    [ "$(completes spore fuzz re)" = repro ]
}

@test "bash: all options of each command" {
    local command

    while read -r command; do
        # shellcheck disable=SC2086
        diff <(completes spore $command -) <(options_of $command)
    done < <(commands)
}

@test "bash: what options and arguments are" {
    [ "$(completes spore run --clock fr)" = freeze ]
    [ "$(completes spore run --jail = s)" = strict ]
    [ "$(completes spore run --timings = svg --jail = of)" = off ]
    [ "$(completes spore page-server --prefetch "" | tr '\n' ' ')" = "off on " ]
    touch kernel.elf
    [ "$(completes spore run --kernel ker)" = kernel.elf ]
    [ "$(completes spore fuzz check ker)" = kernel.elf ]
    # Behind -- is the guest's.
    [ -z "$(completes spore run -- ker)" ]
    [ -z "$(completes spore run --id x --mem "")" ]
}

@test "machines, snapshots, templates" {
    need_kvm
    detached tally one
    detached tally two
    spore save --name ready one
    [ "$(completes spore stop "" | tr '\n' ' ')" = "one two " ]
    [ "$(completes spore exec o)" = one ]
    [ "$(completes spore cp t)" = two: ]
    [ "$(completes spore restore "")" = ready ]
    [ "$(completes spore run --from re)" = ready ]
    [ "$(completes spore snapshot diff ready re)" = ready ]
    spore template freeze warm two
    [ "$(completes spore run "")" = warm ]
    [ "$(completes spore template rm w)" = warm ]
    [ "$(completes_zsh spore stop "" | tr '\n' ' ')" = "one two " ]
    [ "$(completes_zsh spore restore "")" = ready ]
    [ "$(completes_zsh spore template inspect "")" = warm ]
    spore kill one two
}

@test "zsh: commands, options, values" {
    local command

    diff <(completes_zsh spore "") \
        <(spore help | sed -n 's/^  \([a-z-]*\) .*/\1/p' | sort)
    while read -r command; do
        # shellcheck disable=SC2086
        diff <(completes_zsh spore $command -) <(options_of $command)
    done < <(commands)
    [ "$(completes_zsh spore run --clock "" | tr '\n' ' ')" = "follow freeze " ]
    [ "$(completes_zsh spore run --jail=s | tr '\n' ' ')" = \
        "default off strict " ]
    [ "$(completes_zsh spore run --kernel "")" = FILES ]
    [ -z "$(completes_zsh spore run -- "")" ]
}
