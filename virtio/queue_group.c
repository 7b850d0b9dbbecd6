/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/queue_group.h"

#include <assert.h>

#include "virtio/spec.h"

void queue_push_group(struct queue *q, struct queue_chain *const *chains,
    const uint32_t *written, unsigned int count)
{
    struct queue_state *s = q->state;
    const uint64_t ring = (uint64_t)s->size * sizeof(struct virtq_used_elem);

    assert(count > 0 && count <= q->inflight);
    /* All but the last: into the ring, where nobody looks yet. */
    for (unsigned int i = 0; i + 1 < count; i++) {
        struct queue_chain *chain = chains[i];
        const struct virtq_used_elem elem = {
            .id = le32_put(chain->head), .len = le32_put(written[i])};

        assert(written[i] <= chain->writable_bytes);
        gslice_write_unmarked(&q->used_slice,
            VIRTQ_USED_RING + (uint64_t)(s->used_next % s->size) * sizeof(elem),
            &elem, sizeof(elem));
        s->used_next++;
        chain->next = q->free;
        q->free = chain;
        q->inflight--;
    }
    if (count > 1)
        gslice_mark_dirty(&q->used_slice, VIRTQ_USED_RING, ring);
    queue_push(q, chains[count - 1], written[count - 1]);
}
