/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/cc.h"
#include "vmm/hw/acpi.h"
#include "vmm/hw/layout.h"

/* --- A reader of the AML that the DSDT may have, and of nothing else ------ */

#define DEPTH_MAX   8u
#define DEVICES_MAX 80u
#define IRQS_MAX    4u

struct device {
    char name[5];
    char hid[16];
    uint64_t uid;
    uint64_t io, io_len;
    uint64_t memory, memory_len;
    uint32_t irqs[IRQS_MAX];
    unsigned int irq_count;
    uint64_t address[2]; /* ADDR */
};

struct event {
    uint64_t gsi;
    char target[5];
};

struct dsdt {
    uint64_t sleep_type; /* of _S5 */
    struct device devices[DEVICES_MAX];
    unsigned int device_count;
    struct event events[IRQS_MAX];
    unsigned int event_count;
};

static size_t package_end(struct bytes_reader *r)
{
    size_t start = r->pos;
    uint8_t lead = bytes_get_u8(r);
    size_t len = lead & 0x3f;

    if (lead >> 6 != 0) {
        len = lead & 0xf;
        for (unsigned int i = 0; i < lead >> 6; i++)
            len |= (size_t)bytes_get_u8(r) << (4 + 8 * i);
    }
    assert_false(r->failed);
    assert_true(len <= r->size - start);
    return start + len;
}

static uint64_t integer(struct bytes_reader *r)
{
    uint8_t op = bytes_get_u8(r);

    switch (op) {
    case 0x00:
    case 0x01:
        return op;
    case 0x0a:
        return bytes_get_u8(r);
    case 0x0b:
        return bytes_get_u16(r);
    case 0x0c:
        return bytes_get_u32(r);
    case 0x0e:
        return bytes_get_u64(r);
    default:
        fail_msg("0x%02x is no integer", op);
        return 0;
    }
}

static void name_seg(struct bytes_reader *r, char ret_name[5])
{
    bytes_get(r, ret_name, 4);
    ret_name[4] = '\0';
    for (size_t i = 0; i < 4; i++)
        assert_true((ret_name[i] >= 'A' && ret_name[i] <= 'Z') ||
                    ret_name[i] == '_' ||
                    (i > 0 && ret_name[i] >= '0' && ret_name[i] <= '9'));
}

static void identifier(struct bytes_reader *r, char ret_id[16])
{
    uint8_t b[4];

    memset(ret_id, 0, 16);
    if (r->data[r->pos] == 0x0d) {
        bytes_skip(r, 1);
        for (size_t i = 0; i < 15; i++) {
            ret_id[i] = (char)bytes_get_u8(r);
            if (ret_id[i] == '\0')
                break;
        }
        return;
    }
    assert_int_equal(bytes_get_u8(r), 0x0c);
    bytes_get(r, b, sizeof(b));
    (void)snprintf(ret_id, 16, "%c%c%c%02X%02X", '@' + (b[0] >> 2),
        '@' + ((b[0] & 3) << 3 | b[1] >> 5), '@' + (b[1] & 0x1f), b[2], b[3]);
}

static void resources(struct bytes_reader *r, struct device *d)
{
    size_t end;
    uint64_t size;

    assert_int_equal(bytes_get_u8(r), 0x11);
    end = package_end(r);
    size = integer(r);
    assert_int_equal(size, end - r->pos);
    for (;;) {
        uint8_t tag = bytes_get_u8(r);

        if (tag == 0x79) {
            assert_int_equal(bytes_get_u8(r), 0);
            break;
        }
        if (tag == 0x47) {
            assert_int_equal(bytes_get_u8(r), 1);
            d->io = bytes_get_u16(r);
            assert_int_equal(bytes_get_u16(r), d->io);
            assert_int_equal(bytes_get_u8(r), 1);
            d->io_len = bytes_get_u8(r);
        } else if (tag == 0x86) {
            assert_int_equal(bytes_get_u16(r), 9);
            assert_int_equal(bytes_get_u8(r), 1);
            d->memory = bytes_get_u32(r);
            d->memory_len = bytes_get_u32(r);
        } else {
            assert_int_equal(tag, 0x89);
            assert_int_equal(bytes_get_u16(r), 6);
            /* consumer, edge, active high, exclusive */
            assert_int_equal(bytes_get_u8(r), 0x03);
            assert_int_equal(bytes_get_u8(r), 1);
            assert_true(d->irq_count < IRQS_MAX);
            d->irqs[d->irq_count++] = bytes_get_u32(r);
        }
        assert_false(r->failed);
    }
    assert_int_equal(r->pos, end);
}

