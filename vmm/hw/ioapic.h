/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An I/O APIC (Intel 82093AA data sheet, version 0x20 with its EOI register)
 * for KVM's split irqchip: it keeps the redirection table and translates
 * every entry into the message its pin stands for (Intel SDM vol. 3, 11.11);
 * the owner gives that to KVM (KVM_IRQ_ROUTING_MSI).
 *
 * All lines are edges (eventfds) and never pass through here. So an entry
 * programmed as level-triggered gets an edge message too, there is no
 * end-of-interrupt to wait for, and remote IRR and delivery status read as
 * zero. An entry that no local APIC could accept (a reserved delivery mode,
 * SMI or ExtINT, a fixed vector below 16) counts as masked.
 *
 * Thread rule: that of the device contract; `route` and `commit` are called
 * with the lock held and must not come back into the device. Guest-controlled:
 * every register, hence address bits 19-12 and 2 and data bits 10-0 of a route.
 */
#ifndef VMM_HW_IOAPIC_H
#define VMM_HW_IOAPIC_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/device.h"
#include "vmm/hw/layout.h"

#define IOAPIC_MMIO_SIZE UINT64_C(0x1000)
#define IOAPIC_PINS      LAYOUT_GSI_COUNT

_Static_assert(IOAPIC_PINS >= 1 && IOAPIC_PINS <= 120,
    "the register index is a byte, the table starts at 0x10");

struct ioapic_state {
    uint64_t redirection[IOAPIC_PINS];
    uint8_t index; /* IOREGSEL */
    uint8_t id;    /* 4 bits */
};

struct ioapic_route {
    bool masked;      /* then the other two are 0 */
    uint64_t address; /* MSI message address */
    uint32_t data;    /* MSI message data */
};

struct ioapic {
    struct device dev;
    struct ioapic_state state;
    /* The effective route of a pin changed. Masked: it has no message. */
    void (*route)(void *opaque, uint32_t pin, bool masked, uint64_t address,
        uint32_t data);
    /* After the last of some calls of `route`; or after none. */
    void (*commit)(void *opaque);
    void *opaque;
    struct ioapic_route routes[IOAPIC_PINS]; /* as last announced */
};

/*
 * IOAPIC_MMIO_SIZE bytes of the MMIO bus, all pins masked, which is not
 * announced. After a load all pins are announced, changed or not.
 */
void ioapic_init(struct ioapic *ioapic,
    void (*route)(void *opaque, uint32_t pin, bool masked, uint64_t address,
        uint32_t data),
    void (*commit_routes)(void *opaque), void *opaque);

#endif
