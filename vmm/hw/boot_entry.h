/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state in which the boot vCPU enters the kernel.
 *
 * Plain values for whoever programs the vCPU, and the tables in guest memory
 * that go with them (GDT; page tables for the 64-bit start). Thread rule:
 * none, all is done before a vCPU runs.
 */
#ifndef VMM_HW_BOOT_ENTRY_H
#define VMM_HW_BOOT_ENTRY_H

#include <stdint.h>

#include "vmm/base/err.h"
#include "vmm/core/gmem.h"

enum boot_mode {
    BOOT_PVH,     /* 32-bit protected mode, paging off */
    BOOT_LINUX64, /* long mode, the first 4 GiB mapped one to one */
};

/* Fields as in a descriptor (Intel SDM vol. 3, 3.4.5); all are present. */
struct boot_segment {
    uint64_t base;
    uint32_t limit; /* bytes - 1, with the granularity worked in */
    uint16_t selector;
    uint8_t type;
    uint8_t code_or_data; /* the S bit */
    uint8_t db;
    uint8_t l;
    uint8_t g;
};

/* General registers that are not named here are 0. */
struct boot_entry {
    enum boot_mode mode;
    uint64_t rip;
    uint64_t rbx; /* PVH: the start info */
    uint64_t rsi; /* LINUX64: the zero page */
    uint64_t rflags;
    uint64_t cr0;
    uint64_t cr3;
    uint64_t cr4;
    uint64_t efer;
    struct boot_segment cs;
    struct boot_segment data; /* ds, es, fs, gs, ss */
    struct boot_segment tr;
    uint64_t gdt_base;
    uint16_t gdt_limit; /* bytes - 1 */
    uint64_t idt_base;
    uint16_t idt_limit; /* 0: no gate, so that an exception shuts down */
};

/*
 * PVH: `rip` is the address from the note, `start_info` what ebx points at;
 * both are below 4 GiB. Writes the GDT. -EFAULT if RAM is too small for it.
 */
CC_MUST_CHECK int boot_entry_pvh(struct gmem *mem, uint64_t rip,
    gpa_t start_info, struct boot_entry *ret_entry, struct err *err);

/*
 * The 64-bit Linux start (Documentation/arch/x86/boot.rst, "64-bit boot
 * protocol"). Writes the GDT and the page tables: 2 MiB pages, because a
 * vCPU need not have 1 GiB ones.
 */
CC_MUST_CHECK int boot_entry_linux64(struct gmem *mem, uint64_t rip,
    gpa_t zero_page, struct boot_entry *ret_entry, struct err *err);

#endif
