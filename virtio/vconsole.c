/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/vconsole.h"

#include <assert.h>

#include "virtio/iov.h"
#include "vmm/base/num.h"

/* The I/O thread has others to serve: so much of output, then their turn. */
#define TX_BATCH_BYTES (UINT64_C(256) * NUM_KIB)

static struct vconsole *from_virtio(struct virtio_device *v)
{
    return container_of(v, struct vconsole, virtio);
}

static size_t give_to_sink(
    const struct vconsole *c, const uint8_t *data, size_t len)
{
    size_t taken;

    if (c->host.write == NULL)
        return len;
    taken = c->host.write(c->host.opaque, data, len);
    assert(taken <= len);
    return taken;
}

/*
 * Puts out what is left of a chain, from tx_done on; whether that was all.
 * *budget goes down by the bytes that went out and ends the work at 0.
 */
static bool transmit(
    struct vconsole *c, const struct queue_chain *chain, uint64_t *budget)
{
    struct iov_cursor from = iov_readable(chain);
    bool ok = iov_skip(&from, c->state.tx_done);

    /* A driver that made the chain shorter meanwhile has nothing left in it. */
    while (ok && from.left > 0 && !c->tx_stalled && *budget > 0) {
        size_t n = num_min(num_min(from.left, sizeof(c->bounce)), *budget);
        size_t taken;

        ok = iov_read(&from, c->bounce, n);
        assert(ok);
        taken = give_to_sink(c, c->bounce, n);
        c->tx_stalled = taken < n;
        c->state.tx_done += (uint32_t)taken;
        c->stats.tx_bytes += taken;
        c->virtio.stats.bytes += taken;
        *budget -= taken;
    }
    return !ok || (from.left == 0 && !c->tx_stalled);
}

static void serve_tx(struct vconsole *c)
{
    struct virtio_device *v = &c->virtio;
    struct queue_chain *chain = NULL;
    uint64_t budget = TX_BATCH_BYTES;
    unsigned int count = 0;

    if (c->tx_stalled)
        return;
    virtio_begin_batch(v, VCONSOLE_QUEUE_TX);
    while (budget > 0 && count < VCONSOLE_QUEUE_SIZE &&
           (chain = virtio_pop(v, VCONSOLE_QUEUE_TX)) != NULL) {
        if (chain->writable_count != 0) {
            virtio_unpop(v, VCONSOLE_QUEUE_TX, chain);
            virtio_fail(v, "console output in a writable descriptor");
            break;
        }
        if (!transmit(c, chain, &budget)) {
            virtio_unpop(v, VCONSOLE_QUEUE_TX, chain);
            break;
        }
        c->state.tx_done = 0;
        virtio_push(v, VCONSOLE_QUEUE_TX, chain, 0);
        count++;
    }
    virtio_notify(v, VCONSOLE_QUEUE_TX);
    /* While stalled it is the sink that has the work gone on with. */
    if (c->tx_stalled)
        c->stats.tx_stalls++;
    else
        virtio_end_batch(v, VCONSOLE_QUEUE_TX, chain != NULL);
}

void vconsole_sink_ready(struct vconsole *c)
{
    if (!c->tx_stalled)
        return;
    c->tx_stalled = false;
    serve_tx(c);
}

/* A buffer of the driver's, or NULL, and then a kick comes with the next. */
static struct queue_chain *pop_rx(struct vconsole *c)
{
    struct virtio_device *v = &c->virtio;
    struct queue_chain *chain;

    do {
        chain = virtio_pop(v, VCONSOLE_QUEUE_RX);
    } while (chain == NULL && virtio_queue_live(v, VCONSOLE_QUEUE_RX) &&
             queue_enable_kicks(&v->queues[VCONSOLE_QUEUE_RX].q));
    return chain;
}

size_t vconsole_receive(struct vconsole *c, const uint8_t *data, size_t len)
{
    struct virtio_device *v = &c->virtio;
    struct queue_chain *chain;
    size_t taken = 0;

    while (taken < len && (chain = pop_rx(c)) != NULL) {
        struct iov_cursor to = iov_writable(chain);
        size_t n = num_min(len - taken, to.left);
        bool ok = chain->readable_count == 0 && n > 0 &&
                  iov_write(&to, data + taken, n);

        if (!ok) {
            virtio_unpop(v, VCONSOLE_QUEUE_RX, chain);
            virtio_fail(v, "console input buffer that cannot be written to");
            break;
        }
        virtio_push(v, VCONSOLE_QUEUE_RX, chain, (uint32_t)n);
        taken += n;
    }
    virtio_notify(v, VCONSOLE_QUEUE_RX);
    c->stats.rx_bytes += taken;
    v->stats.bytes += taken;
    c->rx_refused = taken < len;
    return taken;
}