static void named(struct bytes_reader *r, struct dsdt *dsdt, struct device *d)
{
    char name[5];
    char text[16];

    name_seg(r, name);
    if (strcmp(name, "_S5_") == 0) {
        assert_null(d);
        assert_int_equal(bytes_get_u8(r), 0x12);
        (void)package_end(r);
        assert_int_equal(bytes_get_u8(r), 2);
        dsdt->sleep_type = integer(r);
        assert_int_equal(integer(r), 0);
        return;
    }
    assert_non_null(d);
    if (strcmp(name, "_HID") == 0) {
        identifier(r, d->hid);
    } else if (strcmp(name, "_UID") == 0) {
        d->uid = integer(r);
    } else if (strcmp(name, "_CRS") == 0) {
        resources(r, d);
    } else if (strcmp(name, "ADDR") == 0) {
        assert_int_equal(bytes_get_u8(r), 0x12);
        (void)package_end(r);
        assert_int_equal(bytes_get_u8(r), 2);
        d->address[0] = integer(r);
        d->address[1] = integer(r);
    } else if (strcmp(name, "_CID") == 0 || strcmp(name, "_DDN") == 0) {
        identifier(r, text);
        assert_string_equal(text, "VM_Gen_Counter");
    } else {
        fail_msg("name %s", name);
    }
}

/* If (Arg0 == gsi) { Notify (target, 0x80) }, again and again. */
static void event_method(struct bytes_reader *r, struct dsdt *dsdt)
{
    size_t end = package_end(r);
    char name[5];

    name_seg(r, name);
    assert_string_equal(name, "_EVT");
    assert_int_equal(bytes_get_u8(r), 1);
    while (r->pos < end) {
        struct event *e = &dsdt->events[dsdt->event_count++];
        size_t block;

        assert_true(dsdt->event_count <= IRQS_MAX);
        assert_int_equal(bytes_get_u8(r), 0xa0);
        block = package_end(r);
        assert_int_equal(bytes_get_u8(r), 0x93);
        assert_int_equal(bytes_get_u8(r), 0x68);
        e->gsi = integer(r);
        assert_int_equal(bytes_get_u8(r), 0x86);
        name_seg(r, e->target);
        assert_int_equal(integer(r), 0x80);
        assert_int_equal(r->pos, block);
    }
    assert_int_equal(r->pos, end);
}

static struct device *open_device(struct bytes_reader *r, struct dsdt *dsdt)
{
    struct device *d = &dsdt->devices[dsdt->device_count++];

    assert_true(dsdt->device_count <= DEVICES_MAX);
    name_seg(r, d->name);
    for (unsigned int i = 0; i + 1 < dsdt->device_count; i++)
        assert_string_not_equal(dsdt->devices[i].name, d->name);
    return d;
}

