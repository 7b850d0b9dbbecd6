/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keyboard controller's ports 0x60 to 0x64, without a keyboard: its reset
 * line, answers that let a driver's probe end at once, and port 0x61.
 * (IBM PS/2 Hardware Interface Technical Reference, keyboard controller.)
 *
 * It has no interrupt. A byte for the absent keyboard or mouse is answered
 * with 0xfe (resend) and the time-out flag. Port 0x61 has bits 0-3 as
 * written, bit 4 changing at every read, timer 2's output (bit 5) high, so
 * that loops waiting for a timer which is not there end, and no NMI reason.
 *
 * Thread rule: that of the device contract; `reset` is called with the lock
 * held on the vCPU's thread and must not block. Guest-controlled: all.
 */
#ifndef VMM_HW_I8042_H
#define VMM_HW_I8042_H

#include <stdint.h>

#include "vmm/core/device.h"

#define I8042_PORTS 5u /* from 0x60 */

struct i8042_state {
    uint8_t ctr;     /* controller command byte */
    uint8_t command; /* that waits for its data byte, or 0 */
    uint8_t out;     /* output buffer */
    uint8_t status;  /* of port 0x64, but the constant bits */
    uint8_t port61;  /* bits 0-4 */
};

struct i8042 {
    struct device dev;
    struct i8042_state state;
    void (*reset)(void *opaque); /* the guest pulsed the CPU's reset line */
    void *opaque;
};

/* A controller at its power-on values; I8042_PORTS ports of the PIO bus. */
void i8042_init(struct i8042 *kbc, void (*reset)(void *opaque), void *opaque);

#endif
