/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory of a snapshot against what its index says, page by page.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "snapshot/ram.h"
#include "vmm/base/cc.h"
#include "vmm/base/fd.h"

#define PAGES  2048u
#define FILES  3u
#define ROUNDS 60

struct fixture {
    struct page_index index;
    struct page_extent extents[PAGES];
    int fds[FILES];
    uint64_t seed;
};

static uint32_t pick(struct fixture *f, uint32_t below)
{
    f->seed = f->seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(f->seed >> 33) % below;
}

/* Never zero, and no two pages of any files alike. */
static uint64_t word_of(uint32_t file, uint64_t page)
{
    return (uint64_t)(file + 1) << 32 | (page + 1);
}

static void put_page(int fd, uint32_t file, uint64_t page)
{
    uint64_t words[NUM_PAGE_SIZE / sizeof(uint64_t)];

    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        words[i] = word_of(file, page);
    assert_int_equal(
        pwrite(fd, words, sizeof(words), (off_t)(page << 12)), sizeof(words));
}

/* Runs of all lengths; parents' files have data where the index has zero. */
static void make_index(struct fixture *f)
{
    uint64_t page = 0;

    f->index = (struct page_index){.pages = PAGES, .extents = f->extents};
    for (uint32_t file = 0; file < FILES; file++) {
        f->fds[file] = memfd_create("image", MFD_CLOEXEC);
        assert_true(f->fds[file] >= 0);
        assert_int_equal(ftruncate(f->fds[file], PAGES * NUM_PAGE_SIZE), 0);
        for (uint64_t i = 0; file > 0 && i < PAGES; i++) {
            if (i % 64 < 48)
                put_page(f->fds[file], file, i);
        }
    }
    while (page < PAGES) {
        struct page_extent *e = &f->extents[f->index.extent_count++];
        uint32_t most = pick(f, 4) == 0 ? 200 : 24;
        uint32_t kind = pick(f, 5);

        *e = (struct page_extent){.page = page, .count = 1 + pick(f, most)};
        if (e->count > PAGES - page)
            e->count = PAGES - page;
        page += e->count;
        if (kind == 4)
            continue;
        e->kind = PAGE_DATA;
        e->file = kind % FILES;
        /* Mostly in place; sometimes from elsewhere in a parent's file. */
        e->file_page = e->file == 0 || pick(f, 4) != 0
                           ? e->page
                           : pick(f, (uint32_t)(PAGES - e->count));
        for (uint64_t i = 0; i < e->count; i++)
            put_page(f->fds[e->file], e->file, e->file_page + i);
    }
}

static void drop_index(struct fixture *f)
{
    for (uint32_t file = 0; file < FILES; file++)
        (void)close(f->fds[file]);
}

static void expect_page(
    const struct page_extent *e, uint64_t page, const uint8_t *bytes)
{
    uint64_t word = e->kind == PAGE_ZERO
                        ? 0
                        : word_of(e->file, e->file_page + (page - e->page));
    uint64_t got;

    for (size_t at = 0; at < NUM_PAGE_SIZE; at += sizeof(got)) {
        memcpy(&got, bytes + at, sizeof(got));
        assert_int_equal(got, word);
    }
}

static void test_every_page_is_what_the_index_says(void **state)
{
    static struct fixture f = {.seed = 7};

    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        const uint8_t *view = NULL;
        struct gmem mem;

        make_index(&f);
        assert_int_equal(
            gmem_init_private(&mem, PAGES * NUM_PAGE_SIZE, NULL), 0);
        assert_int_equal(ram_map(&mem, &f.index, f.fds, NULL), 0);
        assert_int_equal(ram_map_view(&f.index, f.fds, &view, NULL), 0);
        drop_index(&f);
        for (size_t i = 0; i < f.index.extent_count; i++) {
            const struct page_extent *e = &f.extents[i];

            for (uint64_t page = e->page; page < e->page + e->count; page++) {
                uint8_t bytes[NUM_PAGE_SIZE];

                gmem_copy_pages(&mem, page, 1, bytes);
                expect_page(e, page, bytes);
                expect_page(e, page, view + page * NUM_PAGE_SIZE);
            }
        }
        assert_int_equal(bitmap_count(&mem.dirty), 0);
        ram_unmap_view(view, PAGES);
        gmem_fini(&mem);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_page_is_what_the_index_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
