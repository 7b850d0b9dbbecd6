/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/page_hashes.h"
#include "snapshot/page_index.h"
#include "snapshot/page_index_builder.h"

#define PAGES UINT64_C(500)
#define FILES 4u

/* What the index must say of a page. */
struct cell {
    enum page_kind kind;
    uint32_t image; /* in the table of the test */
    uint64_t file_page;
};

static struct page_image image(uint8_t n, uint64_t pages)
{
    return (struct page_image){
        .type = n == 3 ? PAGE_IMAGE_DISK : PAGE_IMAGE_MEM,
        .id = {.b = {[0] = 1, [15] = n}},
        .pages = pages};
}

static uint64_t next(uint64_t *seed, uint64_t below)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed % below;
}

static void assert_index_is(
    const struct page_index *index, const struct cell *cells)
{
    uint64_t data = 0;

    for (uint64_t page = 0; page < PAGES; page++) {
        const struct page_extent *extent = page_index_find(index, page);

        assert_true(
            extent->page <= page && page < extent->page + extent->count);
        assert_int_equal(extent->kind, cells[page].kind);
        if (extent->kind == PAGE_ZERO)
            continue;
        data++;
        assert_int_equal(
            index->files[extent->file].id.b[15], cells[page].image);
        assert_int_equal(
            extent->file_page + (page - extent->page), cells[page].file_page);
    }
    assert_int_equal(page_index_data_pages(index), data);
}

/* Encoded and decoded: the same, and the same bytes. */
static void assert_round_trip(
    const struct page_index *index, const struct cell *cells)
{
    struct page_index again;
    uint8_t *first;
    uint8_t *second;
    size_t first_size;
    size_t second_size;
    struct err err;

    assert_int_equal(page_index_encode(index, &first, &first_size, &err), 0);
    if (page_index_decode(first, first_size, &again, &err) < 0)
        fail_msg("%s", err.text);
    assert_index_is(&again, cells);
    assert_int_equal(page_index_encode(&again, &second, &second_size, &err), 0);
    assert_int_equal(first_size, second_size);
    assert_memory_equal(first, second, first_size);
    for (size_t cut = 0; cut < first_size; cut += 1 + cut / 7)
        assert_int_equal(page_index_decode(first, cut, &again, &err), -EBADMSG);
    page_index_fini(&again);
    free(first);
    free(second);
}

static void set_random(
    struct page_index_builder *b, struct cell *cells, uint64_t *seed)
{
    uint64_t page = next(seed, PAGES);
    uint64_t count = 1 + next(seed, next(seed, 4) == 0 ? PAGES - page : 5);
    uint32_t which = (uint32_t)next(seed, FILES + 1);
    uint64_t file_page = next(seed, 1000);
    uint32_t number = 0;

    count = count < PAGES - page ? count : PAGES - page;
    if (which == FILES) {
        page_index_builder_set_zero(b, page, count);
    } else {
        struct page_image file = image((uint8_t)which, 0);

        file.pages = which == 0 ? PAGES : 2000;
        file_page = which == 0 ? page : file_page;
        assert_int_equal(page_index_builder_add_file(b, &file, &number), 0);
        page_index_builder_set_data(b, page, count, number, file_page);
    }
    for (uint64_t i = 0; i < count; i++)
        cells[page + i] = which == FILES ? (struct cell){.kind = PAGE_ZERO}
                                         : (struct cell){.kind = PAGE_DATA,
                                               .image = which,
                                               .file_page = file_page + i};
}

/* Against an array of cells, from nothing and from a parent's index. */
static void test_random_ranges(void **state)
{
    const struct page_image own = image(0, PAGES);
    uint64_t seed = 88172645463325252u;
    struct page_index parent = {0};
    struct cell cells[PAGES];
    struct err err;

    (void)state;
    for (int round = 0; round < 300; round++) {
        struct page_index_builder b;
        uint64_t ranges = next(&seed, 200);

        assert_int_equal(page_index_builder_init(&b, PAGES, &own, &err), 0);
        if (round % 3 == 0) {
            memset(cells, 0, sizeof(cells));
            page_index_fini(&parent);
        } else {
            assert_int_equal(
                page_index_builder_add_index(&b, &parent, &err), 0);
            page_index_fini(&parent);
        }
        for (uint64_t i = 0; i < ranges; i++)
            set_random(&b, cells, &seed);
        assert_int_equal(page_index_builder_finish(&b, &parent, &err), 0);
        assert_index_is(&parent, cells);
        assert_round_trip(&parent, cells);
    }
    page_index_fini(&parent);
}

