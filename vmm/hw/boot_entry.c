/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/boot_entry.h"

#include <assert.h>

#include "vmm/base/le.h"
#include "vmm/hw/layout.h"

#define CR0_PE     (UINT64_C(1) << 0)
#define CR0_ET     (UINT64_C(1) << 4)
#define CR0_PG     (UINT64_C(1) << 31)
#define CR4_PAE    (UINT64_C(1) << 5)
#define EFER_LME   (UINT64_C(1) << 8)
#define EFER_LMA   (UINT64_C(1) << 10)
#define RFLAGS_ONE UINT64_C(2) /* bit 1 is always set */

#define PTE_PRESENT  UINT64_C(1)
#define PTE_WRITABLE UINT64_C(2)
#define PTE_LARGE    (UINT64_C(1) << 7)

#define SEGMENT_DATA 3u  /* read, write, accessed */
#define SEGMENT_CODE 11u /* execute, read, accessed */
#define SEGMENT_TSS  11u /* busy, which the task register needs */

/* boot.rst wants these for __BOOT_CS and __BOOT_DS; PVH leaves them open. */
#define SELECTOR_CODE 0x10u
#define SELECTOR_DATA 0x18u
#define GDT_ENTRIES   4u

#define TABLE_ENTRIES 512u
#define MAPPED_GIB    4u
#define LARGE_PAGE    (2 * NUM_MIB)

_Static_assert(LAYOUT_GDT + GDT_ENTRIES * sizeof(le64) <= LAYOUT_IDT,
    "the GDT ends before the IDT");
_Static_assert(LAYOUT_PAGE_TABLES + (2 + MAPPED_GIB) * NUM_PAGE_SIZE <= 0xf000,
    "layout.h: page tables end there");

static const struct boot_segment code_32 = {.limit = UINT32_MAX,
    .selector = SELECTOR_CODE,
    .type = SEGMENT_CODE,
    .code_or_data = 1,
    .db = 1,
    .g = 1};
static const struct boot_segment code_64 = {.limit = UINT32_MAX,
    .selector = SELECTOR_CODE,
    .type = SEGMENT_CODE,
    .code_or_data = 1,
    .l = 1,
    .g = 1};
static const struct boot_segment data_flat = {.limit = UINT32_MAX,
    .selector = SELECTOR_DATA,
    .type = SEGMENT_DATA,
    .code_or_data = 1,
    .db = 1,
    .g = 1};
/* Nobody loads it again: it has no place in the GDT. */
static const struct boot_segment task = {.limit = 0x67, .type = SEGMENT_TSS};

/* The segment as a descriptor of the GDT (Intel SDM vol. 3, 3.4.5). */
static le64 descriptor(const struct boot_segment *s)
{
    uint64_t limit = s->g != 0 ? s->limit >> NUM_PAGE_SHIFT : s->limit;

    return le64_put((limit & 0xffff) | (s->base & 0xffffff) << 16 |
                    (uint64_t)s->type << 40 | (uint64_t)s->code_or_data << 44 |
                    UINT64_C(1) << 47 | (limit >> 16 & 0xf) << 48 |
                    (uint64_t)s->l << 53 | (uint64_t)s->db << 54 |
                    (uint64_t)s->g << 55 | (s->base >> 24 & 0xff) << 56);
}

static int write_gdt(
    struct gmem *mem, const struct boot_segment *code, struct err *err)
{
    le64 gdt[GDT_ENTRIES] = {0};
    int rc;

    gdt[SELECTOR_CODE / sizeof(le64)] = descriptor(code);
    gdt[SELECTOR_DATA / sizeof(le64)] = descriptor(&data_flat);
    rc = gmem_write(mem, gpa(LAYOUT_GDT), gdt, sizeof(gdt));
    return rc < 0 ? err_sys(err, rc, "cannot write the boot GDT") : 0;
}

static void fill_common(struct boot_entry *e, uint64_t rip)
{
    e->rip = rip;
    e->rflags = RFLAGS_ONE;
    e->data = data_flat;
    e->tr = task;
    e->gdt_base = LAYOUT_GDT;
    e->gdt_limit = GDT_ENTRIES * sizeof(le64) - 1;
    e->idt_base = LAYOUT_IDT;
}

int boot_entry_pvh(struct gmem *mem, uint64_t rip, gpa_t start_info,
    struct boot_entry *ret_entry, struct err *err)
{
    struct boot_entry e = {.mode = BOOT_PVH};
    int rc;

    assert(rip <= UINT32_MAX && start_info.v <= UINT32_MAX);
    rc = write_gdt(mem, &code_32, err);
    if (rc < 0)
        return rc;
    fill_common(&e, rip);
    e.rbx = start_info.v;
    e.cr0 = CR0_PE | CR0_ET;
    e.cs = code_32;
    *ret_entry = e;
    return 0;
}

/* One PML4, one PDPT, and a page directory for each GiB. */
static int write_page_tables(struct gmem *mem, struct err *err)
{
    le64 table[TABLE_ENTRIES] = {0};
    uint64_t at = LAYOUT_PAGE_TABLES;
    uint64_t flags = PTE_PRESENT | PTE_WRITABLE;
    int rc;

    table[0] = le64_put((at + NUM_PAGE_SIZE) | flags);
    rc = gmem_write(mem, gpa(at), table, sizeof(table[0]));
    at += NUM_PAGE_SIZE;
    for (unsigned int i = 0; i < MAPPED_GIB; i++)
        table[i] = le64_put((at + (i + 1) * NUM_PAGE_SIZE) | flags);
    if (rc == 0)
        rc = gmem_write(mem, gpa(at), table, MAPPED_GIB * sizeof(table[0]));
    for (unsigned int i = 0; i < MAPPED_GIB && rc == 0; i++) {
        at += NUM_PAGE_SIZE;
        for (unsigned int j = 0; j < TABLE_ENTRIES; j++)
            table[j] =
                le64_put((i * NUM_GIB + j * LARGE_PAGE) | PTE_LARGE | flags);
        rc = gmem_write(mem, gpa(at), table, sizeof(table));
    }
    return rc < 0 ? err_sys(err, rc, "cannot write the boot page tables") : 0;
}

int boot_entry_linux64(struct gmem *mem, uint64_t rip, gpa_t zero_page,
    struct boot_entry *ret_entry, struct err *err)
{
    struct boot_entry e = {.mode = BOOT_LINUX64};
    int rc;

    rc = write_gdt(mem, &code_64, err);
    if (rc < 0)
        return rc;
    rc = write_page_tables(mem, err);
    if (rc < 0)
        return rc;
    fill_common(&e, rip);
    e.rsi = zero_page.v;
    e.cr0 = CR0_PE | CR0_ET | CR0_PG;
    e.cr3 = LAYOUT_PAGE_TABLES;
    e.cr4 = CR4_PAE;
    e.efer = EFER_LME | EFER_LMA;
    e.cs = code_64;
    *ret_entry = e;
    return 0;
}
