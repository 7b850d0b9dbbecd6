/* SPDX-License-Identifier: Apache-2.0 */
/* --disk, --net and --balloon: what is behind their commas. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/cc.h"
#include "vmm/config.h"
#include "vmm/run_devices.h"

static int set_up(void **state)
{
    static struct config config;

    config_init(&config);
    *state = &config;
    return 0;
}

static int tear_down(void **state)
{
    config_fini(*state);
    return 0;
}

typedef int add_fn(struct config *config, const char *text, struct err *err);

static int add_disk(struct config *config, const char *text, struct err *err)
{
    return run_devices_add_drive(config, text, false, err);
}

static int add_root(struct config *config, const char *text, struct err *err)
{
    return run_devices_add_drive(config, text, true, err);
}

static void accept(add_fn *add, struct config *config, const char *text)
{
    struct err err;

    if (add(config, text, &err) < 0 || config_check(config, &err) < 0)
        fail_msg("%s: %s", text, err.text);
}

static void refuse(
    add_fn *add, struct config *config, const char *text, const char *error)
{
    struct err err = {.text = ""};
    int rc = add(config, text, &err);

    if (rc >= 0 || strcmp(err.text, error) != 0)
        fail_msg("%s: %d '%s', expected '%s'", text, rc, err.text, error);
}

static void test_disks(void **state)
{
    struct config *config = *state;
    const struct config_drive *d = config->drives;

    accept(add_disk, config, "a,overlay");
    accept(add_disk, config, "b,overlay=o,queues=4,max-growth=3M");
    accept(add_disk, config, "c,x,rate=10M,iops=500,ro");
    accept(add_disk, config, "d,queues,rate");
    assert_string_equal(d[0].path, "a");
    assert_int_equal(d[0].overlay, CONFIG_OVERLAY_MEMORY);
    assert_string_equal(d[1].path, "b");
    assert_int_equal(d[1].overlay, CONFIG_OVERLAY_FILE);
    assert_string_equal(d[1].overlay_path, "o");
    assert_int_equal(d[1].queues, 4);
    assert_int_equal(d[1].max_growth, 3 << 20);
    assert_string_equal(d[2].path, "c,x");
    assert_true(d[2].is_read_only);
    assert_int_equal(d[2].limits.bytes.size, 10 << 20);
    assert_int_equal(d[2].limits.bytes.refill_ms, 1000);
    assert_int_equal(d[2].limits.ops.size, 500);
    assert_int_equal(d[2].queues, 1);
    /* Without a value they are no words of ours. */
    assert_string_equal(d[3].path, "d,queues,rate");
    refuse(add_disk, config, "e,queues=0",
        "--disk e,queues=0: queues: '0' is not a number from 1 to 8");
    refuse(add_disk, config, "e,overlay,max-growth=4095",
        "--disk e,overlay,max-growth=4095: max-growth: '4095' is no size: "
        "write bytes, at least 4096, as in 64K, 10M, 1G");
    refuse(add_disk, config, "e,rate=0",
        "--disk e,rate=0: rate: '0' is no rate: write so much a second, as in "
        "500, 64K, 10M");
    refuse(add_disk, config, "e,iops=1T",
        "--disk e,iops=1T: iops: '1T' is no rate: write so much a second, as "
        "in 500, 64K, 10M");
    assert_int_equal(config->drive_count, 4);
    refuse(add_root, config, "e,pmem,overlay",
        "e: pmem goes with ro only: it is memory and no drive");
    refuse(run_devices_add_pmem, config, "e,queues=2",
        "e: pmem goes with ro only: it is memory and no drive");
    accept(add_root, config, "e,pmem,ro");
    assert_int_equal(config->drive_count, 4);
    assert_int_equal(config->pmem_count, 1);
}

