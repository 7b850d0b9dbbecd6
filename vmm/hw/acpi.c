/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/acpi.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/le.h"
#include "vmm/hw/acpi_pm.h"
#include "vmm/hw/aml.h"
#include "vmm/hw/layout.h"

#define TABLE_ALIGN 8u

struct header {
    char signature[4];
    le32 length;
    uint8_t revision;
    uint8_t checksum;
    char oem_id[6];
    char oem_table_id[8];
    le32 oem_revision;
    char creator_id[4];
    le32 creator_revision;
};
_Static_assert(sizeof(struct header) == 36, "ACPI 6.4, 5.2.6");

struct rsdp {
    char signature[8];
    uint8_t checksum; /* of the first RSDP_V1_LEN bytes */
    char oem_id[6];
    uint8_t revision;
    le32 rsdt;
    le32 length;
    le64 xsdt;
    uint8_t extended_checksum;
    uint8_t reserved[3];
};
#define RSDP_V1_LEN 20u
_Static_assert(sizeof(struct rsdp) == 36, "ACPI 6.4, 5.2.5.3");

#define SPACE_IO    1u
#define ACCESS_BYTE 1u

struct register_address {
    uint8_t space;
    uint8_t bit_width;
    uint8_t bit_offset;
    uint8_t access_size;
    le64 address;
};
_Static_assert(sizeof(struct register_address) == 12, "ACPI 6.4, 5.2.3.2");

#define FADT_REVISION      6u
#define FADT_MINOR         4u
#define FADT_VGA_ABSENT    (1u << 2) /* IAPC_BOOT_ARCH, 5.2.9.3 */
#define FADT_RTC_ABSENT    (1u << 5)
#define FADT_WBINVD        (1u << 0) /* fixed feature flags, table 5.10 */
#define FADT_PROC_C1       (1u << 2)
#define FADT_NO_PWR_BUTTON (1u << 4)
#define FADT_NO_SLP_BUTTON (1u << 5)
#define FADT_RESET_REG     (1u << 10)
#define FADT_HW_REDUCED    (1u << 20)
#define FADT_CENTURY       0x32u /* CMOS byte */

/* Fields that hardware-reduced ACPI ignores are unnamed zeroes. */
struct fadt {
    struct header header;
    le32 facs;
    le32 dsdt;
    uint8_t legacy[109 - 44];
    le16 boot_arch;
    uint8_t reserved;
    le32 flags;
    struct register_address reset;
    uint8_t reset_value;
    le16 arm_boot_arch;
    uint8_t minor;
    le64 x_facs;
    le64 x_dsdt;
    struct register_address legacy_x[8];
    struct register_address sleep_control;
    struct register_address sleep_status;
    char hypervisor[8];
};
#define FADT_CENTURY_AT (108 - 44) /* in `legacy` */
_Static_assert(sizeof(struct fadt) == 276, "ACPI 6.4, 5.2.9");

struct madt {
    struct header header;
    le32 lapic;
    le32 flags; /* no PC-AT interrupt controllers */
};
_Static_assert(sizeof(struct madt) == 44, "ACPI 6.4, 5.2.12");

struct madt_lapic {
    uint8_t type;
    uint8_t length;
    uint8_t processor_uid;
    uint8_t apic_id;
    le32 flags;
};
#define MADT_LAPIC         0u
#define MADT_LAPIC_ENABLED 1u
_Static_assert(sizeof(struct madt_lapic) == 8, "ACPI 6.4, 5.2.12.2");

struct madt_ioapic {
    uint8_t type;
    uint8_t length;
    uint8_t id;
    uint8_t reserved;
    le32 address;
    le32 gsi_base;
};
#define MADT_IOAPIC 1u
_Static_assert(sizeof(struct madt_ioapic) == 12, "ACPI 6.4, 5.2.12.3");

/* Tables being built; `w` covers the whole buffer, RSDP first. */
struct builder {
    const struct acpi_config *config;
    struct bytes_writer w;
};

