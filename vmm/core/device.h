/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device contract: all that the bus, the machine and the snapshot engine
 * know of a device.
 *
 * A device is plain-old-data state, described by a state table, plus host
 * resources. It is embedded in the device's own struct and points at both.
 *
 * Thread rule: device code never locks. The bus (vCPU threads) and the loop
 * (I/O thread) hold `lock` around every entry into the device; the functions
 * below are called with it held. A device must not call into another device.
 * Guest-controlled: everything in a struct bus_access but its length.
 */
#ifndef VMM_CORE_DEVICE_H
#define VMM_CORE_DEVICE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/state.h"

struct device;

/* One guest access to a register. Reads come in with `value` all ones. */
struct bus_access {
    uint64_t offset; /* from the start of the device's range */
    uint64_t value;  /* written or to be read; only `len` low bytes count */
    uint8_t len;     /* 1, 2, 4 or 8; offset + len lies in the range */
    bool is_write;
};

struct device_ops {
    const struct state_desc *state;

    /* A register access. Anything the guest may not do is ignored. */
    void (*access)(struct device *dev, struct bus_access *access);

    /* Puts the state to its power-on values. */
    void (*reset)(struct device *dev);

    /* Returns with no request in flight and none started until resume. */
    int (*quiesce)(struct device *dev, struct err *err);

    /* Checks a state just loaded, as hostile, and rewires host resources. */
    int (*post_load)(struct device *dev, struct err *err);

    void (*resume)(struct device *dev);
};

struct device {
    const struct device_ops *ops; /* entries a device has no use for: NULL */
    const char *id;               /* unique in the machine */
    void *state;                  /* ops->state->size bytes */
    pthread_mutex_t lock;
};

static inline void device_init(struct device *dev, const struct device_ops *ops,
    const char *id, void *state)
{
    *dev = (struct device){.ops = ops,
        .id = id,
        .state = state,
        .lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER};
}

static inline void device_lock(struct device *dev)
{
    (void)pthread_mutex_lock(&dev->lock);
}

static inline void device_unlock(struct device *dev)
{
    (void)pthread_mutex_unlock(&dev->lock);
}

#endif
