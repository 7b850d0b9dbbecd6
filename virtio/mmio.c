/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/mmio.h"

#include <errno.h>
#include <string.h>

#include "virtio/device.h"
#include "virtio/spec.h"
#include "vmm/base/num.h"

/* The selected queue, NULL if the device has no such queue. */
static struct queue *selected(struct virtio_device *v)
{
    uint32_t i = v->state->queue_sel;

    return i < v->ops->queue_count ? &v->queues[i].q : NULL;
}

/* Half of a 64-bit value; there are no halves beyond the second. */
static uint32_t half(uint64_t value, uint32_t which)
{
    return which > 1 ? 0 : (uint32_t)(value >> (32 * which));
}

static void set_half(uint64_t *value, uint32_t which, uint32_t half_value)
{
    unsigned int shift = 32 * which;

    *value &= ~((uint64_t)UINT32_MAX << shift);
    *value |= (uint64_t)half_value << shift;
}

static uint32_t read_register(struct virtio_device *v, uint64_t offset)
{
    const struct virtio_state *s = v->state;
    const struct queue *q = selected(v);

    switch (offset) {
    case VIRTIO_MMIO_MAGIC_VALUE:
        return VIRTIO_MMIO_MAGIC;
    case VIRTIO_MMIO_VERSION:
        return VIRTIO_MMIO_VERSION_2;
    case VIRTIO_MMIO_DEVICE_ID:
        return v->ops->device_id;
    case VIRTIO_MMIO_VENDOR_ID:
        return VIRTIO_MMIO_VENDOR;
    case VIRTIO_MMIO_DEVICE_FEATURES:
        return half(v->features, s->device_features_sel);
    case VIRTIO_MMIO_QUEUE_NUM_MAX:
        return q == NULL ? 0 : q->size_max;
    case VIRTIO_MMIO_QUEUE_READY:
        return q == NULL ? 0 : (uint32_t)q->state->ready;
    case VIRTIO_MMIO_INTERRUPT_STATUS:
        return s->interrupt_status;
    case VIRTIO_MMIO_STATUS:
        return s->status;
    case VIRTIO_MMIO_SHM_LEN_LOW:
    case VIRTIO_MMIO_SHM_LEN_HIGH:
    case VIRTIO_MMIO_SHM_BASE_LOW:
    case VIRTIO_MMIO_SHM_BASE_HIGH:
        /* 4.2.2: a length of 2^64 - 1 says that there is no such region. */
        return UINT32_MAX;
    case VIRTIO_MMIO_CONFIG_GENERATION:
        return s->config_generation;
    default:
        /* QueueReset too: a reset is over when its write returns. */
        return 0;
    }
}

static void write_driver_features(struct virtio_device *v, uint32_t value)
{
    struct virtio_state *s = v->state;

    if ((s->status & VIRTIO_STATUS_FEATURES_OK) != 0)
        virtio_fail(v, "features written after FEATURES_OK");
    else if (s->driver_features_sel <= 1)
        set_half(&s->driver_features, s->driver_features_sel, value);
    else if (value != 0)
        virtio_fail(v, "features above bit 63 accepted");
}

/* 3.1.1 and 2.1; what the driver may not do leaves the status as it is. */
static void write_status(struct virtio_device *v, uint32_t value)
{
    struct virtio_state *s = v->state;
    uint32_t set =
        value & ~s->status & (VIRTIO_STATUS_ALL & ~VIRTIO_STATUS_NEEDS_RESET);
    const uint32_t known = VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER;

    if (value == 0) {
        virtio_reset(&v->base);
        return;
    }
    if ((s->status & ~value & ~VIRTIO_STATUS_NEEDS_RESET) != 0) {
        virtio_fail(v, "status bit cleared by the driver");
        return;
    }
    /* Refusing the bit is how a device refuses features (2.2.2). */
    if ((value & known) != known ||
        !virtio_features_acceptable(v, s->driver_features))
        set &= ~VIRTIO_STATUS_FEATURES_OK;
    s->status |= set & ~VIRTIO_STATUS_DRIVER_OK;
    if ((set & VIRTIO_STATUS_DRIVER_OK) == 0)
        return;
    if ((s->status & VIRTIO_STATUS_FEATURES_OK) == 0) {
        virtio_fail(v, "DRIVER_OK before FEATURES_OK");
        return;
    }
    s->status |= VIRTIO_STATUS_DRIVER_OK;
    if (virtio_is_live(v) && v->ops->activate != NULL)
        v->ops->activate(v);
}

static void write_queue_ready(
    struct virtio_device *v, struct queue *q, uint32_t value)
{
    int rc;

    if (value == 0) {
        if (q->state->ready != 0)
            virtio_stop_queue(v, v->state->queue_sel);
        return;
    }
    if (value != 1 || q->state->ready != 0 ||
        (v->state->status & VIRTIO_STATUS_FEATURES_OK) == 0) {
        virtio_fail(v, "queue made ready out of turn");
        return;
    }
    rc = queue_enable(q, v->state->driver_features);
    if (rc == 0) {
        q->state->ready = 1;
    } else if (rc == -EPROTO) {
        virtio_fail(v, q->fault);
    } else {
        v->stats.errors++;
        virtio_fail(v, "no memory for the queue's requests");
    }
}

