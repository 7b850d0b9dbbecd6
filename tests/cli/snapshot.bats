#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# `spore snapshot` over a copy of the golden store. Needs no KVM.

load helper

setup() {
    common_setup
    : "${SPORE_GOLDEN:?}"
    cp -r "$SPORE_GOLDEN/snapshot-v1" store
    chmod -R u+w store
    full=$(readlink store/full)
    child=$(readlink store/child)
}

snapshot() {
    spore snapshot "$@" --store store
}

# snapshot_fails STATUS PATTERN ARGUMENT...: nothing on standard output, one
# line on standard error that matches.
# shellcheck disable=SC2154 # bats sets stderr and stderr_lines
snapshot_fails() {
    local status_wanted=$1 pattern=$2

    shift 2
    run "-$status_wanted" --separate-stderr snapshot "$@"
    [ -z "$output" ]
    [ "${#stderr_lines[@]}" -eq 1 ]
    [[ $stderr == "spore: snapshot: "* ]]
    [[ $stderr =~ $pattern ]]
}

@test "ls: names, sizes, parents; JSON" {
    run -0 snapshot ls
    [ "${#lines[@]}" -eq 3 ]
    [[ ${lines[0]} == NAME* ]]
    [[ $output =~ full\ +${full:0:12}.*32\ KiB\ +0\ KiB\ +20\ KiB\ +- ]]
    [[ $output =~ child\ +${child:0:12}.*\ 4\ KiB\ +${full:0:12} ]]
    run -0 snapshot ls --json
    [ "$(jq length <<< "$output")" -eq 2 ]
    [ "$(jq -r '.[] | select(.name == "child") | .parent' <<< "$output")" = \
        "$full" ]
    [ "$(jq '.[] | select(.name == "full") | .memory_bytes' <<< "$output")" = \
        32768 ]
}

@test "ls: a store that was never used is empty, a wrong one an error" {
    XDG_DATA_HOME=$PWD/none run -0 spore snapshot ls
    [ -z "$output" ]
    XDG_DATA_HOME=$PWD/none run -0 spore snapshot ls --json
    [ "$output" = "[]" ]
    run -125 spore snapshot ls --store none
    [[ $output =~ none.*No\ such\ file ]]
    run -125 env -u XDG_DATA_HOME -u HOME "$SPORE" snapshot ls
    [[ $output == *"give --store"* ]]
}

@test "ls: removes what dead savers left, and says what is damaged" {
    mkdir store/.tmp-00000000000000000000000000000007
    : > store/.tmp-00000000000000000000000000000007/state
    truncate -s 10 "store/$full/state"
    run -0 snapshot ls
    [ ! -e store/.tmp-00000000000000000000000000000007 ]
    [[ $output =~ full\ +${full:0:12}\ +cannot\ be\ used:.*state ]]
    run -0 snapshot ls --json
    [ "$(jq -r '.[] | select(.name == "full") | .problem' <<< "$output")" ]
}

@test "inspect: by name, id, beginning of an id; JSON" {
    run -0 snapshot inspect child
    [[ $output == *"id        $child"* ]]
    [[ $output == *"not verified on this host"* ]]
    [[ $output == *"section   machine"* ]]
    run -0 snapshot inspect "${child:0:8}" --json
    [ "$(jq -r .id <<< "$output")" = "$child" ]
    [ "$(jq '.images | length' <<< "$output")" -eq 2 ]
    [ "$(jq .verified <<< "$output")" = false ]
    [ "$(jq -r '.sections[0].name' <<< "$output")" = machine ]
    snapshot_fails 125 "no snapshot 'nobody'" inspect nobody
    snapshot_fails 125 "no snapshot '../store/full'" inspect ../store/full
}

@test "verify: whole, remembered, damaged" {
    run -0 snapshot verify --all
    [ "${#lines[@]}" -eq 2 ]
    run -0 snapshot inspect child --json
    [ "$(jq .verified <<< "$output")" = true ]
    printf x | dd of="store/$child/mem-$full.img" bs=1 seek=4100 \
        conv=notrunc status=none
    run -0 snapshot inspect child --json
    [ "$(jq .verified <<< "$output")" = false ]
    snapshot_fails 1 "child: mem-$full.img: page 1 .*not what was saved" \
        verify child
    run -0 snapshot verify full
    printf x | dd of="store/$full/mem-$full.img" bs=1 seek=0 \
        conv=notrunc status=none
    snapshot_fails 1 "page 0 .*is not zero" verify full
}

