/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/warm.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

/* Intel SDM vol. 3, 4.5. */
#define CR4_LA57 (UINT64_C(1) << 12)
#define EFER_LMA (UINT64_C(1) << 10)

#define ENTRY_PRESENT  UINT64_C(1)
#define ENTRY_WRITABLE (UINT64_C(1) << 1)
#define ENTRY_USER     (UINT64_C(1) << 2)
#define ENTRY_LARGE    (UINT64_C(1) << 7)
#define ADDRESS_BITS   UINT64_C(0x000ffffffffff000)

#define ENTRIES    512u
#define LEVEL_BITS 9u
#define LEVELS_MAX 5u

void warm_fini(struct warm_list *list)
{
    free(list->pages);
    *list = (struct warm_list){0};
}

static int add(struct warm_list *list, uint64_t page)
{
    if (list->count == list->room) {
        size_t room = list->room == 0 ? 1024 : list->room * 2;
        uint64_t *more = realloc(list->pages, room * sizeof(more[0]));

        if (more == NULL)
            return -ENOMEM;
        list->pages = more;
        list->room = room;
    }
    list->pages[list->count++] = page;
    return 0;
}

struct level {
    uint64_t entries[ENTRIES];
    unsigned int next;
    unsigned int end;
    uint64_t at; /* virtual address of the first entry */
    bool is_writable;
};

/* Copies a table; one that is not RAM has nothing present. */
static void enter(struct level *level, const struct guest_view *view,
    uint64_t table, uint64_t at, bool is_writable, unsigned int end)
{
    *level = (struct level){.at = at, .is_writable = is_writable, .end = end};
    if (gmem_read(
            view->mem, gpa(table), level->entries, sizeof(level->entries)) < 0)
        level->end = 0;
}

int warm_take(struct warm_list *list, const struct guest_view *view)
{
    unsigned int levels = (view->regs.cr4 & CR4_LA57) != 0 ? 5 : 4;
    struct level *stack;
    unsigned int depth = levels;
    unsigned int tables = 1;
    int rc = 0;

    list->count = 0;
    if ((view->regs.efer & EFER_LMA) == 0)
        return 0;
    stack = calloc(LEVELS_MAX + 1, sizeof(stack[0]));
    if (stack == NULL)
        return -ENOMEM;
    /* The lower half is user memory. */
    enter(&stack[depth], view, view->regs.cr3 & ADDRESS_BITS, 0, true,
        ENTRIES / 2);
    while (rc == 0 && list->count < WARM_PAGES_MAX) {
        struct level *level = &stack[depth];
        unsigned int shift = NUM_PAGE_SHIFT + (depth - 1) * LEVEL_BITS;
        uint64_t entry;
        uint64_t at;
        bool is_writable;

        if (level->next == level->end) {
            if (depth++ == levels)
                break;
            continue;
        }
        entry = level->entries[level->next];
        at = level->at + ((uint64_t)level->next++ << shift);
        if ((entry & ENTRY_PRESENT) == 0 || (entry & ENTRY_USER) == 0)
            continue;
        is_writable = level->is_writable && (entry & ENTRY_WRITABLE) != 0;
        if (depth == 1)
            rc = add(list, at | (is_writable ? WARM_WRITE : 0));
        else if ((entry & ENTRY_LARGE) == 0 && tables++ < WARM_TABLES_MAX)
            enter(&stack[--depth], view, entry & ADDRESS_BITS, at, is_writable,
                ENTRIES);
    }
    free(stack);
    return rc;
}

static uint64_t address(uint64_t page)
{
    return page & ~WARM_WRITE;
}

/* Both in order: one pass. */
static int merge(struct warm_list *into, const struct warm_list *a,
    const struct warm_list *b)
{
    size_t i = 0;
    size_t j = 0;
    int rc = 0;

    while (rc == 0 && (i < a->count || j < b->count)) {
        if (j == b->count ||
            (i < a->count && address(a->pages[i]) < address(b->pages[j]))) {
            rc = add(into, a->pages[i++]);
        } else if (i == a->count ||
                   address(b->pages[j]) < address(a->pages[i])) {
            rc = add(into, b->pages[j++]);
        } else {
            rc = add(into, a->pages[i++] | b->pages[j++]);
        }
    }
    return rc;
}

static int subtract(struct warm_list *news, const struct warm_list *before,
    const struct warm_list *after)
{
    size_t i = 0;
    int rc = 0;

    for (size_t j = 0; rc == 0 && j < after->count; j++) {
        uint64_t page = after->pages[j];

        while (i < before->count && address(before->pages[i]) < address(page))
            i++;
        if (i < before->count &&
            (before->pages[i] | WARM_WRITE) == (page | WARM_WRITE) &&
            before->pages[i] >= page)
            continue;
        rc = add(news, page);
    }
    return rc;
}

int warm_add_new(struct warm_list *more, const struct warm_list *before,
    const struct warm_list *after)
{
    struct warm_list news = {0};
    struct warm_list all = {0};
    int rc = subtract(&news, before, after);

    if (rc == 0)
        rc = merge(&all, more, &news);
    if (rc < 0) {
        warm_fini(&all);
    } else {
        warm_fini(more);
        *more = all;
    }
    warm_fini(&news);
    return rc;
}