static void read_aml(struct bytes_reader *r, struct dsdt *dsdt)
{
    size_t ends[DEPTH_MAX] = {r->size};
    unsigned int depth = 0;
    struct device *d = NULL;
    char name[5];

    while (r->pos < r->size) {
        uint8_t op = bytes_get_u8(r);

        if (op == 0x08) {
            named(r, dsdt, d);
        } else if (op == 0x14) {
            event_method(r, dsdt);
        } else {
            assert_true(op == 0x10 || op == 0x5b);
            if (op == 0x5b)
                assert_int_equal(bytes_get_u8(r), 0x82);
            assert_true(++depth < DEPTH_MAX);
            ends[depth] = package_end(r);
            assert_true(ends[depth] <= ends[depth - 1]);
            if (op == 0x5b) {
                d = open_device(r, dsdt);
            } else {
                name_seg(r, name);
                assert_string_equal(name, "_SB_");
            }
        }
        assert_false(r->failed);
        while (depth > 0 && r->pos >= ends[depth]) {
            assert_int_equal(r->pos, ends[depth]);
            depth--;
            d = NULL;
        }
    }
    assert_int_equal(depth, 0);
}

/* --- The tables ----------------------------------------------------------- */

struct tables {
    uint8_t bytes[ACPI_SIZE_MAX];
    size_t size;
    struct bytes_reader fadt, madt;
    struct dsdt dsdt;
};

static uint8_t sum(const uint8_t *p, size_t len)
{
    unsigned int total = 0;

    for (size_t i = 0; i < len; i++)
        total += p[i];
    return (uint8_t)(total & 0xff);
}

/* The whole table at a guest address, checked, with the reader at its body. */
static struct bytes_reader table(
    const struct tables *t, uint64_t address, const char *signature)
{
    struct bytes_reader all, r;
    uint32_t len;

    assert_true(address >= LAYOUT_ACPI && address % 8 == 0);
    bytes_reader_init(&all, t->bytes, t->size);
    bytes_seek(&all, address - LAYOUT_ACPI + 4);
    len = bytes_get_u32(&all);
    assert_false(all.failed);
    assert_true(bytes_reader_sub(&all, address - LAYOUT_ACPI, len, &r));
    assert_memory_equal(r.data, signature, 4);
    assert_int_equal(sum(r.data, r.size), 0);
    bytes_seek(&r, 36);
    assert_false(r.failed);
    return r;
}

static void read_tables(struct tables *t)
{
    struct bytes_reader r, xsdt, body;
    uint64_t fadt, madt;

    bytes_reader_init(&r, t->bytes, t->size);
    assert_memory_equal(t->bytes, "RSD PTR ", 8);
    assert_int_equal(sum(t->bytes, 20), 0);
    assert_int_equal(sum(t->bytes, 36), 0);
    assert_int_equal(t->bytes[15], 2);
    bytes_seek(&r, 24);
    xsdt = table(t, bytes_get_u64(&r), "XSDT");
    assert_int_equal(bytes_left(&xsdt), 16);
    fadt = bytes_get_u64(&xsdt);
    madt = bytes_get_u64(&xsdt);
    t->fadt = table(t, fadt, "FACP");
    t->madt = table(t, madt, "APIC");
    assert_int_equal(t->fadt.size, 276);
    bytes_seek(&t->fadt, 140);
    r = table(t, bytes_get_u64(&t->fadt), "DSDT");
    assert_true(bytes_reader_sub(&r, 36, r.size - 36, &body));
    memset(&t->dsdt, 0, sizeof(t->dsdt));
    read_aml(&body, &t->dsdt);
}

static void build(struct tables *t, const struct acpi_config *config)
{
    memset(t->bytes, 0xa5, sizeof(t->bytes));
    t->size = acpi_tables(config, t->bytes);
    assert_true(t->size <= sizeof(t->bytes));
    read_tables(t);
}

static const struct device *find(const struct tables *t, const char *hid)
{
    const struct device *found = NULL;

    for (unsigned int i = 0; i < t->dsdt.device_count; i++) {
        if (strcmp(t->dsdt.devices[i].hid, hid) == 0) {
            assert_null(found);
            found = &t->dsdt.devices[i];
        }
    }
    return found;
}