/* QueueNum and the addresses: fixed while the queue is ready (4.2.2.2). */
static void write_queue_setup(
    struct virtio_device *v, struct queue *q, uint64_t offset, uint32_t value)
{
    struct queue_state *s = q->state;

    if (s->ready != 0) {
        virtio_fail(v, "queue changed while ready");
        return;
    }
    switch (offset) {
    case VIRTIO_MMIO_QUEUE_NUM:
        if (num_is_pow2(value) && value <= q->size_max)
            s->size = (uint16_t)value;
        else
            virtio_fail(v, "queue size is not a power of two in range");
        break;
    case VIRTIO_MMIO_QUEUE_DESC_LOW:
    case VIRTIO_MMIO_QUEUE_DESC_HIGH:
        set_half(&s->desc, offset == VIRTIO_MMIO_QUEUE_DESC_HIGH, value);
        break;
    case VIRTIO_MMIO_QUEUE_DRIVER_LOW:
    case VIRTIO_MMIO_QUEUE_DRIVER_HIGH:
        set_half(&s->avail, offset == VIRTIO_MMIO_QUEUE_DRIVER_HIGH, value);
        break;
    default:
        set_half(&s->used, offset == VIRTIO_MMIO_QUEUE_DEVICE_HIGH, value);
        break;
    }
}

static void write_queue_register(
    struct virtio_device *v, uint64_t offset, uint32_t value)
{
    struct queue *q = selected(v);

    /* QueueNumMax of 0 has told the driver that there is no such queue. */
    if (q == NULL)
        return;
    switch (offset) {
    case VIRTIO_MMIO_QUEUE_READY:
        write_queue_ready(v, q, value);
        break;
    case VIRTIO_MMIO_QUEUE_RESET:
        if (value == 1 && (v->state->status & VIRTIO_STATUS_FEATURES_OK) != 0 &&
            virtio_has(v, VIRTIO_F_RING_RESET))
            virtio_stop_queue(v, v->state->queue_sel);
        break;
    default:
        write_queue_setup(v, q, offset, value);
        break;
    }
}

static void write_register(
    struct virtio_device *v, uint64_t offset, uint32_t value)
{
    struct virtio_state *s = v->state;

    switch (offset) {
    case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
        s->device_features_sel = value;
        break;
    case VIRTIO_MMIO_DRIVER_FEATURES:
        write_driver_features(v, value);
        break;
    case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
        s->driver_features_sel = value;
        break;
    case VIRTIO_MMIO_QUEUE_SEL:
        s->queue_sel = value;
        break;
    case VIRTIO_MMIO_QUEUE_NUM:
    case VIRTIO_MMIO_QUEUE_READY:
    case VIRTIO_MMIO_QUEUE_DESC_LOW:
    case VIRTIO_MMIO_QUEUE_DESC_HIGH:
    case VIRTIO_MMIO_QUEUE_DRIVER_LOW:
    case VIRTIO_MMIO_QUEUE_DRIVER_HIGH:
    case VIRTIO_MMIO_QUEUE_DEVICE_LOW:
    case VIRTIO_MMIO_QUEUE_DEVICE_HIGH:
    case VIRTIO_MMIO_QUEUE_RESET:
        write_queue_register(v, offset, value);
        break;
    case VIRTIO_MMIO_QUEUE_NOTIFY:
        if (value < v->ops->queue_count)
            virtio_kick_from_guest(v, value);
        else
            virtio_fail(v, "kick of a queue that does not exist");
        break;
    case VIRTIO_MMIO_INTERRUPT_ACK:
        s->interrupt_status &= ~value;
        break;
    case VIRTIO_MMIO_STATUS:
        write_status(v, value);
        break;
    default:
        break;
    }
}

static void access_config(struct virtio_device *v, struct bus_access *access)
{
    uint64_t offset = access->offset - VIRTIO_MMIO_CONFIG;
    uint8_t data[sizeof(access->value)];

    if (access->is_write) {
        memcpy(data, &access->value, sizeof(data));
        if (v->ops->write_config != NULL)
            v->ops->write_config(v, offset, data, access->len);
        return;
    }
    v->ops->read_config(v, offset, data, access->len);
    access->value = 0;
    memcpy(&access->value, data, access->len);
}

void virtio_mmio_access(struct device *dev, struct bus_access *access)
{
    struct virtio_device *v = container_of(dev, struct virtio_device, base);

    if (access->offset >= VIRTIO_MMIO_CONFIG) {
        access_config(v, access);
        return;
    }
    if (access->len != sizeof(uint32_t) ||
        access->offset % sizeof(uint32_t) != 0)
        return;
    if (access->is_write)
        write_register(v, access->offset, (uint32_t)access->value);
    else
        access->value = read_register(v, access->offset);
}
