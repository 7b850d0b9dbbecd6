#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Memory from page servers: spore page-server, --memory, --verify. Bare guests.

load helper

setup() {
    common_setup
    need_kvm
    need_uffd
}

teardown() {
    kill_marked
}

# A snapshot "a" of a guest that counts in one page of its memory, for ever.
save_counter() {
    detached counter model
    run -0 --separate-stderr spore save --store store --name a model
    id=$output
    run -0 spore kill model
}

# The page that it counts in is another than was saved.
damage() {
    printf '\377' | dd of="store/$id/mem-$id.img" bs=1 conv=notrunc status=none \
        seek=$((0x40000 + 99))
}

start_server() {
    start page-server a --store store --socket "$PWD/socket" "$@"
    server=$pid
    await test -S socket || {
        cat err
        return 1
    }
}

restore() {
    spore restore a --store store --console --timeout 60 "$@" < /dev/null
}

no_process() {
    [ -z "$(marked_processes)" ]
}

no_machine() {
    [ "$(spore ps --json)" = "[]" ]
}

# A page server that was a monitor's child ends with it, or just behind it.
nothing_is_left() {
    await no_process
    assert_nothing_left
}

# restore_fails PATTERN [OPTION...]
restore_fails() {
    cannot "^spore: run: .*($1)" restore "${@:2}"
}

@test "page-server: its command line" {
    run -0 spore page-server --help
    [[ $output == "usage: spore page-server"* ]]
    run -2 --separate-stderr spore page-server
    [[ $stderr == "spore: page-server: "*"--help" ]]
    run -2 spore page-server a
    [[ $output == *"--socket PATH is missing"* ]]
    run -2 spore page-server a --socket s --max 0
    [[ $output == *"--max: '0' is not a number from 1 to 1024" ]]
    run -2 spore page-server a --socket s --around 3
    [[ $output == *"power of two" ]]
    run -2 spore page-server a --socket s --prefetch maybe
    [[ $output == *"on or off" ]]
    run -2 spore page-server a --socket s --no-such
    run -125 spore page-server a --socket s --store none
    [ ! -e s ]
}

@test "--memory and --verify are checked" {
    refused "for --from" spore run --memory uffd:x -- true
    refused "for --from" spore run --verify=lazy -- true
    refused "--verify=some: it must be" spore run --from a --verify=some
    refused "--memory disk: it must be" spore run --from a --memory disk
    refused "no place beside" spore run --from a --verify --memory uffd:x
}

@test "a machine runs on memory from a server, several do" {
    save_counter
    start_server --json
    for i in 1 2 3; do
        run -0 restore --memory "uffd:$PWD/socket" --detach --id "m$i"
    done
    run -0 spore pause m2
    run -0 spore resume m2
    run -0 spore kill m1 m2 m3
    kill -TERM "$server"
    wait "$server"
    [ ! -e socket ]
    [ "$(jq -s 'length' <&8)" -eq 3 ]
    nothing_is_left
}

@test "a server that is killed takes its machine with it, and says so" {
    save_counter
    start_server
    run -0 restore --memory "uffd:$PWD/socket" --detach --log log --id m
    kill -KILL "$server"
    await no_machine
    grep -qx "spore: run: the machine's memory is lost: its page server has\
 ended" log
    rm socket
    restore_fails "page server at .*/socket: No such file" \
        --memory "uffd:$PWD/socket"
    nothing_is_left
}

@test "a server that is stopped ends its machine" {
    save_counter
    start_server
    run -0 restore --memory "uffd:$PWD/socket" --detach --log log --id m
    kill -TERM "$server"
    wait "$server"
    grep -q "memory is lost: the page server has been stopped" log
    nothing_is_left
}

@test "a working set is recorded once, by the first restore" {
    save_counter
    run -0 restore --detach --id m --prefetch off
    run -0 spore kill m
    [ ! -e "store/$id/working-set" ]
    run -0 restore --detach --id m
    run -0 spore kill m
    [ "$(head -c 8 "store/$id/working-set")" = SPOREWKS ]
    cp "store/$id/working-set" first
    run -0 restore --detach --id m --prefetch on
    run -0 spore kill m
    cmp first "store/$id/working-set"
    # By those that servers serve, too.
    rm "store/$id/working-set"
    run -0 restore --detach --id m --verify=lazy
    run -0 spore kill m
    [ "$(head -c 8 "store/$id/working-set")" = SPOREWKS ]
    rm "store/$id/working-set"
    start_server
    run -0 restore --detach --id m --memory "uffd:$PWD/socket"
    run -0 spore kill m
    kill -TERM "$server"
    wait "$server"
    [ "$(head -c 8 "store/$id/working-set")" = SPOREWKS ]
    # One that is damaged is no reason not to run, and is put right.
    echo nonsense > "store/$id/working-set"
    run -0 restore --detach --id m --prefetch record
    [[ $output == *"working-set: "*"not used"* ]]
    run -0 spore kill m
    [ "$(head -c 8 "store/$id/working-set")" = SPOREWKS ]
    nothing_is_left
}

@test "a damaged page: found before, at its first use, or not looked for" {
    save_counter
    run -0 restore --verify=lazy --detach --id good
    run -0 spore kill good
    damage
    restore_fails "page 64 of the memory, .* is not what was saved"
    restore_fails "page 64 of the memory, .* is not what was saved" \
        --verify=all
    restore_fails "memory is lost: .*page 64 of the memory, .*what was saved" \
        --verify=lazy
    start_server
    restore_fails "memory is lost: .*page 64 of the memory, .*what was saved" \
        --memory "uffd:$PWD/socket"
    kill -TERM "$server"
    wait "$server"
    grep -q "machine of process [0-9]*: mem-.*page 64" err
    run -0 restore --verify=trust --detach --id worse
    run -0 spore kill worse
    nothing_is_left
}
