/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel images made by hand, for the tests of the loaders. Built with the
 * system's own definitions of the formats, not with those under test.
 */
#ifndef TESTS_UNIT_KERNEL_IMAGES_H
#define TESTS_UNIT_KERNEL_IMAGES_H

#include <elf.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <asm/bootparam.h>

#include "vmm/hw/image.h"

static inline struct image_source bytes_source(const void *data, size_t size)
{
    return (struct image_source){
        .kind = IMAGE_BYTES, .name = "image", .data = data, .size = size};
}

/* Puts header and program headers at the start of `buf`. */
static inline void put_elf64(
    uint8_t *buf, uint64_t entry, const Elf64_Phdr *phdrs, uint16_t phdr_count)
{
    Elf64_Ehdr eh = {
        .e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
            EV_CURRENT},
        .e_type = ET_EXEC,
        .e_machine = EM_X86_64,
        .e_version = EV_CURRENT,
        .e_entry = entry,
        .e_phoff = sizeof(Elf64_Ehdr),
        .e_ehsize = sizeof(Elf64_Ehdr),
        .e_phentsize = sizeof(Elf64_Phdr),
        .e_phnum = phdr_count,
    };

    memcpy(buf, &eh, sizeof(eh));
    memcpy(buf + sizeof(eh), phdrs, phdr_count * sizeof(*phdrs));
}

static inline void put_elf32(
    uint8_t *buf, uint32_t entry, const Elf32_Phdr *phdrs, uint16_t phdr_count)
{
    Elf32_Ehdr eh = {
        .e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS32, ELFDATA2LSB,
            EV_CURRENT},
        .e_type = ET_EXEC,
        .e_machine = EM_386,
        .e_version = EV_CURRENT,
        .e_entry = entry,
        .e_phoff = sizeof(Elf32_Ehdr),
        .e_ehsize = sizeof(Elf32_Ehdr),
        .e_phentsize = sizeof(Elf32_Phdr),
        .e_phnum = phdr_count,
    };

    memcpy(buf, &eh, sizeof(eh));
    memcpy(buf + sizeof(eh), phdrs, phdr_count * sizeof(*phdrs));
}

/* A note padded to `align`; returns its bytes. */
static inline size_t put_note(uint8_t *buf, const char *name, uint32_t type,
    const void *desc, uint32_t desc_size, size_t align)
{
    Elf64_Nhdr nh = {.n_namesz = (uint32_t)strlen(name) + 1,
        .n_descsz = desc_size,
        .n_type = type};
    size_t at = sizeof(nh);

    memcpy(buf, &nh, sizeof(nh));
    memcpy(buf + at, name, nh.n_namesz);
    at = (at + nh.n_namesz + align - 1) / align * align;
    memcpy(buf + at, desc, desc_size);
    return (at + desc_size + align - 1) / align * align;
}

#define SMALL_ELF_SIZE  0x300u
#define SMALL_ELF_START 0x200000u
#define SMALL_ELF_ENTRY 0x200010u
#define SMALL_ELF_BSS   0x1000u

/*
 * A kernel of one segment with 0x100 bytes of contents (0xc0, 0xc1, ...) and,
 * if asked for, a PVH note.
 */
static inline void put_small_elf(uint8_t buf[SMALL_ELF_SIZE], int pvh)
{
    const uint64_t entry = SMALL_ELF_ENTRY;
    Elf64_Phdr ph[2] = {
        {.p_type = PT_LOAD,
            .p_offset = 0x200,
            .p_vaddr = 0xffffffff80200000,
            .p_paddr = SMALL_ELF_START,
            .p_filesz = 0x100,
            .p_memsz = 0x100 + SMALL_ELF_BSS},
        {.p_type = PT_NOTE, .p_offset = 0x180, .p_align = 4},
    };

    memset(buf, 0, SMALL_ELF_SIZE);
    for (size_t i = 0; i < 0x100; i++)
        buf[0x200 + i] = (uint8_t)(0xc0 + i);
    ph[1].p_filesz = put_note(buf + 0x180, "Xen", 18, &entry, sizeof(entry), 4);
    put_elf64(buf, SMALL_ELF_ENTRY, ph, pvh != 0 ? 2 : 1);
}

#define BZIMAGE_SETUP 0x400u /* one sector of setup code */

/*
 * A bzImage with `code_size` bytes behind the setup part; the payload, if any,
 * is `payload_at` bytes into that and the caller's to write.
 */
static inline void put_bzimage(
    uint8_t *buf, size_t code_size, uint32_t payload_at, uint32_t payload_size)
{
    struct setup_header h = {
        .setup_sects = 1,
        .syssize = (uint32_t)((code_size + 15) / 16),
        .boot_flag = 0xaa55,
        .jump = 0x6aeb, /* to the end of a 2.15 header */
        .header = 0x53726448,
        .version = 0x20f,
        .loadflags = LOADED_HIGH,
        .code32_start = 0x100000,
        .initrd_addr_max = 0x7fffffff,
        .kernel_alignment = 0x200000,
        .relocatable_kernel = 1,
        .xloadflags = XLF_KERNEL_64,
        .cmdline_size = 2047,
        .payload_offset = payload_at,
        .payload_length = payload_size,
        .pref_address = 0x400000,
        .init_size = 0x10000,
    };

    memset(buf, 0, BZIMAGE_SETUP);
    memcpy(buf + 0x1f1, &h, sizeof(h));
}

#endif