/* The byte that makes the sum of all zero. */
static uint8_t checksum(const void *data, size_t len)
{
    const uint8_t *p = data;
    uint8_t sum = 0;

    for (size_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + p[i]);
    return (uint8_t)(0u - sum);
}

static struct header header(const char *signature, uint8_t revision)
{
    struct header h = {
        .oem_id = {'S', 'P', 'O', 'R', 'E', ' '},
        .oem_table_id = {'S', 'P', 'O', 'R', 'E', 'V', 'M', ' '},
        .creator_id = {'S', 'P', 'R', 'E'},
        .revision = revision,
        .oem_revision = le32_put(1),
        .creator_revision = le32_put(1),
    };

    memcpy(h.signature, signature, sizeof(h.signature));
    return h;
}

/* Fills in length and checksum of the table at `start`; returns its address. */
static uint64_t finish(struct builder *b, size_t start)
{
    uint8_t *table = b->w.data + start;
    size_t len = b->w.pos - start;
    struct header h;

    assert(!b->w.failed);
    memcpy(&h, table, sizeof(h));
    h.length = le32_put((uint32_t)len);
    memcpy(table, &h, sizeof(h));
    h.checksum = checksum(table, len);
    memcpy(table, &h, sizeof(h));
    bytes_put_zero(&b->w, num_align_up(b->w.pos, TABLE_ALIGN) - b->w.pos);
    return LAYOUT_ACPI + start;
}

static void put_serial(struct bytes_writer *w)
{
    struct aml_block device = aml_open_device(w, "COM1");
    struct aml_block crs;

    aml_name(w, "_HID");
    aml_eisa_id(w, "PNP0501");
    crs = aml_open_crs(w);
    aml_io(w, LAYOUT_PORT_SERIAL, 8);
    aml_interrupt(w, LAYOUT_GSI_SERIAL);
    aml_close(w, crs);
    aml_close(w, device);
}

/* Without an interrupt: spore's clock has no alarms. */
static void put_rtc(struct bytes_writer *w)
{
    struct aml_block device = aml_open_device(w, "RTC");
    struct aml_block crs;

    aml_name(w, "_HID");
    aml_eisa_id(w, "PNP0B00");
    crs = aml_open_crs(w);
    aml_io(w, LAYOUT_PORT_RTC, 2);
    aml_close(w, crs);
    aml_close(w, device);
}

static void put_pvpanic(struct bytes_writer *w)
{
    struct aml_block device = aml_open_device(w, "PEVT");
    struct aml_block crs;

    aml_name(w, "_HID");
    aml_string(w, "QEMU0001");
    crs = aml_open_crs(w);
    aml_io(w, LAYOUT_PORT_PVPANIC, 1);
    aml_close(w, crs);
    aml_close(w, device);
}

/*
 * Microsoft, "Virtual Machine Generation ID", asks for the _CID and _DDN; the
 * _HID is the one that every Linux with a driver for it knows.
 */
static void put_vmgenid(struct bytes_writer *w)
{
    struct aml_block device = aml_open_device(w, "VGEN");
    struct aml_block package;

    aml_name(w, "_HID");
    aml_string(w, "VMGENCTR");
    aml_name(w, "_CID");
    aml_string(w, "VM_Gen_Counter");
    aml_name(w, "_DDN");
    aml_string(w, "VM_Gen_Counter");
    aml_name(w, "ADDR");
    package = aml_open_package(w, 2);
    aml_integer(w, LAYOUT_VMGENID & UINT32_MAX);
    aml_integer(w, LAYOUT_VMGENID >> 32);
    aml_close(w, package);
    aml_close(w, device);
}

static void put_power_button(struct bytes_writer *w)
{
    struct aml_block device = aml_open_device(w, "PWRB");

    aml_name(w, "_HID");
    aml_eisa_id(w, "PNP0C0C");
    aml_close(w, device);
}

static void put_event(struct bytes_writer *w, uint32_t gsi, const char *device)
{
    struct aml_block block = aml_open_if_arg0(w, gsi);

    aml_notify(w, device, 0x80);
    aml_close(w, block);
}