static void test_nets(void **state)
{
    static const uint8_t mac[CONFIG_MAC_BYTES] = {2, 0, 0, 0, 0, 0xab};
    struct config *config = *state;
    const struct config_net *n = config->nets;

    accept(run_devices_add_net, config,
        "user,tcp=8080:80,udp=0.0.0.0/53,mac=02:00:00:00:00:AB,mtu=1500,"
        "tcp=22");
    accept(run_devices_add_net, config,
        "tap=t0,ip=10.0.0.2/24,gw=10.0.0.1,rx=1M,tx=2K,rx-ops=3,tx-ops=4G");
    accept(run_devices_add_net, config, "fd=9");
    accept(run_devices_add_net, config, "stream=/run/a=b");
    accept(run_devices_add_net, config, "switch=lab");
    assert_int_equal(config->net_count, 5);
    assert_string_equal(n[0].id, "eth0");
    assert_int_equal(n[0].backend, CONFIG_NET_USER);
    assert_int_equal(n[0].forward_count, 3);
    assert_int_equal(n[0].forwards[0].address, 0x7f000001);
    assert_int_equal(n[0].forwards[0].host_port, 8080);
    assert_int_equal(n[0].forwards[0].guest_port, 80);
    assert_int_equal(n[0].forwards[1].address, 0);
    assert_true(n[0].forwards[1].is_udp);
    assert_int_equal(n[0].forwards[2].guest_port, 22);
    assert_false(n[0].forwards[2].is_udp);
    assert_memory_equal(n[0].mac, mac, sizeof(mac));
    assert_int_equal(n[0].mtu, 1500);
    assert_string_equal(n[1].target, "t0");
    assert_int_equal(n[1].address, 0x0a000002);
    assert_int_equal(n[1].prefix, 24);
    assert_int_equal(n[1].gateway, 0x0a000001);
    assert_int_equal(n[1].rx.bytes.size, 1 << 20);
    assert_int_equal(n[1].tx.bytes.size, 2 << 10);
    assert_int_equal(n[1].rx.ops.size, 3);
    assert_int_equal(n[1].tx.ops.size, UINT64_C(4) << 30);
    assert_string_equal(n[2].id, "eth2");
    assert_int_equal(n[2].fd, 9);
    assert_string_equal(n[3].target, "/run/a=b");
    assert_string_equal(n[4].target, "lab");
}

static void test_refuses_nets(void **state)
{
    static const struct {
        const char *text;
        const char *error;
    } cases[] = {
        {"", "it must begin with user, tap=NAME, fd=N, stream=PATH or "
             "switch=NAME"},
        {"mac=02:00:00:00:00:01,user",
            "it must begin with user, tap=NAME, fd=N, stream=PATH or "
            "switch=NAME"},
        {"user=x", "user takes no value"},
        {"tap", "tap needs a value: tap=..."},
        {"tap=", "tap needs a value: tap=..."},
        {"fd=2", "fd: '2' is not a number from 3 to 2147483647"},
        {"fd=x", "fd: 'x' is not a number from 3 to 2147483647"},
        {"user,", ": unknown word"},
        {"user,MTU=1", "MTU: unknown word"},
        {"user,mtu", "mtu needs a value: mtu=..."},
        {"user,mtu=67", "mtu: '67' is not a number from 68 to 65535"},
        {"user,mac=x",
            "mac: 'x' is no MAC address: write it as 02:00:5e:10:00:01"},
        {"user,ip=10.0.0.1",
            "ip: '10.0.0.1' is no address with its network: write it as "
            "10.0.0.2/24"},
        {"user,gw=1", "gw: '1' is no IPv4 address: write it as 10.0.0.2"},
        {"user,rx=", "rx: '' is no rate: write so much a second, as in 500, "
                     "64K, 10M"},
        {"user,tx-ops=9223372036854775807K",
            "tx-ops: '9223372036854775807K' is no rate: write so much a "
            "second, as in 500, 64K, 10M"},
        {"user,tcp=0",
            "tcp: '0' forwards no port: write HOSTPORT:GUESTPORT, or "
            "ADDRESS/HOSTPORT:GUESTPORT for an address other than 127.0.0.1"},
        {"tap=t,udp=53", "tcp and udp are for user only"},
    };
    struct config *config = *state;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char error[384];

        (void)snprintf(error, sizeof(error), "--net %s: %s", cases[i].text,
            cases[i].error);
        refuse(run_devices_add_net, config, cases[i].text, error);
    }
    assert_int_equal(config->net_count, 0);
}

