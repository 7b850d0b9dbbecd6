/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots and resets of a machine in the middle of disk, network and vsock
 * traffic. SPORE_ROUNDS says how many of each, SPORE_TEST (a pattern) which;
 * tests/README.md has the long runs.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/kvm/support/bare.h"
#include "tests/kvm/support/traffic.h"
#include "vmm/machine_snapshot.h"

#define RESETS_DEFAULT    60u
#define SNAPSHOTS_DEFAULT 10u

/* Where the guest's timer, vector 64, waits to be taken (Intel SDM 3, 11.8.4)
 */
#define LAPIC_IRR_64 0x220

/* Enough that every device had requests in flight and the timer fired. */
static const struct traffic_count a_while = {
    .ticks = 2, .disk = 20, .net = 20, .vsock = 20};
static const struct traffic_count a_moment = {.disk = 4, .net = 2, .vsock = 1};

static uint32_t rounds(uint32_t otherwise)
{
    const char *text = getenv("SPORE_ROUNDS");

    return text == NULL ? otherwise : (uint32_t)strtoul(text, NULL, 10);
}

static void test_all_of_it_flows(void **state)
{
    struct traffic *t = traffic_new(MACHINE_TRACK_LATER);
    struct traffic_mailbox told;

    (void)state;
    traffic_start(t);
    traffic_run(t, &(struct traffic_count){
                       .ticks = 3, .disk = 200, .net = 200, .vsock = 200});
    traffic_read(t, &told);
    assert_int_equal(told.net_gaps + told.net_lost, 0);
    assert_int_equal(told.vsock_resets, 0);
    assert_int_equal(atomic_load(&t->peer.connections), 1);
    traffic_free(t);
}

/* ---- resets -------------------------------------------------------------- */

/* All of a machine that is paused. */
struct copy {
    uint8_t *ram;
    struct frozen frozen;
};

/* Time goes on: the timer may fire at any moment, and its interrupt wait. */
static void forget_tick(struct frozen *f)
{
    char *irr = &f->vcpus[0].lapic.regs[LAPIC_IRR_64];

    *irr = (char)(*irr & ~1);
}

/* Devices do not move, having been stopped or just put back. */
static void take_state(struct traffic *t, struct frozen *ret_frozen)
{
    struct machine *m = &t->inst.machine;
    struct parts parts;
    struct err err;

    if (machine_prepare_parts(m, &err) < 0)
        fail_msg("%s", err.text);
    parts = machine_parts(m);
    if (frozen_take(ret_frozen, &parts, &err) < 0)
        fail_msg("%s", err.text);
    forget_tick(ret_frozen);
}

static struct copy take(struct traffic *t)
{
    struct gmem *mem = &t->inst.machine.mem;
    struct copy c = {.ram = malloc(mem->size)};

    assert_non_null(c.ram);
    take_state(t, &c.frozen);
    gmem_copy_pages(mem, 0, gmem_page_count(mem), c.ram);
    return c;
}

static void drop(struct copy *c)
{
    free(c->ram);
    frozen_fini(&c->frozen);
}

static void expect_same(struct traffic *t, const struct copy *want)
{
    struct parts parts = machine_parts(&t->inst.machine);
    struct frozen got;
    char text[128];

    take_state(t, &got);
    for (uint64_t page = 0; page < gmem_page_count(parts.mem); page++) {
        if (!gmem_page_equals(
                parts.mem, page, want->ram + page * NUM_PAGE_SIZE))
            fail_msg("page %llu differs", (unsigned long long)page);
    }
    if (frozen_differs(&got, &want->frozen, &parts, text, sizeof(text)))
        fail_msg("%s", text);
    frozen_fini(&got);
}

static void do_or_fail(
    int (*action)(struct instance *inst, struct err *err), struct traffic *t)
{
    struct err err;

    if (action(&t->inst, &err) < 0)
        fail_msg("%s", err.text);
}

static void reset(struct traffic *t)
{
    struct err err;

    if (reset_to_level(t->inst.reset, 0, &err) < 0)
        fail_msg("%s", err.text);
}

/* What a fresh restore of a snapshot of it would be. */
static struct copy take_restored(struct traffic *t)
{
    const struct machine_snapshot_options options = {0};
    char folder[] = "/tmp/spore-store-XXXXXX";
    struct traffic *fresh;
    struct snapshot_id id;
    struct store store;
    struct snap snap;
    struct copy copy;
    struct err err;

    assert_non_null(mkdtemp(folder));
    if (store_open(&store, folder, true, &err) < 0 ||
        machine_snapshot_paused(&t->inst.machine, &store, &options, &id, &err) <
            0 ||
        snap_open(&store, &id, &snap, &err) < 0)
        fail_msg("%s", err.text);
    fresh = traffic_restore(&snap);
    copy = take(fresh);
    traffic_free(fresh);
    snap_close(&snap);
    assert_int_equal(store_remove(&store, &id, NULL), 0);
    store_close(&store);
    assert_int_equal(rmdir(folder), 0);
    return copy;
}

