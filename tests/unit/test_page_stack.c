/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page stack against whole copies of RAM at every level.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/page_stack.h"

#define PAGES  256u
#define LEVELS 40u
#define STEPS  3000

struct model {
    struct gmem mem;
    struct page_stack stack;
    bool changed[PAGES];
    uint8_t *levels[LEVELS + 1];
    uint32_t top;
    uint64_t seed;
};

static uint32_t pick(struct model *m, uint32_t below)
{
    m->seed = m->seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(m->seed >> 33) % below;
}

static void write_page(struct model *m, uint32_t page)
{
    uint8_t byte = (uint8_t)pick(m, 256);
    uint64_t at = (uint64_t)page * NUM_PAGE_SIZE + pick(m, 4096);

    assert_int_equal(gmem_write(&m->mem, gpa(at), &byte, 1), 0);
    m->changed[page] = true;
}

static uint8_t *copy_ram(const struct model *m)
{
    uint8_t *copy = malloc(PAGES * NUM_PAGE_SIZE);

    assert_non_null(copy);
    gmem_copy_pages(&m->mem, 0, PAGES, copy);
    return copy;
}

static void expect_level(const struct model *m)
{
    for (uint32_t i = 0; i < PAGES; i++)
        assert_memory_equal(page_stack_get(&m->stack, i),
            m->levels[m->top] + i * NUM_PAGE_SIZE, NUM_PAGE_SIZE);
}

static void push(struct model *m)
{
    uint32_t list[PAGES];
    uint32_t count = 0;

    for (uint32_t i = 0; i < PAGES; i++) {
        if (m->changed[i])
            list[count++] = i;
        m->changed[i] = false;
    }
    assert_int_equal(page_stack_push(&m->stack, &m->mem, list, count, NULL), 0);
    m->levels[++m->top] = copy_ram(m);
}

static void pop(struct model *m)
{
    uint32_t count;
    const uint32_t *held = page_stack_top(&m->stack, &count);

    for (uint32_t i = 0; i < count; i++)
        m->changed[held[i]] = true;
    assert_true(page_stack_pop(&m->stack));
    free(m->levels[m->top--]);
}

static void put_back(struct model *m)
{
    uint8_t *now;

    for (uint32_t i = 0; i < PAGES; i++) {
        if (m->changed[i])
            gmem_restore_pages(&m->mem, i, 1, page_stack_get(&m->stack, i));
        m->changed[i] = false;
    }
    now = copy_ram(m);
    assert_memory_equal(now, m->levels[m->top], PAGES * NUM_PAGE_SIZE);
    free(now);
}

static void random_walk(struct model *m)
{
    m->levels[0] = copy_ram(m);
    for (int step = 0; step < STEPS; step++) {
        switch (pick(m, 8)) {
        case 0:
            if (m->top < LEVELS)
                push(m);
            break;
        case 1:
            if (m->top > 0)
                pop(m);
            break;
        case 2:
            put_back(m);
            break;
        default:
            write_page(m, pick(m, PAGES));
            break;
        }
        expect_level(m);
    }
    while (m->top > 0)
        pop(m);
    assert_false(page_stack_pop(&m->stack));
    put_back(m);
    free(m->levels[0]);
}

static void test_copied_root(void **state)
{
    struct model m = {.seed = 1};

    (void)state;
    assert_int_equal(gmem_init(&m.mem, PAGES * NUM_PAGE_SIZE, NULL), 0);
    for (uint32_t i = 0; i < PAGES; i += 3)
        write_page(&m, i);
    memset(m.changed, 0, sizeof(m.changed));
    assert_int_equal(page_stack_init_copy(&m.stack, &m.mem, NULL), 0);
    random_walk(&m);
    page_stack_fini(&m.stack);
    gmem_fini(&m.mem);
}

static void test_private_memory_over_a_view(void **state)
{
    struct model m = {.seed = 2};
    uint8_t *view;

    (void)state;
    assert_int_equal(gmem_init_private(&m.mem, PAGES * NUM_PAGE_SIZE, NULL), 0);
    for (uint32_t i = 0; i < PAGES; i += 5)
        write_page(&m, i);
    memset(m.changed, 0, sizeof(m.changed));
    view = copy_ram(&m);
    assert_int_equal(page_stack_init_view(&m.stack, view, PAGES, NULL), 0);
    random_walk(&m);
    page_stack_fini(&m.stack);
    free(view);
    gmem_fini(&m.mem);
}

static void test_no_level_too_many(void **state)
{
    struct model m = {.seed = 3};

    (void)state;
    assert_int_equal(gmem_init(&m.mem, PAGES * NUM_PAGE_SIZE, NULL), 0);
    assert_int_equal(page_stack_init_copy(&m.stack, &m.mem, NULL), 0);
    for (uint32_t i = 0; i < PAGE_STACK_LEVELS_MAX; i++)
        assert_int_equal(page_stack_push(&m.stack, &m.mem, NULL, 0, NULL), 0);
    assert_int_equal(page_stack_push(&m.stack, &m.mem, NULL, 0, NULL), -ENOSPC);
    page_stack_fini(&m.stack);
    page_stack_fini(&m.stack);
    gmem_fini(&m.mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copied_root),
        cmocka_unit_test(test_private_memory_over_a_view),
        cmocka_unit_test(test_no_level_too_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
