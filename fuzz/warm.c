/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/warm.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "vmm/hw/paging.h"

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
    uint64_t entries[PAGING_ENTRIES];
    uint64_t table; /* guest-physical */
    unsigned int next;
    unsigned int end;
    uint64_t at; /* virtual address of the first entry */
    bool is_writable;
};

/* Goes through the user half of an address space, entry by entry. */
struct walk {
    struct gmem *mem;
    struct level *stack; /* [1, levels] */
    unsigned int levels;
    unsigned int depth;
    unsigned int tables;
};

/* A present entry of user memory. */
struct entry {
    uint64_t place; /* guest-physical address of the entry itself */
    uint64_t value;
    uint64_t at;      /* virtual address that it is for */
    bool is_writable; /* as all above it are */
    bool is_leaf;
    bool is_page; /* of 4 KiB */
};

/* Copies a table; one that is not RAM has nothing present. */
static void enter(struct walk *w, unsigned int depth, uint64_t table,
    uint64_t at, bool is_writable)
{
    struct level *level = &w->stack[depth];

    *level = (struct level){.table = table,
        .at = at,
        .is_writable = is_writable,
        .end = depth == w->levels ? PAGING_ENTRIES / 2 : PAGING_ENTRIES};
    if (gmem_read(w->mem, gpa(table), level->entries, sizeof(level->entries)) <
        0)
        level->end = 0;
    w->depth = depth;
    w->tables++;
}

static int walk_init(struct walk *w, const struct guest_view *view)
{
    *w = (struct walk){.mem = view->mem,
        .levels = (view->regs.cr4 & PAGING_CR4_LA57) != 0 ? 5 : 4,
        .stack = calloc(PAGING_LEVELS_MAX + 1, sizeof(w->stack[0]))};
    if (w->stack == NULL)
        return -ENOMEM;
    w->depth = w->levels + 1;
    if ((view->regs.efer & PAGING_EFER_LMA) != 0)
        enter(w, w->levels, view->regs.cr3 & PAGING_ADDRESS, 0, true);
    return 0;
}

/* The next one, and into the table that it names; false at the end. */
static bool walk_next(struct walk *w, struct entry *ret_entry)
{
    while (w->depth <= w->levels) {
        struct level *level = &w->stack[w->depth];
        unsigned int depth = w->depth;
        unsigned int shift = NUM_PAGE_SHIFT + (depth - 1) * PAGING_LEVEL_BITS;
        unsigned int i = level->next;
        uint64_t value;

        if (i == level->end) {
            w->depth++;
            continue;
        }
        level->next++;
        value = level->entries[i];
        if ((value & PAGING_PRESENT) == 0 || (value & PAGING_USER) == 0)
            continue;
        *ret_entry = (struct entry){.value = value,
            .place = level->table + i * sizeof(value),
            .at = level->at + ((uint64_t)i << shift),
            .is_writable = level->is_writable && (value & PAGING_WRITABLE) != 0,
            .is_leaf = depth == 1 || (value & PAGING_LARGE) != 0,
            .is_page = depth == 1};
        if (!ret_entry->is_leaf && w->tables < WARM_TABLES_MAX)
            enter(w, depth - 1, value & PAGING_ADDRESS, ret_entry->at,
                ret_entry->is_writable);
        return true;
    }
    return false;
}

int warm_take(struct warm_list *list, const struct guest_view *view)
{
    struct entry entry;
    struct walk w;
    int rc = walk_init(&w, view);

    list->count = 0;
    while (rc == 0 && list->count < WARM_PAGES_MAX && walk_next(&w, &entry)) {
        if (entry.is_page)
            rc = add(list, entry.at | (entry.is_writable ? WARM_WRITE : 0));
    }
    free(w.stack);
    return rc;
}

int warm_set_used(const struct guest_view *view)
{
    struct entry entry;
    struct walk w;
    int rc = walk_init(&w, view);

    while (rc == 0 && walk_next(&w, &entry)) {
        uint64_t used = entry.value | PAGING_ACCESSED;

        if (entry.is_leaf && entry.is_writable)
            used |= PAGING_DIRTY;
        if (used != entry.value)
            rc = gmem_write(view->mem, gpa(entry.place), &used, sizeof(used));
    }
    free(w.stack);
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