static void test_resets_in_the_middle_of_it(void **state)
{
    struct traffic *t = traffic_new(MACHINE_TRACK);
    uint32_t count = rounds(RESETS_DEFAULT);
    struct copy root;
    struct err err;
    uint32_t level;

    (void)state;
    traffic_start(t);
    traffic_run(t, &a_while);
    do_or_fail(instance_pause, t);
    if (instance_push(&t->inst, &level, &err) < 0)
        fail_msg("%s", err.text);
    /* Nothing has moved since the level was taken when this returns. */
    reset(t);
    root = take_restored(t);
    for (uint32_t i = 0; i < count; i++) {
        reset_resume(t->inst.reset);
        do_or_fail(instance_resume, t);
        traffic_run(t, i % 16 == 0 ? &a_while : &a_moment);
        do_or_fail(instance_pause, t);
        reset(t);
        expect_same(t, &root);
    }
    drop(&root);
    traffic_free(t);
}

/* ---- snapshots ----------------------------------------------------------- */

struct saved {
    bool is_done;
    struct saver_result result;
};

static void on_saved(void *opaque, const struct saver_result *result)
{
    struct saved *saved = opaque;

    saved->is_done = true;
    saved->result = *result;
}

/* Beside the running guest, as `spore save` does. */
static struct snapshot_id save(
    struct traffic *t, const struct store *store, bool is_diff)
{
    const struct saver_request request = {
        .store = store->path, .diff = is_diff, .track = true};
    struct saved saved = {0};
    struct err err;

    if (saver_start(
            &t->inst.saver, &t->inst, &request, on_saved, &saved, &err) < 0)
        fail_msg("%s", err.text);
    while (!saved.is_done)
        traffic_turn(t);
    if (saved.result.rc < 0)
        fail_msg("%s", saved.result.err.text);
    return saved.result.id;
}

/* A copy goes on with its disk, on a new connection, with its own peer. */
static void expect_goes_on(
    const struct store *store, const struct snapshot_id *id)
{
    struct traffic_mailbox before;
    struct traffic_mailbox after;
    struct traffic *t;
    struct snap snap;
    struct err err;

    if (snap_open(store, id, &snap, &err) < 0)
        fail_msg("%s", err.text);
    t = traffic_restore(&snap);
    snap_close(&snap);
    traffic_read(t, &before);
    traffic_start(t);
    do {
        traffic_run(t, &a_moment);
        traffic_read(t, &after);
    } while (after.vsock_events == before.vsock_events ||
             atomic_load(&t->peer.connections) == 0);
    traffic_run(t, &a_moment);
    traffic_read(t, &after);
    /* One event for the transport, and one connection since. */
    assert_int_equal(after.vsock_events - before.vsock_events, 1);
    assert_int_equal(after.vsock_resets - before.vsock_resets, 1);
    assert_int_equal(atomic_load(&t->peer.connections), 1);
    traffic_free(t);
}

static void test_snapshots_in_the_middle_of_it(void **state)
{
    struct traffic *t = traffic_new(MACHINE_TRACK_LATER);
    uint32_t count = rounds(SNAPSHOTS_DEFAULT);
    char folder[] = "/tmp/spore-store-XXXXXX";
    struct traffic_mailbox told;
    struct snapshot_id last = {0};
    struct store store;
    struct err err;

    (void)state;
    assert_non_null(mkdtemp(folder));
    if (store_open(&store, folder, true, &err) < 0)
        fail_msg("%s", err.text);
    traffic_start(t);
    traffic_run(t, &a_while);
    for (uint32_t i = 0; i < count; i++) {
        struct snapshot_id id = save(t, &store, i % 8 != 0);

        traffic_run(t, &a_moment);
        if (i > 0)
            assert_int_equal(store_remove(&store, &last, NULL), 0);
        /* Its loop does not run meanwhile. */
        do_or_fail(instance_pause, t);
        expect_goes_on(&store, &id);
        do_or_fail(instance_resume, t);
        last = id;
    }
    /* To the machine itself it was as if nothing had been. */
    traffic_read(t, &told);
    assert_int_equal(told.net_gaps + told.net_lost, 0);
    assert_int_equal(told.vsock_resets, 0);
    assert_int_equal(atomic_load(&t->peer.connections), 1);
    traffic_free(t);
    assert_int_equal(store_remove(&store, &last, NULL), 0);
    store_close(&store);
    assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_of_it_flows),
        cmocka_unit_test(test_resets_in_the_middle_of_it),
        cmocka_unit_test(test_snapshots_in_the_middle_of_it),
    };
    int rc = bare_need_kvm();

    /* The other side writes to machines that have gone. */
    (void)signal(SIGPIPE, SIG_IGN);
    cmocka_set_test_filter(getenv("SPORE_TEST"));
    return rc != 0 ? rc : cmocka_run_group_tests(tests, NULL, NULL);
}
