/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio device for tests that copies what it is given into what it is to
 * fill, and a bench of it: memory, loop, interrupt line and two driven queues.
 *
 * Thread rule: as virtio/device.h has it.
 */
#ifndef TESTS_UNIT_SUPPORT_ECHO_DEVICE_H
#define TESTS_UNIT_SUPPORT_ECHO_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/unit/support/drive_queue.h"
#include "virtio/device.h"
#include "vmm/base/num.h"

#define ECHO_RAM      (16 * NUM_MIB)
#define ECHO_RINGS    UINT64_C(0x10000) /* queue 1 is 64 KiB behind */
#define ECHO_DATA     UINT64_C(0x100000)
#define ECHO_SIZE     ((uint16_t)8) /* of queue 0; queue 1 is twice that */
#define ECHO_QUEUES   2u
#define ECHO_HELD_MAX (3 * ECHO_SIZE)
#define ECHO_F        (UINT64_C(1) << 3)
#define ECHO_F_ALL                                                             \
    (VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX |        \
        VIRTIO_F_RING_RESET | ECHO_F)

/* A device that copies what it is given into what it is to fill. */
struct echo_state {
    struct virtio_state virtio;
    uint32_t echoed;
    uint32_t spare;
};

struct echo {
    struct virtio_device virtio;
    struct echo_state state;
    struct queue_chain *held[ECHO_HELD_MAX]; /* in flight until drained */
    unsigned int held_from[ECHO_HELD_MAX];   /* queue of each */
    unsigned int held_count;
    bool holds;
    unsigned int activated;
    unsigned int resumed;
    uint8_t config[12];
};

extern const struct state_desc echo_desc;

struct echo_bench {
    struct gmem mem;
    struct loop loop;
    int irq;
    struct echo e;
    struct device *dev;
    struct drive_queue d[ECHO_QUEUES];
    unsigned int binds;
    unsigned int unbinds;
    int bind_result;
    uint64_t bound_address; /* what bind_kick was last given */
    uint32_t bound_queue;
    int bound_fd;
};

/* Makes the bench, its device without a loop. */
void echo_bench_init(struct echo_bench *f);
void echo_bench_fini(struct echo_bench *f);

/* Another device on the same bench; `loop` may be NULL. */
void echo_init(struct echo_bench *f, struct echo *e, struct loop *loop);

#endif
