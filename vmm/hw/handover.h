/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a kernel is handed at its start: memory map, initrd, command line and
 * ACPI root, as PVH start info or as a Linux zero page.
 *
 * Writes guest memory at the addresses of layout.h; keeps nothing. Thread
 * rule: one thread, before any vCPU runs. All input is the monitor's own,
 * except the setup header, which is the kernel file's.
 */
#ifndef VMM_HW_HANDOVER_H
#define VMM_HW_HANDOVER_H

#include <stdint.h>

#include "vmm/base/err.h"
#include "vmm/core/gmem.h"

struct setup_header;

#define HANDOVER_RAM        1u
#define HANDOVER_RESERVED   2u
#define HANDOVER_RANGES_MAX 4u

struct handover_range {
    uint64_t start;
    uint64_t size;
    uint32_t type;
};

/*
 * The e820 map: RAM below LAYOUT_EBDA_START, reserved from there to 1 MiB, RAM
 * up to the device gap, RAM above it. Returns the number of ranges.
 */
unsigned int handover_memory_map(const struct gmem *mem,
    struct handover_range ret_ranges[HANDOVER_RANGES_MAX]);

struct handover {
    gpa_t cmdline; /* NUL-terminated */
    gpa_t initrd;
    uint64_t initrd_size; /* bytes; 0: none */
    gpa_t rsdp;           /* 0: none */
};

/* hvm_start_info version 1, its module and its memory map: LAYOUT_PVH_INFO. */
CC_MUST_CHECK int handover_write_pvh(
    struct gmem *mem, const struct handover *handover, struct err *err);

/*
 * struct boot_params at LAYOUT_ZERO_PAGE. `header` is that of a bzImage, or
 * NULL for an ELF, which gets one that says what the 64-bit entry needs.
 */
CC_MUST_CHECK int handover_write_zero_page(struct gmem *mem,
    const struct handover *handover, const struct setup_header *header,
    struct err *err);

#endif
