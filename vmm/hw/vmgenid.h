/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM generation ID: 16 random bytes in guest memory that change whenever
 * the guest's past is no longer its own (Microsoft, "Virtual Machine
 * Generation ID"). The ACPI device that points at them is made elsewhere.
 *
 * The machine bumps it once at boot, and after every restore or clone before
 * the first vCPU runs. A guest reset leaves it alone. There are no registers.
 * Thread rule: vmgenid_bump with the device's lock held, or before any vCPU
 * runs. Guest-controlled: nothing; the guest may overwrite its copy.
 */
#ifndef VMM_HW_VMGENID_H
#define VMM_HW_VMGENID_H

#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/device.h"
#include "vmm/core/gmem.h"
#include "vmm/core/irq.h"

#define VMGENID_SIZE 16u

struct vmgenid_state {
    uint8_t id[VMGENID_SIZE]; /* all zero until the first bump */
};

struct vmgenid {
    struct device dev;
    struct vmgenid_state state;
    struct gmem *mem; /* borrowed */
    struct irq_line irq;
};

/* Writes nothing to guest memory yet. */
void vmgenid_init(struct vmgenid *gen, struct gmem *mem, struct irq_line irq);

/*
 * Puts a fresh id at LAYOUT_VMGENID and raises the line. 0, -EFAULT if that
 * is not RAM, or what getrandom(2) said; the old id stands then.
 */
CC_MUST_CHECK int vmgenid_bump(struct vmgenid *gen, struct err *err);

#endif
