/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/ioapic.h"

#include <errno.h>

/* 82093AA, 3.1 and 3.2; the EOI register is of version 0x20. */
#define MMIO_INDEX  0x00u
#define MMIO_WINDOW 0x10u
#define MMIO_EOI    0x40u

#define REG_ID          0x00u
#define REG_VERSION     0x01u
#define REG_ARBITRATION 0x02u
#define REG_TABLE       0x10u

#define VERSION  (0x20u | (IOAPIC_PINS - 1) << 16)
#define ID_SHIFT 24
#define ID_BITS  0x0fu

/* Redirection entry, 3.2.4. */
#define ENTRY_VECTOR      UINT64_C(0xff)
#define ENTRY_DELIVERY    UINT64_C(0x700)
#define ENTRY_LOGICAL     UINT64_C(0x800)
#define ENTRY_POLARITY    UINT64_C(0x2000)
#define ENTRY_LEVEL       UINT64_C(0x8000)
#define ENTRY_MASKED      UINT64_C(0x10000)
#define ENTRY_DESTINATION UINT64_C(0xff00000000000000)
#define ENTRY_DEST_SHIFT  56
#define ENTRY_BITS                                                             \
    (ENTRY_VECTOR | ENTRY_DELIVERY | ENTRY_LOGICAL | ENTRY_POLARITY |          \
        ENTRY_LEVEL | ENTRY_MASKED | ENTRY_DESTINATION)

#define DELIVERY_FIXED  UINT64_C(0x000)
#define DELIVERY_LOWEST UINT64_C(0x100)
#define DELIVERY_NMI    UINT64_C(0x400)
#define DELIVERY_INIT   UINT64_C(0x500)
#define VECTOR_MIN      16u

#define MSI_DEST_SHIFT 12
#define MSI_LOGICAL    UINT64_C(0x4)

static const struct state_field ioapic_fields[] = {
    STATE_ARRAY(struct ioapic_state, redirection, 1),
    STATE_SCALAR(struct ioapic_state, index, 1),
    STATE_SCALAR(struct ioapic_state, id, 1),
};

static const struct state_desc ioapic_desc =
    STATE_DESC(struct ioapic_state, "ioapic", 1, ioapic_fields);

static struct ioapic *from_device(struct device *dev)
{
    return container_of(dev, struct ioapic, dev);
}

static bool is_deliverable(uint64_t entry)
{
    uint64_t delivery = entry & ENTRY_DELIVERY;

    if ((entry & ENTRY_MASKED) != 0)
        return false;
    if (delivery == DELIVERY_NMI || delivery == DELIVERY_INIT)
        return true;
    return (delivery == DELIVERY_FIXED || delivery == DELIVERY_LOWEST) &&
           (entry & ENTRY_VECTOR) >= VECTOR_MIN;
}

/*
 * The vector and the delivery mode have the same place in an entry and in the
 * data of a message. The trigger bit stays 0: with it set a guest's EOI would
 * come back as an exit, for a line that has no level to look at.
 */
static struct ioapic_route translate(uint64_t entry)
{
    struct ioapic_route route = {.masked = true};

    if (!is_deliverable(entry))
        return route;
    route.masked = false;
    route.address = LAYOUT_LAPIC | entry >> ENTRY_DEST_SHIFT << MSI_DEST_SHIFT |
                    ((entry & ENTRY_LOGICAL) != 0 ? MSI_LOGICAL : 0);
    route.data = (uint32_t)(entry & (ENTRY_VECTOR | ENTRY_DELIVERY));
    return route;
}

static bool is_same(const struct ioapic_route *a, const struct ioapic_route *b)
{
    return a->masked == b->masked && a->address == b->address &&
           a->data == b->data;
}

static void announce(struct ioapic *ioapic, uint32_t pin)
{
    const struct ioapic_route *r = &ioapic->routes[pin];

    if (ioapic->route != NULL)
        ioapic->route(ioapic->opaque, pin, r->masked, r->address, r->data);
}

static void commit(struct ioapic *ioapic)
{
    if (ioapic->commit != NULL)
        ioapic->commit(ioapic->opaque);
}

static void update(struct ioapic *ioapic, uint32_t pin)
{
    struct ioapic_route route = translate(ioapic->state.redirection[pin]);

    if (is_same(&route, &ioapic->routes[pin]))
        return;
    ioapic->routes[pin] = route;
    announce(ioapic, pin);
}

