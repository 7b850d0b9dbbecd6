/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "tests/kvm/support/bare.h"
#include "tests/kvm/support/cell.h"

/* writer.S */
#define RING   CELL_MAILBOX
#define FIRST  (CELL_MAILBOX + 4)
#define PAGES  (CELL_MAILBOX + 8)
#define WRITES (CELL_MAILBOX + 4096)

#define AREA       1024u /* first page that the guest writes to */
#define AREA_PAGES 1024u
#define OURS       2560u /* pages that only the monitor writes to */
#define OURS_PAGES 256u
#define RING_SMALL 256u

/*
 * Rings overflow while ring 0 is interpreted: there they are only for a guest
 * that is in ring 3 by the time logging starts.
 */
struct variant {
    enum dirty_method method;
    uint32_t ring; /* the guest runs in */
    bool is_late;  /* logging starts when the guest runs */
    uint32_t entries;
};

static const struct variant bitmap_0 = {DIRTY_BITMAP, 0, false, 0};
static const struct variant bitmap_0_late = {DIRTY_BITMAP, 0, true, 0};
static const struct variant bitmap_3 = {DIRTY_BITMAP, 3, false, 0};
static const struct variant ring_0 = {DIRTY_RING, 0, false, 0};
static const struct variant ring_3 = {DIRTY_RING, 3, true, 0};
static const struct variant small_0 = {DIRTY_RING, 0, false, RING_SMALL};
static const struct variant small_3 = {DIRTY_RING, 3, true, RING_SMALL};

struct fixture {
    struct cell *cell;
    uint8_t *shadow; /* RAM, as the harvests tell it */
    uint8_t *now;
};

static struct fixture fixture_new(const struct variant *v)
{
    const struct dirty_config config = {.method = v->method,
        .ring_entries = v->entries,
        .ring_anyway = true,
        .from_start = !v->is_late};
    struct fixture f = {0};

    f.cell =
        cell_new(&(struct cell_options){.guest = "writer", .dirty = &config});
    f.shadow = malloc(f.cell->mem.size);
    f.now = malloc(f.cell->mem.size);
    assert_non_null(f.shadow);
    assert_non_null(f.now);
    cell_poke(f.cell, RING, v->ring);
    cell_poke(f.cell, FIRST, AREA);
    return f;
}

/* The guest writes and is logged from here on. */
static void begin(struct fixture *f, const struct variant *v)
{
    struct err err;

    cell_start(f->cell);
    cell_poke(f->cell, PAGES, AREA_PAGES);
    cell_wait_change(f->cell, WRITES, 0);
    if (v->is_late && dirty_start(&f->cell->dirty, &err) < 0)
        fail_msg("%s", err.text);
}

static void fixture_free(struct fixture *f)
{
    free(f->shadow);
    free(f->now);
    cell_free(f->cell);
}

static struct dirty_pages harvest(struct fixture *f)
{
    struct dirty_pages pages;
    struct err err;

    if (dirty_harvest(&f->cell->dirty, &pages, &err) < 0)
        fail_msg("%s", err.text);
    return pages;
}

/* RAM is one region here: file and guest pages are the same. */
static void copy_page(struct fixture *f, uint32_t page)
{
    assert_int_equal(gmem_read(&f->cell->mem, gpa(page * NUM_PAGE_SIZE),
                         f->shadow + page * NUM_PAGE_SIZE, NUM_PAGE_SIZE),
        0);
}

static size_t harvest_and_copy(struct fixture *f)
{
    struct dirty_pages pages = harvest(f);

    for (size_t i = 0; i < pages.count; i++)
        copy_page(f, pages.pages[i]);
    return pages.count;
}

/* With everything paused: after a harvest the shadow is RAM. */
static void assert_shadow_is_ram(struct fixture *f)
{
    cell_read_ram(f->cell, f->now);
    for (uint64_t page = 0; page < f->cell->mem.size / NUM_PAGE_SIZE; page++) {
        if (memcmp(f->shadow + page * NUM_PAGE_SIZE,
                f->now + page * NUM_PAGE_SIZE, NUM_PAGE_SIZE) != 0)
            fail_msg("page %llu was lost", (unsigned long long)page);
    }
}

static bool is_in(const struct dirty_pages *pages, uint64_t page)
{
    for (size_t i = 0; i < pages->count; i++) {
        if (pages->pages[i] == page)
            return true;
    }
    return false;
}

