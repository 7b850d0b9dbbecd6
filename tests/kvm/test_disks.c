/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disk of a machine that is saved and put back while its guest writes to
 * it: a guest that knows what it wrote (tests/guests/traffic.c) goes on from
 * there, each clone by itself.
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
#include <unistd.h>

#include "snapshot/store.h"
#include "snapshot/verify.h"
#include "tests/kvm/support/bare.h"
#include "tests/kvm/support/traffic.h"
#include "tests/unit/support/snapshot_rig.h"

#define CHAIN  4u
#define RESETS 24u

static const struct traffic_count some = {.disk = 100};

struct saved {
    bool is_done;
    struct saver_result result;
};

static void on_saved(void *opaque, const struct saver_result *result)
{
    struct saved *s = opaque;

    s->is_done = true;
    s->result = *result;
}

/* Beside the running guest, as spore save does. */
static struct snapshot_id save(
    struct traffic *t, const char *store, bool is_diff)
{
    const struct saver_request request = {
        .store = store, .diff = is_diff, .track = true};
    struct saved s = {0};
    struct err err;

    if (saver_start(&t->inst.saver, &t->inst, &request, on_saved, &s, &err) < 0)
        fail_msg("%s", err.text);
    while (!s.is_done)
        traffic_turn(t);
    if (s.result.rc < 0)
        fail_msg("%s", s.result.err.text);
    return s.result.id;
}

static struct traffic *restore(
    const char *path, const struct snapshot_id *id, bool has_disk)
{
    struct store store;
    struct snap snap;
    struct traffic *t;
    struct err err;

    if (store_open(&store, path, false, &err) < 0 ||
        snap_open(&store, id, &snap, &err) < 0 ||
        verify_snap(&snap, NULL, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(snap.disk_count, has_disk);
    t = traffic_restore(&snap);
    snap_close(&snap);
    store_close(&store);
    return t;
}

static void test_chain_of_a_busy_guest(void **state)
{
    const char *store = *state;
    struct traffic *t = traffic_new(MACHINE_TRACK_LATER);
    struct snapshot_id ids[CHAIN];

    traffic_start(t);
    for (unsigned int i = 0; i < CHAIN; i++) {
        traffic_run(t, &some);
        ids[i] = save(t, store, i > 0);
    }
    traffic_run(t, &some);
    for (unsigned int i = 0; i < CHAIN; i++) {
        /* Two at once, beside the one that was saved. */
        struct traffic *one = restore(store, &ids[i], true);
        struct traffic *two = restore(store, &ids[i], true);

        traffic_start(one);
        traffic_start(two);
        traffic_run(one, &some);
        traffic_run(two, &some);
        traffic_run(one, &some);
        traffic_run(t, &some);
        traffic_free(one);
        traffic_free(two);
    }
    traffic_free(t);
}

/* Saved, restored, saved: of each only the one before is there. */
static void test_generations(void **state)
{
    const char *store = *state;
    struct traffic *first = traffic_new(MACHINE_TRACK_LATER);
    struct traffic *t = first;

    traffic_start(t);
    for (unsigned int i = 0; i < CHAIN; i++) {
        struct snapshot_id id;
        struct traffic *next;

        traffic_run(t, &some);
        id = save(t, store, false);
        traffic_run(t, &some);
        next = restore(store, &id, true);
        /* The file of the first one's disk is that of all. */
        if (t != first)
            traffic_free(t);
        t = next;
        traffic_start(t);
    }
    traffic_run(t, &some);
    traffic_free(t);
    traffic_free(first);
}

static void test_resets_of_a_busy_guest(void **state)
{
    struct traffic *t = traffic_new(MACHINE_TRACK_LATER);
    uint32_t level = 0;
    struct err err;

    (void)state;
    traffic_start(t);
    traffic_run(t, &some);
    for (unsigned int i = 0; i < RESETS; i++) {
        if (i % 8 == 0 && instance_push(&t->inst, &level, &err) < 0)
            fail_msg("%s", err.text);
        traffic_run(t, &(struct traffic_count){.disk = 50});
        level = i % 5 == 4 ? level / 2 : level;
        if (instance_reset(&t->inst, level, &err) < 0)
            fail_msg("%s", err.text);
        traffic_expect_sound(t);
    }
    traffic_run(t, &some);
    traffic_free(t);
}

static int set_up(void **state)
{
    static char path[64];

    (void)snprintf(path, sizeof(path), "/tmp/spore-test-XXXXXX");
    assert_non_null(mkdtemp(path));
    *state = path;
    return 0;
}

static int tear_down(void **state)
{
    snapshot_rig_remove_tree(*state);
    return 0;
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_chain_of_a_busy_guest),
        T(test_generations),
        T(test_resets_of_a_busy_guest),
    };
    int rc = bare_need_kvm();

    return rc != 0 ? rc : cmocka_run_group_tests(tests, NULL, NULL);
}
