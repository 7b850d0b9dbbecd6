/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/breakpoints.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/trap.h"

void breakpoints_fini(struct breakpoints *b)
{
    free(b->list);
    *b = (struct breakpoints){0};
}

/* ---- the list ------------------------------------------------------------ */

static int order(const void *a, const void *b)
{
    const struct breakpoint *x = a;
    const struct breakpoint *y = b;

    if (x->address != y->address)
        return x->address < y->address ? -1 : 1;
    /* Of two at one address the one that is in comes first. */
    return (int)y->is_in - (int)x->is_in;
}

int breakpoints_add(struct breakpoints *b, const uint64_t *addresses,
    size_t count, struct err *err)
{
    size_t kept = 0;

    if (count > BREAKPOINTS_MAX - b->count)
        return err_set(err, E2BIG, "more than %u breakpoints", BREAKPOINTS_MAX);
    if (b->count + count > b->room) {
        size_t room = b->count + count + 64;
        struct breakpoint *list = reallocarray(b->list, room, sizeof(*list));

        if (list == NULL)
            return err_sys(err, ENOMEM, "breakpoints");
        b->list = list;
        b->room = room;
    }
    for (size_t i = 0; i < count; i++)
        b->list[b->count + i] = (struct breakpoint){.address = addresses[i]};
    b->count += count;
    if (b->count > 0)
        qsort(b->list, b->count, sizeof(*b->list), order);
    for (size_t i = 0; i < b->count; i++) {
        if (kept == 0 || b->list[kept - 1].address != b->list[i].address)
            b->list[kept++] = b->list[i];
    }
    b->count = kept;
    return 0;
}

/* The first one at or behind an address. */
static size_t lower_bound(const struct breakpoints *b, uint64_t address)
{
    size_t low = 0;
    size_t high = b->count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (b->list[mid].address < address)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

int64_t breakpoints_find(const struct breakpoints *b, uint64_t address)
{
    size_t i = lower_bound(b, address);

    return i < b->count && b->list[i].address == address ? (int64_t)i : -ENOENT;
}

/* ---- in the guest -------------------------------------------------------- */

static struct machine_pmem *find_file(
    const struct guest_view *view, uint64_t physical)
{
    for (uint32_t i = 0; i < view->pmem_count; i++) {
        struct machine_pmem *p = view->pmems[i];

        if (p != NULL && physical >= p->start &&
            physical - p->start < p->file.file_size)
            return p;
    }
    return NULL;
}

/* Writes where no driver would: pages that no reset is to know of. */
static int poke(const struct guest_view *view, uint64_t physical, uint8_t byte,
    uint8_t *ret_old)
{
    struct machine_pmem *p;
    uint64_t page;

    if (gmem_page_of(view->mem, gpa(physical), &page)) {
        uint32_t offset = (uint32_t)(physical % NUM_PAGE_SIZE);

        gmem_peek_page(view->mem, page, offset, ret_old, 1);
        gmem_poke_page(view->mem, page, offset, &byte, 1);
        return 0;
    }
    p = find_file(view, physical);
    if (p == NULL)
        return -EFAULT;
    return pmem_file_poke(&p->file, physical - p->start, byte, ret_old);
}

int breakpoints_put(
    struct breakpoints *b, const struct guest_view *view, size_t index)
{
    struct breakpoint *one = &b->list[index];
    struct guest_place place;
    int rc;

    if (one->is_in)
        return 0;
    if (guest_view_walk(view, one->address, &place) < 0)
        return -EFAULT;
    rc = poke(view, place.physical, TRAP_INT3, &one->old);
    if (rc < 0)
        return rc;
    one->physical = place.physical;
    one->is_in = true;
    return 0;
}

/* By its physical address: the process may be another by now. */
int breakpoints_take(
    struct breakpoints *b, const struct guest_view *view, size_t index)
{
    struct breakpoint *one = &b->list[index];
    uint8_t ignored;
    int rc;

    if (!one->is_in)
        return 0;
    rc = poke(view, one->physical, one->old, &ignored);
    if (rc == 0)
        one->is_in = false;
    return rc;
}

void breakpoints_drop(struct breakpoints *b, size_t index)
{
    assert(!b->list[index].is_in);
    b->count--;
    memmove(&b->list[index], &b->list[index + 1],
        (b->count - index) * sizeof(*b->list));
}

size_t breakpoints_put_all(struct breakpoints *b, const struct guest_view *view)
{
    size_t missing = 0;

    for (size_t i = 0; i < b->count; i++) {
        if (breakpoints_put(b, view, i) < 0)
            missing++;
    }
    return missing;
}

void breakpoints_hide(
    const struct breakpoints *b, uint64_t at, void *bytes, size_t size)
{
    uint8_t *to = bytes;

    for (size_t i = lower_bound(b, at);
         i < b->count && b->list[i].address - at < size; i++) {
        if (b->list[i].is_in)
            to[b->list[i].address - at] = b->list[i].old;
    }
}
