/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/mptable.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/le.h"
#include "vmm/hw/layout.h"

#define MP_REVISION 4u

struct floating_pointer {
    char signature[4];
    le32 table;
    uint8_t length; /* in units of 16 bytes */
    uint8_t revision;
    uint8_t checksum;
    uint8_t features[5];
};
_Static_assert(sizeof(struct floating_pointer) == 16, "MP 1.4, 4.1");

struct table_header {
    char signature[4];
    le16 length;
    uint8_t revision;
    uint8_t checksum;
    char oem_id[8];
    char product_id[12];
    le32 oem_table;
    le16 oem_table_size;
    le16 entries;
    le32 lapic;
    le16 extended_length;
    uint8_t extended_checksum;
    uint8_t reserved;
};
_Static_assert(sizeof(struct table_header) == 44, "MP 1.4, 4.2");

struct processor {
    uint8_t type;
    uint8_t apic_id;
    uint8_t apic_version;
    uint8_t flags;
    le32 signature;
    le32 features;
    uint8_t reserved[8];
};
#define ENTRY_PROCESSOR   0u
#define PROCESSOR_ENABLED 1u
#define PROCESSOR_BOOT    2u
#define APIC_VERSION      0x14u
#define CPU_SIGNATURE     0x600u /* family 6 */
#define CPU_FEATURES      0x201u /* an FPU and a local APIC */
_Static_assert(sizeof(struct processor) == 20, "MP 1.4, 4.3.1");

struct bus {
    uint8_t type;
    uint8_t id;
    char name[6];
};
#define ENTRY_BUS 1u
_Static_assert(sizeof(struct bus) == 8, "MP 1.4, 4.3.2");

struct ioapic {
    uint8_t type;
    uint8_t id;
    uint8_t version;
    uint8_t flags;
    le32 address;
};
#define ENTRY_IOAPIC   2u
#define IOAPIC_VERSION 0x20u
#define IOAPIC_ENABLED 1u
_Static_assert(sizeof(struct ioapic) == 8, "MP 1.4, 4.3.3");

struct interrupt {
    uint8_t type;
    uint8_t kind;
    le16 flags;
    uint8_t source_bus;
    uint8_t source_irq;
    uint8_t apic_id;
    uint8_t pin;
};
#define ENTRY_IO_INTERRUPT    3u
#define ENTRY_LOCAL_INTERRUPT 4u
#define KIND_VECTORED         0u
#define KIND_NMI              1u
#define KIND_EXTINT           3u
#define FLAGS_EDGE_HIGH       0x5u
#define APIC_ALL              0xffu
_Static_assert(sizeof(struct interrupt) == 8, "MP 1.4, 4.3.4 and 4.3.5");

#define LINT_COUNT 2u

_Static_assert(LAYOUT_MPTABLE + MPTABLE_SIZE_MAX <= 0xa0000,
    "the table ends with base memory");
_Static_assert(LAYOUT_GSI_COUNT <= 64, "a word has a bit for each line");

static uint8_t checksum(const void *data, size_t len)
{
    const uint8_t *p = data;
    uint8_t sum = 0;

    for (size_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + p[i]);
    return (uint8_t)(0u - sum);
}

static void put_processors(struct bytes_writer *w, unsigned int count)
{
    for (unsigned int i = 0; i < count; i++) {
        struct processor p = {.type = ENTRY_PROCESSOR,
            .apic_id = (uint8_t)i,
            .apic_version = APIC_VERSION,
            .flags =
                i == 0 ? PROCESSOR_ENABLED | PROCESSOR_BOOT : PROCESSOR_ENABLED,
            .signature = le32_put(CPU_SIGNATURE),
            .features = le32_put(CPU_FEATURES)};

        bytes_put(w, &p, sizeof(p));
    }
}

static void put_interrupts(
    struct bytes_writer *w, uint64_t gsis, uint8_t ioapic_id)
{
    const struct interrupt lints[LINT_COUNT] = {
        {.type = ENTRY_LOCAL_INTERRUPT, .kind = KIND_EXTINT, .pin = 0},
        {.type = ENTRY_LOCAL_INTERRUPT,
            .kind = KIND_NMI,
            .apic_id = APIC_ALL,
            .pin = 1},
    };

