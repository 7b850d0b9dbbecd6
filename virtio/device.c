/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/device.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"

/* What the transport and the queues offer for every device. */
#define TRANSPORT_FEATURES                                                     \
    (VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX |        \
        VIRTIO_F_RING_RESET)

static struct virtio_device *from_base(struct device *dev)
{
    return container_of(dev, struct virtio_device, base);
}

/*
 * While kicks are processed inline the driver stands still, so that a queue
 * runs empty; the longest request there is takes fewer rounds than this.
 */
#define INLINE_ROUNDS_MAX (UINT32_C(1) << 20)

static void run_inline(struct virtio_queue *vq);

/* The I/O thread's side of a kick. */
static void on_kick(void *opaque, uint32_t events)
{
    struct virtio_queue *vq = opaque;
    struct virtio_device *v = vq->owner;
    unsigned int i = (unsigned int)(vq - v->queues);

    (void)events;
    if (vq->bound)
        v->stats.kicks++;
    /* A kick that is dropped while quiesced is made up for by resume. */
    if (virtio_queue_live(v, i))
        v->ops->kick(v, i);
}

static int init_kick(struct virtio_queue *vq, struct err *err)
{
    struct virtio_device *v = vq->owner;
    int rc;

    if (v->host.loop == NULL)
        return 0;
    vq->kick_fd = fd_eventfd();
    if (vq->kick_fd < 0)
        return err_sys(
            err, vq->kick_fd, "%s: cannot create an eventfd", v->base.id);
    vq->source = (struct loop_source){
        .fd = vq->kick_fd, .handle = on_kick, .opaque = vq, .dev = &v->base};
    /* Each write is an edge: what the counter has come to is no matter. */
    rc = loop_add(v->host.loop, &vq->source, EPOLLIN | EPOLLET);
    return rc < 0 ? err_sys(err, rc, "%s: cannot watch an eventfd", v->base.id)
                  : 0;
}

int virtio_init(struct virtio_device *v, const struct virtio_config *config,
    const struct virtio_host *host, struct err *err)
{
    const struct virtio_ops *ops = config->ops;
    int rc = 0;

    assert(ops->queue_count > 0 && ops->queue_count <= VIRTIO_QUEUES_MAX);
    assert((config->features & TRANSPORT_FEATURES) == 0);
    *v = (struct virtio_device){.ops = ops,
        .state = config->state,
        .host = *host,
        .features = config->features | TRANSPORT_FEATURES};
    device_init(&v->base, config->device_ops, config->id, config->state);
    *v->state = (struct virtio_state){0};
    for (unsigned int i = 0; i < ops->queue_count; i++) {
        v->queues[i] = (struct virtio_queue){.owner = v, .kick_fd = -1};
        queue_init(&v->queues[i].q, &v->state->queues[i], host->mem,
            config->queue_sizes[i], ops->request_size);
    }
    for (unsigned int i = 0; i < ops->queue_count && rc == 0; i++)
        rc = init_kick(&v->queues[i], err);
    if (rc < 0)
        virtio_fini(v);
    return rc;
}

void virtio_fini(struct virtio_device *v)
{
    if (v->ops == NULL)
        return;
    for (unsigned int i = 0; i < v->ops->queue_count; i++) {
        struct virtio_queue *vq = &v->queues[i];

        if (vq->bound)
            v->host.unbind_kick(v->host.opaque,
                v->host.base + VIRTIO_MMIO_QUEUE_NOTIFY, i, vq->kick_fd);
        vq->bound = false;
        if (v->host.loop != NULL)
            loop_remove(v->host.loop, &vq->source);
        fd_closep(&vq->kick_fd);
        queue_fini(&vq->q);
    }
    v->ops = NULL;
}

bool virtio_is_live(const struct virtio_device *v)
{
    return (v->state->status &
               (VIRTIO_STATUS_DRIVER_OK | VIRTIO_STATUS_NEEDS_RESET |
                   VIRTIO_STATUS_FAILED)) == VIRTIO_STATUS_DRIVER_OK;
}

bool virtio_queue_live(const struct virtio_device *v, unsigned int i)
{
    assert(i < v->ops->queue_count);
    return virtio_is_live(v) && !v->quiesced && v->state->queues[i].ready != 0;
}

