/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Working sets: recorded from what was touched, added to, and brought in.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "snapshot/dirfile.h"
#include "snapshot/prefetch.h"
#include "snapshot/ram.h"
#include "snapshot/snap.h"
#include "tests/unit/support/snapshot_rig.h"
#include "vmm/base/cc.h"
#include "vmm/base/num.h"

/* Far more than the kernel maps around a page that is read. */
#define PAGES UINT64_C(1024)

struct fixture {
    struct snapshot_rig rig;
    struct snap snap;
    struct gmem mem;
};

static int set_up(void **state)
{
    static struct fixture f;
    struct snapshot_id id;
    struct err err;

    snapshot_rig_init(&f.rig, NULL, PAGES);
    for (uint64_t page = 0; page < PAGES; page++)
        snapshot_rig_fill(&f.rig, page, page + 1);
    assert_int_equal(snapshot_rig_save(&f.rig, NULL, NULL, NULL, &id, &err), 0);
    assert_int_equal(snap_open(&f.rig.store, &id, &f.snap, &err), 0);
    assert_int_equal(gmem_init_private(&f.mem, PAGES * NUM_PAGE_SIZE, &err), 0);
    assert_int_equal(ram_map(&f.mem, &f.snap.index, f.snap.image_fds, &err), 0);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    gmem_fini(&f->mem);
    snap_close(&f->snap);
    snapshot_rig_fini(&f->rig);
    return 0;
}

static uint32_t peek(const struct fixture *f, uint64_t page)
{
    uint32_t value;

    assert_int_equal(
        gmem_read(&f->mem, gpa(page << NUM_PAGE_SHIFT), &value, sizeof(value)),
        0);
    return value;
}

static bool has(const struct working_set *set, uint64_t page)
{
    for (size_t i = 0; i < set->run_count; i++) {
        if (page >= set->runs[i].page &&
            page - set->runs[i].page < set->runs[i].count)
            return true;
    }
    return false;
}

static int touch_map(const struct fixture *f, struct bitmap *ret_touched)
{
    struct err err;
    int fd = prefetch_open_pagemap(&err);
    int rc;

    assert_true(fd >= 0);
    rc = prefetch_touched(&f->mem, fd, ret_touched, &err);
    (void)close(fd);
    return rc;
}

static int record(const struct fixture *f, bool adds)
{
    struct bitmap touched;
    struct err err;
    int rc;

    assert_int_equal(touch_map(f, &touched), 0);
    rc = prefetch_record(f->snap.dir_fd, &touched, adds, &err);
    bitmap_fini(&touched);
    return rc;
}

static struct working_set recorded(const struct fixture *f)
{
    struct working_set set;

    assert_int_equal(snap_read_working_set(&f->snap, &set), 0);
    return set;
}

static void test_what_is_touched_is_recorded(void **state)
{
    struct fixture *f = *state;
    struct working_set set;

    (void)peek(f, 100);
    assert_int_equal(
        gmem_write(&f->mem, gpa(700 << NUM_PAGE_SHIFT), "x", 1), 0);
    assert_int_equal(record(f, false), 0);
    set = recorded(f);
    assert_int_equal(set.pages, PAGES);
    assert_true(has(&set, 100) && has(&set, 700));
    assert_false(has(&set, 400));
    working_set_fini(&set);
    /* There is one now; others add to it. */
    (void)peek(f, 400);
    assert_int_equal(record(f, false), -EEXIST);
    set = recorded(f);
    assert_false(has(&set, 400));
    working_set_fini(&set);
    gmem_fini(&f->mem);
    assert_int_equal(
        gmem_init_private(&f->mem, PAGES * NUM_PAGE_SIZE, NULL), 0);
    assert_int_equal(
        ram_map(&f->mem, &f->snap.index, f->snap.image_fds, NULL), 0);
    (void)peek(f, 400);
    assert_int_equal(record(f, true), 0);
    set = recorded(f);
    assert_true(has(&set, 100) && has(&set, 700) && has(&set, 400));
    assert_false(has(&set, 250));
    working_set_fini(&set);
}

static void test_nearly_everything_is_not_recorded(void **state)
{
    struct fixture *f = *state;
    struct working_set set;

    for (uint64_t page = 0; page <= PAGES / PREFETCH_SHARE_MIN; page++)
        (void)peek(f, page);
    assert_int_equal(record(f, true), -E2BIG);
    assert_int_equal(snap_read_working_set(&f->snap, &set), -ENOENT);
}

