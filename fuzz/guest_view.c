/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/guest_view.h"

#include <errno.h>
#include <string.h>

#include "vmm/base/fd.h"
#include "vmm/hw/paging.h"

static bool is_canonical(uint64_t at, unsigned int levels)
{
    unsigned int bits = NUM_PAGE_SHIFT + levels * PAGING_LEVEL_BITS;
    int64_t top = (int64_t)at >> (bits - 1);

    return top == 0 || top == -1;
}

int guest_view_walk(
    const struct guest_view *view, uint64_t at, struct guest_place *ret_place)
{
    unsigned int levels = (view->regs.cr4 & PAGING_CR4_LA57) != 0 ? 5 : 4;
    uint64_t table = view->regs.cr3 & PAGING_ADDRESS;
    bool is_writable = true;
    bool is_user = true;

    if ((view->regs.efer & PAGING_EFER_LMA) == 0 || !is_canonical(at, levels))
        return -EFAULT;
    for (unsigned int level = levels; level > 0; level--) {
        unsigned int shift = NUM_PAGE_SHIFT + (level - 1) * PAGING_LEVEL_BITS;
        uint64_t index = (at >> shift) & ((1u << PAGING_LEVEL_BITS) - 1);
        uint64_t inside = (UINT64_C(1) << shift) - 1;
        uint64_t entry;

        if (gmem_read(view->mem, gpa(table + index * sizeof(entry)), &entry,
                sizeof(entry)) < 0 ||
            (entry & PAGING_PRESENT) == 0)
            return -EFAULT;
        is_writable = is_writable && (entry & PAGING_WRITABLE) != 0;
        is_user = is_user && (entry & PAGING_USER) != 0;
        table = entry & PAGING_ADDRESS;
        if (level == 1 ||
            ((level == 2 || level == 3) && (entry & PAGING_LARGE) != 0)) {
            *ret_place = (struct guest_place){
                .physical = (table & ~inside) | (at & inside),
                .is_writable = is_writable,
                .is_user = is_user};
            return 0;
        }
    }
    return -EFAULT;
}

int guest_view_page(
    const struct guest_view *view, uint64_t at, uint32_t *ret_page)
{
    struct guest_place place;
    uint64_t page;
    int rc = guest_view_walk(view, at, &place);

    if (rc < 0)
        return rc;
    if (!gmem_page_of(view->mem, gpa(place.physical), &page))
        return -EFAULT;
    *ret_page = (uint32_t)page;
    return 0;
}

/*
 * Bytes of a file that is mapped behind RAM. Read as a file: whoever cuts it
 * meanwhile does not bring the process down.
 */
static int read_file(
    const struct guest_view *view, uint64_t physical, void *dst, size_t len)
{
    for (uint32_t i = 0; i < view->pmem_count; i++) {
        const struct machine_pmem *p = view->pmems[i];

        if (p == NULL || physical < p->start ||
            physical - p->start >= p->file.file_size)
            continue;
        return fd_pread_full(p->file.fd, dst, len, physical - p->start) ==
                       (ssize_t)len
                   ? 0
                   : -EFAULT;
    }
    return -EFAULT;
}

/* Within one page. */
static int read_piece(
    const struct guest_view *view, uint64_t at, void *dst, size_t len)
{
    struct guest_place place;
    int rc = guest_view_walk(view, at, &place);

    if (rc < 0)
        return rc;
    rc = gmem_read(view->mem, gpa(place.physical), dst, len);
    return rc < 0 ? read_file(view, place.physical, dst, len) : 0;
}

/* How much of `len` bytes at `at` lies in its page. */
static size_t piece_of(uint64_t at, size_t len)
{
    size_t left = (size_t)(NUM_PAGE_SIZE - at % NUM_PAGE_SIZE);

    return len < left ? len : left;
}

int guest_view_read(
    const struct guest_view *view, uint64_t at, void *dst, size_t len)
{
    uint8_t *to = dst;

    while (len > 0) {
        size_t n = piece_of(at, len);
        int rc = read_piece(view, at, to, n);

        if (rc < 0)
            return rc;
        at += n;
        to += n;
        len -= n;
    }
    return 0;
}

int guest_view_write(
    const struct guest_view *view, uint64_t at, const void *src, size_t len)
{
    const uint8_t *from = src;

    while (len > 0) {
        size_t n = piece_of(at, len);
        struct guest_place place;
        int rc = guest_view_walk(view, at, &place);

        if (rc == 0)
            rc = gmem_write(view->mem, gpa(place.physical), from, n);
        if (rc < 0)
            return -EFAULT;
        at += n;
        from += n;
        len -= n;
    }
    return 0;
}

size_t guest_view_string(
    const struct guest_view *view, uint64_t at, char *buf, size_t size)
{
    size_t len = 0;

    while (len + 1 < size) {
        size_t n = piece_of(at, size - 1 - len);
        size_t found;

        if (read_piece(view, at, buf + len, n) < 0)
            break;
        found = strnlen(buf + len, n);
        len += found;
        at += n;
        if (found < n)
            break;
    }
    buf[len] = '\0';
    return len;
}