static uint32_t read_window(const struct ioapic_state *st)
{
    unsigned int at = st->index - REG_TABLE; /* wraps for the others */

    switch (st->index) {
    case REG_ID:
    case REG_ARBITRATION:
        return (uint32_t)st->id << ID_SHIFT;
    case REG_VERSION:
        return VERSION;
    default:
        if (at >= 2 * IOAPIC_PINS)
            return 0;
        return (uint32_t)(st->redirection[at / 2] >> (at % 2 * 32));
    }
}

static void write_window(struct ioapic *ioapic, uint32_t value)
{
    struct ioapic_state *st = &ioapic->state;
    unsigned int at = st->index - REG_TABLE;
    unsigned int shift = at % 2 * 32;
    uint64_t entry;

    if (st->index == REG_ID)
        st->id = (uint8_t)(value >> ID_SHIFT & ID_BITS);
    if (at >= 2 * IOAPIC_PINS)
        return;
    entry = st->redirection[at / 2] & ~((uint64_t)UINT32_MAX << shift);
    entry |= (uint64_t)value << shift;
    st->redirection[at / 2] = entry & ENTRY_BITS;
    update(ioapic, at / 2);
    commit(ioapic);
}

/* Registers are 32 bits wide (3.1); an access of another width misses. */
static void ioapic_access(struct device *dev, struct bus_access *access)
{
    struct ioapic *ioapic = from_device(dev);

    if (access->len != sizeof(uint32_t))
        return;
    switch (access->offset) {
    case MMIO_INDEX:
        if (access->is_write)
            ioapic->state.index = (uint8_t)access->value;
        else
            access->value = ioapic->state.index;
        break;
    case MMIO_WINDOW:
        if (access->is_write)
            write_window(ioapic, (uint32_t)access->value);
        else
            access->value = read_window(&ioapic->state);
        break;
    case MMIO_EOI:
    default:
        if (!access->is_write)
            access->value = 0;
        break;
    }
}

static void set_power_on(struct ioapic_state *st)
{
    *st = (struct ioapic_state){0};
    for (uint32_t pin = 0; pin < IOAPIC_PINS; pin++)
        st->redirection[pin] = ENTRY_MASKED;
}

static void ioapic_reset(struct device *dev)
{
    struct ioapic *ioapic = from_device(dev);

    set_power_on(&ioapic->state);
    for (uint32_t pin = 0; pin < IOAPIC_PINS; pin++)
        update(ioapic, pin);
    commit(ioapic);
}

static bool is_valid(const struct ioapic_state *st)
{
    for (uint32_t pin = 0; pin < IOAPIC_PINS; pin++) {
        if ((st->redirection[pin] & ~ENTRY_BITS) != 0)
            return false;
    }
    return (st->id & ~ID_BITS) == 0;
}

static int ioapic_post_load(struct device *dev, struct err *err)
{
    struct ioapic *ioapic = from_device(dev);
    int rc = 0;

    if (!is_valid(&ioapic->state)) {
        set_power_on(&ioapic->state);
        rc = err_set(err, EINVAL, "ioapic: state has reserved bits set");
    }
    for (uint32_t pin = 0; pin < IOAPIC_PINS; pin++) {
        ioapic->routes[pin] = translate(ioapic->state.redirection[pin]);
        announce(ioapic, pin);
    }
    commit(ioapic);
    return rc;
}

static const struct device_ops ioapic_ops = {
    .state = &ioapic_desc,
    .access = ioapic_access,
    .reset = ioapic_reset,
    .post_load = ioapic_post_load,
};

void ioapic_init(struct ioapic *ioapic,
    void (*route)(void *opaque, uint32_t pin, bool masked, uint64_t address,
        uint32_t data),
    void (*commit_routes)(void *opaque), void *opaque)
{
    *ioapic = (struct ioapic){
        .route = route, .commit = commit_routes, .opaque = opaque};
    device_init(&ioapic->dev, &ioapic_ops, "ioapic", &ioapic->state);
    set_power_on(&ioapic->state);
    for (uint32_t pin = 0; pin < IOAPIC_PINS; pin++)
        ioapic->routes[pin].masked = true;
}
