# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# bash completion for spore. What there is to complete is read out of
# `spore COMMAND --help` each time (2 ms), so that it is always that of the spore
# in use; the word behind an option there says what its value is: a FILE, an
# ID, a SNAPSHOT. Names of machines, snapshots and templates are asked for.

# Commands of `spore`, or of the command that is given.
_spore_commands() {
    if [ $# -eq 0 ]; then
        "$_spore" help | sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p'
        return
    fi
    # From the list of them, or from the usage; not the options' lines.
    "$_spore" "$1" --help | sed -nE \
        -e '/^usage: spore [a-z-]+ COMMAND/,$ s/^  ([a-z][a-z-]*) +[^ ].*/\1/p' \
        -e "s/^(usage:|      ) spore $1 ([a-z][a-z-]*)( .*)?\$/\2/p" | sort -u
}

# All options in the help text on standard input.
_spore_options() {
    sed -nE '/^usage:/,/^$/p; s/^ {2,6}(-.*)/\1/p' |
        sed -E 's/([^ ])  .*/\1/' |
        grep -oE '(^|[^[:alnum:]_-])(--[a-z][a-z0-9-]*|-[A-Za-z0-9]($|[^[:alnum:]-]))' |
        grep -oE -e '--[a-z][a-z0-9-]*|-[A-Za-z0-9]' | sort -u
}

# _spore_value OPTION: the word behind this option in the help text on
# standard input; nothing if it has no value.
_spore_value() {
    sed -nE 's/^ {2,6}(-.*)/\1/p' | sed -E 's/([^ ])  .*/\1/' |
        sed -nE "s/^(.*, )?(-[A-Za-z0-9], )?$1(, --?[a-z0-9-]+)?[ =]([^ ]+).*/\4/p" |
        head -n 1
}

_spore_machines() {
    "$_spore" ps | sed -n '2,$ s/ .*//p'
}

_spore_snapshots() {
    "$_spore" snapshot ls 2> /dev/null | sed -n '2,$ s/ .*//p'
}

# But for those that runs keep for themselves.
_spore_templates() {
    "$_spore" template ls 2> /dev/null | sed -n '/^auto-/d; 2,$ s/ .*//p'
}

# _spore_kind WORD OPTION: completes what such a word of a help text stands for.
_spore_kind() {
    case $1 in
        ID*) _spore_words "$(_spore_machines)" ;;
        SNAPSHOT*) _spore_words "$(_spore_snapshots)" ;;
        TEMPLATE*) _spore_words "$(_spore_templates)" ;;
        FILE* | PATH* | DIR* | SCRIPT* | OUT* | IN | IN] | CORPUS* | CRASH* | INPUT* | PROGRAM* | SOURCE*)
            _spore_files ;;
        NAME*)
            # Of what is there; a new one is the user's to think of.
            case $prefix in
                "template rm" | "template inspect")
                    _spore_words "$(_spore_templates)" ;;
            esac
            ;;
        *[a-z]\|[a-z]*) _spore_words "${1//|/ }" ;;
        *)
            # Words whose text, and not whose name, says what they may be.
            case $2 in
                --jail) _spore_words "default strict off" ;;
                --discovery) _spore_words "acpi cmdline" ;;
                --clock) _spore_words "follow freeze" ;;
                --rootfs | -r | --disk | -d | --pmem) _spore_files ;;
            esac
            ;;
    esac
}

_spore_words() {
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$_word")
}

_spore_files() {
    mapfile -t COMPREPLY < <(compgen -f -- "$_word")
    compopt -o filenames 2> /dev/null
}

# The words behind the command in its usage: ID, SNAPSHOT, DIR INPUT...
_spore_arguments() {
    sed -n '/^usage:/,/^$/p' |
        sed -nE "s/^(usage:|      ) spore $1( .*)?\$/\2/p" |
        sed -E 's/\[[^]]*\]//g; s/--?[a-z-]+ [A-Z|]+//g; s/--.*//' |
        tail -n 1
}

_spore_complete() {
    local _spore=${COMP_WORDS[0]} _word=${COMP_WORDS[COMP_CWORD]}
    local command=${COMP_WORDS[1]} prefix i at value text kind
    local -a arguments=() kinds=()

    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        _spore_words "$(_spore_commands)"
        return
    fi
    # restore takes what run takes.
    prefix=$command
    at=2
    [ "$command" != restore ] || prefix=run
    local subcommands
    subcommands=$(_spore_commands "$command" 2> /dev/null)
    if [ -n "$subcommands" ]; then
        if [ "$COMP_CWORD" -eq 2 ]; then
            _spore_words "$subcommands"
            return
        fi
        prefix="$command ${COMP_WORDS[2]}"
        at=3
    fi
    # shellcheck disable=SC2086 # two words where there is a subcommand
    text=$("$_spore" $prefix --help 2> /dev/null) || return 0

    # What stands before the word: arguments, options and their values.
    local option=
    for ((i = at; i < COMP_CWORD; i++)); do
        value=${COMP_WORDS[i]}
        if [ "$value" = -- ]; then
            return 0            # a command of the guest's
        elif [ "$value" = = ]; then
            # --option=VALUE, as bash cuts it; also of what may have none.
            option=${option:--}
        elif [ -n "$option" ]; then
            option=
        elif [[ $value == -* ]]; then
            [ -z "$(_spore_value "$value" <<< "$text")" ] || option=$value
        else
            arguments+=("$value")
        fi
    done
    if [ -n "$option" ]; then
        [ "$_word" != = ] || _word=
        kind=$(_spore_value "$option" <<< "$text")
        _spore_kind "${kind#[[=]}" "$option"
        return
    fi
    if [[ $_word == -* ]]; then
        _spore_words "$(_spore_options <<< "$text")"
        return
    fi
    if [ "$command" = restore ]; then
        [ ${#arguments[@]} -gt 0 ] || _spore_words "$(_spore_snapshots)"
        return
    fi
    read -r -a kinds <<< "$(_spore_arguments "$prefix" <<< "$text")"
    i=${#arguments[@]}
    # The last one goes on if dots say so.
    if [ "$i" -ge ${#kinds[@]} ] && [ ${#kinds[@]} -gt 0 ] &&
        [[ ${kinds[-1]} == *... ]]; then
        i=$((${#kinds[@]} - 1))
    fi
    if [ "$command" = cp ]; then
        _spore_files
        mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(
            compgen -S : -W "$(_spore_machines)" -- "$_word")
    elif [ "$i" -lt ${#kinds[@]} ]; then
        _spore_kind "${kinds[i]}" ""
    fi
}

complete -F _spore_complete spore
