/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/page_tables.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/hw/paging.h"

/* How tables look: 4 KiB each, but for the four entries that PAE starts with.
 */
struct format {
    unsigned int levels;
    unsigned int entry_bytes;
    uint64_t root_mask; /* of CR3 */
    unsigned int root_entries;
};

struct table {
    uint64_t page;   /* of the file, as gmem counts */
    uint32_t offset; /* of the first entry in it */
    uint32_t level;  /* 1: its entries map pages */
};

struct walk {
    const struct gmem *mem;
    const struct format *format;
    struct bitmap *tables;
    struct bitmap seen[PAGING_LEVELS_MAX]; /* by level less one */
    struct table *todo;
    size_t todo_count;
    size_t todo_room;
};

static bool choose_format(
    const struct page_tables_regs *regs, struct format *ret_format)
{
    if ((regs->cr0 & PAGING_CR0_PG) == 0)
        return false;
    if ((regs->efer & PAGING_EFER_LMA) != 0)
        *ret_format = (struct format){
            .levels = (regs->cr4 & PAGING_CR4_LA57) != 0 ? 5 : 4,
            .entry_bytes = 8,
            .root_mask = PAGING_ADDRESS,
            .root_entries = 512};
    else if ((regs->cr4 & PAGING_CR4_PAE) != 0)
        *ret_format = (struct format){.levels = 3,
            .entry_bytes = 8,
            .root_mask = UINT64_C(0xffffffe0),
            .root_entries = 4};
    else
        *ret_format = (struct format){.levels = 2,
            .entry_bytes = 4,
            .root_mask = UINT64_C(0xfffff000),
            .root_entries = 1024};
    return true;
}

/* A table at a guest address; what is not RAM has none. */
static int add(struct walk *w, uint64_t address, uint32_t level)
{
    struct table *more;
    struct table t = {
        .offset = (uint32_t)(address % NUM_PAGE_SIZE), .level = level};

    if (!gmem_page_of(w->mem, gpa(address), &t.page))
        return 0;
    if (bitmap_test(&w->seen[level - 1], t.page))
        return 0;
    bitmap_set(&w->seen[level - 1], t.page, 1);
    bitmap_set(w->tables, t.page, 1);
    if (w->todo_count == w->todo_room) {
        size_t room = w->todo_room == 0 ? 64 : w->todo_room * 2;

        more = realloc(w->todo, room * sizeof(w->todo[0]));
        if (more == NULL)
            return -ENOMEM;
        w->todo = more;
        w->todo_room = room;
    }
    w->todo[w->todo_count++] = t;
    return 0;
}

/*
 * A set page-size bit ends a walk at levels 2 and 3; at the others, and in
 * tables that do not know it (PAE's four entries), it is ignored or reserved,
 * and following it marks a page too many at worst.
 */
static bool maps_large_page(const struct walk *w, uint32_t level, uint64_t e)
{
    bool can = w->format->levels == 2
                   ? level == 2
                   : level == 2 || (level == 3 && w->format->levels >= 4);

    return can && (e & PAGING_LARGE) != 0;
}

static int follow(struct walk *w, const struct table *t)
{
    uint8_t bytes[NUM_PAGE_SIZE];
    unsigned int width = w->format->entry_bytes;
    unsigned int count = t->level == w->format->levels
                             ? w->format->root_entries
                             : (unsigned int)(NUM_PAGE_SIZE / width);

    gmem_copy_pages(w->mem, t->page, 1, bytes);
    for (unsigned int i = 0; i < count; i++) {
        const uint8_t *at = bytes + t->offset + (size_t)i * width;
        uint64_t e = 0;
        int rc;

        memcpy(&e, at, width);
        if ((e & PAGING_PRESENT) == 0 || maps_large_page(w, t->level, e))
            continue;
        rc = add(w, e & PAGING_ADDRESS, t->level - 1);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int page_tables_mark(const struct gmem *mem,
    const struct page_tables_regs *regs, struct bitmap *tables)
{
    struct format format;
    struct walk w = {.mem = mem, .format = &format, .tables = tables};
    int rc = 0;

    if (!choose_format(regs, &format))
        return 0;
    for (unsigned int i = 0; i < format.levels && rc == 0; i++)
        rc = bitmap_init(&w.seen[i], gmem_page_count(mem));
    if (rc == 0)
        rc = add(&w, regs->cr3 & format.root_mask, format.levels);
    while (rc == 0 && w.todo_count > 0) {
        struct table t = w.todo[--w.todo_count];

        if (t.level > 1)
            rc = follow(&w, &t);
    }
    for (unsigned int i = 0; i < format.levels; i++)
        bitmap_fini(&w.seen[i]);
    free(w.todo);
    return rc;
}
