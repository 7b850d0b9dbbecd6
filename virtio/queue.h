/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device side of one split virtqueue (virtio 1.2, 2.7).
 *
 * Owns the resolved rings and a pool of chains, one per descriptor of the
 * queue, so that nothing is allocated per request. The part that a snapshot
 * keeps is struct queue_state, which lives in the device's state struct.
 *
 * Thread rule: called with the device's lock held. Guest-controlled: the
 * whole of struct queue_state after a load, and every byte of the rings and
 * descriptors; each is copied once, checked, then used. What a driver may not
 * do comes back as -EPROTO, with the reason in `fault`; the caller then stops
 * the device. The rings are checked when the queue is enabled.
 */
#ifndef VIRTIO_QUEUE_H
#define VIRTIO_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/base/cc.h"
#include "vmm/core/gmem.h"

/* What a snapshot keeps of a queue; no padding. All zero is power-on. */
struct queue_state {
    uint64_t desc;       /* guest addresses of the three parts */
    uint64_t avail;      /* "driver area" */
    uint64_t used;       /* "device area" */
    uint16_t size;       /* entries: a power of two */
    uint16_t avail_next; /* index of the next entry to pop; wraps */
    uint16_t used_next;  /* index of the next entry to push; wraps */
    uint16_t signalled;  /* used_next at the last interrupt decision */
    uint64_t ready;      /* 0 or 1 */
};
_Static_assert(sizeof(struct queue_state) == 40, "no padding");

/*
 * One descriptor chain taken from the queue. A device whose requests outlive
 * the call embeds it as the first member of its request struct and gives that
 * struct's size to queue_init. Valid from queue_pop to queue_push; what a
 * device puts behind it survives in the pool and is not cleared.
 */
struct queue_chain {
    struct gslice *slices; /* readable ones first; none is empty */
    struct iovec *iov;     /* room for as many iovecs; the device's to use */
    uint32_t readable_bytes;
    uint32_t writable_bytes; /* both together are below 2^32 */
    uint16_t readable_count; /* slices */
    uint16_t writable_count;
    uint16_t head;            /* descriptor that starts it */
    struct queue_chain *next; /* queue's own */
};

static inline const struct gslice *queue_chain_readable(
    const struct queue_chain *chain)
{
    return chain->slices;
}

static inline const struct gslice *queue_chain_writable(
    const struct queue_chain *chain)
{
    return chain->slices + chain->readable_count;
}

/* What most chains need; longer ones have `size` slices elsewhere. */
#define QUEUE_FEW 4u

struct queue_few {
    struct gslice slices[QUEUE_FEW];
    struct iovec iov[QUEUE_FEW];
};

struct queue {
    struct queue_state *state; /* borrowed, in the device's state */
    struct gmem *mem;          /* borrowed */
    uint16_t size_max;         /* offered to the driver */
    size_t request_size;       /* bytes, >= sizeof(struct queue_chain) */
    bool indirect;             /* negotiated VIRTIO_F_INDIRECT_DESC */
    bool event_idx;            /* negotiated VIRTIO_F_EVENT_IDX */
    uint16_t avail_seen;       /* the driver's index when last looked at */
    uint16_t inflight;         /* chains popped and not pushed */
    const char *fault;         /* why the driver was refused last, or NULL */
    struct gslice desc_slice;  /* good while state->ready */
    struct gslice avail_slice;
    struct gslice used_slice;
    struct queue_chain *free; /* last returned first: warm in the cache */
    uint16_t pool_size;       /* chains in the pool */
    uint8_t *requests;
    struct queue_few *few; /* for each request, as are */
    struct gslice *slices; /* so many for a long chain, */
    struct iovec *iovecs;  /* and so many */
};

/*
 * `size_max` is a power of two up to VIRTQ_SIZE_LIMIT, `request_size` the
 * size of the struct that starts with a struct queue_chain. Nothing fails
 * and nothing is allocated.
 */
void queue_init(struct queue *q, struct queue_state *state, struct gmem *mem,
    uint16_t size_max, size_t request_size);
void queue_fini(struct queue *q);

/*
 * Checks size, alignment and place of the rings as the state has them, and
 * makes the pool; `features` are the negotiated ones. For a driver that sets
 * QueueReady and for a state just loaded, which is why `ready` is not looked
 * at; the caller sets it. 0; -EPROTO with q->fault set; -ENOMEM.
 */
CC_MUST_CHECK int queue_enable(struct queue *q, uint64_t features);

/* Power-on state; no chain may be in flight. The pool is kept. */
void queue_reset(struct queue *q);

/*
 * Takes the next chain: 1 and *ret_chain, 0 if there is none, -EPROTO.
 * Chains are as 2.7.5 has them: at most state->size descriptors, an indirect
 * table last and not nested, all within RAM, readable before writable, below
 * 2^32 bytes. A descriptor of 0 bytes is passed over, whatever its address.
 */
CC_MUST_CHECK int queue_pop(struct queue *q, struct queue_chain **ret_chain);

/* Whether the driver has made chains available that are not popped yet. */
bool queue_has_work(struct queue *q);

/*
 * Gives a chain back with `written` bytes written from the start of its
 * writable part (2.7.8.2), which must be marked dirty by then.
 */
void queue_push(struct queue *q, struct queue_chain *chain, uint32_t written);

/* Undoes the latest queue_pop: the chain will be popped again. */
void queue_unpop(struct queue *q, struct queue_chain *chain);

/*
 * Suppression of kicks (2.7.10). Disabling is a hint. Enabling asks for a
 * kick at the next chain and then looks once more: true means that there is
 * work which no kick will come for.
 */
void queue_disable_kicks(struct queue *q);
CC_MUST_CHECK bool queue_enable_kicks(struct queue *q);

/*
 * Whether the driver wants an interrupt for what was pushed since this was
 * last asked (2.7.7, 2.7.10). Asking counts as having told it.
 */
CC_MUST_CHECK bool queue_needs_interrupt(struct queue *q);

#endif
