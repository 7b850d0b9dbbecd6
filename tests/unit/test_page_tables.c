/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "snapshot/page_tables.h"
#include "vmm/base/cc.h"

#define PAGES     1024u
#define PAGING    (UINT64_C(1) << 31)
#define PAE       (UINT64_C(1) << 5)
#define LONG_MODE (UINT64_C(1) << 10)

struct fixture {
    struct gmem mem;
    struct bitmap tables;
};

static int set_up(void **state)
{
    static struct fixture f;

    assert_int_equal(gmem_init(&f.mem, PAGES * NUM_PAGE_SIZE, NULL), 0);
    assert_int_equal(bitmap_init(&f.tables, PAGES), 0);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    gmem_fini(&f->mem);
    bitmap_fini(&f->tables);
    return 0;
}

static void put(struct fixture *f, uint64_t page, unsigned int i, uint64_t e)
{
    assert_int_equal(
        gmem_write(&f->mem, gpa(page * NUM_PAGE_SIZE + i * 8), &e, 8), 0);
}

static uint64_t to(uint64_t page)
{
    return page * NUM_PAGE_SIZE | 0x63;
}

static void expect(struct fixture *f, const struct page_tables_regs *regs,
    const uint64_t *pages, size_t count)
{
    bitmap_clear_all(&f->tables);
    assert_int_equal(page_tables_mark(&f->mem, regs, &f->tables), 0);
    assert_int_equal(bitmap_count(&f->tables), count);
    for (size_t i = 0; i < count; i++)
        assert_true(bitmap_test(&f->tables, pages[i]));
}

static void test_paging_off_has_no_tables(void **state)
{
    const struct page_tables_regs regs = {.cr3 = 0x5000};

    expect(*state, &regs, NULL, 0);
}

static void test_four_levels(void **state)
{
    static const uint64_t pages[] = {5, 6, 7, 8, 9};
    const struct page_tables_regs regs = {.cr0 = PAGING,
        .cr3 = to(5) | UINT64_C(1) << 63,
        .cr4 = PAE,
        .efer = LONG_MODE};
    struct fixture *f = *state;

    put(f, 5, 0, to(6));
    put(f, 5, 511, to(6));
    put(f, 6, 1, to(7) | UINT64_C(1) << 63); /* NX is no address bit */
    put(f, 6, 2, to(100) | 1 << 7);          /* 1 GiB page */
    put(f, 7, 3, to(8));
    put(f, 7, 4, to(101) | 1 << 7); /* 2 MiB page */
    put(f, 7, 5, to(9));
    put(f, 7, 6, to(102) & ~UINT64_C(1)); /* not present */
    put(f, 8, 0, to(103));                /* a 4 KiB page, with PAT */
    put(f, 8, 1, to(104) | 1 << 7);
    put(f, 5, 9, to(PAGES + 50)); /* not RAM */
    expect(f, &regs, pages, ARRAY_SIZE(pages));
}

/* The top table as its own entry: each of its tables is one a level lower. */
static void test_tables_that_map_themselves(void **state)
{
    static const uint64_t pages[] = {5, 6, 7, 8};
    const struct page_tables_regs regs = {
        .cr0 = PAGING, .cr3 = to(5), .cr4 = PAE, .efer = LONG_MODE};
    struct fixture *f = *state;

    put(f, 5, 0, to(6));
    put(f, 5, 256, to(5));
    put(f, 6, 0, to(7));
    put(f, 7, 0, to(8));
    put(f, 8, 0, to(200));
    expect(f, &regs, pages, ARRAY_SIZE(pages));
}

static void test_the_page_of_a_page_tables_entry_is_no_table(void **state)
{
    /* Page 6 is a PDPT and, by another way, a PT: what is below counts. */
    static const uint64_t pages[] = {5, 6, 7, 8, 10, 11};
    const struct page_tables_regs regs = {
        .cr0 = PAGING, .cr3 = to(5), .cr4 = PAE, .efer = LONG_MODE};
    struct fixture *f = *state;

    put(f, 5, 1, to(10));
    put(f, 10, 0, to(11));
    put(f, 11, 0, to(6));
    put(f, 5, 2, to(6));
    put(f, 6, 0, to(7));
    put(f, 7, 0, to(8));
    put(f, 8, 0, to(300));
    expect(f, &regs, pages, ARRAY_SIZE(pages));
}

static void test_pae_and_plain(void **state)
{
    static const uint64_t pae[] = {20, 21, 22};
    static const uint64_t plain[] = {30, 31};
    const struct page_tables_regs pae_regs = {
        .cr0 = PAGING, .cr3 = 20 * NUM_PAGE_SIZE + 0x20, .cr4 = PAE};
    const struct page_tables_regs plain_regs = {
        .cr0 = PAGING, .cr3 = 30 * NUM_PAGE_SIZE};
    struct fixture *f = *state;
    uint32_t e = 31 * NUM_PAGE_SIZE | 1;

    put(f, 20, 4 + 3, 21 * NUM_PAGE_SIZE | 1);
    put(f, 20, 4 + 4, 99 * NUM_PAGE_SIZE | 1); /* a fifth: not one of them */
    put(f, 21, 0, to(22));
    put(f, 22, 0, to(23));
    expect(f, &pae_regs, pae, ARRAY_SIZE(pae));
    assert_int_equal(
        gmem_write(&f->mem, gpa(30 * NUM_PAGE_SIZE + 4092), &e, 4), 0);
    e = 99 * NUM_PAGE_SIZE | 0x81;
    assert_int_equal(gmem_write(&f->mem, gpa(30 * NUM_PAGE_SIZE), &e, 4), 0);
    expect(f, &plain_regs, plain, ARRAY_SIZE(plain));
}

/* Every entry of every page points somewhere: it ends, and marks all. */
static void test_a_hostile_guest_costs_a_bounded_walk(void **state)
{
    const struct page_tables_regs regs = {
        .cr0 = PAGING, .cr3 = 0, .cr4 = PAE | 1 << 12, .efer = LONG_MODE};
    struct fixture *f = *state;

    for (uint64_t page = 0; page < PAGES; page++) {
        for (unsigned int i = 0; i < 512; i++)
            put(f, page, i, ((page * 7 + i * 13) % PAGES) << 12 | 1);
    }
    bitmap_clear_all(&f->tables);
    assert_int_equal(page_tables_mark(&f->mem, &regs, &f->tables), 0);
    assert_int_equal(bitmap_count(&f->tables), PAGES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_paging_off_has_no_tables, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_four_levels, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_tables_that_map_themselves, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_the_page_of_a_page_tables_entry_is_no_table, set_up,
            tear_down),
        cmocka_unit_test_setup_teardown(test_pae_and_plain, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_a_hostile_guest_costs_a_bounded_walk, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
