/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drives the small devices through a bus the way a hostile guest would, with
 * states saved and loaded in between: a device's own state must always be
 * taken back unchanged, anybody's else must be refused or be harmless.
 */
#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/cc.h"
#include "vmm/base/clock.h"
#include "vmm/base/num.h"
#include "vmm/core/bus.h"
#include "vmm/core/gmem.h"
#include "vmm/hw/acpi_pm.h"
#include "vmm/hw/exitport.h"
#include "vmm/hw/i8042.h"
#include "vmm/hw/ioapic.h"
#include "vmm/hw/layout.h"
#include "vmm/hw/pvpanic.h"
#include "vmm/hw/rtc.h"
#include "vmm/hw/serial.h"
#include "vmm/hw/vmgenid.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define WIRE_MAX 1024u
#define DEVICES  8u
#define OPS_MAX  4096u

struct machine {
    struct bus pio;
    struct bus mmio;
    struct gmem mem;
    struct serial serial;
    struct i8042 i8042;
    struct rtc rtc;
    struct pvpanic pvpanic;
    struct acpi_pm acpi_pm;
    struct vmgenid vmgenid;
    struct ioapic ioapic;
    struct exitport exitport;
    struct device *devices[DEVICES];
    struct ioapic_route routes[IOAPIC_PINS]; /* as announced */
    uint8_t panics;                          /* since reset or load */
    uint64_t now_ns;
    size_t sink_room;
};

static size_t on_write(void *opaque, const uint8_t *data, size_t len)
{
    struct machine *m = opaque;
    size_t n = num_min(len, m->sink_room);
    volatile uint8_t sum = 0;

    assert(len > 0);
    for (size_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + data[i]);
    m->sink_room -= n;
    return n;
}

static void on_room(void *opaque)
{
    const struct machine *m = opaque;

    assert(m->serial.state.rx_count < SERIAL_RX_MAX);
}

static void on_panic(void *opaque, uint8_t event)
{
    struct machine *m = opaque;

    assert(event == PVPANIC_PANICKED || event == PVPANIC_CRASH_LOADED);
    assert((m->panics & event) == 0);
    m->panics |= event;
}

static void on_route(
    void *opaque, uint32_t pin, bool masked, uint64_t address, uint32_t data)
{
    struct machine *m = opaque;

    assert(pin < IOAPIC_PINS);
    if (masked)
        assert(address == 0 && data == 0);
    else
        assert((address & ~UINT64_C(0xff004)) == LAYOUT_LAPIC &&
               (data & ~0x7ffu) == 0);
    m->routes[pin] = (struct ioapic_route){
        .masked = masked, .address = address, .data = data};
}

static uint64_t on_now(void *opaque)
{
    const struct machine *m = opaque;

    return m->now_ns;
}

static void add(
    struct bus *bus, uint64_t start, uint64_t len, struct device *dev)
{
    int rc = bus_add(bus, start, len, dev);

    assert(rc == 0);
    (void)rc;
}

static void machine_init(struct machine *m)
{
    const struct serial_host host = {
        .write = on_write, .room = on_room, .opaque = m};
    const struct irq_line none = {.fd = -1};
    int rc = gmem_init(&m->mem, GMEM_SIZE_MIN, NULL);

    assert(rc == 0);
    (void)rc;
    m->panics = 0;
    m->now_ns = 1700000000 * CLOCK_NS_PER_S;
    m->sink_room = 8;
    for (uint32_t pin = 0; pin < IOAPIC_PINS; pin++)
        m->routes[pin] = (struct ioapic_route){.masked = true};
    serial_init(&m->serial, &host, none);
    i8042_init(&m->i8042, NULL, NULL);
    rtc_init(&m->rtc, on_now, m);
    pvpanic_init(&m->pvpanic, on_panic, m);
    acpi_pm_init(&m->acpi_pm, NULL, NULL);
    vmgenid_init(&m->vmgenid, &m->mem, none);
    ioapic_init(&m->ioapic, on_route, NULL, m);
    exitport_init(&m->exitport, NULL, NULL);
    m->devices[0] = &m->serial.dev;
    m->devices[1] = &m->i8042.dev;
    m->devices[2] = &m->rtc.dev;
    m->devices[3] = &m->pvpanic.dev;
    m->devices[4] = &m->acpi_pm.dev;
    m->devices[5] = &m->vmgenid.dev;
    m->devices[6] = &m->ioapic.dev;
    m->devices[7] = &m->exitport.dev;
    bus_init(&m->pio);
    bus_init(&m->mmio);
    add(&m->pio, LAYOUT_PORT_SERIAL, SERIAL_PORTS, &m->serial.dev);
    add(&m->pio, LAYOUT_PORT_I8042, I8042_PORTS, &m->i8042.dev);
    add(&m->pio, LAYOUT_PORT_RTC, RTC_PORTS, &m->rtc.dev);
    add(&m->pio, LAYOUT_PORT_PVPANIC, PVPANIC_PORTS, &m->pvpanic.dev);
    add(&m->pio, LAYOUT_PORT_SLEEP, ACPI_PM_PORTS, &m->acpi_pm.dev);
    add(&m->pio, LAYOUT_PORT_EXIT, EXITPORT_PORTS, &m->exitport.dev);
    add(&m->mmio, LAYOUT_IOAPIC, IOAPIC_MMIO_SIZE, &m->ioapic.dev);
}