/* Stopped harvests are what a comparison of all RAM says, and no more. */
static void exact_sets(const struct variant *v)
{
    struct fixture f = fixture_new(v);
    size_t most = 0;

    begin(&f, v);
    cell_pause(f.cell);
    (void)harvest(&f);
    cell_read_ram(f.cell, f.shadow);
    for (unsigned int n = 0; n < 100; n++) {
        struct dirty_pages pages;
        size_t changed = 0;

        cell_resume(f.cell);
        cell_wait_more(f.cell, WRITES, 1 + n % 7 * 20);
        cell_pause(f.cell);
        pages = harvest(&f);
        cell_read_ram(f.cell, f.now);
        for (uint64_t p = 0; p < f.cell->mem.size / NUM_PAGE_SIZE; p++) {
            if (memcmp(f.shadow + p * NUM_PAGE_SIZE, f.now + p * NUM_PAGE_SIZE,
                    NUM_PAGE_SIZE) == 0)
                continue;
            assert_true(is_in(&pages, p));
            changed++;
        }
        /* One more if the guest was about to write when it was stopped. */
        assert_in_range(pages.count, changed, changed + 1);
        most = changed > most ? changed : most;
        memcpy(f.shadow, f.now, f.cell->mem.size);
        assert_int_equal(harvest(&f).count, 0);
    }
    assert_true(most > 10);
    fixture_free(&f);
}

static bool has_rings_for_ring_0(void)
{
    struct kvm kvm;
    bool emulated;

    assert_int_equal(kvm_open(&kvm, NULL), 0);
    emulated = kvm.features.ring0_emulated;
    kvm_close(&kvm);
    return !emulated;
}

static void test_exact_sets(void **state)
{
    (void)state;
    exact_sets(&bitmap_0);
    exact_sets(&bitmap_3);
    exact_sets(&ring_3);
    if (has_rings_for_ring_0())
        exact_sets(&ring_0);
}

/* The monitor's side: writes and discards, each page with a new value. */
struct writer {
    pthread_t thread;
    struct gmem *mem;
    uint32_t seed;
    uint32_t stop;
};

static void *write_pages(void *opaque)
{
    struct writer *w = opaque;
    uint32_t x = w->seed;

    for (uint32_t n = 1; __atomic_load_n(&w->stop, __ATOMIC_RELAXED) == 0;
         n++) {
        gpa_t at;

        x = x * 1664525 + 1013904223;
        at = gpa((OURS + (x >> 8) % OURS_PAGES) * NUM_PAGE_SIZE);
        if (n % 16 == 0)
            (void)!gmem_discard(w->mem, at, NUM_PAGE_SIZE);
        else
            (void)!gmem_write(
                w->mem, gpa_add(at, (x >> 20) % 512 * 8), &n, sizeof(n));
        if (n % 256 == 0)
            (void)sched_yield();
    }
    return NULL;
}

/*
 * Harvests while the guest and two threads of ours write: now and then all
 * stop, and what the harvests have copied must be what is in RAM.
 */
static void live(const struct variant *v)
{
    struct fixture f = fixture_new(v);
    size_t copied = 0;

    begin(&f, v);
    (void)harvest(&f);
    /* Behind the first harvest, so that it is at least as old. */
    cell_read_ram(f.cell, f.shadow);
    for (unsigned int n = 0; n < 20; n++) {
        struct writer writers[2];

        for (size_t i = 0; i < ARRAY_SIZE(writers); i++) {
            writers[i] = (struct writer){
                .mem = &f.cell->mem, .seed = n * 2 + (uint32_t)i};
            assert_int_equal(pthread_create(&writers[i].thread, NULL,
                                 write_pages, &writers[i]),
                0);
        }
        for (unsigned int i = 0; i < 50; i++) {
            copied += harvest_and_copy(&f);
            if (i % 8 == 0)
                (void)sched_yield();
        }
        cell_wait_more(f.cell, WRITES, v->entries == RING_SMALL ? 400 : 10);
        for (size_t i = 0; i < ARRAY_SIZE(writers); i++)
            __atomic_store_n(&writers[i].stop, 1, __ATOMIC_RELAXED);
        for (size_t i = 0; i < ARRAY_SIZE(writers); i++)
            assert_int_equal(pthread_join(writers[i].thread, NULL), 0);
        cell_pause(f.cell);
        copied += harvest_and_copy(&f);
        assert_shadow_is_ram(&f);
        cell_resume(f.cell);
    }
    assert_true(copied > 1000);
    if (v->entries == RING_SMALL)
        assert_true(f.cell->dirty.ring_full > 0);
    fixture_free(&f);
}

static void test_bitmap_loses_nothing_while_all_run(void **state)
{
    (void)state;
    live(&bitmap_0);
    live(&bitmap_3);
    live(&bitmap_0_late);
}

