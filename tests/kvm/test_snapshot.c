/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Machines saved and restored: what the guest had is there to the byte, and
 * it goes on.
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
#include "tests/kvm/support/bare.h"
#include "tests/kvm/support/writer.h"
#include "vmm/machine_restore.h"
#include "vmm/machine_snapshot.h"

struct fixture {
    char path[64];
    struct store store;
};

static int set_up(void **state)
{
    static struct fixture f;
    struct err err;

    (void)snprintf(f.path, sizeof(f.path), "/tmp/spore-test-XXXXXX");
    assert_non_null(mkdtemp(f.path));
    if (store_open(&f.store, f.path, true, &err) < 0)
        fail_msg("%s", err.text);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    struct store_entry *entries;
    size_t count;

    assert_int_equal(store_list(&f->store, &entries, &count, NULL), 0);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(store_remove(&f->store, &entries[i].id, NULL), 0);
    free(entries);
    store_close(&f->store);
    /* Nothing but snapshots was in it. */
    assert_int_equal(rmdir(f->path), 0);
    return 0;
}

static void open_snap(
    struct fixture *f, const struct snapshot_id *id, struct snap *ret_snap)
{
    struct err err;

    if (snap_open(&f->store, id, ret_snap, &err) < 0)
        fail_msg("%s", err.text);
}

static struct snapshot_id save_paused(
    struct fixture *f, struct bare *b, bool is_diff)
{
    const struct machine_snapshot_options options = {
        .diff = is_diff, .track = true};
    struct snapshot_id id;
    struct err err;

    if (machine_snapshot_paused(&b->machine, &f->store, &options, &id, &err) <
        0)
        fail_msg("%s", err.text);
    return id;
}

static struct snapshot_id save_running(
    struct fixture *f, struct bare *b, bool is_diff)
{
    const struct machine_snapshot_options options = {
        .diff = is_diff, .track = true};
    struct machine_snapshot s;
    struct snapshot_id id = {0};
    struct err err;

    if (machine_snapshot_begin(&s, &b->machine, &f->store, &options, &err) <
            0 ||
        machine_save_copy(&s.save, true, &err) < 0 ||
        machine_save_stop(&s.save, true, &err) < 0 ||
        machine_snapshot_finish(&s, &id, &err) < 0)
        fail_msg("%s", err.text);
    machine_snapshot_fini(&s);
    return id;
}

/* ---- the guest that keeps values everywhere ------------------------------ */

static void test_every_register_is_kept(void **state)
{
    struct fixture *f = *state;
    struct bare *b = bare_new(&(struct bare_options){.guest = "state"});

    bare_start(b);
    for (int i = 0; i < 5; i++) {
        struct snapshot_id id;
        struct snap snap;
        struct bare *next;
        uint32_t rounds;

        bare_wait_change(b, BARE_MAILBOX + 8, bare_peek(b, BARE_MAILBOX + 8));
        machine_pause(&b->machine);
        id = save_paused(f, b, false);
        rounds = bare_peek(b, BARE_MAILBOX);
        bare_free(b);
        open_snap(f, &id, &snap);
        next = bare_restore(&snap, MACHINE_TRACK_LATER);
        snap_close(&snap);
        assert_int_equal(bare_peek(next, BARE_MAILBOX), rounds);
        bare_start(next);
        /* Ring 3, ring 0 and the timer's ticks all go on. */
        bare_wait_change(next, BARE_MAILBOX, bare_peek(next, BARE_MAILBOX));
        bare_wait_change(
            next, BARE_MAILBOX + 4, bare_peek(next, BARE_MAILBOX + 4));
        bare_wait_change(
            next, BARE_MAILBOX + 8, bare_peek(next, BARE_MAILBOX + 8));
        assert_int_equal(next->ends, 0);
        b = next;
    }
    bare_free(b);
}

/* ---- the guest that writes pages ----------------------------------------- */

static struct bare *restore(struct fixture *f, const struct snapshot_id *id)
{
    struct snap snap;
    struct bare *b;

    open_snap(f, id, &snap);
    b = bare_restore(&snap, MACHINE_TRACK_LATER);
    snap_close(&snap);
    return b;
}