    for (unsigned int i = 0; i < LAYOUT_GSI_COUNT; i++) {
        struct interrupt line = {.type = ENTRY_IO_INTERRUPT,
            .kind = KIND_VECTORED,
            .flags = le16_put(FLAGS_EDGE_HIGH),
            .source_irq = (uint8_t)i,
            .apic_id = ioapic_id,
            .pin = (uint8_t)i};

        if ((gsis >> i & 1) != 0)
            bytes_put(w, &line, sizeof(line));
    }
    bytes_put(w, lints, sizeof(lints));
}

/* Fills in what depends on the rest; `buf` has `len` bytes of pointer, table.
 */
static void finish(uint8_t *buf, size_t len, unsigned int entries)
{
    struct table_header header = {
        .signature = {'P', 'C', 'M', 'P'},
        .length = le16_put((uint16_t)(len - sizeof(struct floating_pointer))),
        .revision = MP_REVISION,
        .oem_id = {'S', 'P', 'O', 'R', 'E', ' ', ' ', ' '},
        .product_id = {'S', 'P', 'O', 'R', 'E', 'V', 'M', ' ', ' ', ' ', ' ',
            ' '},
        .entries = le16_put((uint16_t)entries),
        .lapic = le32_put((uint32_t)LAYOUT_LAPIC),
    };
    struct floating_pointer pointer = {
        .signature = {'_', 'M', 'P', '_'},
        .table = le32_put((uint32_t)(LAYOUT_MPTABLE + sizeof(pointer))),
        .length = 1,
        .revision = MP_REVISION,
    };
    uint8_t *table = buf + sizeof(pointer);

    memcpy(table, &header, sizeof(header));
    header.checksum = checksum(table, len - sizeof(pointer));
    memcpy(table, &header, sizeof(header));
    pointer.checksum = checksum(&pointer, sizeof(pointer));
    memcpy(buf, &pointer, sizeof(pointer));
}

int mptable_table(const struct mptable_config *config,
    uint8_t buf[MPTABLE_SIZE_MAX], size_t *ret_len, struct err *err)
{
    unsigned int lines = (unsigned int)__builtin_popcountll(config->gsis);
    struct bus isa = {
        .type = ENTRY_BUS, .name = {'I', 'S', 'A', ' ', ' ', ' '}};
    /* Some kernels take an ID shared with a processor for a broken table. */
    struct ioapic ioapic = {.type = ENTRY_IOAPIC,
        .id = (uint8_t)config->vcpu_count,
        .version = IOAPIC_VERSION,
        .flags = IOAPIC_ENABLED,
        .address = le32_put((uint32_t)LAYOUT_IOAPIC)};
    struct bytes_writer w;

    assert(config->vcpu_count >= 1 && config->vcpu_count <= LAYOUT_VCPUS_MAX);
    bytes_writer_init(&w, buf, MPTABLE_SIZE_MAX);
    bytes_put_zero(
        &w, sizeof(struct floating_pointer) + sizeof(struct table_header));
    put_processors(&w, config->vcpu_count);
    bytes_put(&w, &isa, sizeof(isa));
    bytes_put(&w, &ioapic, sizeof(ioapic));
    put_interrupts(&w, config->gsis, ioapic.id);
    if (w.failed)
        return err_set(err, ENOSPC,
            "the MP table has no room for %u vCPUs and %u interrupt lines: "
            "use fewer, or a kernel with ACPI",
            config->vcpu_count, lines);
    finish(buf, w.pos, config->vcpu_count + 2 + lines + LINT_COUNT);
    *ret_len = w.pos;
    return 0;
}

int mptable_build(
    struct gmem *mem, const struct mptable_config *config, struct err *err)
{
    uint8_t buf[MPTABLE_SIZE_MAX];
    size_t len = 0;
    int rc;

    rc = mptable_table(config, buf, &len, err);
    if (rc < 0)
        return rc;
    rc = gmem_write(mem, gpa(LAYOUT_MPTABLE), buf, len);
    return rc < 0 ? err_sys(err, rc, "cannot write the MP table") : 0;
}
