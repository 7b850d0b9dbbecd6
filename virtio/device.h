/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio device: one struct device behind one virtio-mmio window.
 *
 * A concrete device embeds struct virtio_device in its own struct and struct
 * virtio_state in its own POD state, describes that state with one table
 * (VIRTIO_STATE_FIELDS and its own fields), and fills in struct virtio_ops.
 * Registers, queues, negotiation, interrupts, kicks, snapshots and the
 * answer to a misbehaving driver are done here and in mmio.c.
 *
 *   struct x_state { struct virtio_state virtio; uint32_t mine; ... };
 *   struct x { struct virtio_device virtio; struct x_state state; ... };
 *   static const struct device_ops x_device_ops = {
 *       .state = &x_desc, VIRTIO_DEVICE_OPS };
 *
 * Thread rule: as vmm/core/device.h has it; every function here is called
 * with the device's lock held, init and fini before and after any other
 * thread knows the device. Register accesses come on vCPU threads, kicks on
 * the I/O thread, or inline on the vCPU thread when there is no loop.
 * Guest-controlled: struct virtio_state, by way of the registers; after a
 * load all of it is hostile.
 */
#ifndef VIRTIO_DEVICE_H
#define VIRTIO_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/mmio.h"
#include "virtio/queue.h"
#include "virtio/spec.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/device.h"
#include "vmm/core/gmem.h"
#include "vmm/core/irq.h"
#include "vmm/core/loop.h"
#include "vmm/core/state.h"

/* Kicks from user space before the doorbell is worth binding to KVM. */
#define VIRTIO_BIND_AFTER 64

/* What a snapshot keeps of the transport; no padding. */
struct virtio_state {
    uint64_t driver_features;
    uint32_t status;
    uint32_t interrupt_status;
    uint32_t device_features_sel;
    uint32_t driver_features_sel;
    uint32_t queue_sel;
    uint32_t config_generation;
    struct queue_state queues[VIRTIO_QUEUES_MAX]; /* unused ones all zero */
};
_Static_assert(sizeof(struct virtio_state) ==
                   32 + VIRTIO_QUEUES_MAX * sizeof(struct queue_state),
    "no padding");

/* Entries of a state table for member `m` (a struct virtio_state) of `t`. */
#define VIRTIO_STATE_FIELDS(t, m)                                              \
    STATE_SCALAR(t, m.driver_features, 1), STATE_SCALAR(t, m.status, 1),       \
        STATE_SCALAR(t, m.interrupt_status, 1),                                \
        STATE_SCALAR(t, m.device_features_sel, 1),                             \
        STATE_SCALAR(t, m.driver_features_sel, 1),                             \
        STATE_SCALAR(t, m.queue_sel, 1),                                       \
        STATE_SCALAR(t, m.config_generation, 1),                               \
        STATE_COLUMN(t, m.queues, desc, 1),                                    \
        STATE_COLUMN(t, m.queues, avail, 1),                                   \
        STATE_COLUMN(t, m.queues, used, 1),                                    \
        STATE_COLUMN(t, m.queues, size, 1),                                    \
        STATE_COLUMN(t, m.queues, avail_next, 1),                              \
        STATE_COLUMN(t, m.queues, used_next, 1),                               \
        STATE_COLUMN(t, m.queues, signalled, 1),                               \
        STATE_COLUMN(t, m.queues, ready, 1)

struct virtio_device;

struct virtio_ops {
    uint32_t device_id;       /* VIRTIO_ID_... */
    unsigned int queue_count; /* 1 to VIRTIO_QUEUES_MAX */
    size_t request_size;      /* see queue_init */

    /*
     * Chains may be available in `queue` (which is enabled, and the driver
     * is up). Called from the loop, or inline; never from another op.
     */
    void (*kick)(struct virtio_device *v, unsigned int queue);

    /*
     * Copies [offset, offset + len) of the configuration space, 1 <= len <=
     * 8; bytes beyond its end read as zero. virtio_config_copy does it from
     * an image.
     */
    void (*read_config)(const struct virtio_device *v, uint64_t offset,
        uint8_t *ret_data, uint32_t len);

    /* A write to the configuration space; NULL if nothing in it is writable. */
    void (*write_config)(struct virtio_device *v, uint64_t offset,
        const uint8_t *data, uint32_t len);

    /* The driver has set DRIVER_OK. May be NULL. */
    void (*activate)(struct virtio_device *v);

    /*
     * Returns when no chain is in flight: each one pushed, or unpopped. Kicks
     * are not delivered meanwhile. NULL for a device that keeps no chain
     * beyond kick().
     */
    void (*drain)(struct virtio_device *v);

    /*
     * The device's own part of a reset: its state behind struct virtio_state
     * to power-on values. Nothing is in flight. May be NULL.
     */
    void (*reset)(struct virtio_device *v);

    /* Checks the device's own part of a loaded state. May be NULL. */
    int (*post_load)(struct virtio_device *v, struct err *err);

    /* Goes on after quiesce or a load; kicks come by themselves. May be NULL.
     */
    void (*resume)(struct virtio_device *v);
};

/* What the machine gives a device; all borrowed. */
struct virtio_host {
    struct gmem *mem;
    struct loop *loop; /* NULL: kicks are processed inline */
    struct irq_line irq;
    uint64_t base; /* guest address of the window */

    /*
     * Has the hypervisor signal `eventfd` itself on a 4-byte write of
     * `queue` to `address`; 0 or -errno. Both NULL: never bound.
     */
    int (*bind_kick)(
        void *opaque, uint64_t address, uint32_t queue, int eventfd);
    void (*unbind_kick)(
        void *opaque, uint64_t address, uint32_t queue, int eventfd);
    void *opaque;
};