/* What no one asked to be recorded is for all who come later. */
static void test_much_is_recorded_if_it_is_asked_for(void **state)
{
    struct fixture *f = *state;
    struct working_set set;

    for (uint64_t page = 0; page <= PAGES / PREFETCH_SHARE_UNASKED; page++)
        (void)peek(f, page);
    assert_int_equal(record(f, false), -E2BIG);
    assert_int_equal(snap_read_working_set(&f->snap, &set), -ENOENT);
    assert_int_equal(record(f, true), 0);
    set = recorded(f);
    assert_true(has(&set, PAGES / PREFETCH_SHARE_UNASKED));
    working_set_fini(&set);
}

static void test_a_damaged_one_is_as_good_as_none(void **state)
{
    struct fixture *f = *state;
    struct working_set set;
    int fd = openat(f->snap.dir_fd, WORKING_SET_FILE_NAME,
        O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, "nonsense", 8), 8);
    (void)close(fd);
    (void)peek(f, 9);
    assert_int_equal(record(f, true), 0);
    set = recorded(f);
    assert_true(has(&set, 9));
    working_set_fini(&set);

    /* Nor does it keep a restore that only records from recording. */
    assert_int_equal(dirfile_replace(f->snap.dir_fd, WORKING_SET_FILE_NAME,
                         "nonsense", 8, NULL),
        0);
    assert_int_equal(record(f, false), 0);
    set = recorded(f);
    assert_true(has(&set, 9));
    working_set_fini(&set);
}

/* One that lies in a folder that is no more is lost, and nothing else. */
static void test_a_snapshot_that_is_gone_has_none(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(store_remove(&f->rig.store, &f->snap.id, NULL), 0);
    (void)peek(f, 9);
    assert_true(record(f, false) < 0);
}

static void test_a_set_is_brought_in(void **state)
{
    static const struct working_set_run runs[] = {{50, 300}, {600, 20}};
    struct fixture *f = *state;
    struct working_set set = {.runs = malloc(sizeof(runs)),
        .run_count = ARRAY_SIZE(runs),
        .pages = PAGES};
    struct prefetch prefetch;
    struct err err;
    size_t count = 0;

    assert_non_null(set.runs);
    memcpy(set.runs, runs, sizeof(runs));
    /* It was written a moment ago. */
    assert_true(prefetch_is_cached(&f->snap.index, f->snap.image_fds, &set));
    assert_int_equal(prefetch_start(&prefetch, &f->mem, &set, &err), 0);
    assert_null(set.runs);
    while (count < 320) {
        struct bitmap touched;

        assert_int_equal(touch_map(f, &touched), 0);
        count = 0;
        for (uint64_t page = 0; page < PAGES; page++)
            count +=
                bitmap_test(&touched, page) &&
                ((page >= 50 && page < 350) || (page >= 600 && page < 620));
        bitmap_fini(&touched);
        (void)poll(NULL, 0, 1);
    }
    prefetch_stop(&prefetch);
    /* And changes nothing. */
    for (uint64_t page = 0; page < PAGES; page++)
        assert_true(
            gmem_page_equals(&f->mem, page, f->rig.ram + page * NUM_PAGE_SIZE));
    prefetch_stop(&prefetch);
}

static void test_one_that_is_stopped_at_once_stops(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < 100; i++) {
        struct working_set set = {.runs = malloc(sizeof(set.runs[0])),
            .run_count = 1,
            .pages = PAGES};
        struct prefetch prefetch;

        assert_non_null(set.runs);
        set.runs[0] = (struct working_set_run){.page = 0, .count = PAGES};
        assert_int_equal(prefetch_start(&prefetch, &f->mem, &set, NULL), 0);
        prefetch_stop(&prefetch);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(test_what_is_touched_is_recorded),
        TEST(test_nearly_everything_is_not_recorded),
        TEST(test_much_is_recorded_if_it_is_asked_for),
        TEST(test_a_damaged_one_is_as_good_as_none),
        TEST(test_a_snapshot_that_is_gone_has_none),
        TEST(test_a_set_is_brought_in),
        TEST(test_one_that_is_stopped_at_once_stops),
#undef TEST
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