/* Ascending, descending and interleaved single pages stay cheap. */
static void test_many_ranges(void **state)
{
    const uint64_t pages = UINT64_C(1) << 18;
    const struct page_image own = image(0, pages);
    struct err err;

    (void)state;
    for (int order = 0; order < 3; order++) {
        struct page_index_builder b;
        struct page_index index;

        assert_int_equal(page_index_builder_init(&b, pages, &own, &err), 0);
        for (uint64_t i = 0; i < pages; i += 2) {
            uint64_t page = order == 0   ? i
                            : order == 1 ? pages - 2 - i
                                         : (i * 40503) % pages & ~UINT64_C(1);

            page_index_builder_set_data(&b, page, 1, 0, page);
        }
        assert_int_equal(page_index_builder_finish(&b, &index, &err), 0);
        assert_true(index.extent_count > pages / 4);
        assert_true(page_index_data_pages(&index) <= pages / 2);
        page_index_fini(&index);
    }
}

struct walk {
    uint64_t next;
    uint64_t different;
};

static int count_difference(
    void *arg, const struct page_extent *a, const struct page_extent *b)
{
    struct walk *walk = arg;

    assert_int_equal(a->page, b->page);
    assert_int_equal(a->count, b->count);
    assert_true(a->page >= walk->next);
    walk->next = a->page + a->count;
    walk->different += a->count;
    return 0;
}

static void test_diff(void **state)
{
    const struct page_image own = image(0, PAGES);
    const struct page_image other = image(1, PAGES);
    struct page_index_builder b;
    struct page_index before;
    struct page_index after;
    struct walk walk = {0};
    struct err err;
    uint32_t file;

    (void)state;
    assert_int_equal(page_index_builder_init(&b, PAGES, &own, &err), 0);
    page_index_builder_set_data(&b, 10, 100, 0, 10);
    assert_int_equal(page_index_builder_finish(&b, &before, &err), 0);
    assert_int_equal(page_index_builder_init(&b, PAGES, &other, &err), 0);
    assert_int_equal(page_index_builder_add_index(&b, &before, &err), 0);
    page_index_builder_set_data(&b, 50, 3, 0, 50);
    page_index_builder_set_zero(&b, 60, 2);
    page_index_builder_set_zero(&b, 400, 20);
    assert_int_equal(page_index_builder_finish(&b, &after, &err), 0);
    assert_int_equal(
        page_index_diff(&before, &before, count_difference, &walk), 0);
    assert_int_equal(walk.different, 0);
    assert_int_equal(
        page_index_diff(&before, &after, count_difference, &walk), 0);
    assert_int_equal(walk.different, 5);
    /* A file of another length under the same id is not the same file. */
    assert_int_equal(page_index_builder_init(&b, PAGES, &other, &err), 0);
    assert_int_equal(page_index_builder_add_file(&b, &own, &file), 0);
    {
        struct page_image wrong = own;

        wrong.pages++;
        assert_int_equal(
            page_index_builder_add_file(&b, &wrong, &file), -EBADMSG);
    }
    page_index_builder_fini(&b);
    page_index_fini(&before);
    page_index_fini(&after);
}

struct field {
    const char *what;
    size_t offset;
    uint64_t value;
};

