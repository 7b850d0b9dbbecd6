/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interfaces, entropy, balloon and virtio console as parts of a machine, and
 * what can be changed in it while it runs.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/kvm/support/bare.h"
#include "vmm/base/num.h"
#include "vmm/machine_live.h"

/* A machine with one of each; `peer` is the other end of its interface. */
static struct bare *make(int *ret_peer)
{
    struct bare *b = bare_prepare(&(struct bare_options){.guest = "exit42"});
    struct config_net net = config_net_default();
    struct err err;
    int fds[2];

    assert_int_equal(
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    net.id = (char[]){"eth0"};
    net.backend = CONFIG_NET_FD;
    net.fd = fds[1];
    net.rx.ops = (struct rate_bucket_config){.size = 7, .refill_ms = 1000};
    net.tx.bytes = (struct rate_bucket_config){.size = 9, .refill_ms = 1000};
    assert_int_equal(config_add_net(&b->config, &net, &err), 0);
    b->config.has_entropy = true;
    b->config.has_balloon = true;
    b->config.balloon = (struct config_balloon){
        .target_mib = 1, .stats_interval_s = 5, .page_hinting = true};
    b->config.has_vconsole = true;
    *ret_peer = fds[0];
    return b;
}

static struct bare *make_built(int *ret_peer)
{
    struct bare *b = make(ret_peer);
    struct err err;

    if (bare_build(b, &err) < 0)
        fail_msg("%s", err.text);
    return b;
}

static void test_each_is_there_and_gone(void **state)
{
    unsigned int before = bare_count_fds();
    struct bare *b;
    int peer = -1;
    char c;

    (void)state;
    b = make_built(&peer);
    assert_int_equal(b->machine.virtio_count, 4);
    for (uint32_t i = 0; i < b->machine.device_count; i++) {
        for (uint32_t k = 0; k < i; k++)
            assert_string_not_equal(
                b->machine.devices[i]->id, b->machine.devices[k]->id);
    }
    assert_int_equal(b->machine.balloon->state.target, 256);
    assert_int_equal(b->machine.nets[0]->rx.rate.config.ops.size, 7);
    bare_start(b);
    bare_wait_end(b);
    assert_int_equal(b->end.status, 42);
    bare_free(b);
    /* The descriptor was the machine's. */
    assert_int_equal(read(peer, &c, 1), 0);
    (void)close(peer);
    assert_int_equal(bare_count_fds(), before);
}

static void test_interface_that_cannot_be_had(void **state)
{
    unsigned int before = bare_count_fds();
    struct config_net net = config_net_default();
    struct bare *b;
    struct err err;
    int peer = -1;

    (void)state;
    b = make(&peer);
    net.id = (char[]){"eth1"};
    net.target = (char[]){"no-such-tap"};
    assert_int_equal(config_add_net(&b->config, &net, &err), 0);
    assert_int_equal(bare_build(b, &err), -ENODEV);
    assert_non_null(strstr(err.text, "network interface eth1: "));
    assert_non_null(strstr(err.text, "no-such-tap"));
    bare_free(b);
    (void)close(peer);
    assert_int_equal(bare_count_fds(), before);
}

static void test_balloon(void **state)
{
    struct machine_balloon_info info;
    struct machine *m;
    struct bare *b;
    struct err err;
    int peer = -1;

    (void)state;
    b = make_built(&peer);
    m = &b->machine;
    assert_int_equal(machine_balloon_set(m, 3, &err), 0);
    assert_int_equal(machine_balloon_set_interval(m, 9, &err), 0);
    assert_int_equal(machine_balloon_info(m, &info, &err), 0);
    assert_int_equal(info.target_pages, 3 * 256);
    assert_int_equal(info.actual_pages, 0);
    assert_true(info.has_stats);
    assert_int_equal(info.interval_s, 9);
    assert_int_equal(machine_balloon_set(m, 17, &err), -EINVAL);
    assert_int_equal(machine_balloon_set(m, UINT64_MAX, &err), -EINVAL);
    assert_int_equal(machine_balloon_set_interval(m, 0, &err), -EINVAL);
    assert_int_equal(machine_balloon_set_interval(m, 65536, &err), -EINVAL);
    assert_int_equal(machine_balloon_start_hinting(m, true, &err), -EOPNOTSUPP);
    assert_int_equal(machine_balloon_stop_hinting(m, &err), 0);
    assert_int_equal(machine_balloon_info(m, &info, &err), 0);
    assert_int_equal(info.target_pages, 3 * 256);
    bare_free(b);
    (void)close(peer);
}

static void test_limits(void **state)
{
    const struct rate_change none = {.has_bytes = false};
    const struct rate_change bad = {.has_ops = true,
        .limits.ops = {.size = 1, .refill_ms = RATE_REFILL_MS_MAX + 1}};
    const struct rate_change more = {
        .has_bytes = true, .limits.bytes = {.size = 77, .refill_ms = 5}};
    struct machine_net *n;
    struct machine *m;
    struct bare *b;
    struct err err;
    int peer = -1;

    (void)state;
    b = make_built(&peer);
    m = &b->machine;
    n = machine_net_find(m, "eth0");
    assert_non_null(n);
    assert_null(machine_net_find(m, "eth1"));
    assert_null(machine_drive_find(m, "eth0"));
    assert_int_equal(machine_net_limits(m, "eth0", &more, &more, &err), 0);
    assert_int_equal(n->rx.rate.config.bytes.size, 77);
    assert_int_equal(n->rx.rate.config.ops.size, 7);
    assert_int_equal(n->tx.rate.config.bytes.size, 77);
    assert_int_equal(machine_net_limits(m, "eth0", &none, &bad, &err), -EINVAL);
    assert_int_equal(machine_net_limits(m, "eth0", &bad, &none, &err), -EINVAL);
    assert_int_equal(n->rx.rate.config.ops.size, 7);
    assert_int_equal(n->tx.rate.config.ops.size, 0);
    assert_int_equal(machine_net_limits(m, "x", &none, &none, &err), -ENODEV);
    assert_string_equal(err.text, "there is no network interface 'x'");
    bare_free(b);
    (void)close(peer);
}

static void test_machine_without_them(void **state)
{
    struct machine_balloon_info info;
    struct bare *b;
    struct err err;

    (void)state;
    b = bare_new(&(struct bare_options){.guest = "exit42"});
    assert_int_equal(machine_balloon_set(&b->machine, 1, &err), -ENODEV);
    assert_int_equal(machine_balloon_info(&b->machine, &info, &err), -ENODEV);
    assert_int_equal(machine_balloon_stop_hinting(&b->machine, &err), -ENODEV);
    bare_free(b);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_is_there_and_gone),
        cmocka_unit_test(test_interface_that_cannot_be_had),
        cmocka_unit_test(test_balloon),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_machine_without_them),
    };
    int status = bare_need_kvm();

    return status != 0 ? status : cmocka_run_group_tests(tests, NULL, NULL);
}
