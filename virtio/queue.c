/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/queue.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "virtio/spec.h"
#include "vmm/base/num.h"

void queue_init(struct queue *q, struct queue_state *state, struct gmem *mem,
    uint16_t size_max, size_t request_size)
{
    assert(num_is_pow2(size_max) && size_max <= VIRTQ_SIZE_LIMIT);
    assert(request_size >= sizeof(struct queue_chain));
    *q = (struct queue){.state = state,
        .mem = mem,
        .size_max = size_max,
        .request_size =
            (size_t)num_align_up(request_size, _Alignof(max_align_t))};
}

static void free_pool(struct queue *q)
{
    free(q->requests);
    free(q->few);
    free(q->slices);
    free(q->iovecs);
    q->requests = NULL;
    q->few = NULL;
    q->slices = NULL;
    q->iovecs = NULL;
    q->free = NULL;
    q->pool_size = 0;
}

void queue_fini(struct queue *q)
{
    assert(q->inflight == 0);
    free_pool(q);
}

static void release(struct queue *q, struct queue_chain *chain)
{
    assert(q->inflight > 0);
    chain->next = q->free;
    q->free = chain;
    q->inflight--;
}

/*
 * A pool of `size` chains of up to `size` slices each. All of it is zero
 * pages until used, and as chains are reused last in, first out, only as much
 * is touched as the driver keeps in flight at once. Slices for any length are
 * pages apart, so that a chain of few has its own, side by side with others.
 */
static int make_pool(struct queue *q, uint16_t size)
{
    size_t slices = (size_t)size * size;

    assert(q->inflight == 0);
    if (q->pool_size == size)
        return 0;
    free_pool(q);
    q->requests = calloc(size, q->request_size);
    q->few = calloc(size, sizeof(q->few[0]));
    q->slices = calloc(slices, sizeof(q->slices[0]));
    q->iovecs = calloc(slices, sizeof(q->iovecs[0]));
    if (q->requests == NULL || q->few == NULL || q->slices == NULL ||
        q->iovecs == NULL) {
        free_pool(q);
        return -ENOMEM;
    }
    q->pool_size = size;
    return 0;
}

/* The chain that was never used yet, in place `i` of the pool. */
static struct queue_chain *chain_at(struct queue *q, uint16_t i)
{
    return (struct queue_chain *)(void *)(q->requests +
                                          (size_t)i * q->request_size);
}

static int refuse(struct queue *q, const char *why)
{
    q->fault = why;
    return -EPROTO;
}

static int resolve(struct queue *q, uint64_t at, uint64_t align, uint64_t len,
    struct gslice *ret_slice)
{
    if (at % align != 0)
        return refuse(q, "part of a queue is misaligned");
    if (gmem_slice(q->mem, gpa(at), len, ret_slice) < 0)
        return refuse(q, "part of a queue lies outside RAM");
    return 0;
}

int queue_enable(struct queue *q, uint64_t features)
{
    const struct queue_state *s = q->state;
    struct gslice desc = {0};
    struct gslice avail = {0};
    struct gslice used = {0};
    int rc;

    if (!num_is_pow2(s->size) || s->size > q->size_max)
        return refuse(q, "queue size is not a power of two within its maximum");
    rc =
        resolve(q, s->desc, VIRTQ_DESC_ALIGN, virtq_desc_bytes(s->size), &desc);
    if (rc == 0)
        rc = resolve(
            q, s->avail, VIRTQ_AVAIL_ALIGN, virtq_avail_bytes(s->size), &avail);
    if (rc == 0)
        rc = resolve(
            q, s->used, VIRTQ_USED_ALIGN, virtq_used_bytes(s->size), &used);
    if (rc == 0)
        rc = make_pool(q, s->size);
    if (rc < 0)
        return rc;
    q->desc_slice = desc;
    q->avail_slice = avail;
    q->used_slice = used;
    q->indirect = (features & VIRTIO_F_INDIRECT_DESC) != 0;
    q->event_idx = (features & VIRTIO_F_EVENT_IDX) != 0;
    q->avail_seen = s->avail_next;
    return 0;
}

void queue_reset(struct queue *q)
{
    assert(q->inflight == 0);
    *q->state = (struct queue_state){0};
    q->desc_slice = (struct gslice){0};
    q->avail_slice = (struct gslice){0};
    q->used_slice = (struct gslice){0};
}

