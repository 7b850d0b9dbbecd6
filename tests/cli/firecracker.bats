#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# spore-firecracker: its command line, and machines that are made over its
# socket and by configuration files alone.

load helper

setup() {
    common_setup
    : "${SPORE_FIRECRACKER:?}"
}

teardown() {
    kill_marked
    # The host's pool of huge pages, if a test has made it larger.
    [ ! -e pool ] || cat pool > /proc/sys/vm/nr_hugepages
    [ ! -e /sys/class/net/spfcmmds ] || ip link del spfcmmds
}

fc() {
    SPORE_TEST_MARK=$BATS_TEST_TMPDIR timeout "$LIMIT" "$SPORE_FIRECRACKER" "$@"
}

# begin [OPTION...]: a process with its socket at api.sock, its id in `pid`.
begin() {
    need_kvm
    SPORE_TEST_MARK=$BATS_TEST_TMPDIR "$SPORE_FIRECRACKER" \
        --api-sock api.sock "$@" < /dev/null > out 2> err 3>&- &
    pid=$!
    await test -S api.sock
}

# ask METHOD PATH [BODY]: the body, then the status.
ask() {
    curl -sS --max-time 60 --unix-socket api.sock -X "$1" ${3:+-d "$3"} \
        -w '%{http_code}' "http://localhost$2"
}

# done_with METHOD PATH BODY: is answered with 204 and nothing else.
done_with() {
    local got

    got=$(ask "$@")
    [ "$got" = 204 ] || {
        echo "$* was answered with $got"
        return 1
    }
}

# faulty TEXT METHOD PATH BODY
faulty() {
    [ "$(ask "${@:2}")" = "{\"fault_message\":\"$1\"}400" ]
}

@test "what it prints and leaves at" {
    run -0 fc --version
    [ "${lines[0]}" = "Firecracker v1.17.0" ]
    run -0 fc --help
    for option in api-sock id seccomp-filter no-seccomp start-time-us \
        start-time-cpu-us parent-cpu-time-us config-file metadata no-api \
        log-path level module show-level show-log-origin metrics-path \
        boot-timer http-api-max-payload-size mmds-size-limit enable-pci \
        version snapshot-version describe-snapshot help; do
        [[ $output == *"--$option"* ]]
    done
    run -0 fc --snapshot-version
    [ "$output" = v1.0.0 ]
}

@test "exit statuses of what cannot begin" {
    run -153 fc --foo
    [[ $output == *"Found argument 'foo' which wasn't expected"* ]]
    run -153 fc foo
    run -153 fc --id
    [[ $output == *"The argument 'id' requires a value, but none was"* ]]
    run -153 fc --id a --id b
    [[ $output == *"The argument 'id' was provided more than once."* ]]
    run -153 fc --no-api
    [[ $output == *"Argument 'config-file' required, but not found."* ]]
    run -153 fc --no-seccomp --seccomp-filter x
    run -152 fc --level Loud
    run -1 fc --api-sock api.sock --id a_b
    [[ $output == *"Invalid instance ID"* ]]
    run -1 fc --config-file nowhere --no-api
    run -1 fc --describe-snapshot nowhere
    run -1 fc --api-sock api.sock --enable-pci
    [ -z "$(ls -A)" ]
}

@test "a socket that is there already" {
    begin
    run -1 fc --api-sock api.sock
    [[ $output == *"Check that it is not already used"* ]]
    done_with PUT /spore/kill '{}'
    wait "$pid" && status=0 || status=$?
    [ "$status" -eq 137 ]
    [ ! -e api.sock ]
}