/* One field wrong at a time, each refused. */
static void test_hostile_fields(void **state)
{
    /* The header, file 0 at 32, file 1 at 64, extents from 96 on. */
    static const struct field fields[] = {
        {"magic", 0, 0},
        {"version", 8, UINT64_C(2) << 32 | 2},
        {"version 0", 8, UINT64_C(2) << 32},
        {"no files", 8, 1},
        {"files", 8, UINT64_C(0xffffffff) << 32 | 1},
        {"pages 0", 16, 0},
        {"pages", 16, PAGES + 1},
        {"all pages", 16, UINT64_MAX},
        {"extents 0", 24, 0},
        {"extents", 24, UINT64_MAX / 32 + 1},
        {"extents + 1", 24, 4},
        {"type", 48, 3},
        {"own image", 56, PAGES - 1},
        {"file size 0", 88, 0},
        {"file size", 88, UINT64_MAX},
        {"first page", 96, 1},
        {"count 0", 104, 0},
        {"count", 104, UINT64_MAX},
        {"zero with a place", 112, 1},
        {"gap", 128, 11},
        {"overlap", 128, 9},
        {"beyond the file", 144, UINT64_MAX},
        {"file number", 152, UINT64_C(1) << 32 | 2},
        {"kind", 152, UINT64_C(2) << 32 | 1},
        {"own image elsewhere", 152, UINT64_C(1) << 32},
        {"unused file, two that are one", 152, 0},
        {"end", 168, PAGES},
    };
    const struct page_image own = image(0, PAGES);
    const struct page_image other = image(1, 50);
    struct page_index_builder b;
    struct page_index index;
    uint8_t *data;
    size_t size;
    uint32_t file;
    struct err err;

    (void)state;
    assert_int_equal(page_index_builder_init(&b, PAGES, &own, &err), 0);
    assert_int_equal(page_index_builder_add_file(&b, &other, &file), 0);
    page_index_builder_set_data(&b, 10, 20, file, 30);
    assert_int_equal(page_index_builder_finish(&b, &index, &err), 0);
    assert_int_equal(page_index_encode(&index, &data, &size, &err), 0);
    page_index_fini(&index);
    assert_int_equal(size, 96 + 3 * 32);
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        uint8_t old[8];
        int rc;

        memcpy(old, data + fields[i].offset, 8);
        memcpy(data + fields[i].offset, &fields[i].value, 8);
        rc = page_index_decode(data, size, &index, &err);
        if (rc == 0)
            fail_msg("%s: accepted", fields[i].what);
        assert_int_equal(rc,
            strncmp(fields[i].what, "version", 7) == 0 ? -ENOTSUP : -EBADMSG);
        memcpy(data + fields[i].offset, old, 8);
    }
    /* One file twice. */
    memcpy(data + 64, data + 32, 16);
    assert_int_equal(page_index_decode(data, size, &index, &err), -EBADMSG);
    free(data);
}

static void test_hashes(void **state)
{
    const struct page_image own = image(0, PAGES);
    struct page_hashes hashes;
    struct page_hashes again;
    struct page_index_builder b;
    struct page_index index;
    uint8_t *data;
    size_t size;
    struct err err;

    (void)state;
    assert_int_equal(page_index_builder_init(&b, PAGES, &own, &err), 0);
    assert_int_equal(page_hashes_init(&hashes, PAGES), 0);
    for (uint64_t page = 3; page < PAGES; page += 5) {
        page_index_builder_set_data(&b, page, 2, 0, page);
        hashes.by_page[page].b[3] = (uint8_t)page;
        hashes.by_page[page + 1].b[4] = (uint8_t)page;
    }
    assert_int_equal(page_index_builder_finish(&b, &index, &err), 0);
    assert_int_equal(
        page_hashes_encode(&hashes, &index, &data, &size, &err), 0);
    assert_int_equal(size, page_hashes_size(&index));
    assert_int_equal(page_hashes_decode(data, size, &index, &again, &err), 0);
    assert_memory_equal(
        hashes.by_page, again.by_page, PAGES * sizeof(struct hash128));
    page_hashes_fini(&again);
    for (size_t cut = 0; cut < size; cut++)
        assert_int_equal(
            page_hashes_decode(data, cut, &index, &again, &err), -EBADMSG);
    data[8] = 2;
    assert_int_equal(
        page_hashes_decode(data, size, &index, &again, &err), -ENOTSUP);
    free(data);
    page_hashes_fini(&hashes);
    page_index_fini(&index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_ranges),
        cmocka_unit_test(test_many_ranges),
        cmocka_unit_test(test_diff),
        cmocka_unit_test(test_hostile_fields),
        cmocka_unit_test(test_hashes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