/* The generic event device (ACPI 6.4, 5.6.9): interrupts become notices. */
static void put_events(struct bytes_writer *w, const struct acpi_config *config)
{
    struct aml_block device = aml_open_device(w, "GED");
    struct aml_block block;

    aml_name(w, "_HID");
    aml_string(w, "ACPI0013");
    block = aml_open_crs(w);
    if (config->vmgenid)
        aml_interrupt(w, LAYOUT_GSI_VMGENID);
    if (config->power_button)
        aml_interrupt(w, LAYOUT_GSI_SHUTDOWN);
    aml_close(w, block);
    block = aml_open_method(w, "_EVT", 1);
    if (config->vmgenid)
        put_event(w, LAYOUT_GSI_VMGENID, "VGEN");
    if (config->power_button)
        put_event(w, LAYOUT_GSI_SHUTDOWN, "PWRB");
    aml_close(w, block);
    aml_close(w, device);
}

static void put_virtio(struct bytes_writer *w, unsigned int index,
    const struct acpi_virtio *virtio)
{
    struct aml_block device, crs;
    char name[5];

    assert(virtio->base + LAYOUT_VIRTIO_STRIDE <= GMEM_GAP_END);
    assert(virtio->gsi < LAYOUT_GSI_COUNT);
    (void)snprintf(name, sizeof(name), "VR%02X", index & 0xffu);
    device = aml_open_device(w, name);
    aml_name(w, "_HID");
    aml_string(w, "LNRO0005");
    aml_name(w, "_UID");
    aml_integer(w, index);
    crs = aml_open_crs(w);
    aml_memory32(w, (uint32_t)virtio->base, LAYOUT_VIRTIO_STRIDE);
    aml_interrupt(w, virtio->gsi);
    aml_close(w, crs);
    aml_close(w, device);
}

static uint64_t put_dsdt(struct builder *b)
{
    const struct acpi_config *config = b->config;
    struct bytes_writer *w = &b->w;
    struct header h = header("DSDT", 2);
    struct aml_block block;
    size_t start = w->pos;

    bytes_put(w, &h, sizeof(h));
    aml_name(w, "_S5");
    block = aml_open_package(w, 2);
    aml_integer(w, ACPI_PM_S5);
    aml_integer(w, 0);
    aml_close(w, block);
    block = aml_open_scope(w, "_SB");
    if (config->serial)
        put_serial(w);
    if (config->rtc)
        put_rtc(w);
    if (config->pvpanic)
        put_pvpanic(w);
    for (unsigned int i = 0; i < config->virtio_count; i++)
        put_virtio(w, i, &config->virtio[i]);
    if (config->vmgenid)
        put_vmgenid(w);
    if (config->power_button)
        put_power_button(w);
    if (config->vmgenid || config->power_button)
        put_events(w, config);
    aml_close(w, block);
    return finish(b, start);
}

static struct register_address byte_port(uint16_t port)
{
    return (struct register_address){.space = SPACE_IO,
        .bit_width = 8,
        .access_size = ACCESS_BYTE,
        .address = le64_put(port)};
}

static uint64_t put_fadt(struct builder *b, uint64_t dsdt)
{
    struct fadt fadt = {
        .header = header("FACP", FADT_REVISION),
        .dsdt = le32_put((uint32_t)dsdt),
        .flags =
            le32_put(FADT_WBINVD | FADT_PROC_C1 | FADT_NO_PWR_BUTTON |
                     FADT_NO_SLP_BUTTON | FADT_RESET_REG | FADT_HW_REDUCED),
        .reset = byte_port(ACPI_RESET_PORT),
        .reset_value = ACPI_RESET_VALUE,
        .minor = FADT_MINOR,
        .x_dsdt = le64_put(dsdt),
        .sleep_control = byte_port(LAYOUT_PORT_SLEEP + ACPI_PM_CONTROL),
        .sleep_status = byte_port(LAYOUT_PORT_SLEEP + ACPI_PM_STATUS),
        .hypervisor = {'S', 'P', 'O', 'R', 'E'},
    };
    size_t start = b->w.pos;

    /* The i8042 is there for its reset line: a driver need not probe it. */
    if (b->config->rtc) {
        fadt.boot_arch = le16_put(FADT_VGA_ABSENT);
        fadt.legacy[FADT_CENTURY_AT] = FADT_CENTURY;
    } else {
        fadt.boot_arch = le16_put(FADT_VGA_ABSENT | FADT_RTC_ABSENT);
    }
    bytes_put(&b->w, &fadt, sizeof(fadt));
    return finish(b, start);
}

