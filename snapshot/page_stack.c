/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/page_stack.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

_Static_assert(PAGE_STACK_LEVELS_MAX < UINT16_MAX, "levels fit found_in");
_Static_assert(
    (GMEM_SIZE_MAX >> NUM_PAGE_SHIFT) <= UINT32_MAX, "pages fit 32 bits");

/* Zeroed memory that takes none until it is written to; NULL: there is none. */
static void *reserve(uint64_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED)
        return NULL;
    (void)madvise(p, bytes, MADV_DONTDUMP);
    return p;
}

static void release(const void *p, uint64_t bytes)
{
    if (p != NULL)
        (void)munmap((void *)(uintptr_t)p, bytes);
}

#define LEVELS_BYTES                                                           \
    ((PAGE_STACK_LEVELS_MAX + UINT64_C(1)) * sizeof(struct page_level))

static uint64_t ram_bytes(const struct page_stack *s)
{
    return s->pages << NUM_PAGE_SHIFT;
}

int page_stack_init_view(
    struct page_stack *s, const uint8_t *view, uint64_t pages, struct err *err)
{
    *s = (struct page_stack){.pages = pages, .root = view};
    s->found_in = reserve(pages * sizeof(s->found_in[0]));
    s->levels = reserve(LEVELS_BYTES);
    if (s->found_in == NULL || s->levels == NULL) {
        page_stack_fini(s);
        return err_sys(err, ENOMEM, "levels of a reset");
    }
    return 0;
}

int page_stack_init_copy(
    struct page_stack *s, const struct gmem *mem, struct err *err)
{
    uint64_t pages = gmem_page_count(mem);
    uint8_t *root = reserve(pages << NUM_PAGE_SHIFT);
    uint64_t first = 0;
    uint64_t count;
    int rc;

    *s = (struct page_stack){0};
    if (root == NULL)
        return err_sys(err, ENOMEM, "a copy of guest memory");
    rc = page_stack_init_view(s, root, pages, err);
    if (rc < 0) {
        release(root, pages << NUM_PAGE_SHIFT);
        return rc;
    }
    s->owns_root = true;
    while (gmem_next_data(mem, first, &first, &count)) {
        for (; count > 0; count--, first++) {
            if (!gmem_page_is_zero(mem, first))
                gmem_copy_pages(
                    mem, first, 1, root + (first << NUM_PAGE_SHIFT));
        }
    }
    return 0;
}

static void free_level(const struct page_stack *s, struct page_level *level)
{
    release(level->copies, ram_bytes(s));
    free(level->held);
    free(level->before);
    *level = (struct page_level){0};
}

void page_stack_fini(struct page_stack *s)
{
    while (page_stack_pop(s))
        continue;
    if (s->owns_root)
        release(s->root, ram_bytes(s));
    release(s->found_in, s->pages * sizeof(s->found_in[0]));
    release(s->levels, LEVELS_BYTES);
    *s = (struct page_stack){0};
}

int page_stack_push(struct page_stack *s, const struct gmem *mem,
    const uint32_t *pages, uint32_t count, struct err *err)
{
    struct page_level *level;

    if (s->top == PAGE_STACK_LEVELS_MAX)
        return err_set(err, ENOSPC,
            "more than %u snapshots on top of each other: take some off first",
            PAGE_STACK_LEVELS_MAX);
    level = &s->levels[s->top + 1];
    *level = (struct page_level){.copies = reserve(ram_bytes(s)),
        .held = malloc((count + 1) * sizeof(level->held[0])),
        .before = malloc((count + 1) * sizeof(level->before[0])),
        .count = count};
    if (level->copies == NULL || level->held == NULL || level->before == NULL) {
        free_level(s, level);
        return err_sys(err, ENOMEM, "a level of %u pages", count);
    }
    s->top++;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t page = pages[i];

        assert(page < s->pages && s->found_in[page] < s->top);
        gmem_copy_pages(
            mem, page, 1, level->copies + ((uint64_t)page << NUM_PAGE_SHIFT));
        level->held[i] = page;
        level->before[i] = s->found_in[page];
        s->found_in[page] = (uint16_t)s->top;
    }
    return 0;
}

bool page_stack_pop(struct page_stack *s)
{
    struct page_level *level;

    if (s->top == 0)
        return false;
    level = &s->levels[s->top];
    for (uint32_t i = 0; i < level->count; i++)
        s->found_in[level->held[i]] = level->before[i];
    free_level(s, level);
    s->top--;
    return true;
}

const uint32_t *page_stack_top(const struct page_stack *s, uint32_t *ret_count)
{
    const struct page_level *level = &s->levels[s->top];

    *ret_count = level->count;
    return level->held;
}