/* The host may try again what vconsole_receive did not take. */
static void tell_room(struct virtio_device *v)
{
    struct vconsole *c = from_virtio(v);

    if (!c->rx_refused)
        return;
    c->rx_refused = false;
    if (c->host.room != NULL)
        c->host.room(c->host.opaque);
}

static void vconsole_kick(struct virtio_device *v, unsigned int queue)
{
    if (queue == VCONSOLE_QUEUE_TX) {
        serve_tx(from_virtio(v));
        return;
    }
    /* More buffers are of no interest until there is input without one. */
    queue_disable_kicks(&v->queues[queue].q);
    tell_room(v);
}

static void vconsole_read_config(const struct virtio_device *v, uint64_t offset,
    uint8_t *ret_data, uint32_t len)
{
    const struct vconsole_state *st = v->base.state;
    const struct vconsole_config_space image = {.cols = le16_put(st->cols),
        .rows = le16_put(st->rows),
        .max_nr_ports = le32_put(1)};

    virtio_config_copy(&image, sizeof(image), offset, ret_data, len);
}

/* 5.3.4: emerg_wr, of which the low byte counts, works at any status. */
static void vconsole_write_config(
    struct virtio_device *v, uint64_t offset, const uint8_t *data, uint32_t len)
{
    struct vconsole *c = from_virtio(v);

    (void)len;
    if (offset != offsetof(struct vconsole_config_space, emerg_wr))
        return;
    /* There is no later for these: what the sink has no room for is lost. */
    if (give_to_sink(c, data, 1) == 0) {
        c->stats.emerg_dropped++;
        return;
    }
    c->stats.emerg_bytes++;
    c->stats.tx_bytes++;
}

/*
 * No chain is kept, but the first one may be half out. A queue that is taken
 * away takes it along; if it is the other queue, that half comes twice.
 */
static void vconsole_drain(struct virtio_device *v)
{
    struct vconsole *c = from_virtio(v);

    if (v->quiesced)
        return;
    c->state.tx_done = 0;
    c->tx_stalled = false;
}

static void vconsole_reset(struct virtio_device *v)
{
    struct vconsole *c = from_virtio(v);

    c->state.tx_done = 0;
    c->tx_stalled = false;
}

/* Any size is one, and transmit copes with any tx_done. */
static int vconsole_post_load(struct virtio_device *v, struct err *err)
{
    (void)err;
    from_virtio(v)->tx_stalled = false;
    return 0;
}

static const struct virtio_ops vconsole_ops = {
    .device_id = VIRTIO_ID_CONSOLE,
    .queue_count = VCONSOLE_QUEUES,
    .request_size = sizeof(struct queue_chain),
    .kick = vconsole_kick,
    .read_config = vconsole_read_config,
    .write_config = vconsole_write_config,
    /* What was refused without a driver, or when quiesced, had no kick. */
    .activate = tell_room,
    .drain = vconsole_drain,
    .reset = vconsole_reset,
    .post_load = vconsole_post_load,
    .resume = tell_room,
};

static const struct state_field vconsole_fields[] = {
    VIRTIO_STATE_FIELDS(struct vconsole_state, virtio),
    STATE_SCALAR(struct vconsole_state, tx_done, 1),
    STATE_SCALAR(struct vconsole_state, cols, 1),
    STATE_SCALAR(struct vconsole_state, rows, 1),
};

static const struct state_desc vconsole_desc =
    STATE_DESC(struct vconsole_state, "virtio-console", 1, vconsole_fields);

static const struct device_ops vconsole_device_ops = {
    .state = &vconsole_desc,
    VIRTIO_DEVICE_OPS,
};

int vconsole_init(struct vconsole *c, const char *id,
    const struct vconsole_host *end, const struct virtio_host *host,
    struct err *err)
{
    static const uint16_t sizes[VCONSOLE_QUEUES] = {
        VCONSOLE_QUEUE_SIZE, VCONSOLE_QUEUE_SIZE};
    const struct virtio_config virtio = {.ops = &vconsole_ops,
        .device_ops = &vconsole_device_ops,
        .id = id,
        .state = &c->state.virtio,
        .features = VCONSOLE_F_SIZE | VCONSOLE_F_EMERG_WRITE,
        .queue_sizes = sizes};

    *c = (struct vconsole){.host = *end};
    return virtio_init(&c->virtio, &virtio, host, err);
}

void vconsole_fini(struct vconsole *c)
{
    virtio_fini(&c->virtio);
}

void vconsole_set_size(struct vconsole *c, uint16_t cols, uint16_t rows)
{
    if (c->state.cols == cols && c->state.rows == rows)
        return;
    c->state.cols = cols;
    c->state.rows = rows;
    if (virtio_has(&c->virtio, VCONSOLE_F_SIZE))
        virtio_config_changed(&c->virtio);
}