static void test_ring_loses_nothing_while_all_run(void **state)
{
    (void)state;
    live(&ring_3);
    if (has_rings_for_ring_0())
        live(&ring_0);
}

static void test_full_rings(void **state)
{
    (void)state;
    live(&small_3);
    if (has_rings_for_ring_0())
        live(&small_0);
}

/* Where KVM writes over entries, that is noticed and said, not passed over. */
static void test_an_overflow_is_noticed(void **state)
{
    struct fixture f = fixture_new(&small_0);
    struct dirty_pages pages;
    struct err err;

    (void)state;
    if (has_rings_for_ring_0()) {
        fixture_free(&f);
        skip();
    }
    cell_start(f.cell);
    cell_poke(f.cell, PAGES, AREA_PAGES);
    while (__atomic_load_n(&f.cell->exit_status, __ATOMIC_ACQUIRE) == -1)
        (void)sched_yield();
    assert_non_null(strstr(f.cell->stop, "overflowed"));
    assert_int_equal(dirty_harvest(&f.cell->dirty, &pages, &err), -EIO);
    fixture_free(&f);
}

static void test_ring_is_refused_where_it_overflows(void **state)
{
    const struct dirty_config config = {.method = DIRTY_RING};
    struct cell *c = cell_new(&(struct cell_options){0});
    struct dirty t;
    struct err err;

    (void)state;
    if (c->kvm.features.ring0_emulated) {
        assert_int_equal(
            dirty_init(&t, &c->vm, &c->mem, &config, &err), -ENOTSUP);
        assert_non_null(strstr(err.text, "bitmap"));
    }
    cell_free(c);
}

/* A vCPU whose ring is full again and again obeys, harvest or not. */
static void test_pause_with_a_full_ring(void **state)
{
    struct fixture f = fixture_new(&small_3);
    struct dirty_pages pages;

    (void)state;
    begin(&f, &small_3);
    for (unsigned int n = 0; n < 200; n++) {
        cell_wait_more(f.cell, WRITES, 100);
        cell_pause(f.cell);
        cell_resume(f.cell);
    }
    cell_pause(f.cell);
    assert_true(f.cell->dirty.ring_full > 0);
    pages = harvest(&f);
    /* 20,000 writes to 1,024 pages: all of them. */
    for (uint32_t page = AREA; page < AREA + AREA_PAGES; page++)
        assert_true(is_in(&pages, page));
    fixture_free(&f);
}

/* Hot pages are in no harvest, cost no exit, and come back on leaving. */
static void hot_set(const struct variant *v)
{
    struct fixture f = fixture_new(v);
    uint32_t hot[AREA_PAGES / 2];
    struct dirty_pages pages;
    struct err err;

    for (uint32_t i = 0; i < ARRAY_SIZE(hot); i++)
        hot[i] = AREA + 2 * i;
    if (dirty_set_hot(&f.cell->dirty, hot, ARRAY_SIZE(hot), &err) < 0)
        fail_msg("%s", err.text);
    cell_start(f.cell);
    cell_poke(f.cell, PAGES, AREA_PAGES);
    cell_wait_change(f.cell, WRITES, 0);
    cell_pause(f.cell);
    (void)harvest(&f);
    cell_read_ram(f.cell, f.shadow);
    for (unsigned int n = 0; n < 50; n++) {
        cell_resume(f.cell);
        cell_wait_more(f.cell, WRITES, 100);
        /* The monitor's writes to hot pages do not count either. */
        cell_poke(f.cell, hot[n] * NUM_PAGE_SIZE + 8, n + 1);
        cell_pause(f.cell);
        pages = harvest(&f);
        for (size_t i = 0; i < pages.count; i++) {
            assert_false(pages.pages[i] >= AREA &&
                         pages.pages[i] < AREA + AREA_PAGES &&
                         pages.pages[i] % 2 == AREA % 2);
            copy_page(&f, pages.pages[i]);
        }
        for (size_t i = 0; i < ARRAY_SIZE(hot); i++)
            copy_page(&f, hot[i]);
        assert_shadow_is_ram(&f);
    }
    assert_int_equal(dirty_set_hot(&f.cell->dirty, NULL, 0, &err), 0);
    pages = harvest(&f);
    assert_true(pages.count > ARRAY_SIZE(hot) / 2);
    for (size_t i = 0; i < pages.count; i++)
        assert_true(pages.pages[i] % 2 == AREA % 2);
    assert_int_equal(harvest(&f).count, 0);
    cell_resume(f.cell);
    cell_wait_more(f.cell, WRITES, 100);
    cell_pause(f.cell);
    (void)harvest_and_copy(&f);
    assert_shadow_is_ram(&f);
    fixture_free(&f);
}