/* Since the device was made; under the device's lock. */
struct virtio_stats {
    uint64_t requests;   /* chains taken */
    uint64_t bytes;      /* carried by them, as the device counts */
    uint64_t kicks;      /* seen in user space or through the eventfd */
    uint64_t interrupts; /* raised */
    uint64_t errors;     /* requests that failed, host failures */
    uint64_t violations; /* of the protocol, by the driver */
};

struct virtio_queue {
    struct virtio_device *owner;
    struct queue q;
    int kick_fd; /* -1 without a loop */
    struct loop_source source;
    uint32_t user_kicks; /* seen in user space; stays at its end */
    bool bound;          /* kick_fd is bound to the hypervisor */
    bool running;        /* inline: ops->kick is on the stack */
    bool again;          /* inline: to be called once more */
};

struct virtio_device {
    struct device base; /* what the bus, the loop and snapshots know */
    const struct virtio_ops *ops;
    struct virtio_state *state; /* first member of base.state */
    struct virtio_host host;
    uint64_t features; /* offered: the device's and the transport's */
    struct virtio_queue queues[VIRTIO_QUEUES_MAX];
    struct virtio_stats stats;
    const char *last_violation; /* a constant text, or NULL */
    bool quiesced;              /* kicks wait for resume */
};

/* What virtio_init needs to know of a device. */
struct virtio_config {
    const struct virtio_ops *ops;
    const struct device_ops *device_ops;
    const char *id;              /* unique in the machine; borrowed */
    struct virtio_state *state;  /* first member of the device's state */
    uint64_t features;           /* device-specific ones, bits 0-23 and 50-63 */
    const uint16_t *queue_sizes; /* offered, one per queue */
};

/* Entries of struct device_ops that all virtio devices share. */
#define VIRTIO_DEVICE_OPS                                                      \
    .access = virtio_mmio_access, .reset = virtio_reset,                       \
    .quiesce = virtio_quiesce, .post_load = virtio_post_load,                  \
    .resume = virtio_resume

/*
 * Makes a device in its power-on state. On failure virtio_fini need not be
 * called but may be. `config` and `host` are copied.
 */
CC_MUST_CHECK int virtio_init(struct virtio_device *v,
    const struct virtio_config *config, const struct virtio_host *host,
    struct err *err);

/* The device must be quiet: no vCPU runs, virtio_reset or _quiesce done. */
void virtio_fini(struct virtio_device *v);

/* The driver is up, and neither side has given up on the other. */
bool virtio_is_live(const struct virtio_device *v);

/* Whether the driver accepted `feature` (a mask). */
static inline bool virtio_has(const struct virtio_device *v, uint64_t feature)
{
    return (v->state->driver_features & feature) == feature;
}

/*
 * Whether queue `i` may be worked on now: the device is live and not
 * quiesced, and the queue is enabled.
 */
bool virtio_queue_live(const struct virtio_device *v, unsigned int i);

/*
 * The next chain of a queue, or NULL if there is none, the queue is not live,
 * or the driver broke the protocol (virtio_fail is done by then).
 */
struct queue_chain *virtio_pop(struct virtio_device *v, unsigned int i);

/* queue_push; the interrupt is virtio_notify's, once per batch. */
void virtio_push(struct virtio_device *v, unsigned int i,
    struct queue_chain *chain, uint32_t written);

/* queue_unpop, for the chain popped last. */
void virtio_unpop(
    struct virtio_device *v, unsigned int i, struct queue_chain *chain);

/* Interrupts the driver if it wants that for what was pushed. */
void virtio_notify(struct virtio_device *v, unsigned int i);

/*
 * Kick suppression around a batch: begin, pop until NULL or `max` chains,
 * end. When virtio_end_batch finds more work (or `more` says that the device
 * stopped early) it has the queue kicked again, so that one queue cannot keep
 * the I/O thread.
 */
void virtio_begin_batch(struct virtio_device *v, unsigned int i);
void virtio_end_batch(struct virtio_device *v, unsigned int i, bool more);

/*
 * The driver broke the protocol: DEVICE_NEEDS_RESET, with a configuration
 * interrupt if it was up (2.1.2). `why` is a constant text. Nothing is popped
 * from then on until the driver resets the device.
 */
void virtio_fail(struct virtio_device *v, const char *why);

/* The configuration space changed: generation and interrupt (2.5.2). */
void virtio_config_changed(struct virtio_device *v);

/* read_config from an image of `size` bytes. */
void virtio_config_copy(const void *image, size_t size, uint64_t offset,
    uint8_t *ret_data, uint32_t len);

/*
 * Entries of struct device_ops; `dev` is the base of a struct virtio_device.
 * A load that virtio_post_load refuses leaves the device reset.
 */
void virtio_reset(struct device *dev);
CC_MUST_CHECK int virtio_quiesce(struct device *dev, struct err *err);
CC_MUST_CHECK int virtio_post_load(struct device *dev, struct err *err);
void virtio_resume(struct device *dev);

/* Whether FEATURES_OK can be granted: a subset, with VERSION_1 in it. */
bool virtio_features_acceptable(
    const struct virtio_device *v, uint64_t features);

/*
 * For mmio.c. virtio_stop_queue drains the device and puts a queue to its
 * power-on state; virtio_kick_from_guest is a QueueNotify seen in user space.
 */
void virtio_stop_queue(struct virtio_device *v, unsigned int i);
void virtio_kick_from_guest(struct virtio_device *v, unsigned int i);

#endif
