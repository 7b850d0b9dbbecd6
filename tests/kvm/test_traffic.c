/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots and resets of a machine in the middle of disk, network and vsock
 * traffic. SPORE_ROUNDS sets how often; CONTRIBUTING.md has the long runs.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/kvm/support/bare.h"
#include "tests/kvm/support/traffic.h"
#include "vmm/base/log.h"

static void test_all_of_it_flows(void **state)
{
    struct traffic *t = traffic_new(MACHINE_TRACK_LATER);
    struct traffic_mailbox told;

    (void)state;
    log_set_level(LOG_DEBUG);
    traffic_start(t);
    traffic_run(t, &(struct traffic_count){
                       .ticks = 3, .disk = 500, .net = 500, .vsock = 500});
    traffic_read(t, &told);
    print_message("%u turns %u ticks %u disk %u net %u vsock\n", told.turns,
        told.ticks, told.disk, told.net, told.vsock);
    assert_int_equal(told.net_gaps + told.net_lost, 0);
    assert_int_equal(told.vsock_resets, 0);
    assert_int_equal(atomic_load(&t->peer.connections), 1);
    traffic_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_of_it_flows),
    };
    int rc = bare_need_kvm();

    return rc != 0 ? rc : cmocka_run_group_tests(tests, NULL, NULL);
}