static uint32_t fadt_u32(struct tables *t, size_t at)
{
    bytes_seek(&t->fadt, at);
    return bytes_get_u32(&t->fadt);
}

static void check_byte_port(struct tables *t, size_t at, uint64_t port)
{
    bytes_seek(&t->fadt, at);
    assert_int_equal(bytes_get_u32(&t->fadt), 0x01000801);
    assert_int_equal(bytes_get_u64(&t->fadt), port);
}

static void test_fixed_description(void **state)
{
    const struct acpi_config config = {.vcpu_count = 1};
    struct tables t;

    (void)state;
    build(&t, &config);
    assert_int_equal(t.bytes[36] | t.bytes[39], 0);
    /* HW_REDUCED_ACPI and RESET_REG_SUP; no PC-like power button. */
    assert_int_equal(fadt_u32(&t, 112) & 0x100430u, 0x100430u);
    check_byte_port(&t, 116, 0x64);
    assert_int_equal(t.fadt.data[128], 0xfe);
    check_byte_port(&t, 244, 0x600);
    check_byte_port(&t, 256, 0x601);
    /* No 8042 to probe, no VGA, no CMOS clock; MSI is not ruled out. */
    assert_int_equal(fadt_u32(&t, 109) & 0xffff, 0x24);
    assert_int_equal(t.dsdt.sleep_type, 5);
    assert_int_equal(t.dsdt.device_count, 0);
    assert_int_equal(t.dsdt.event_count, 0);
}

static void test_processors(void **state)
{
    (void)state;
    for (unsigned int n = 1; n <= LAYOUT_VCPUS_MAX; n++) {
        const struct acpi_config config = {.vcpu_count = n};
        struct tables t;
        unsigned int cpus = 0;
        unsigned int ioapics = 0;

        build(&t, &config);
        assert_int_equal(bytes_get_u32(&t.madt), 0xfee00000);
        assert_int_equal(bytes_get_u32(&t.madt), 0);
        while (bytes_left(&t.madt) != 0) {
            uint8_t type = bytes_get_u8(&t.madt);
            uint8_t len = bytes_get_u8(&t.madt);

            if (type == 0) {
                assert_int_equal(len, 8);
                assert_int_equal(bytes_get_u8(&t.madt), cpus);
                assert_int_equal(bytes_get_u8(&t.madt), cpus);
                assert_int_equal(bytes_get_u32(&t.madt), 1);
                cpus++;
            } else {
                assert_int_equal(type, 1);
                assert_int_equal(len, 12);
                bytes_skip(&t.madt, 2);
                assert_int_equal(bytes_get_u32(&t.madt), 0xfec00000);
                assert_int_equal(bytes_get_u32(&t.madt), 0);
                ioapics++;
            }
            assert_false(t.madt.failed);
        }
        assert_int_equal(cpus, n);
        assert_int_equal(ioapics, 1);
    }
}

static void test_platform_devices(void **state)
{
    const struct acpi_config config = {.vcpu_count = 2,
        .serial = true,
        .rtc = true,
        .pvpanic = true,
        .vmgenid = true,
        .power_button = true};
    const struct device *d;
    struct tables t;

    (void)state;
    build(&t, &config);
    assert_int_equal(t.dsdt.device_count, 6);
    d = find(&t, "PNP0501");
    assert_non_null(d);
    assert_int_equal(d->io, 0x3f8);
    assert_int_equal(d->io_len, 8);
    assert_int_equal(d->irq_count, 1);
    assert_int_equal(d->irqs[0], LAYOUT_GSI_SERIAL);
    d = find(&t, "PNP0B00");
    assert_non_null(d);
    assert_int_equal(d->io, 0x70);
    assert_int_equal(d->io_len, 2);
    assert_int_equal(d->irq_count, 0);
    assert_int_equal(fadt_u32(&t, 109) & 0x20, 0);
    assert_int_equal(t.fadt.data[108], 0x32);
    d = find(&t, "QEMU0001");
    assert_non_null(d);
    assert_int_equal(d->io, 0x505);
    d = find(&t, "VMGENCTR");
    assert_non_null(d);
    assert_int_equal(d->address[0], LAYOUT_VMGENID);
    assert_int_equal(d->address[1], 0);
    assert_non_null(find(&t, "PNP0C0C"));
}

