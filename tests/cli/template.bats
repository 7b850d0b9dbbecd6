#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Templates: spore template. One Linux boot, since that takes seconds where
# guest kernels are interpreted.

load helper

LIMIT=300

setup() {
    common_setup
    export XDG_DATA_HOME=$BATS_TEST_TMPDIR/data
    mkdir "$XDG_DATA_HOME"
}

teardown() {
    kill_marked
}

# No template, and nothing of one that was not made.
assert_no_template() {
    [ -z "$(ls -A "$XDG_DATA_HOME/spore/templates" 2> /dev/null)" ]
    assert_nothing_left
}

# A kernel that waits for ever, so that a build can be stopped.
sleeper_build() {
    SPORE_TEST_MARK=$BATS_TEST_TMPDIR "$SPORE" template build x \
        --kernel "$SPORE_GUESTS/sleeper.elf" --rootfs root.tar \
        > out 2> err 3>&- &
    pid=$!
    await has_machine
}

has_machine() {
    [ -n "$(ls -A "$XDG_RUNTIME_DIR/spore" 2> /dev/null)" ]
}

small_root() {
    mkdir -p root/bin root/etc
    echo 'root:x:0:0:root:/:/bin/sh' > root/etc/passwd
    cp "$(command -v busybox)" root/bin/busybox
    for applet in sh cat httpd mkdir ls rm; do
        ln -s busybox "root/bin/$applet"
    done
    tar --owner=0 --group=0 -C root -cf root.tar .
}

# An OCI layout, `image`, of the root and a layer over it.
make_image() {
    local blobs=image/blobs/sha256 d1 d2 config

    small_root
    mkdir -p over/etc over/srv "$blobs"
    : > over/etc/.wh.passwd
    echo 'web:x:10:10:web:/srv:/bin/sh' > over/etc/passwd
    tar --owner=0 --group=0 -C over -cf over.tar .
    d1=$(sha256sum < root.tar | cut -d ' ' -f 1)
    d2=$(sha256sum < over.tar | cut -d ' ' -f 1)
    cp root.tar "$blobs/$d1"
    cp over.tar "$blobs/$d2"
    cat > config << END
{"architecture":"amd64","os":"linux","config":{"Entrypoint":["cat"],
 "Cmd":["/etc/passwd"],"Env":["PATH=/bin","GREETING=hello"],
 "WorkingDir":"/srv","User":"web:web"},
 "rootfs":{"type":"layers","diff_ids":["sha256:$d1","sha256:$d2"]}}
END
    config=$(sha256sum < config | cut -d ' ' -f 1)
    mv config "$blobs/$config"
    cat > manifest << END
{"schemaVersion":2,"config":{"digest":"sha256:$config"},
 "layers":[{"digest":"sha256:$d1"},{"digest":"sha256:$d2"}]}
END
    d1=$(sha256sum < manifest | cut -d ' ' -f 1)
    mv manifest "$blobs/$d1"
    echo "{\"manifests\":[{\"digest\":\"sha256:$d1\"}]}" > image/index.json
    echo '{"imageLayoutVersion":"1.0.0"}' > image/oci-layout
}

@test "help and an empty list" {
    run -0 spore template --help
    [[ $output == *"template rm NAME"* ]]
    run -0 spore template build --help
    [[ $output == *"--vsock-port"* ]]
    run -0 spore template ls
    [ -z "$output" ]
    run -0 spore template ls --json
    [ "$output" = "[]" ]
}

@test "command lines that make no sense" {
    cannot 'is no template.s name' spore template build ../x
    cannot 'a NAME is needed' spore template build
    cannot 'template build --help' spore template build x --what
    cannot 'a COMMAND is needed' spore template build x --daemon
    cannot 'which say when' spore template build x --daemon -- true
    cannot 'give one of them' spore template build x --port 1 --vsock-port 1
    cannot 'it must be 1 to 65535' spore template build x --port 65536
    cannot 'NAME=VALUE' spore template build x --env A
    cannot "there is no template 'x'" spore template rm x
    cannot "there is no template 'x'" spore template inspect x
    cannot 'is no command' spore template what
    cannot 'is no command' spore template inspect x y
    run -2 spore template
    assert_no_template
}