@test "diff: pages, nothing, JSON" {
    run -1 snapshot diff full child
    [[ $output == *"2 of 8 pages differ, 0 sections"* ]]
    run -0 snapshot diff full full
    [ "$output" = "0 of 8 pages differ, 0 sections" ]
    run -1 snapshot diff full child --json
    [ "$(jq .changed_bytes <<< "$output")" -eq 8192 ]
    [ "$(jq -c '.memory[0]' <<< "$output")" = \
        '{"offset":12288,"bytes":8192}' ]
}

@test "disks: in ls, inspect, diff, verify, flatten" {
    local image

    rm -rf store
    cp -r "$SPORE_GOLDEN/snapshot-v1-disks" store
    chmod -R u+w store
    run -0 snapshot ls
    [[ $output =~ full\ .*32\ KiB\ +24\ KiB\ +44\ KiB\ +- ]]
    run -0 snapshot inspect child
    [[ $output == *"disk 0    /images/base.img, 48 KiB"*"28 KiB over it"* ]]
    run -0 snapshot inspect child --json
    [ "$(jq '.disks[0].data_bytes' <<< "$output")" -eq 28672 ]
    image=$(jq -r '.disks[0].images[] | select(.own) | .name' <<< "$output")
    run -1 snapshot diff full child
    [[ $output == *"disk 0"*"2 of 8 pages differ, 4 of disks, 0 sections" ]]
    run -0 snapshot verify child
    [ "$output" = "child: 8 pages are what was saved, and 7 of disks" ]
    run -0 snapshot flatten child --name flat
    run -0 snapshot diff child flat
    [[ $output == "0 of 8 pages differ, 0 of disks, 0 sections" ]]
    printf x | dd of="store/child/$image" bs=1 seek=4100 conv=notrunc \
        status=none
    snapshot_fails 1 "child: $image: page 1 of the disk, .*not what was saved" \
        verify child
    printf x | dd of=store/child/disk-map.0 bs=1 seek=40 conv=notrunc \
        status=none
    snapshot_fails 1 "disk-map.0: damaged: its checksum" inspect child
    run -0 snapshot verify flat full
}

@test "rm: a parent, by name; its name is free again" {
    run -0 snapshot rm full
    [ ! -e "store/$full" ]
    [ ! -L store/full ]
    run -0 snapshot verify child
    run -0 snapshot rm "$child"
    [ -z "$(ls -A store)" ]
    snapshot_fails 125 "no snapshot 'full'" rm full
}

@test "flatten: the same contents, no shared file" {
    run -0 snapshot flatten child --name flat --no-sync
    flat=$output
    [ "$(readlink store/flat)" = "$flat" ]
    run -0 snapshot diff child flat
    run -0 snapshot inspect flat --json
    [ "$(jq '.images | length' <<< "$output")" -eq 1 ]
    [ "$(jq .parent <<< "$output")" = null ]
    snapshot_fails 125 "'flat' .*already" flatten full --name flat
    snapshot_fails 125 "'a/b' is no name" flatten full --name a/b
    run -0 snapshot rm full child
    run -0 snapshot verify flat
    printf x | dd of="store/$flat/mem-$flat.img" bs=1 seek=4100 \
        conv=notrunc status=none
    snapshot_fails 1 "page 1 of the memory is not what was saved" flatten flat
    [ "$(find store -mindepth 1 -maxdepth 1 | wc -l)" -eq 2 ]
}

@test "damage: each file of the state is named" {
    local file

    for file in state index manifest.json; do
        cp -r store copy
        printf x | dd of="copy/$full/$file" bs=1 seek=20 conv=notrunc \
            status=none
        run -1 --separate-stderr spore snapshot inspect full --store copy
        [[ $stderr == *"$file: damaged"* ]]
        rm -r copy
    done
    rm "store/$full/mem-$full.img"
    snapshot_fails 125 "mem-$full.img: No such file" inspect full
}

@test "command line: help, unknown, too many, too few" {
    run -0 spore snapshot --help
    [[ $output == "usage: spore snapshot"* ]]
    run -0 spore snapshot verify --help
    [[ $output == "usage: spore snapshot"* ]]
    run -2 spore snapshot
    snapshot_fails 2 "no command bogus" bogus
    snapshot_fails 2 "unknown option --bogus" ls --bogus
    snapshot_fails 2 "rm does not take" rm full --json
    snapshot_fails 2 "inspect: not so many" inspect
    snapshot_fails 2 "diff: not so many" diff full
    snapshot_fails 2 "verify: not so many" verify
    run -2 spore snapshot ls --store
    [[ $output == *"value is missing"* ]]
}