@test "a boot that is driven by curl alone" {
    local before

    truncate -s 1M disk.img
    mkfifo metrics.fifo
    exec 7<> metrics.fifo
    begin --id one
    [[ $(ask GET /) == '{"id":"one","state":"Not started",'*'}200' ]]
    faulty "Start microvm error: Cannot start microvm without kernel configuration." \
        PUT /actions '{"action_type":"InstanceStart"}'
    done_with PUT /logger '{"log_path":"log","level":"Info"}'
    done_with PUT /metrics '{"metrics_path":"metrics.fifo","emit_id":true}'
    done_with PUT /machine-config '{"vcpu_count":1,"mem_size_mib":64}'
    done_with PUT /boot-source \
        "{\"kernel_image_path\":\"$SPORE_GUESTS/counter.elf\"}"
    done_with PUT /drives/root '{"drive_id":"root","is_root_device":true,
        "path_on_host":"disk.img"}'
    done_with PUT /vsock '{"guest_cid":5,"uds_path":"v.sock"}'
    done_with PUT /entropy '{}'
    done_with PUT /balloon '{"amount_mib":0,"deflate_on_oom":true}'
    done_with PUT /serial '{"serial_out_path":"serial"}'
    before=$(ask GET /vm/config)
    done_with PUT /actions '{"action_type":"InstanceStart"}'
    [ -S v.sock ]
    [ "$(ask GET /vm/config)" = "$before" ]
    [[ $(ask GET /) == *'"state":"Running"'* ]]
    done_with PATCH /vm '{"state":"Paused"}'
    [[ $(ask GET /) == *'"state":"Paused"'* ]]
    done_with PATCH /vm '{"state":"Resumed"}'
    truncate -s 2M other.img
    done_with PATCH /drives/root '{"drive_id":"root",
        "path_on_host":"other.img"}'
    done_with PUT /actions '{"action_type":"FlushMetrics"}'
    read -r -t 30 line <&7
    [ "$(jq -r .id <<< "$line")" = one ]
    [ "$(jq .put_api_requests.actions_count <<< "$line")" -eq 2 ]
    [ "$(jq .put_api_requests.actions_fails <<< "$line")" -eq 1 ]
    [ "$(jq .patch_api_requests.drive_count <<< "$line")" -eq 1 ]
    jq -e '.block_root and .latencies_us.pause_vm and .vcpu.exit_io_in_agg' \
        <<< "$line"
    # What has been told is not told again.
    done_with PUT /actions '{"action_type":"FlushMetrics"}'
    read -r -t 30 line <&7
    [ "$(jq .put_api_requests.actions_count <<< "$line")" -eq 1 ]
    [ "$(jq .patch_api_requests.drive_count <<< "$line")" -eq 0 ]
    done_with PUT /actions '{"action_type":"SendCtrlAltDel"}'
    grep -q 'The API server received a PUT request on "/boot-source"' log
    grep -qE '^[-0-9]{10}T[:.0-9]+ \[one:[^]]*\] ' log
    done_with PUT /spore/kill '{}'
    wait "$pid" && status=0 || status=$?
    [ "$status" -eq 137 ]
    [ ! -e api.sock ]
}

@test "a guest that resets itself ends it with 0" {
    begin
    done_with PUT /boot-source \
        "{\"kernel_image_path\":\"$SPORE_GUESTS/reset.elf\"}"
    done_with PUT /actions '{"action_type":"InstanceStart"}'
    wait "$pid" && status=0 || status=$?
    [ "$status" -eq 0 ]
    [ ! -e api.sock ]
}