static void expect_snapshot(struct fixture *f, const struct snapshot_id *id)
{
    struct bare *b = restore(f, id);
    uint32_t count = bare_peek(b, WRITER_TOLD);

    writer_expect_pages(b);
    bare_start(b);
    bare_wait_change(b, WRITER_TOLD, count);
    machine_pause(&b->machine);
    writer_expect_pages(b);
    bare_free(b);
}

/* A chain of saves of a machine that runs, each loaded by itself. */
static void check_live_chain(struct fixture *f, uint32_t ring)
{
    struct snapshot_id ids[6];
    struct bare *b = writer_start(ring, MACHINE_TRACK_LATER);

    for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
        bare_wait_change(b, WRITER_TOLD, bare_peek(b, WRITER_TOLD));
        ids[i] = save_running(f, b, i > 0);
    }
    machine_pause(&b->machine);
    writer_expect_pages(b);
    bare_free(b);
    for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
        expect_snapshot(f, &ids[i]);
    /* The last one needs no other. */
    for (size_t i = 0; i + 1 < ARRAY_SIZE(ids); i++)
        assert_int_equal(store_remove(&f->store, &ids[i], NULL), 0);
    expect_snapshot(f, &ids[ARRAY_SIZE(ids) - 1]);
}

static void test_saved_while_it_runs_in_ring_0(void **state)
{
    check_live_chain(*state, 0);
}

static void test_saved_while_it_runs_in_ring_3(void **state)
{
    check_live_chain(*state, 3);
}

/* The machine's half of a save alone, as if the files were another's. */
static int capture(struct fixture *f, struct bare *b, struct assembly *a,
    const struct snapshot_id *parent, uint32_t more, struct machine_save *s,
    struct err *err)
{
    const struct machine_save_options options = {
        .parent = *parent, .track = true};
    const struct assembly_options assembly = {
        .diff = !snapshot_id_is_zero(parent)};
    int fds[CAPTURE_IMAGES_MAX];
    struct capture_plan plan;
    int rc;

    machine_save_plan(&b->machine, &plan);
    plan.base = *parent;
    assert_int_equal(assembly_begin(a, &f->store, &plan, &assembly, err), 0);
    for (uint32_t i = 0; i < CAPTURE_IMAGES_MAX; i++)
        fds[i] = a->image_fds[0];
    rc = machine_save_begin(
        s, &b->machine, fds, plan.image_count + more, &options, err);
    if (rc < 0)
        return rc;
    if (machine_save_copy(s, true, err) < 0 ||
        machine_save_stop(s, true, err) < 0 ||
        machine_save_finish(s, a->capture_fd, err) < 0)
        fail_msg("%s", err->text);
    return 0;
}

/* A parent that is not what the machine was last saved to is refused. */
static void test_a_wrong_parent_is_refused(void **state)
{
    struct fixture *f = *state;
    struct bare *b = writer_start(0, MACHINE_TRACK_LATER);
    struct snapshot_id first = save_running(f, b, false);
    struct snapshot_id second = save_running(f, b, false);
    struct machine_save s;
    struct assembly a;
    struct err err;

    assert_int_equal(capture(f, b, &a, &first, 0, &s, &err), -EINVAL);
    assembly_fini(&a);
    assert_int_equal(capture(f, b, &a, &second, 1, &s, &err), -EINVAL);
    assembly_fini(&a);
    /* One that nobody made a snapshot of loses nothing. */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(capture(f, b, &a, &second, 0, &s, &err), 0);
        machine_save_fini(&s);
        assembly_fini(&a);
        bare_wait_change(b, WRITER_TOLD, bare_peek(b, WRITER_TOLD));
    }
    second = save_running(f, b, true);
    bare_free(b);
    expect_snapshot(f, &second);
}

