#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Snapshots from outside, with bare guests: save, restore, clone, push, reset
# and the store's commands over what they made. The guest tally counts the
# bytes that it is sent, so that one that goes on says where it was.

load helper

setup() {
    common_setup
    need_kvm
    export XDG_DATA_HOME=$BATS_TEST_TMPDIR/data
    store=$XDG_DATA_HOME/spore/snapshots
}

teardown() {
    exec 9>&- || true
    kill_marked
}

# end_tally: the guest ends itself.
end_tally() {
    printf '\004' >&9
    end_status
    [ "$status" -eq 0 ]
    [ ! -s err ]
}

# goes_on WANT SNAPSHOT [OPTION...]: one restored from it counts WANT next.
goes_on() {
    local want=$1

    shift
    run -0 --separate-stderr spore restore "$@" --console --timeout 60 \
        < <(printf 'x\004')
    [ "$output" = "$want" ]
    # shellcheck disable=SC2154
    [ -z "$stderr" ]
}

# Where a clone's snapshot is while it is made, of all who make any.
clone_stores() {
    find /dev/shm -maxdepth 1 -name 'spore-clone-*' | sort
}

# The snapshot's own image of the memory.
image_of() {
    local id

    id=$(readlink "$store/$1")
    echo "$store/$id/mem-$id.img"
}

@test "save, ls, inspect, verify, restore in front: by name, id, its beginning" {
    tally vm
    count 0001 0002 0003
    run -0 --separate-stderr spore save --name three vm
    id=$output
    [ -z "$stderr" ]
    [[ $id =~ ^[0-9a-f]{32}$ ]]
    count 0004
    run -0 spore snapshot ls
    [[ $output == *three*${id:0:12}* ]]
    run -0 spore snapshot inspect three --json
    [ "$(jq -r .id <<< "$output")" = "$id" ]
    [ "$(jq -r .vcpus <<< "$output")" = 1 ]
    run -0 spore snapshot verify three
    goes_on 0004 three
    goes_on 0004 "$id"
    goes_on 0004 "${id:0:6}"
    goes_on 0004 three --verify
    count 0005
    end_tally
    goes_on 0004 three
    assert_nothing_left
}

@test "restore --detach: in ps, goes on, is saved and restored again" {
    tally vm
    count 0001
    run -0 spore save --name one vm
    end_tally
    run -0 --separate-stderr spore restore one --console --detach --id back
    [ "$output" = back ]
    [ -z "$stderr" ]
    [ "$(spore ps --json | jq -r '.[] | .id + .state')" = backRunning ]
    run -0 spore save --name again back
    run -0 spore kill back
    goes_on 0002 again
    assert_nothing_left
}

@test "several processors, and one that is paused" {
    run -0 spore run --console --detach --id vm --cpus 4 \
        --kernel "$SPORE_GUESTS/counter.elf"
    run -0 spore save --name four vm
    run -0 spore pause vm
    run -0 spore save --name still vm
    [ "$(spore ps --json | jq -r '.[].state')" = Paused ]
    run -0 spore kill vm
    run -0 spore restore four --console --detach --id a
    run -0 spore restore still --console --detach --id b
    [ "$(spore ps --json | jq '[.[] | select(.state == "Running")] | length')" \
        -eq 2 ]
    [ "$(spore ps --json | jq '.[0].vcpus')" -eq 4 ]
    run -0 spore kill a b
    assert_nothing_left
}

@test "diff: needs --track; a chain is restored, flattened, outlives its parents" {
    tally vm
    count 0001
    run -0 spore save --name full vm
    cannot "save: .*no snapshot that a diff could stand on.*--track" \
        spore save --diff --name d1 vm
    [ ! -e "$store/d1" ]
    run -0 spore save --name base --track vm
    count 0002
    run -0 spore save --diff --name d1 vm
    count 0003
    run -0 --separate-stderr spore save --diff --name d2 --json vm
    [ "$(jq .pages_written <<< "$output")" -lt 100 ]
    count 0004
    end_tally
    [ "$(spore snapshot inspect d2 --json | jq -r .parent)" = \
        "$(readlink "$store/d1")" ]
    goes_on 0002 base
    goes_on 0003 d1
    goes_on 0004 d2
    run -1 spore snapshot diff d1 d2
    [[ $output == *"pages differ"* ]]
    run -0 spore snapshot flatten d2 --name flat
    run -0 spore snapshot rm base d1
    run -0 spore snapshot verify d2
    goes_on 0004 d2
    run -0 spore snapshot rm d2
    goes_on 0004 flat
    run -0 spore snapshot ls --json
    [ "$(jq -r 'map(.name) | sort | join(" ")' <<< "$output")" = "flat full" ]
}