@test "what cannot be a root file system is told, and leaves nothing" {
    need_kvm
    echo nothing > file
    cannot '--rootfs none: No such file' spore template build x --rootfs none
    cannot '--rootfs [^ ]*file: damaged' spore template build x --rootfs file
    mkdir image
    echo '{}' > image/oci-layout
    cannot '--rootfs [^ ]*image: damaged: it lacks manifest.json' \
        spore template build x --rootfs image
    echo '{"manifests":[]}' > image/index.json
    cannot 'has no image for linux on amd64' \
        spore template build x --rootfs image
    assert_no_template
}

@test "a machine that does not start leaves nothing" {
    need_kvm
    small_root
    run -125 --separate-stderr spore template build x --rootfs root.tar \
        --kernel nothing
    # shellcheck disable=SC2154
    [[ $stderr == *"spore: template: the machine did not start: see above" ]]
    assert_no_template
}

@test "a build that is interrupted leaves nothing" {
    need_kvm
    small_root
    sleeper_build
    kill -TERM "$pid"
    end_status
    [ "$status" -eq 143 ]
    assert_no_template
}

@test "a build that is killed leaves no machine, and the next one cleans up" {
    need_kvm
    small_root
    sleeper_build
    kill -KILL "$pid"
    end_status
    await no_marked
    run -125 spore template build y --rootfs root.tar --kernel nothing
    run -0 spore ps
    assert_no_template
}

no_marked() {
    [ -z "$(marked_processes)" ]
}

@test "a template of a container image: set up, its server up, and cloned" {
    local dir

    need_linux
    make_image
    cat > setup.sh << 'END'
echo "$GREETING from set-up" > /srv/made
mkdir /tmp/made && rm /etc/group 2> /dev/null
busybox chmod 777 /srv
exit 0
END
    run -0 spore template build web --rootfs image --mem 96 --setup setup.sh \
        --env EXTRA=1 --daemon --port 8080 -- httpd -f -p 8080 -h /srv
    [ "${lines[-1]}" = web ]
    cannot 'is a template .web. already' spore template build web
    run -0 spore template ls
    [[ ${lines[1]} == web\ *image ]]
    run -0 spore template inspect --json web
    [ "$(jq -c '[.argv, .env, .cwd, .user, .port, .name]' <<< "$output")" = \
        '[["cat","/etc/passwd"],["PATH=/bin","GREETING=hello","EXTRA=1"],"/srv","web",8080,"web"]' ]
    dir=$(jq -r .dir <<< "$output")
    [ "$(stat -c %a "$dir/rootfs.img")" = 400 ]

    # What set-up did, what whiteouts hid, a root that can be written to.
    run -0 --separate-stderr spore restore ready --store "$dir/snapshots" -- \
        /bin/sh -c 'cat /srv/made /etc/passwd; echo more > /etc/more
            cat /etc/more; ls /run; cat /proc/net/tcp6'
    [ "${lines[0]}" = "hello from set-up" ]
    [ "${lines[1]}" = "web:x:10:10:web:/srv:/bin/sh" ]
    [ "${lines[2]}" = more ]
    [[ $output != *spore-setup* ]]
    [[ $output == *":1F90 00000000000000000000000000000000:0000 0A"* ]]

    # Programs have clones of it by libspore: the same command twice, and what
    # else they may ask for.
    run -3 timeout "$LIMIT" "$SPORE_CLONE_EXEC" web sh -c \
        '[ ! -e /srv/x ] && echo > /srv/x && read -r x &&
            echo "$GREETING $x"
            exit 3' <<< program
    [ "$output" = $'1: hello program\n2: hello program' ]
    run -0 timeout "$LIMIT" "$SPORE_LIB_PROBE" exec web
    [ "$output" = ok ]

    await no_marked
    run -0 spore template rm web
    assert_no_template
}