static void test_hot_set(void **state)
{
    (void)state;
    hot_set(&bitmap_0);
    hot_set(&bitmap_3);
}

static void test_hot_set_needs_the_bitmap(void **state)
{
    struct fixture f = fixture_new(&ring_3);
    uint32_t page = 0;
    struct err err;

    (void)state;
    assert_int_equal(dirty_set_hot(&f.cell->dirty, &page, 1, &err), -ENOTSUP);
    fixture_free(&f);
}

static void test_hot_page_beyond_ram(void **state)
{
    struct fixture f = fixture_new(&bitmap_0);
    uint32_t page = (uint32_t)(f.cell->mem.size / NUM_PAGE_SIZE);
    struct err err;

    (void)state;
    assert_int_equal(dirty_set_hot(&f.cell->dirty, &page, 1, &err), -EINVAL);
    fixture_free(&f);
}

/* On and off again: what is written while it is off does not count. */
static void stop_and_start(const struct variant *v)
{
    struct fixture f = fixture_new(v);
    struct err err;

    begin(&f, v);
    for (unsigned int n = 0; n < 10; n++) {
        assert_int_equal(dirty_stop(&f.cell->dirty, &err), 0);
        cell_wait_more(f.cell, WRITES, 50);
        cell_pause(f.cell);
        assert_int_equal(dirty_start(&f.cell->dirty, &err), 0);
        assert_int_equal(dirty_start(&f.cell->dirty, &err), 0);
        assert_int_equal(harvest(&f).count, 0);
        cell_read_ram(f.cell, f.shadow);
        cell_resume(f.cell);
        cell_wait_more(f.cell, WRITES, 50);
        cell_pause(f.cell);
        assert_true(harvest_and_copy(&f) > 1);
        assert_shadow_is_ram(&f);
        cell_resume(f.cell);
    }
    fixture_free(&f);
}

static void test_stop_and_start(void **state)
{
    (void)state;
    stop_and_start(&bitmap_0);
    stop_and_start(&ring_3);
}

/* Of more than a word, in a second region, at its very end. */
static void test_second_region(void **state)
{
    const struct dirty_config config = {.from_start = true};
    const struct cell_options options = {
        .mem_bytes = 3 * NUM_GIB + 5 * NUM_PAGE_SIZE, .dirty = &config};
    struct cell *c = cell_new(&options);
    struct dirty_pages pages;
    struct err err;
    uint32_t last = (uint32_t)(options.mem_bytes / NUM_PAGE_SIZE) - 1;

    (void)state;
    cell_poke(c, GMEM_GAP_END + 4 * NUM_PAGE_SIZE + 4092, 1);
    assert_int_equal(dirty_harvest(&c->dirty, &pages, &err), 0);
    assert_int_equal(pages.count, 1);
    assert_int_equal(pages.pages[0], last);
    cell_free(c);
}

static void test_ring_size_is_checked(void **state)
{
    struct dirty t;
    struct cell *c = cell_new(&(struct cell_options){0});
    struct dirty_config config = {
        .method = DIRTY_RING, .ring_anyway = true, .ring_entries = 1000};
    struct err err;

    (void)state;
    assert_int_equal(dirty_init(&t, &c->vm, &c->mem, &config, &err), -EINVAL);
    config.ring_entries = 1u << 31;
    assert_int_equal(dirty_init(&t, &c->vm, &c->mem, &config, &err), -EINVAL);
    dirty_fini(&t);
    cell_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact_sets),
        cmocka_unit_test(test_bitmap_loses_nothing_while_all_run),
        cmocka_unit_test(test_ring_loses_nothing_while_all_run),
        cmocka_unit_test(test_full_rings),
        cmocka_unit_test(test_an_overflow_is_noticed),
        cmocka_unit_test(test_ring_is_refused_where_it_overflows),
        cmocka_unit_test(test_pause_with_a_full_ring),
        cmocka_unit_test(test_hot_set),
        cmocka_unit_test(test_hot_set_needs_the_bitmap),
        cmocka_unit_test(test_hot_page_beyond_ram),
        cmocka_unit_test(test_stop_and_start),
        cmocka_unit_test(test_second_region),
        cmocka_unit_test(test_ring_size_is_checked),
    };
    int rc = bare_need_kvm();

    return rc != 0 ? rc : cmocka_run_group_tests(tests, NULL, NULL);
}
