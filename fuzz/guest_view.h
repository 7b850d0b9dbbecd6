/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory by virtual address, as a stopped vCPU would see it.
 *
 * Borrows memory and files. Thread rule: one thread, no vCPU in the guest.
 * Guest-controlled: registers, page tables, addresses and bytes. Each access
 * walks the tables page by page and copies; nothing is parsed in place.
 */
#ifndef FUZZ_GUEST_VIEW_H
#define FUZZ_GUEST_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshot/page_tables.h"
#include "vmm/base/cc.h"
#include "vmm/core/gmem.h"
#include "vmm/machine_pmem.h"

struct guest_view {
    struct gmem *mem;
    struct machine_pmem *const *pmems; /* files mapped behind RAM; or NULL */
    uint32_t pmem_count;
    struct page_tables_regs regs;
};

/* Where a virtual address leads. */
struct guest_place {
    uint64_t physical;
    bool is_writable; /* by every entry on the way */
    bool is_user;
};

/* 0, or -EFAULT if nothing is present there or the processor is not in 64-bit
 * mode. */
CC_MUST_CHECK int guest_view_walk(
    const struct guest_view *view, uint64_t at, struct guest_place *ret_place);

/*
 * The page of RAM, as gmem counts, that holds the byte at `at`; -EFAULT also
 * for what is in a file.
 */
CC_MUST_CHECK int guest_view_page(
    const struct guest_view *view, uint64_t at, uint32_t *ret_page);

/* All of it, or -EFAULT; then some may have been copied. */
CC_MUST_CHECK int guest_view_read(
    const struct guest_view *view, uint64_t at, void *dst, size_t len);
/* Into RAM only; counts as a write of the monitor's. */
CC_MUST_CHECK int guest_view_write(
    const struct guest_view *view, uint64_t at, const void *src, size_t len);

/*
 * Copies what is there up to a NUL, to `size` - 1 bytes or to the first page
 * that is not present, and ends it with a NUL; its length.
 */
size_t guest_view_string(
    const struct guest_view *view, uint64_t at, char *buf, size_t size);

#endif
