/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/handover.h"

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include <asm/bootparam.h>

#include "vmm/base/le.h"
#include "vmm/hw/layout.h"

#define PVH_MAGIC         0x336ec578u
#define PVH_VERSION       1u
#define LOADER_UNASSIGNED 0xffu /* boot.rst: type_of_loader */

/* Xen, public/arch-x86/hvm/start_info.h. */
struct pvh_start_info {
    le32 magic;
    le32 version;
    le32 flags;
    le32 module_count;
    le64 modules;
    le64 cmdline;
    le64 rsdp;
    le64 memory_map;
    le32 memory_map_entries;
    le32 reserved;
};
_Static_assert(sizeof(struct pvh_start_info) == 56, "start_info.h, version 1");

struct pvh_module {
    le64 address;
    le64 size;
    le64 cmdline;
    le64 reserved;
};
_Static_assert(sizeof(struct pvh_module) == 32, "start_info.h, modules");

struct pvh_range {
    le64 address;
    le64 size;
    le32 type;
    le32 reserved;
};
_Static_assert(sizeof(struct pvh_range) == 24, "start_info.h, memory map");

/* All of it as it lies in guest memory. */
struct pvh_area {
    struct pvh_start_info info;
    struct pvh_module module;
    struct pvh_range map[HANDOVER_RANGES_MAX];
};
_Static_assert(LAYOUT_PVH_INFO + sizeof(struct pvh_area) <= LAYOUT_ZERO_PAGE,
    "the start info has a page");
_Static_assert(sizeof(struct boot_params) == NUM_PAGE_SIZE,
    "boot.rst: the zero page is a page");

unsigned int handover_memory_map(const struct gmem *mem,
    struct handover_range ret_ranges[HANDOVER_RANGES_MAX])
{
    unsigned int n = 0;

    ret_ranges[n++] = (struct handover_range){
        .start = 0, .size = LAYOUT_EBDA_START, .type = HANDOVER_RAM};
    ret_ranges[n++] = (struct handover_range){.start = LAYOUT_EBDA_START,
        .size = LAYOUT_KERNEL_MIN - LAYOUT_EBDA_START,
        .type = HANDOVER_RESERVED};
    for (unsigned int i = 0; i < mem->region_count; i++) {
        uint64_t start = mem->regions[i].start.v;
        uint64_t end = start + mem->regions[i].size;

        start = num_max(start, LAYOUT_KERNEL_MIN);
        if (start < end)
            ret_ranges[n++] = (struct handover_range){
                .start = start, .size = end - start, .type = HANDOVER_RAM};
    }
    assert(n <= HANDOVER_RANGES_MAX);
    return n;
}

static int written(int rc, struct err *err)
{
    return rc < 0 ? err_sys(err, rc, "cannot write the kernel's start data")
                  : 0;
}

int handover_write_pvh(
    struct gmem *mem, const struct handover *handover, struct err *err)
{
    struct handover_range ranges[HANDOVER_RANGES_MAX];
    unsigned int n = handover_memory_map(mem, ranges);
    struct pvh_area area = {0};

    area.info.magic = le32_put(PVH_MAGIC);
    area.info.version = le32_put(PVH_VERSION);
    area.info.cmdline = le64_put(handover->cmdline.v);
    area.info.rsdp = le64_put(handover->rsdp.v);
    if (handover->initrd_size != 0) {
        area.info.module_count = le32_put(1);
        area.info.modules =
            le64_put(LAYOUT_PVH_INFO + offsetof(struct pvh_area, module));
        area.module.address = le64_put(handover->initrd.v);
        area.module.size = le64_put(handover->initrd_size);
    }
    area.info.memory_map =
        le64_put(LAYOUT_PVH_INFO + offsetof(struct pvh_area, map));
    area.info.memory_map_entries = le32_put(n);
    for (unsigned int i = 0; i < n; i++) {
        area.map[i].address = le64_put(ranges[i].start);
        area.map[i].size = le64_put(ranges[i].size);
        area.map[i].type = le32_put(ranges[i].type);
    }
    return written(
        gmem_write(mem, gpa(LAYOUT_PVH_INFO), &area, sizeof(area)), err);
}

/* What an ELF kernel's boot parameters say where a bzImage's header would. */
static struct setup_header elf_header(void)
{
    return (struct setup_header){
        .boot_flag = 0xaa55,
        .header = 0x53726448, /* "HdrS" */
        .version = 0x020c,    /* the first with a 64-bit entry */
        .loadflags = LOADED_HIGH,
        .kernel_alignment = 0x1000000,
    };
}

int handover_write_zero_page(struct gmem *mem, const struct handover *handover,
    const struct setup_header *header, struct err *err)
{
    struct handover_range ranges[HANDOVER_RANGES_MAX];
    unsigned int n = handover_memory_map(mem, ranges);
    struct boot_params zp;

    memset(&zp, 0, sizeof(zp));
    zp.hdr = header != NULL ? *header : elf_header();
    zp.hdr.type_of_loader = LOADER_UNASSIGNED;
    zp.hdr.loadflags &= (uint8_t)~CAN_USE_HEAP;
    zp.hdr.cmd_line_ptr = (uint32_t)handover->cmdline.v;
    zp.ext_cmd_line_ptr = (uint32_t)(handover->cmdline.v >> 32);
    zp.hdr.ramdisk_image = (uint32_t)handover->initrd.v;
    zp.ext_ramdisk_image = (uint32_t)(handover->initrd.v >> 32);
    zp.hdr.ramdisk_size = (uint32_t)handover->initrd_size;
    zp.ext_ramdisk_size = (uint32_t)(handover->initrd_size >> 32);
    zp.acpi_rsdp_addr = handover->rsdp.v;
    /* No chain of setup data: the file's pointer is not ours to pass on. */
    zp.hdr.setup_data = 0;
    zp.e820_entries = (uint8_t)n;
    for (unsigned int i = 0; i < n; i++)
        zp.e820_table[i] = (struct boot_e820_entry){.addr = ranges[i].start,
            .size = ranges[i].size,
            .type = ranges[i].type};
    return written(
        gmem_write(mem, gpa(LAYOUT_ZERO_PAGE), &zp, sizeof(zp)), err);
}
