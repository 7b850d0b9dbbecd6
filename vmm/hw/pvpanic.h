/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pvpanic port by which a guest says that it panicked (QEMU,
 * docs/specs/pvpanic.rst).
 *
 * Reading gives the events that are understood, writing reports some. Each
 * kind is passed on once until the next reset: the writer is a kernel that
 * has lost its mind. Thread rule: that of the device contract; `event` is
 * called with the lock held on the vCPU's thread and must not block.
 * Guest-controlled: the byte written.
 */
#ifndef VMM_HW_PVPANIC_H
#define VMM_HW_PVPANIC_H

#include <stdint.h>

#include "vmm/core/device.h"

#define PVPANIC_PORTS        1u
#define PVPANIC_PANICKED     0x01u
#define PVPANIC_CRASH_LOADED 0x02u
#define PVPANIC_EVENTS       (PVPANIC_PANICKED | PVPANIC_CRASH_LOADED)

struct pvpanic_state {
    uint8_t reported; /* PVPANIC_EVENTS passed on so far */
};

struct pvpanic {
    struct device dev;
    struct pvpanic_state state;
    void (*event)(void *opaque, uint8_t event); /* one bit of PVPANIC_EVENTS */
    void *opaque;
};

/* PVPANIC_PORTS ports of the PIO bus. */
void pvpanic_init(struct pvpanic *pvpanic,
    void (*event)(void *opaque, uint8_t event), void *opaque);

#endif