/* The client's half: what it takes over cannot change any more. */
static void test_a_capture_is_only_taken_whole(void **state)
{
    struct fixture *f = *state;
    struct bare *b = writer_start(0, MACHINE_TRACK_LATER);
    const struct snapshot_id none = {0};
    struct snapshot_id id;
    struct machine_save s;
    struct assembly a;
    struct err err;
    int kept;

    assert_int_equal(capture(f, b, &a, &none, 0, &s, &err), 0);
    kept = dup(a.image_fds[0]);
    assert_true(kept >= 0);
    assert_int_equal(assembly_reclaim(&a, &err), -EBUSY);
    machine_save_fini(&s);
    assembly_fini(&a);
    (void)close(kept);

    assert_int_equal(capture(f, b, &a, &none, 0, &s, &err), 0);
    assert_int_equal(
        ftruncate(a.image_fds[0], (off_t)(a.images[0].pages / 2) << 12), 0);
    assert_int_equal(assembly_reclaim(&a, &err), -EBADMSG);
    machine_save_fini(&s);
    assembly_fini(&a);

    assert_int_equal(capture(f, b, &a, &none, 0, &s, &err), 0);
    assert_int_equal(assembly_reclaim(&a, &err), 0);
    assert_int_equal(pwrite(a.capture_fd, "x", 1, 0), -1);
    assert_int_equal(assembly_finish(&a, &id, &err), 0);
    assembly_fini(&a);
    assert_int_equal(machine_save_commit(&s, &id, &err), 0);
    machine_save_fini(&s);
    expect_snapshot(f, &id);
    /* And a diff stands on it. */
    bare_wait_change(b, WRITER_TOLD, bare_peek(b, WRITER_TOLD));
    id = save_running(f, b, true);
    bare_free(b);
    expect_snapshot(f, &id);
}

/* ---- machines made ahead ------------------------------------------------- */

static int fill(struct bare *b, struct snap *snap, struct err *err)
{
    const struct machine_origin origin = {
        .snap = snap, .clock = VM_CLOCK_FOLLOW};

    return machine_fill(&b->machine, &origin, err);
}

static void test_a_machine_made_ahead_is_filled(void **state)
{
    struct fixture *f = *state;
    struct bare *b = writer_start(3, MACHINE_TRACK_LATER);
    struct snapshot_id ids[2] = {save_running(f, b, false)};

    bare_wait_change(b, WRITER_TOLD, bare_peek(b, WRITER_TOLD));
    ids[1] = save_running(f, b, false);
    bare_free(b);
    for (int i = 0; i < 2; i++) {
        struct snap model;
        struct snap snap;
        struct err err;
        uint32_t count;

        open_snap(f, &ids[0], &model);
        b = bare_shell(&model, i == 0);
        snap_close(&model);
        open_snap(f, &ids[i], &snap);
        if (fill(b, &snap, &err) < 0)
            fail_msg("%s", err.text);
        snap_close(&snap);
        writer_expect_pages(b);
        count = bare_peek(b, WRITER_TOLD);
        bare_start(b);
        bare_wait_change(b, WRITER_TOLD, count);
        machine_pause(&b->machine);
        writer_expect_pages(b);
        bare_free(b);
    }
}

/* Of another size, or with the memory of another snapshot. */
static void test_a_machine_that_does_not_fit_is_not_filled(void **state)
{
    struct fixture *f = *state;
    struct bare *b = writer_start(0, MACHINE_TRACK_LATER);
    struct snapshot_id big = save_running(f, b, false);
    struct snapshot_id again = save_running(f, b, false);
    struct snapshot_id small;
    struct snap snap;
    struct snap other;
    struct err err;

    bare_free(b);
    b = bare_new(
        &(struct bare_options){.guest = "hello", .mem_bytes = WRITER_MEM / 2});
    small = save_paused(f, b, false);
    bare_free(b);
    open_snap(f, &big, &snap);
    open_snap(f, &small, &other);
    b = bare_shell(&snap, false);
    assert_int_equal(fill(b, &other, &err), -EINVAL);
    assert_non_null(strstr(err.text, "pages of RAM"));
    bare_free(b);
    snap_close(&other);
    snap_close(&snap);
    open_snap(f, &big, &snap);
    open_snap(f, &again, &other);
    b = bare_shell(&snap, true);
    assert_int_equal(fill(b, &other, &err), -EINVAL);
    assert_non_null(strstr(err.text, "another snapshot"));
    bare_free(b);
    snap_close(&other);
    snap_close(&snap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_every_register_is_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_saved_while_it_runs_in_ring_0, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_saved_while_it_runs_in_ring_3, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_a_wrong_parent_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_a_capture_is_only_taken_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_a_machine_made_ahead_is_filled, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_a_machine_that_does_not_fit_is_not_filled, set_up, tear_down),
    };
    int rc = bare_need_kvm();

    return rc != 0 ? rc : cmocka_run_group_tests(tests, NULL, NULL);
}