@test "diff after a restore with --track stands on what was restored" {
    tally vm
    count 0001
    run -0 spore save --name base vm
    end_tally
    mkfifo in2
    exec 9<> in2
    start restore base --console --track --id two --timeout "$LIMIT" < in2
    count 0002
    cannot "save: .*vm" spore save --diff --name d vm
    run -0 spore save --diff --name d two
    end_tally
    [ "$(spore snapshot inspect d --json | jq -r .parent)" = \
        "$(readlink "$store/base")" ]
    goes_on 0003 d
}

@test "save: --share finds what the store has; a name is given once" {
    tally vm
    count 0001
    run -0 spore save --name a vm
    cannot "save: there is a snapshot 'a' in" spore save --name a vm
    run -0 spore save --name b --share --no-sync vm
    count 0002
    end_tally
    [ "$(stat -c %b "$(image_of b)")" -lt "$(stat -c %b "$(image_of a)")" ]
    run -0 spore snapshot verify --all
    goes_on 0002 b
    [ "$(find "$store" -mindepth 1 -maxdepth 1 -name '.*' | wc -l)" -eq 0 ]
}

@test "save --json, --store; a store of one's own" {
    tally vm
    run -0 spore save --store "$PWD/a/b" --name n --json vm
    [ "$(jq -r .id <<< "$output")" = "$(readlink a/b/n)" ]
    [ "$(jq '.stopped_us >= 0 and .took_us > .stopped_us' <<< "$output")" = \
        true ]
    run -0 spore save --store a/b vm
    end_tally
    [ ! -e "$store" ]
    goes_on 0001 n --store a/b
    cannot "run: there is no snapshot 'x' in a/b" spore restore x --store a/b
}

