/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A port with which a bare guest ends its VM: the low byte of what is written
 * to it, in any width, is the status. Reading gives the last status.
 *
 * Thread rule: that of the device contract; `end` is called with the lock
 * held on the vCPU's thread and must not block. Guest-controlled: the status.
 */
#ifndef VMM_HW_EXITPORT_H
#define VMM_HW_EXITPORT_H

#include <stdint.h>

#include "vmm/core/device.h"

#define EXITPORT_PORTS 4u /* so that a 32-bit write hits it */

struct exitport_state {
    uint8_t status;
};

struct exitport {
    struct device dev;
    struct exitport_state state;
    void (*end)(void *opaque, uint8_t status); /* called at every write */
    void *opaque;
};

/* EXITPORT_PORTS ports of the PIO bus. */
void exitport_init(struct exitport *port,
    void (*end)(void *opaque, uint8_t status), void *opaque);

#endif
