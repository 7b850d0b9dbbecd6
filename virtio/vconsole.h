/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio console device (virtio 1.2, 5.3) with one port.
 *
 * Output goes to a sink that may take less than it is given: the rest stays
 * in the driver's chain, at the head of the queue, until the sink is ready,
 * so a slow reader costs neither memory nor a blocked thread. How far into
 * the chain the sink has come is part of the state, so no chain is in flight
 * between two calls. Input for which the driver has no buffers stays with
 * the caller.
 *
 * Thread rule: as virtio/device.h has it; every function but vconsole_init and
 * vconsole_fini is called with the device's lock held, and so are the
 * callbacks, on whatever thread entered: they must not block or come back
 * into the device. Guest-controlled: the output, in whole, and when input is
 * read. After a load all of struct vconsole_state is hostile.
 */
#ifndef VIRTIO_VCONSOLE_H
#define VIRTIO_VCONSOLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "virtio/device.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/base/le.h"

/* 5.3.2 Virtqueues of port 0. */
#define VCONSOLE_QUEUE_RX   0u
#define VCONSOLE_QUEUE_TX   1u
#define VCONSOLE_QUEUES     2u
#define VCONSOLE_QUEUE_SIZE 64u

/* 5.3.3 Feature bits. */
#define VCONSOLE_F_SIZE        (UINT64_C(1) << 0)
#define VCONSOLE_F_EMERG_WRITE (UINT64_C(1) << 2)

/* 5.3.4 Device configuration layout. */
struct vconsole_config_space {
    le16 cols;
    le16 rows;
    le32 max_nr_ports;
    le32 emerg_wr;
};
_Static_assert(sizeof(struct vconsole_config_space) == 12, "virtio 1.2, 5.3.4");

/* What a snapshot keeps; no padding. */
struct vconsole_state {
    struct virtio_state virtio;
    uint32_t tx_done; /* bytes of the first transmit chain that are out */
    uint16_t cols;
    uint16_t rows;
};
_Static_assert(sizeof(struct vconsole_state) == sizeof(struct virtio_state) + 8,
    "no padding");

/* The host's end. A callback that is NULL is not called. */
struct vconsole_host {
    /* Takes up to `len` bytes, returns how many. NULL: all are dropped. */
    size_t (*write)(void *opaque, const uint8_t *data, size_t len);

    /* vconsole_receive took less than it was given, now there is room. */
    void (*room)(void *opaque);

    void *opaque;
};

/* Since the device was made; under the device's lock. */
struct vconsole_stats {
    uint64_t tx_bytes;      /* taken by the sink */
    uint64_t rx_bytes;      /* taken by the guest */
    uint64_t tx_stalls;     /* times that the sink was full */
    uint64_t emerg_bytes;   /* of tx_bytes: by emergency writes */
    uint64_t emerg_dropped; /* emergency writes to a full sink */
};

#define VCONSOLE_BOUNCE_BYTES 4096u

struct vconsole {
    struct virtio_device virtio;
    struct vconsole_state state;
    struct vconsole_host host;
    bool tx_stalled; /* the sink is full: transmit chains are left alone */
    bool rx_refused; /* the host waits for `room` */
    struct vconsole_stats stats;
    uint8_t bounce[VCONSOLE_BOUNCE_BYTES]; /* output on its way to the sink */
};

/*
 * Makes a device in its power-on state, without a size; `id` is unique in the
 * machine and borrowed, `end` is copied.
 */
CC_MUST_CHECK int vconsole_init(struct vconsole *c, const char *id,
    const struct vconsole_host *end, const struct virtio_host *host,
    struct err *err);
void vconsole_fini(struct vconsole *c);

/* The sink can take bytes again. */
void vconsole_sink_ready(struct vconsole *c);

/*
 * Gives input to the guest: how many of `len` bytes its buffers had room for,
 * 0 while no driver is up. After a short count `room` is called once when it
 * is worth trying again.
 */
size_t vconsole_receive(struct vconsole *c, const uint8_t *data, size_t len);

/* Characters of the terminal; a driver that accepted F_SIZE is told (5.3.5). */
void vconsole_set_size(struct vconsole *c, uint16_t cols, uint16_t rows);

#endif