@test "clone: each alive in ps and where its parent was; clones of clones" {
    local id ids stores

    stores=$(clone_stores)
    tally vm
    count 0001 0002
    run -0 --separate-stderr spore clone -n 3 vm
    [ -z "$stderr" ]
    [ "${#lines[@]}" -eq 3 ]
    ids=("${lines[@]}")
    run -0 --separate-stderr spore clone "${ids[1]}"
    [ "${#lines[@]}" -eq 1 ]
    ids+=("${lines[0]}")
    count 0003
    [ "$(spore ps --json | jq '[.[] | select(.state == "Running")] | length')" \
        -eq 5 ]
    for id in "${ids[@]}"; do
        [ "$(spore ps --json | jq -r ".[] | select(.id == \"$id\").state")" = \
            Running ]
        run -0 spore save --name "of-$id" "$id"
        goes_on 0003 "of-$id"
    done
    run -0 spore kill "${ids[@]}"
    end_tally
    [ "$(clone_stores)" = "$stores" ]
    assert_nothing_left
}

@test "push, reset: to the top, below it, level 0" {
    tally vm
    count 0001
    run -0 spore push vm
    [ "$output" = 0 ]
    count 0002
    run -0 spore push vm
    [ "$output" = 1 ]
    count 0003 0004
    run -0 spore reset vm
    [ -z "$output" ]
    count 0003
    run -0 spore reset vm 0
    count 0002 0003 0004
    cannot "reset: .*no level 1 to go back to" spore reset vm 1
    cannot "save: .*reset in place" spore save vm
    run -0 spore pause vm
    run -0 spore reset vm 0
    run -0 spore resume vm
    count 0002
    end_tally
    assert_nothing_left
}

@test "reset: nothing was pushed; levels that are none" {
    tally vm
    cannot "reset: .*no level 0 to go back to: see spore push" spore reset vm
    cannot "reset: 'x' is no number" spore reset vm x
    cannot "reset: '-1' is no number|reset: an option" spore reset vm -1
    cannot "reset: a machine's ID is needed" spore reset
    end_tally
}

@test "--clock: follow and freeze; another word is refused" {
    tally vm
    run -0 spore save --name s vm
    end_tally
    goes_on 0001 s --clock follow
    goes_on 0001 s --clock freeze
    cannot "run: --clock stop: it must be follow or freeze" \
        spore restore s --clock stop
}

@test "--verify refuses a damaged page, and so does a store that knows it" {
    tally vm
    count 0001
    run -0 spore save --name s vm
    end_tally
    # The page of the first count, at 32 MiB and a page.
    printf X | dd of="$(image_of s)" bs=1 seek=$((0x2001000 + 8)) \
        conv=notrunc status=none
    cannot "run: .*page 8193 .*not what was saved" \
        spore restore s --console --verify
    cannot "run: .*page 8193 .*not what was saved" spore restore s --console
    run -1 spore snapshot verify s
    assert_nothing_left
}

@test "damaged or incomplete state is refused by the file's name" {
    local file

    tally vm
    run -0 spore save --name s vm
    end_tally
    id=$(readlink "$store/s")
    for file in state index manifest.json; do
        cp "$store/$id/$file" keep
        printf X | dd of="$store/$id/$file" bs=1 seek=30 conv=notrunc \
            status=none
        cannot "run: .*$file" spore restore s --console
        truncate -s 10 "$store/$id/$file"
        cannot "run: .*$file" spore restore s --console
        rm "$store/$id/$file"
        cannot "run: .*$file" spore restore s --console
        cp keep "$store/$id/$file"
    done
    truncate -s -4096 "$(image_of s)"
    cannot "run: .*mem-$id.img" spore restore s --console
}

@test "what is not there: machines, snapshots, stores, options" {
    cannot "run: snapshot store .*No such file" spore restore none
    [ ! -e "$store" ]
    cannot "save: .*nobody" spore save nobody
    mkdir -p "$store"
    cannot "push: .*nobody" spore push nobody
    cannot "reset: .*nobody" spore reset nobody
    stores=$(clone_stores)
    cannot "clone: .*nobody" spore clone nobody
    [ "$(clone_stores)" = "$stores" ]
    cannot "save: a machine's ID is needed" spore save
    cannot "save: an option is unknown.*spore save --help" spore save --bogus x
    cannot "clone: an option is unknown" spore clone --diff x
    cannot "clone: -n 0" spore clone -n 0 x
    cannot "clone: 'x' is no number" spore clone -n x x
    cannot "run: there is no snapshot 'none'" spore restore none
    cannot "run: there is no snapshot '../x'" spore restore ../x
    cannot "run: --store, --verify.*--allow-duplicate are for --from" \
        spore run --verify --console
    run -2 spore restore
    [[ $output == "usage: spore restore"* ]]
    for word in save clone push reset restore; do
        run -0 spore "$word" --help
        [[ $output == "usage: spore $word"* ]]
    done
}

@test "kill -9 of the monitor amid saves leaves the store clean" {
    local round

    for round in 1 2 3 4 5 6; do
        rm -f in-vm
        tally vm
        count 0001
        run -0 spore save --name "good$round" vm
        # The client is told that the machine is gone, or has its snapshot.
        spore save --name "late$round" vm > late 2> late.err 8>&- 9>&- &
        client=$!
        while [ -z "$(ls -d "$store"/.tmp-* 2> /dev/null)" ] &&
            kill -0 "$client" 2> /dev/null; do :; done
        kill -KILL "$pid"
        end_status
        [ "$status" -eq 137 ]
        wait "$client" || true
        run -0 spore snapshot ls
        [ -z "$(find "$store" -name '.tmp-*')" ]
        run -0 spore snapshot verify --all
        goes_on 0002 "good$round"
        run -0 spore snapshot rm "good$round"
    done
}

@test "without a generation device: restored once, more often if told so" {
    tally vm --discovery cmdline
    count 0001
    run -0 spore save --name s vm
    cannot "clone: vm has no generation device.*--allow-duplicate" \
        spore clone vm
    run -0 spore clone --allow-duplicate -n 2 vm
    run -0 spore kill "${lines[@]}"
    end_tally
    cannot "run: --store, .*--allow-duplicate are for --from" \
        spore run --console --allow-duplicate --kernel x
    # One that does not come so far has not used it.
    cannot "run: --mem" spore restore s --console --mem 64
    goes_on 0002 s
    cannot "run: snapshot 's' was restored before.*--allow-duplicate" \
        spore restore s --console
    goes_on 0002 s --allow-duplicate
    goes_on 0002 s --allow-duplicate
    run -0 spore snapshot verify s
    run -0 spore snapshot rm s
    [ -z "$(ls -A "$store")" ]
    assert_nothing_left
}

@test "with one it is restored as often as one likes" {
    tally vm
    run -0 spore save --name s vm
    end_tally
    goes_on 0001 s
    goes_on 0001 s
    [ ! -e "$store/s/used" ]
}
