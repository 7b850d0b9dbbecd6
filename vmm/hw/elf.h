/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ELF images: x86-64 (or i386) executables placed by physical address.
 *
 * Pure parser plus copies into guest memory; keeps nothing. Thread rule: none.
 * File-controlled: every header. Nothing of them is used before it is checked
 * against the image's size, guest memory and LAYOUT_KERNEL_MIN.
 */
#ifndef VMM_HW_ELF_H
#define VMM_HW_ELF_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/err.h"
#include "vmm/core/gmem.h"
#include "vmm/hw/image.h"

#define ELF_PHDRS_MAX 64u

struct elf_loaded {
    bool is_64;         /* ELFCLASS64 */
    bool has_pvh;       /* has a PVH note */
    uint64_t pvh_entry; /* 32-bit entry, in a loaded segment below 4 GiB */
    uint64_t entry;     /* e_entry, to be used only with has_entry */
    bool has_entry;     /* `entry` is in a loaded segment */
    uint64_t lowest;    /* first byte used */
    uint64_t highest;   /* behind the last byte used, bss included */
    uint64_t low_end;   /* the same below GMEM_GAP_START; 0: nothing there */
};

bool elf_detect(const struct image *image);

/*
 * Copies the PT_LOAD segments to their physical addresses and finds the PVH
 * note (Xen's XEN_ELFNOTE_PHYS32_ENTRY). Guest memory behind a segment's file
 * bytes must be zero already. -ENOEXEC for what is no such ELF, -EINVAL for
 * one that lies, -ENOMEM when guest memory is too small for it.
 */
CC_MUST_CHECK int elf_load(const struct image *image, struct gmem *mem,
    struct elf_loaded *ret_loaded, struct err *err);

#endif
