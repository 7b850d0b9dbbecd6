/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading a guest: kernel, initrd and command line into fresh guest memory.
 *
 * What the kernel file is decides how it is started:
 *
 *   ELF with a PVH note           PVH, 32-bit entry
 *   64-bit ELF without one        64-bit Linux protocol at its entry point
 *   bzImage                       unpacked here, then as the ELF inside
 *   bzImage, packed otherwise     loaded as it is, 64-bit Linux protocol
 *
 * Guest memory must be as gmem_init left it but for the areas of layout.h
 * below LAYOUT_KERNEL_MIN: zeroes are not written again. Thread rule: one
 * thread, before any vCPU runs. File-controlled: all images.
 */
#ifndef VMM_HW_BOOT_H
#define VMM_HW_BOOT_H

#include <stdint.h>

#include "vmm/base/err.h"
#include "vmm/core/gmem.h"
#include "vmm/hw/boot_entry.h"
#include "vmm/hw/image.h"

#define BOOT_INITRDS_MAX 8u

struct boot_config {
    struct image_source kernel;
    /* Pieces of the initrd, concatenated at 4-byte boundaries as cpio wants. */
    const struct image_source *initrds;
    unsigned int initrd_count; /* <= BOOT_INITRDS_MAX */
    const char *cmdline;       /* NULL: empty; < LAYOUT_CMDLINE_MAX bytes */
    gpa_t rsdp;                /* from acpi_build; 0: no ACPI */
};

/*
 * Loads everything and says how the boot vCPU enters it. On failure guest
 * memory is half written and must be thrown away; the error names the file
 * and, where more memory would help, how much.
 */
CC_MUST_CHECK int boot_load(struct gmem *mem, const struct boot_config *config,
    struct boot_entry *ret_entry, struct err *err);

#endif
