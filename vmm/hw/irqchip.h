/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's interrupt lines: the user-space I/O APIC and the KVM side of
 * the split irqchip.
 *
 * Owns the eventfd of every line. An edge on a line reaches the local APICs
 * inside KVM, by the message that the guest programmed into the I/O APIC for
 * that pin; no exit and no code of ours is on that path.
 *
 * Thread rule: irqchip_line before vCPUs run; the route callback comes on
 * vCPU threads under the I/O APIC's device lock.
 */
#ifndef VMM_HW_IRQCHIP_H
#define VMM_HW_IRQCHIP_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/irq.h"
#include "vmm/hw/ioapic.h"
#include "vmm/hw/kvm.h"

struct irqchip {
    struct ioapic ioapic;
    struct kvm_vm *vm; /* borrowed */
    struct kvm_route routes[LAYOUT_GSI_COUNT];
    bool routes_changed;       /* not told to KVM yet */
    int fds[LAYOUT_GSI_COUNT]; /* -1: the line is not in use */
    uint32_t route_errors;     /* KVM_SET_GSI_ROUTING that failed */
};

/* All lines unused, all pins masked. */
void irqchip_init(struct irqchip *chip, struct kvm_vm *vm);
void irqchip_fini(struct irqchip *chip);

/* Takes line `gsi` into use; at most once each. */
CC_MUST_CHECK int irqchip_line(struct irqchip *chip, uint32_t gsi,
    struct irq_line *ret_line, struct err *err);

#endif
