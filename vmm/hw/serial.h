/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 16550A serial port (National Semiconductor PC16550D data sheet).
 *
 * Output goes to a sink that may take less than it is given: the rest stays
 * in a 16-byte transmit FIFO and THRE and TEMT stay clear until the sink is
 * ready, so a slow reader holds the guest's driver back and costs neither
 * memory nor a blocked vCPU. Input beyond the receive FIFO stays with the
 * caller. The line is edge-triggered and raised for every new condition;
 * OUT2 does not gate it. Breaks and parity are not modelled.
 *
 * Thread rule: every function but serial_init is called with the device's
 * lock held, and so are the callbacks, on whatever thread entered: they must
 * not block or come back into the device. Guest-controlled: all registers,
 * the output bytes, and when input is read.
 */
#ifndef VMM_HW_SERIAL_H
#define VMM_HW_SERIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/core/device.h"
#include "vmm/core/irq.h"

#define SERIAL_PORTS  8u
#define SERIAL_TX_MAX 16u
#define SERIAL_RX_MAX                                                          \
    64u                    /* deeper than a 16550A's: fewer wake-ups of input  \
                            */
#define SERIAL_RX_LOOP 16u /* what loopback fills: drivers measure it */

struct serial_state {
    uint8_t ier;
    uint8_t fcr; /* the enable and trigger bits */
    uint8_t lcr;
    uint8_t mcr;
    uint8_t msr_delta; /* bits 0-3 of MSR; the others follow from MCR */
    uint8_t scr;
    uint8_t dll;
    uint8_t dlm;
    uint8_t overrun;      /* LSR.OE */
    uint8_t thre_pending; /* THR ran empty and IIR did not yet say so */
    uint8_t rx_count;
    uint8_t tx_count;
    uint8_t rx[SERIAL_RX_MAX]; /* oldest first, zero behind rx_count */
    uint8_t tx[SERIAL_TX_MAX]; /* oldest first, zero behind tx_count */
};

/* The host's end of the cable. A callback that is NULL is not called. */
struct serial_host {
    /* Takes up to `len` bytes, returns how many. NULL: all are dropped. */
    size_t (*write)(void *opaque, const uint8_t *data, size_t len);

    /* serial_receive took less than it was given, now there is room. */
    void (*room)(void *opaque);

    void *opaque;
};

struct serial {
    struct device dev;
    struct serial_state state;
    struct serial_host host;
    struct irq_line irq;
    bool rx_refused;     /* the host waits for `room` */
    uint64_t tx_dropped; /* bytes written by the guest to a full FIFO */
};

/* A port at its power-on values; SERIAL_PORTS ports of the PIO bus. */
void serial_init(
    struct serial *serial, const struct serial_host *host, struct irq_line irq);

/* The sink can take bytes again. */
void serial_sink_ready(struct serial *serial);

/*
 * Gives input to the guest: how many of `len` bytes fitted. After a short
 * count `room` is called once when it is worth trying again.
 */
size_t serial_receive(struct serial *serial, const uint8_t *data, size_t len);

/*
 * `len` one-byte writes to the first port, as `rep outsb` makes them, with
 * one call of the sink where possible.
 */
void serial_write_run(struct serial *serial, const uint8_t *data, size_t len);

#endif