static void interrupt(struct virtio_device *v, uint32_t cause)
{
    v->state->interrupt_status |= cause;
    v->stats.interrupts++;
    irq_raise(&v->host.irq);
}

struct queue_chain *virtio_pop(struct virtio_device *v, unsigned int i)
{
    struct queue *q = &v->queues[i].q;
    struct queue_chain *chain;
    int rc;

    if (!virtio_queue_live(v, i))
        return NULL;
    rc = queue_pop(q, &chain);
    if (rc < 0)
        virtio_fail(v, q->fault);
    if (rc <= 0)
        return NULL;
    v->stats.requests++;
    return chain;
}

void virtio_push(struct virtio_device *v, unsigned int i,
    struct queue_chain *chain, uint32_t written)
{
    queue_push(&v->queues[i].q, chain, written);
}

void virtio_unpop(
    struct virtio_device *v, unsigned int i, struct queue_chain *chain)
{
    v->stats.requests--;
    queue_unpop(&v->queues[i].q, chain);
}

void virtio_notify(struct virtio_device *v, unsigned int i)
{
    assert(i < v->ops->queue_count);
    if (v->state->queues[i].ready != 0 &&
        queue_needs_interrupt(&v->queues[i].q))
        interrupt(v, VIRTIO_INTERRUPT_USED);
}

/* Has ops->kick called for a live queue, soon or (inline) at once. */
static void kick(struct virtio_queue *vq)
{
    if (vq->owner->host.loop != NULL)
        fd_eventfd_signal(vq->kick_fd);
    else
        run_inline(vq);
}

static void run_inline(struct virtio_queue *vq)
{
    struct virtio_device *v = vq->owner;
    unsigned int i = (unsigned int)(vq - v->queues);
    uint32_t rounds = 0;

    vq->again = true;
    if (vq->running)
        return;
    vq->running = true;
    while (vq->again && virtio_queue_live(v, i)) {
        vq->again = false;
        v->ops->kick(v, i);
        /* Rings that overlap feed themselves: each push makes new work. */
        if (++rounds == INLINE_ROUNDS_MAX)
            virtio_fail(v, "a queue does not run empty");
    }
    vq->again = false;
    vq->running = false;
}

void virtio_begin_batch(struct virtio_device *v, unsigned int i)
{
    if (virtio_queue_live(v, i))
        queue_disable_kicks(&v->queues[i].q);
}

void virtio_end_batch(struct virtio_device *v, unsigned int i, bool more)
{
    if (!virtio_queue_live(v, i))
        return;
    if (queue_enable_kicks(&v->queues[i].q) || more)
        kick(&v->queues[i]);
}

void virtio_fail(struct virtio_device *v, const char *why)
{
    bool first = (v->state->status & VIRTIO_STATUS_NEEDS_RESET) == 0;

    v->stats.violations++;
    v->last_violation = why;
    v->state->status |= VIRTIO_STATUS_NEEDS_RESET;
    if (first && (v->state->status & VIRTIO_STATUS_DRIVER_OK) != 0)
        virtio_config_changed(v);
}

void virtio_config_changed(struct virtio_device *v)
{
    v->state->config_generation++;
    if ((v->state->status & VIRTIO_STATUS_DRIVER_OK) != 0)
        interrupt(v, VIRTIO_INTERRUPT_CONFIG);
}

void virtio_config_copy(const void *image, size_t size, uint64_t offset,
    uint8_t *ret_data, uint32_t len)
{
    uint64_t n = offset >= size ? 0 : num_min(len, size - offset);

    memset(ret_data, 0, len);
    if (n > 0)
        memcpy(ret_data, (const uint8_t *)image + offset, n);
}

bool virtio_features_acceptable(
    const struct virtio_device *v, uint64_t features)
{
    return (features & ~v->features) == 0 &&
           (features & VIRTIO_F_VERSION_1) != 0;
}

static void drain(struct virtio_device *v)
{
    if (v->ops->drain != NULL)
        v->ops->drain(v);
    for (unsigned int i = 0; i < v->ops->queue_count; i++)
        assert(v->queues[i].q.inflight == 0);
}

