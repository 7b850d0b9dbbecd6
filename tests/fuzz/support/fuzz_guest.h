/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest for the harnesses of virtio devices: memory that is kept from one
 * input to the next, a driver whose mistakes come out of the input, and what
 * must hold whatever it does.
 *
 * fuzz_guest_step plays what a driver and a host can do to any device:
 * registers in any order, broken rings, resets of a queue or of the device in
 * flight, features changed midway, indices that wrap around, quiescing,
 * snapshots that are as they were saved or damaged. The harness adds what is
 * particular to its device.
 *
 * What is checked, and aborts: the device answers after a reset; it serves
 * nothing once it has given up on a driver; a neighbour in the same memory
 * goes on; pages that were written to are marked dirty. And as long as the
 * driver has only written descriptors that point where the device may write
 * (`wild` is false): descriptors, available rings and readable data stay as
 * the driver wrote them.
 *
 * Thread rule: one thread. The input is all that is hostile.
 */
#ifndef TESTS_FUZZ_SUPPORT_FUZZ_GUEST_H
#define TESTS_FUZZ_SUPPORT_FUZZ_GUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/unit/support/drive_queue.h"
#include "tests/unit/support/echo_device.h"
#include "vmm/base/bytes.h"
#include "vmm/base/num.h"
#include "vmm/core/gmem.h"

/*
 * Guest memory. What devices may write to comes last, so that a buffer that is
 * too long ends outside RAM and not in something else.
 */
#define FUZZ_RAM        NUM_MIB
#define FUZZ_RINGS      UINT64_C(0x1000)  /* a page for each queue */
#define FUZZ_TABLE      UINT64_C(0x10000) /* an indirect one for each queue */
#define FUZZ_TABLE_LEN  UINT64_C(0x200)
#define FUZZ_TEXT       UINT64_C(0x11000) /* the driver's own, for requests */
#define FUZZ_TEXT_LEN   UINT64_C(0x400)
#define FUZZ_FIXED      UINT64_C(0x12000) /* readable data, always the same */
#define FUZZ_FIXED_LEN  UINT64_C(0x2000)
#define FUZZ_NEIGHBOUR  UINT64_C(0x14000)
#define FUZZ_WRITABLE   UINT64_C(0x20000) /* to the end */
#define FUZZ_QUEUE_SIZE ((uint16_t)16)

/* Longest state on the wire. */
#define FUZZ_WIRE_MAX 1024u

struct fuzz_guest {
    struct echo_bench bench; /* memory and neighbour */
    struct gmem *mem;
    struct loop loop;
    bool has_loop;
    bool lazy; /* the loop is run by a step only */
    struct virtio_device *v;
    struct device *dev;
    struct drive_queue queues[VIRTIO_QUEUES_MAX];
    unsigned int queue_count;
    uint64_t features; /* that the driver wants */
    uint32_t eager;    /* mask of queues that a kick empties */
    bool wild;         /* see above */
    bool quiesced;     /* by a step, and not resumed yet */
    bool was_broken;   /* needed a reset when last looked at */
    uint64_t served;   /* requests by then */
    /* Descriptors and available ring of each queue, as the driver wrote them.
     */
    uint8_t kept[VIRTIO_QUEUES_MAX][FUZZ_QUEUE_SIZE * 18 + 6];
    uint8_t text[FUZZ_TEXT_LEN]; /* what is at FUZZ_TEXT */
    uint8_t fixed[FUZZ_FIXED_LEN];
};

/* An assertion that no build is without. */
#define fuzz_require(ok) ((ok) ? (void)0 : fuzz_failed(__FILE__, __LINE__, #ok))
_Noreturn void fuzz_failed(const char *file, int line, const char *what);

/*
 * Memory, all zero but for FUZZ_FIXED, and host before an input is played; the
 * device's init comes next. With a loop if `how` is odd; a few others make the
 * init fail.
 */
struct virtio_host fuzz_guest_prepare(struct fuzz_guest *g, uint8_t how);

/*
 * Takes the device to DRIVER_OK for the first time in this input, with the
 * transport's features that the low bits of `wish` choose and those of
 * `features` that the device has. Queues are of FUZZ_QUEUE_SIZE, or
 * as large as the device lets them be.
 */
void fuzz_guest_start(struct fuzz_guest *g, struct virtio_device *v,
    unsigned int queue_count, uint8_t wish, uint64_t features);

/* The same again, after a reset: must always work. */
void fuzz_guest_restart(struct fuzz_guest *g);

/*
 * The end of a device that was started: resets it, so that it is ready for its
 * fini, and checks the memory. `data` is the input: it chooses what is costly.
 */
void fuzz_guest_finish(struct fuzz_guest *g, const uint8_t *data, size_t size);

/* After its fini, or an init that failed: nothing may be left open. */
void fuzz_guest_end(struct fuzz_guest *g);

/* One step of what any driver and any host may do. */
void fuzz_guest_step(struct fuzz_guest *g, struct bytes_reader *r);

/* Runs the loop, if there is one, until nothing is due. */
void fuzz_guest_run(struct fuzz_guest *g);

/*
 * After every step of the harness: runs the loop unless it is lazy, and then
 * nothing is in flight if `idle`.
 */
void fuzz_guest_check(struct fuzz_guest *g, bool idle);

/* Writes to FUZZ_TEXT + `at`, `len` bytes that end within FUZZ_TEXT_LEN. */
void fuzz_guest_put(
    struct fuzz_guest *g, uint32_t at, const void *src, uint32_t len);

/*
 * A buffer: mostly up to `most` bytes in RAM, seldom empty, at the end of RAM,
 * beyond it or of any length. The writable ones lie in FUZZ_WRITABLE.
 */
struct drive_buffer fuzz_guest_buffer(
    struct bytes_reader *r, bool writable, uint32_t most);

/* Makes a chain available, through an indirect table if `indirect`. */
void fuzz_guest_add(struct fuzz_guest *g, unsigned int queue,
    const struct drive_buffer *bufs, uint16_t n, bool indirect);

void fuzz_guest_kick(struct fuzz_guest *g, unsigned int queue);

/*
 * For fuzz_guest_steps.c. Fresh rings of a queue that is not in use; what the
 * driver wrote to a queue's rings by other means than these functions; and the
 * end of a quiesce.
 */
void fuzz_guest_lay_out(struct fuzz_guest *g, unsigned int i, uint16_t size);
void fuzz_guest_keep(struct fuzz_guest *g, unsigned int queue);
void fuzz_guest_resume(struct fuzz_guest *g);

#endif