/* Every line of the event device has its notice, and no other has one. */
static void test_events(void **state)
{
    (void)state;
    for (unsigned int which = 1; which < 4; which++) {
        const struct acpi_config config = {.vcpu_count = 1,
            .vmgenid = (which & 1) != 0,
            .power_button = (which & 2) != 0};
        const struct device *ged;
        struct tables t;

        build(&t, &config);
        ged = find(&t, "ACPI0013");
        assert_non_null(ged);
        assert_int_equal(ged->irq_count, t.dsdt.event_count);
        assert_int_equal(ged->irq_count, which == 3 ? 2 : 1);
        for (unsigned int i = 0; i < ged->irq_count; i++) {
            const struct event *e = &t.dsdt.events[i];
            const struct device *d =
                find(&t, e->gsi == LAYOUT_GSI_VMGENID ? "VMGENCTR" : "PNP0C0C");

            assert_int_equal(e->gsi, ged->irqs[i]);
            assert_non_null(d);
            assert_string_equal(d->name, e->target);
        }
    }
}

static void test_virtio_devices(void **state)
{
    static struct acpi_virtio virtio[LAYOUT_VIRTIO_MAX];

    (void)state;
    for (unsigned int i = 0; i < LAYOUT_VIRTIO_MAX; i++)
        virtio[i] = (struct acpi_virtio){.base = LAYOUT_VIRTIO + i * 0x1000ull,
            .gsi = LAYOUT_GSI_VIRTIO + i % 48};
    for (unsigned int n = 0; n <= LAYOUT_VIRTIO_MAX; n += 16) {
        const struct acpi_config config = {.vcpu_count = LAYOUT_VCPUS_MAX,
            .virtio = virtio,
            .virtio_count = n,
            .serial = true,
            .rtc = true,
            .pvpanic = true,
            .vmgenid = true,
            .power_button = true};
        struct tables t;
        unsigned int seen = 0;

        build(&t, &config);
        for (unsigned int i = 0; i < t.dsdt.device_count; i++) {
            const struct device *d = &t.dsdt.devices[i];

            if (strcmp(d->hid, "LNRO0005") != 0)
                continue;
            assert_int_equal(d->uid, seen);
            assert_int_equal(d->memory, virtio[seen].base);
            assert_int_equal(d->memory_len, 0x1000);
            assert_int_equal(d->irq_count, 1);
            assert_int_equal(d->irqs[0], virtio[seen].gsi);
            seen++;
        }
        assert_int_equal(seen, n);
        assert_int_equal(t.dsdt.device_count, n + 6);
    }
}

static void test_build_into_guest_memory(void **state)
{
    const struct acpi_config config = {.vcpu_count = 1, .serial = true};
    static uint8_t expected[ACPI_SIZE_MAX];
    static uint8_t found[ACPI_SIZE_MAX];
    struct gmem mem;
    gpa_t rsdp = gpa(0);
    size_t len;

    (void)state;
    assert_int_equal(gmem_init(&mem, NUM_MIB, NULL), 0);
    assert_int_equal(acpi_build(&mem, &config, &rsdp, NULL), 0);
    assert_int_equal(rsdp.v, LAYOUT_ACPI);
    len = acpi_tables(&config, expected);
    assert_int_equal(gmem_read(&mem, rsdp, found, len), 0);
    assert_memory_equal(found, expected, len);
    gmem_fini(&mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixed_description),
        cmocka_unit_test(test_processors),
        cmocka_unit_test(test_platform_devices),
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_virtio_devices),
        cmocka_unit_test(test_build_into_guest_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