void virtio_reset(struct device *dev)
{
    struct virtio_device *v = from_base(dev);

    drain(v);
    for (unsigned int i = 0; i < v->ops->queue_count; i++)
        queue_reset(&v->queues[i].q);
    *v->state = (struct virtio_state){0};
    if (v->ops->reset != NULL)
        v->ops->reset(v);
}

void virtio_stop_queue(struct virtio_device *v, unsigned int i)
{
    drain(v);
    queue_reset(&v->queues[i].q);
}

int virtio_quiesce(struct device *dev, struct err *err)
{
    struct virtio_device *v = from_base(dev);

    (void)err;
    v->quiesced = true;
    drain(v);
    return 0;
}

static const char *find_fault(const struct virtio_device *v)
{
    static const struct queue_state unused;
    const struct virtio_state *s = v->state;
    bool features_ok = (s->status & VIRTIO_STATUS_FEATURES_OK) != 0;

    if ((s->status & ~VIRTIO_STATUS_ALL) != 0)
        return "unknown bits in the device status";
    if ((s->interrupt_status &
            ~(VIRTIO_INTERRUPT_USED | VIRTIO_INTERRUPT_CONFIG)) != 0)
        return "unknown bits in the interrupt status";
    if (features_ok && !virtio_features_acceptable(v, s->driver_features))
        return "features that this device does not offer: what is behind it "
               "does less than what was there at the save";
    if (!features_ok && (s->status & VIRTIO_STATUS_DRIVER_OK) != 0)
        return "DRIVER_OK without FEATURES_OK";
    for (unsigned int i = 0; i < VIRTIO_QUEUES_MAX; i++) {
        const struct queue_state *q = &s->queues[i];

        if (i >= v->ops->queue_count && memcmp(q, &unused, sizeof(unused)) != 0)
            return "state of a queue that this device does not have";
        if (q->ready > 1 || (q->ready != 0 && !features_ok))
            return "a queue that cannot be ready";
    }
    return NULL;
}

int virtio_post_load(struct device *dev, struct err *err)
{
    struct virtio_device *v = from_base(dev);
    const char *fault = find_fault(v);
    int rc = 0;

    v->quiesced = true;
    if (fault != NULL)
        rc = err_set(err, EINVAL, "device %s: %s", dev->id, fault);
    for (unsigned int i = 0; i < v->ops->queue_count && rc == 0; i++) {
        struct queue *q = &v->queues[i].q;

        if (q->state->ready == 0)
            continue;
        rc = queue_enable(q, v->state->driver_features);
        if (rc == -EPROTO)
            rc = err_set(
                err, EINVAL, "device %s, queue %u: %s", dev->id, i, q->fault);
        else if (rc < 0)
            rc = err_sys(err, rc, "device %s, queue %u", dev->id, i);
    }
    if (rc == 0 && v->ops->post_load != NULL)
        rc = v->ops->post_load(v, err);
    if (rc == 0)
        return 0;
    /* Queues that were not enabled must not be looked at by what resets. */
    for (unsigned int i = 0; i < v->ops->queue_count; i++)
        queue_reset(&v->queues[i].q);
    virtio_reset(dev);
    return rc;
}

void virtio_resume(struct device *dev)
{
    struct virtio_device *v = from_base(dev);

    v->quiesced = false;
    if (v->ops->resume != NULL)
        v->ops->resume(v);
    /* A spare edge is harmless; one lost with the old process is a hang. */
    if (v->state->interrupt_status != 0)
        irq_raise(&v->host.irq);
    for (unsigned int i = 0; i < v->ops->queue_count; i++) {
        if (virtio_queue_live(v, i) && queue_has_work(&v->queues[i].q))
            kick(&v->queues[i]);
    }
}

void virtio_kick_from_guest(struct virtio_device *v, unsigned int i)
{
    struct virtio_queue *vq = &v->queues[i];

    assert(i < v->ops->queue_count);
    v->stats.kicks++;
    if (vq->user_kicks < VIRTIO_BIND_AFTER &&
        ++vq->user_kicks == VIRTIO_BIND_AFTER && vq->kick_fd >= 0 &&
        v->host.bind_kick != NULL)
        vq->bound =
            v->host.bind_kick(v->host.opaque,
                v->host.base + VIRTIO_MMIO_QUEUE_NOTIFY, i, vq->kick_fd) == 0;
    kick(vq);
}