/* A walk over the descriptors of one chain. */
struct walk {
    struct gslice table; /* the queue's own, or an indirect one */
    uint32_t table_size; /* descriptors */
    uint32_t next;       /* index of the descriptor to read */
    uint32_t seen;       /* descriptors that count for the length */
    uint64_t bytes;
    bool in_indirect;
};

static int enter_indirect(struct queue *q, struct walk *w, uint64_t addr,
    uint32_t len, uint16_t flags)
{
    if (!q->indirect)
        return refuse(q, "indirect descriptor was not negotiated");
    if (w->in_indirect)
        return refuse(q, "nested indirect descriptor");
    if ((flags & VIRTQ_DESC_F_NEXT) != 0)
        return refuse(q, "indirect descriptor has a successor");
    if (len == 0 || len % sizeof(struct virtq_desc) != 0 ||
        len / sizeof(struct virtq_desc) > q->state->size)
        return refuse(q, "bad length of an indirect table");
    if (gmem_slice(q->mem, gpa(addr), len, &w->table) < 0)
        return refuse(q, "indirect table lies outside RAM");
    w->table_size = len / (uint32_t)sizeof(struct virtq_desc);
    w->next = 0;
    w->in_indirect = true;
    return 0;
}

static size_t index_of(const struct queue *q, const struct queue_chain *chain)
{
    return (size_t)((const uint8_t *)chain - q->requests) / q->request_size;
}

static void use_few(struct queue *q, struct queue_chain *chain)
{
    struct queue_few *few = &q->few[index_of(q, chain)];

    chain->slices = few->slices;
    chain->iov = few->iov;
}

static void use_many(struct queue *q, struct queue_chain *chain)
{
    size_t i = index_of(q, chain);

    chain->slices = q->slices + i * q->pool_size;
    chain->iov = q->iovecs + i * q->pool_size;
    memcpy(chain->slices, q->few[i].slices, sizeof(q->few[i].slices));
}

static int add_buffer(struct queue *q, struct walk *w,
    struct queue_chain *chain, const struct virtq_desc *desc)
{
    uint32_t len = le32_get(desc->len);
    bool writable = (le16_get(desc->flags) & VIRTQ_DESC_F_WRITE) != 0;
    uint32_t slot = (uint32_t)chain->readable_count + chain->writable_count;

    if (!writable && chain->writable_count > 0)
        return refuse(q, "readable descriptor behind a writable one");
    if (len == 0)
        return 0;
    w->bytes += len;
    if (w->bytes > UINT32_MAX)
        return refuse(q, "chain of 2^32 bytes or more");
    if (slot == QUEUE_FEW)
        use_many(q, chain);
    if (gmem_slice(
            q->mem, gpa(le64_get(desc->addr)), len, &chain->slices[slot]) < 0)
        return refuse(q, "buffer lies outside RAM");
    if (writable) {
        chain->writable_count++;
        chain->writable_bytes += len;
    } else {
        chain->readable_count++;
        chain->readable_bytes += len;
    }
    return 0;
}

/*
 * Ends, whatever the driver wrote: each pass but the one that enters the
 * indirect table counts towards the length, and that one happens once.
 */
static int walk_chain(struct queue *q, struct queue_chain *chain)
{
    struct walk w = {.table = q->desc_slice,
        .table_size = q->state->size,
        .next = chain->head};
    struct virtq_desc desc;
    uint16_t flags;
    int rc;

    do {
        if (w.next >= w.table_size)
            return refuse(q, "descriptor index beyond its table");
        gslice_read(
            &w.table, (uint64_t)w.next * sizeof(desc), &desc, sizeof(desc));
        flags = le16_get(desc.flags);
        if ((flags & VIRTQ_DESC_F_INDIRECT) != 0) {
            rc = enter_indirect(
                q, &w, le64_get(desc.addr), le32_get(desc.len), flags);
            flags = VIRTQ_DESC_F_NEXT;
        } else {
            if (++w.seen > q->state->size)
                return refuse(q, "chain is longer than the queue");
            rc = add_buffer(q, &w, chain, &desc);
            w.next = le16_get(desc.next);
        }
        if (rc < 0)
            return rc;
    } while ((flags & VIRTQ_DESC_F_NEXT) != 0);
    return 0;
}

static struct queue_chain *take(struct queue *q)
{
    struct queue_chain *chain = q->free;

    if (chain != NULL)
        q->free = chain->next;
    else
        /* None came back yet that is not out again: the next unused one. */
        chain = chain_at(q, q->inflight);
    q->inflight++;
    use_few(q, chain);
    chain->next = NULL;
    chain->readable_bytes = 0;
    chain->writable_bytes = 0;
    chain->readable_count = 0;
    chain->writable_count = 0;
    return chain;
}

