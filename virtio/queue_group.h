/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Giving several chains back at once.
 *
 * A frame that is spread over buffers must become visible to the driver as a
 * whole (virtio 1.2, 5.1.6.4): the used index may move only once. Thread rule
 * and trust are those of virtio/queue.h.
 */
#ifndef VIRTIO_QUEUE_GROUP_H
#define VIRTIO_QUEUE_GROUP_H

#include <stdint.h>

#include "virtio/queue.h"

/*
 * queue_push for `count` > 0 chains in their order, chains[i] with written[i]
 * bytes, and one move of the used index behind the last.
 */
void queue_push_group(struct queue *q, struct queue_chain *const *chains,
    const uint32_t *written, unsigned int count);

#endif