# Threads of the process that are held to a filter, by their names; but those
# that KVM makes of a vCPU's, which are the kernel's.
filtered() {
    local status

    for status in /proc/"$pid"/task/*/status; do
        ! grep -q '^Seccomp:.*2' "$status" ||
            sed -n '/\tkvm-/d; s/^Name:\t//p' "$status"
    done
}

@test "vCPUs are held to their system calls, unless --no-seccomp" {
    begin
    done_with PUT /boot-source \
        "{\"kernel_image_path\":\"$SPORE_GUESTS/counter.elf\"}"
    done_with PUT /actions '{"action_type":"InstanceStart"}'
    [ "$(filtered)" = "vcpu 0" ]
    done_with PUT /spore/kill '{}'
    wait "$pid" || true
    begin --no-seccomp
    done_with PUT /boot-source \
        "{\"kernel_image_path\":\"$SPORE_GUESTS/counter.elf\"}"
    done_with PUT /actions '{"action_type":"InstanceStart"}'
    [ -z "$(filtered)" ]
    done_with PUT /spore/kill '{}'
    wait "$pid" || true
}

@test "a CPU template is what the guest boots with" {
    begin
    done_with PUT /boot-source \
        "{\"kernel_image_path\":\"$SPORE_GUESTS/reset.elf\"}"
    done_with PUT /cpu-config '{"cpuid_modifiers":[{"leaf":"0x1",
        "subleaf":"0x0","flags":0,"modifiers":[{"register":"eax",
        "bitmap":"0bxxxx0000000000xxxxxxxxxxxxxxxxxx"}]}],
        "msr_modifiers":[{"addr":"0x174","bitmap":"0b10"}]}'
    done_with PUT /actions '{"action_type":"InstanceStart"}'
    wait "$pid" && status=0 || status=$?
    [ "$status" -eq 0 ]
}

@test "a CPU template that KVM cannot do fails the start" {
    local body

    for body in '"cpuid_modifiers":[{"leaf":"0x77","subleaf":"0x0","flags":0,
            "modifiers":[{"register":"eax","bitmap":"0b1"}]}]' \
        '"msr_modifiers":[{"addr":"0x7777","bitmap":"0b1"}]' \
        '"kvm_capabilities":["77777"]'; do
        begin
        done_with PUT /boot-source \
            "{\"kernel_image_path\":\"$SPORE_GUESTS/reset.elf\"}"
        done_with PUT /cpu-config "{$body}"
        ask PUT /actions '{"action_type":"InstanceStart"}' > answer
        cat answer
        grep -q '^{"fault_message":"Start microvm error: ' answer
        grep -Eq 'Leaf: 77|Address: 7777|capability: 77777' answer
        wait "$pid" && status=0 || status=$?
        [ "$status" -eq 1 ]
    done
}

@test "cpu_template None ends a CPU template: the guest boots" {
    begin
    done_with PUT /boot-source \
        "{\"kernel_image_path\":\"$SPORE_GUESTS/reset.elf\"}"
    done_with PUT /cpu-config '{"kvm_capabilities":["77777"]}'
    done_with PATCH /machine-config '{"cpu_template":"None"}'
    done_with PUT /actions '{"action_type":"InstanceStart"}'
    wait "$pid" && status=0 || status=$?
    [ "$status" -eq 0 ]
}

@test "memory of huge pages: a start without, one with, and a snapshot" {
    local had

    [ -w /proc/sys/vm/nr_hugepages ] || cannot_run "no pool of huge pages"
    # One test at a time changes it.
    exec 8< /proc/sys/vm/nr_hugepages
    flock 8
    had=$(cat /proc/sys/vm/nr_hugepages)
    begin
    done_with PUT /machine-config \
        '{"vcpu_count":1,"mem_size_mib":1048576,"huge_pages":"2M"}'
    done_with PUT /boot-source \
        "{\"kernel_image_path\":\"$SPORE_GUESTS/counter.elf\"}"
    ask PUT /actions '{"action_type":"InstanceStart"}' > answer
    cat answer
    grep -q '^{"fault_message":"Start microvm error: ' answer
    grep -q "524288 huge pages of 2 MiB are not free" answer
    grep -q "/proc/sys/vm/nr_hugepages" answer
    wait "$pid" && status=0 || status=$?
    [ "$status" -eq 1 ]

    echo "$had" > pool
    echo $((had + 32)) > /proc/sys/vm/nr_hugepages
    [ "$(cat /proc/sys/vm/nr_hugepages)" -eq $((had + 32)) ] ||
        cannot_run "no memory for huge pages"
    begin
    done_with PUT /machine-config \
        '{"vcpu_count":1,"mem_size_mib":64,"huge_pages":"2M"}'
    done_with PUT /boot-source \
        "{\"kernel_image_path\":\"$SPORE_GUESTS/counter.elf\"}"
    done_with PUT /balloon '{"amount_mib":0,"deflate_on_oom":true}'
    done_with PUT /actions '{"action_type":"InstanceStart"}'
    [ "$(ask GET /vm/config | head -c -3 |
        jq -r '.["machine-config"].huge_pages')" = 2M ]
    # All of it is taken, and the guest has touched some.
    grep -Eq '^HugetlbPages:[[:space:]]+[1-9][0-9]* kB' "/proc/$pid/status"
    done_with PATCH /vm '{"state":"Paused"}'
    done_with PUT /snapshot/create '{"snapshot_path":"store/one"}'
    done_with PATCH /vm '{"state":"Resumed"}'
    done_with PUT /spore/kill '{}'
    wait "$pid" || true

    # The snapshot's pages are mapped: as small as those of its file.
    begin
    done_with PUT /snapshot/load '{"snapshot_path":"store/one",
        "resume_vm":true}'
    [[ $(ask GET /machine-config) == *'"mem_size_mib":64,'*'"huge_pages":"None"}200' ]]
    [[ $(ask GET /) == *'"state":"Running"'* ]]
    done_with PUT /spore/kill '{}'
}

@test "a snapshot that cannot be loaded ends it with 1, after the reply" {
    begin
    [[ $(ask PUT /snapshot/load '{"snapshot_path":"s/a","mem_backend":
        {"backend_type":"File","backend_path":"s/a/mem"}}') == \
        '{"fault_message":"Load snapshot error: '*'}400' ]]
    wait "$pid" && status=0 || status=$?
    [ "$status" -eq 1 ]
}

@test "a snapshot keeps how metadata is served, and none of it" {
    local config='"mmds-config":{"version":"V2","network_interfaces":["eth0"],'

    config+='"ipv4_address":"169.254.170.2","imds_compat":true}'
    [ "$(id -u)" -eq 0 ] || cannot_run "taps are for root to make"
    ip tuntap add spfcmmds mode tap
    begin
    done_with PUT /boot-source \
        "{\"kernel_image_path\":\"$SPORE_GUESTS/counter.elf\"}"
    done_with PUT /network-interfaces/eth0 \
        '{"iface_id":"eth0","host_dev_name":"spfcmmds"}'
    done_with PUT /mmds/config '{"network_interfaces":["eth0"],"version":"V2",
        "ipv4_address":"169.254.170.2","imds_compat":true}'
    done_with PUT /mmds '{"a":1}'
    done_with PUT /actions '{"action_type":"InstanceStart"}'
    done_with PATCH /mmds '{"b":2}'
    [ "$(ask GET /mmds)" = '{"a":1,"b":2}200' ]
    done_with PATCH /vm '{"state":"Paused"}'
    done_with PUT /snapshot/create \
        '{"snapshot_path":"s/one","mem_file_path":"s/one/mem"}'
    done_with PUT /spore/kill '{}'
    wait "$pid" || true
    begin
    done_with PUT /snapshot/load '{"snapshot_path":"s/one","resume_vm":true,
        "mem_backend":{"backend_type":"File","backend_path":"s/one/mem"}}'
    [[ $(ask GET /vm/config) == *"$config"* ]]
    [ "$(ask GET /mmds)" = '{}200' ]
    faulty "MMDS error: The MMDS data store is not initialized." \
        PATCH /mmds '{"c":3}'
    done_with PUT /mmds '{"c":3}'
    [ "$(ask GET /mmds)" = '{"c":3}200' ]
    done_with PUT /spore/kill '{}'
    wait "$pid" || true
}

@test "no load after what describes a machine; logger and metrics are fine" {
    begin
    done_with PUT /metrics '{"metrics_path":"m"}'
    done_with PUT /machine-config '{"vcpu_count":1,"mem_size_mib":64}'
    faulty "Load snapshot error: Loading a microVM snapshot not allowed after configuring boot-specific resources." \
        PUT /snapshot/load '{"snapshot_path":"s/a","mem_backend":
        {"backend_type":"File","backend_path":"s/a/mem"}}'
    [[ $(ask GET /) == *'"state":"Not started"'* ]]
    done_with PUT /spore/kill '{}'
}

# config GUEST: the shape that is published for --config-file, every key in it.
config() {
    truncate -s 1M disk.img
    cat > vm.json << END
{
  "boot-source": {
    "kernel_image_path": "$SPORE_GUESTS/$1.elf",
    "boot_args": "console=ttyS0 reboot=k panic=1 pci=off",
    "initrd_path": null
  },
  "drives": [
    {
      "drive_id": "rootfs",
      "partuuid": null,
      "is_root_device": true,
      "cache_type": "Unsafe",
      "is_read_only": false,
      "path_on_host": "disk.img",
      "io_engine": "Sync",
      "rate_limiter": null,
      "socket": null
    }
  ],
  "machine-config": {
    "vcpu_count": 2,
    "mem_size_mib": 1024,
    "smt": false,
    "track_dirty_pages": false,
    "huge_pages": "None"
  },
  "cpu-config": null,
  "balloon": null,
  "network-interfaces": [],
  "vsock": null,
  "logger": {"log_path": "log", "level": "Info", "show_level": true},
  "metrics": {"metrics_path": "metrics"},
  "mmds-config": null,
  "entropy": null,
  "pmem": [],
  "memory-hotplug": null
}
END
}

@test "--config-file: the published shape boots, with the API" {
    config hello
    begin --config-file vm.json
    await grep -q "hello from a bare guest" out
    [[ $(ask GET /) == *'"anonymous-instance","state":"Running"'* ]]
    [ "$(ask GET /vm/config | head -c -3 | jq -r '.["machine-config"].vcpu_count')" -eq 2 ]
    faulty "The requested operation is not supported after starting the microVM." \
        PUT /actions '{"action_type":"InstanceStart"}'
    done_with PUT /spore/kill '{}'
    wait "$pid" || true
    [ -s metrics ]
    grep -q ':INFO] Running Firecracker v1.17.0' log
}

@test "--config-file --no-api: and ends with the guest" {
    need_kvm
    config reset
    run -0 fc --no-api --config-file vm.json --id two --log-path other
    [ -s log ]
    [ "$(wc -l < metrics)" -eq 1 ]
    ! ls ./*.sock
}

@test "spore run --config takes the same file" {
    need_kvm
    config hello
    jq '. + {"spore": {"agent": false, "exit_port": true}}' vm.json > run.json
    run -0 spore run --config run.json --console
    [[ $output == "hello from a bare guest"* ]]
    [ -s metrics ]
}

@test "200 clients at once, many of them killed: the guest goes on" {
    need_kvm
    # It fails if an answer is wrong or late, the guest stands still, or a
    # descriptor or a thread is left.
    run -0 env SPORE_TEST_MARK="$BATS_TEST_TMPDIR" timeout "$LIMIT" python3 \
        "$BATS_TEST_DIRNAME/api_storm.py" "$SPORE_FIRECRACKER" \
        "$SPORE_GUESTS/echo.elf" 200 4
    echo "$output"
    [ "$(jq '.killed_in_a_request' <<< "$output")" -gt 0 ]
    [ "$(jq '.killed_at_random' <<< "$output")" -gt 0 ]
    [ "$(jq '.guest_echo.n' <<< "$output")" -gt 0 ]
}

@test "paths and ids that are none, and bodies that are too long" {
    begin --http-api-max-payload-size 200
    [[ $(ask PUT "/drives/$(printf 'a%.0s' {1..900})" '{}') == *ID*400 ]]
    [[ $(ask PUT "/drives/a%00b" '{}') == *ID*400 ]]
    [[ $(ask GET "/$(printf 'a%.0s' {1..4096})") == *"Invalid URI"*400 ]]
    [[ $(ask PUT /boot-source "{\"boot_args\":\"$(printf 'a%.0s' {1..200})\"}") == \
        *"Request payload with size 216 is larger than the limit of 200 allowed by server."*413 ]]
    done_with PUT /spore/kill '{}'
}