/* Looks at the driver's index; 1 if there is something to pop. */
static int look(struct queue *q)
{
    uint16_t seen;

    if (q->avail_seen != q->state->avail_next)
        return 1;
    /*
     * Pairs with the driver's barrier between filling the ring and moving
     * its index (2.7.13.3.1): what is read behind this is what it filled in.
     */
    seen = gslice_load_u16_acquire(&q->avail_slice, VIRTQ_AVAIL_IDX);
    if ((uint16_t)(seen - q->state->avail_next) > q->state->size)
        return refuse(q, "available index is ahead by more than the queue");
    q->avail_seen = seen;
    return seen != q->state->avail_next;
}

int queue_pop(struct queue *q, struct queue_chain **ret_chain)
{
    struct queue_state *s = q->state;
    struct queue_chain *chain;
    int rc = look(q);
    le16 head;

    if (rc <= 0)
        return rc;
    if (q->inflight == q->pool_size)
        return refuse(q, "more chains in flight than descriptors");
    chain = take(q);
    gslice_read(&q->avail_slice,
        VIRTQ_AVAIL_RING + (uint64_t)(s->avail_next % s->size) * sizeof(head),
        &head, sizeof(head));
    chain->head = le16_get(head);
    rc = walk_chain(q, chain);
    if (rc < 0) {
        release(q, chain);
        return rc;
    }
    s->avail_next++;
    *ret_chain = chain;
    return 1;
}

bool queue_has_work(struct queue *q)
{
    /* A broken index is work too: popping is what reports it. */
    return look(q) != 0;
}

void queue_push(struct queue *q, struct queue_chain *chain, uint32_t written)
{
    struct queue_state *s = q->state;
    const struct virtq_used_elem elem = {
        .id = le32_put(chain->head), .len = le32_put(written)};
    uint64_t at;

    assert(written <= chain->writable_bytes);
    at = VIRTQ_USED_RING + (uint64_t)(s->used_next % s->size) * sizeof(elem);
    s->used_next++;
    /*
     * Pairs with the driver's read barrier after it saw the index move
     * (2.7.14): the element and the data are there by then.
     */
    gslice_publish(
        &q->used_slice, at, &elem, sizeof(elem), VIRTQ_USED_IDX, s->used_next);
    release(q, chain);
}

void queue_unpop(struct queue *q, struct queue_chain *chain)
{
    q->state->avail_next--;
    release(q, chain);
}

static uint64_t avail_event_offset(const struct queue *q)
{
    return virtq_used_bytes(q->state->size) - sizeof(uint16_t);
}

static uint64_t used_event_offset(const struct queue *q)
{
    return virtq_avail_bytes(q->state->size) - sizeof(uint16_t);
}

void queue_disable_kicks(struct queue *q)
{
    /* With event indices the one left behind is past and says nothing. */
    if (!q->event_idx)
        gslice_store_u16_release(
            &q->used_slice, VIRTQ_USED_FLAGS, VIRTQ_USED_F_NO_NOTIFY);
}

bool queue_enable_kicks(struct queue *q)
{
    if (q->event_idx)
        gslice_store_u16_release(
            &q->used_slice, avail_event_offset(q), q->state->avail_next);
    else
        gslice_store_u16_release(&q->used_slice, VIRTQ_USED_FLAGS, 0);
    /*
     * The driver stores its index, fences, then looks at what was just
     * stored; we store that, fence, then look at its index. One of the two
     * sees the other, so no chain is left without a kick.
     */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return queue_has_work(q);
}

bool queue_needs_interrupt(struct queue *q)
{
    struct queue_state *s = q->state;
    uint16_t pushed = (uint16_t)(s->used_next - s->signalled);
    uint16_t event;

    s->signalled = s->used_next;
    if (pushed == 0)
        return false;
    /* As above with the roles changed: used index, fence, driver's wish. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!q->event_idx)
        return (gslice_load_u16_acquire(&q->avail_slice, VIRTQ_AVAIL_FLAGS) &
                   VIRTQ_AVAIL_F_NO_INTERRUPT) == 0;
    event = gslice_load_u16_acquire(&q->avail_slice, used_event_offset(q));
    /* 2.7.7.2: wanted once the entry at index `event` has been written. */
    return (uint16_t)(s->used_next - event - 1) < pushed;
}
