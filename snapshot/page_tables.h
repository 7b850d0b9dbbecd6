/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages of RAM hold a guest's page tables (Intel SDM vol. 3, 4.3 to
 * 4.5).
 *
 * KVM may keep translations made from them, and does not see when the monitor
 * changes them behind its back; so a reset treats them apart.
 *
 * Thread rule: pure function; the guest does not run meanwhile.
 * Guest-controlled: the registers and every entry: any table may point at any
 * page, itself included. Each page is looked at once per level at most.
 */
#ifndef SNAPSHOT_PAGE_TABLES_H
#define SNAPSHOT_PAGE_TABLES_H

#include <stdint.h>

#include "vmm/base/bitmap.h"
#include "vmm/base/cc.h"
#include "vmm/core/gmem.h"

/* The registers that decide how a vCPU translates addresses. */
struct page_tables_regs {
    uint64_t cr0;
    uint64_t cr3;
    uint64_t cr4;
    uint64_t efer;
};

/*
 * Sets the bit of every page of RAM that is a table when translation starts
 * with these registers, whatever the address; none if paging is off. `tables`
 * has a bit for each page. 0 or -ENOMEM.
 */
CC_MUST_CHECK int page_tables_mark(const struct gmem *mem,
    const struct page_tables_regs *regs, struct bitmap *tables);

#endif