static void test_too_many(void **state)
{
    struct config *config = *state;
    char text[256] = "user";

    for (unsigned int i = 0; i <= CONFIG_FORWARDS_MAX; i++)
        (void)strcat(text, ",tcp=1");
    assert_true(run_devices_add_net(config, text, NULL) < 0);
    for (unsigned int i = 0; i < CONFIG_NETS_MAX; i++)
        accept(run_devices_add_net, config, "user");
    refuse(run_devices_add_net, config, "user",
        "--net user: more than 8 network interfaces");
}

static void test_balloons(void **state)
{
    struct config *config = *state;

    accept(run_devices_set_balloon, config, "0");
    assert_true(config->has_balloon);
    assert_int_equal(config->balloon.target_mib, 0);
    assert_false(config->balloon.deflate_on_oom);
    accept(run_devices_set_balloon, config, "32,oom,stats=5,report,hint");
    assert_int_equal(config->balloon.target_mib, 32);
    assert_int_equal(config->balloon.stats_interval_s, 5);
    assert_true(config->balloon.deflate_on_oom);
    assert_true(config->balloon.page_reporting);
    assert_true(config->balloon.page_hinting);
    refuse(run_devices_set_balloon, config, "x",
        "--balloon x: 'x' is not a number from 0 to 4294967295");
    refuse(run_devices_set_balloon, config, "1,oom=1",
        "--balloon 1,oom=1: oom: unknown word");
    refuse(run_devices_set_balloon, config, "1,ooms",
        "--balloon 1,ooms: ooms: unknown word");
    refuse(run_devices_set_balloon, config, "1,stats",
        "--balloon 1,stats: stats needs a value: stats=...");
    refuse(run_devices_set_balloon, config, "1,stats=0",
        "--balloon 1,stats=0: stats: '0' is not a number from 1 to 65535");
    assert_int_equal(config->balloon.target_mib, 32);
}

static void test_ids_and_descriptors(void **state)
{
    struct config *config = *state;
    char text[32];
    int fds[2];

    accept(add_disk, config, "a.img,ro,id=data");
    assert_string_equal(config->drives[0].id, "data");
    assert_string_equal(config->drives[0].path, "a.img");
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(fcntl(fds[0], F_SETFD, 0), 0);
    (void)snprintf(text, sizeof(text), "fd=%d,id=x", fds[0]);
    accept(add_disk, config, text);
    (void)snprintf(text, sizeof(text), "/proc/self/fd/%d", fds[0]);
    assert_string_equal(config->drives[1].path, text);
    assert_int_equal(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
    (void)close(fds[0]);
    (void)close(fds[1]);
    accept(add_disk, config, "./fd=9");
    assert_string_equal(config->drives[2].path, "./fd=9");
    refuse(add_disk, config, "fd=2",
        "--disk fd=2: fd: '2' is not a number from 3 to 2147483647");
    refuse(add_disk, config,
        "fd=", "--disk fd=: fd: '' is not a number from 3 to 2147483647");
    refuse(add_disk, config, "fd=1048000",
        "--disk fd=1048000: descriptor 1048000: Bad file descriptor");
    accept(run_devices_add_net, config, "user,id=lan");
    assert_string_equal(config->nets[0].id, "lan");
    accept(run_devices_add_pmem, config, "p.img,id=p");
    assert_string_equal(config->pmems[0].id, "p");
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE(test_disks),
        CASE(test_ids_and_descriptors),
        CASE(test_nets),
        CASE(test_refuses_nets),
        CASE(test_too_many),
        CASE(test_balloons),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