/* One access near a device; the bytes behind its length must stay. */
static void do_access(struct machine *m, struct bytes_reader *r)
{
    static const uint64_t bases[] = {LAYOUT_PORT_SERIAL, LAYOUT_PORT_I8042,
        LAYOUT_PORT_RTC, LAYOUT_PORT_PVPANIC, LAYOUT_PORT_SLEEP,
        LAYOUT_PORT_EXIT, LAYOUT_IOAPIC, LAYOUT_IOAPIC + 0x10};
    uint8_t how = bytes_get_u8(r);
    uint8_t offset = bytes_get_u8(r);
    uint64_t base = bases[how % 8];
    uint32_t len = (how >> 4 & 7) + 1u;
    uint8_t data[9];

    memset(data, 0xa5, sizeof(data));
    if (how % 8 < 6)
        offset %= 10;
    if ((how & 8) != 0)
        bytes_get(r, data, len);
    (void)bus_access(how % 8 < 6 ? &m->pio : &m->mmio, base + offset, data, len,
        (how & 8) != 0);
    for (uint32_t i = len; i < sizeof(data); i++)
        assert(data[i] == 0xa5);
}

static void after_load(struct machine *m)
{
    m->panics = m->pvpanic.state.reported;
}

/* Through the wire form and back; it must be taken as it was. */
static void do_save_and_load(struct machine *m, struct device *dev)
{
    const struct state_desc *desc = dev->ops->state;
    uint8_t before[WIRE_MAX];
    uint8_t after[WIRE_MAX];
    struct bytes_writer w;
    struct bytes_reader r;
    int rc;

    bytes_writer_init(&w, before, sizeof(before));
    state_save(desc, dev->state, &w);
    assert(!w.failed);
    bytes_reader_init(&r, before, w.pos);
    rc = state_load(desc, desc->version, &r, dev->state);
    assert(rc == 0);
    if (dev->ops->post_load != NULL)
        rc = dev->ops->post_load(dev, NULL);
    assert(rc == 0);
    bytes_writer_init(&w, after, sizeof(after));
    state_save(desc, dev->state, &w);
    assert(memcmp(before, after, w.pos) == 0);
    after_load(m);
    if (dev->ops->resume != NULL)
        dev->ops->resume(dev);
}

/*
 * A state with some bytes of the input written over it, or all of it from the
 * input. A refused one leaves the device as if reset.
 */
static void do_hostile_load(
    struct machine *m, struct device *dev, struct bytes_reader *in)
{
    const struct state_desc *desc = dev->ops->state;
    uint8_t wire[WIRE_MAX];
    struct bytes_writer w;
    struct bytes_reader r;
    uint8_t patches = bytes_get_u8(in);
    size_t size;
    int rc;

    bytes_writer_init(&w, wire, sizeof(wire));
    state_save(desc, dev->state, &w);
    size = w.pos;
    if (patches >= 0xf0)
        bytes_get(in, wire, num_min(size, bytes_left(in)));
    for (uint8_t i = 0; i < patches % 8; i++) {
        size_t at = bytes_get_u16(in);

        wire[at % size] = bytes_get_u8(in);
    }
    bytes_reader_init(&r, wire, size);
    rc = state_load(desc, desc->version, &r, dev->state);
    assert(rc == 0);
    if (dev->ops->post_load != NULL)
        rc = dev->ops->post_load(dev, NULL);
    assert(rc <= 0);
    after_load(m);
    if (rc == 0 && dev->ops->resume != NULL)
        dev->ops->resume(dev);
}

static void do_serial(struct machine *m, struct bytes_reader *r)
{
    uint8_t how = bytes_get_u8(r);
    size_t len = num_min(bytes_get_u8(r), bytes_left(r));
    const uint8_t *data = bytes_take(r, len);
    size_t n;

    if (data == NULL)
        return;
    switch (how % 4) {
    case 0:
        n = serial_receive(&m->serial, data, len);
        assert(n <= len);
        break;
    case 1:
        serial_write_run(&m->serial, data, len);
        break;
    case 2:
        m->sink_room = how >> 2;
        serial_sink_ready(&m->serial);
        break;
    default:
        m->sink_room = how >> 2;
        break;
    }
}

static void step(struct machine *m, struct bytes_reader *r)
{
    uint8_t op = bytes_get_u8(r);
    struct device *dev = m->devices[op >> 4 & 7];
    int rc = 0;

    switch (op & 0x0f) {
    case 8:
    case 9:
        do_serial(m, r);
        break;
    case 10:
        do_save_and_load(m, dev);
        break;
    case 11:
        do_hostile_load(m, dev, r);
        break;
    case 12:
        if (dev->ops->reset != NULL)
            dev->ops->reset(dev);
        after_load(m);
        break;
    case 13:
        m->now_ns = bytes_get_u64(r);
        break;
    case 14:
        rc = op == 14 ? vmgenid_bump(&m->vmgenid, NULL) : 0;
        break;
    default:
        do_access(m, r);
        break;
    }
    assert(rc == 0);
    (void)rc;
}

static void check(const struct machine *m)
{
    assert(m->serial.state.rx_count <= SERIAL_RX_MAX);
    assert(m->serial.state.tx_count <= SERIAL_TX_MAX);
    assert(m->panics == m->pvpanic.state.reported);
    for (uint32_t pin = 0; pin < IOAPIC_PINS; pin++) {
        assert(m->routes[pin].masked == m->ioapic.routes[pin].masked);
        assert(m->routes[pin].address == m->ioapic.routes[pin].address);
        assert(m->routes[pin].data == m->ioapic.routes[pin].data);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct machine m;
    struct bytes_reader r;

    machine_init(&m);
    bytes_reader_init(&r, data, size);
    for (uint32_t i = 0; i < OPS_MAX && bytes_left(&r) > 0; i++)
        step(&m, &r);
    check(&m);
    for (size_t i = 0; i < DEVICES; i++)
        do_save_and_load(&m, m.devices[i]);
    check(&m);
    gmem_fini(&m.mem);
    return 0;
}