static uint64_t put_madt(struct builder *b)
{
    struct madt madt = {
        .header = header("APIC", 5), .lapic = le32_put((uint32_t)LAYOUT_LAPIC)};
    struct madt_ioapic ioapic = {.type = MADT_IOAPIC,
        .length = sizeof(ioapic),
        .address = le32_put((uint32_t)LAYOUT_IOAPIC)};
    size_t start = b->w.pos;

    bytes_put(&b->w, &madt, sizeof(madt));
    for (unsigned int i = 0; i < b->config->vcpu_count; i++) {
        struct madt_lapic lapic = {.type = MADT_LAPIC,
            .length = sizeof(lapic),
            .processor_uid = (uint8_t)i,
            .apic_id = (uint8_t)i,
            .flags = le32_put(MADT_LAPIC_ENABLED)};

        bytes_put(&b->w, &lapic, sizeof(lapic));
    }
    bytes_put(&b->w, &ioapic, sizeof(ioapic));
    return finish(b, start);
}

static uint64_t put_xsdt(struct builder *b, uint64_t fadt, uint64_t madt)
{
    struct header h = header("XSDT", 1);
    size_t start = b->w.pos;

    bytes_put(&b->w, &h, sizeof(h));
    bytes_put_u64(&b->w, fadt);
    bytes_put_u64(&b->w, madt);
    return finish(b, start);
}

static void put_rsdp(uint8_t *at, uint64_t xsdt)
{
    struct rsdp rsdp = {
        .signature = {'R', 'S', 'D', ' ', 'P', 'T', 'R', ' '},
        .oem_id = {'S', 'P', 'O', 'R', 'E', ' '},
        .revision = 2,
        .length = le32_put(sizeof(rsdp)),
        .xsdt = le64_put(xsdt),
    };

    rsdp.checksum = checksum(&rsdp, RSDP_V1_LEN);
    rsdp.extended_checksum = checksum(&rsdp, sizeof(rsdp));
    memcpy(at, &rsdp, sizeof(rsdp));
}

size_t acpi_tables(const struct acpi_config *config, uint8_t buf[ACPI_SIZE_MAX])
{
    struct builder b = {.config = config};
    uint64_t dsdt, fadt, madt;

    assert(config->vcpu_count >= 1 && config->vcpu_count <= LAYOUT_VCPUS_MAX);
    assert(config->virtio_count <= LAYOUT_VIRTIO_MAX);
    bytes_writer_init(&b.w, buf, ACPI_SIZE_MAX);
    bytes_put_zero(&b.w, num_align_up(sizeof(struct rsdp), TABLE_ALIGN));
    dsdt = put_dsdt(&b);
    fadt = put_fadt(&b, dsdt);
    madt = put_madt(&b);
    put_rsdp(buf, put_xsdt(&b, fadt, madt));
    assert(!b.w.failed);
    return b.w.pos;
}

int acpi_build(struct gmem *mem, const struct acpi_config *config,
    gpa_t *ret_rsdp, struct err *err)
{
    uint8_t buf[ACPI_SIZE_MAX];
    size_t len = acpi_tables(config, buf);
    int rc = gmem_write(mem, gpa(LAYOUT_ACPI), buf, len);

    _Static_assert(
        LAYOUT_ACPI + ACPI_SIZE_MAX <= LAYOUT_ACPI_END, "the tables have room");
    if (rc < 0)
        return err_sys(err, rc, "cannot write the ACPI tables");
    *ret_rsdp = gpa(LAYOUT_ACPI);
    return 0;
}
