/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/blk.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "virtio/iov.h"
#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/base/num.h"

/*
 * A request. `data` is what lies between header and status: readable for a
 * request that brings data, writable for one that fetches some.
 */
struct blk_request {
    struct queue_chain chain;
    struct blk_io io;
    struct blk *blk;
    struct iov_cursor data;
    uint64_t data_len;
    uint8_t queue;
    bool fetches; /* `data` is writable */
};

static struct blk *from_virtio(struct virtio_device *v)
{
    return container_of(v, struct blk, virtio);
}

/*
 * Answers a request of which the first `filled` writable bytes are there. The
 * length in the used ring counts from the start of the writable part
 * (2.7.8.2): if not all of the data is there it cannot count the status.
 */
static void answer(struct blk_request *req, uint8_t status, uint64_t filled)
{
    struct blk *blk = req->blk;
    struct iov_cursor w = iov_writable(&req->chain);
    uint64_t data = w.left - sizeof(status);
    bool ok = iov_skip(&w, data) && iov_write(&w, &status, sizeof(status));

    assert(ok && filled <= data);
    (void)ok;
    if (status != BLK_S_OK)
        blk->virtio.stats.errors++;
    virtio_push(&blk->virtio, req->queue, &req->chain,
        (uint32_t)(filled == data ? data + sizeof(status) : filled));
}

static uint8_t status_of(int rc)
{
    if (rc == 0)
        return BLK_S_OK;
    return rc == -EOPNOTSUPP ? BLK_S_UNSUPP : BLK_S_IOERR;
}

/*
 * One line when operations of a kind begin to fail, the next only after one
 * has worked, and only so many: a guest that tries again and again, or has one
 * work and one fail in turn, does not fill the log.
 */
static void note_result(struct blk_request *req, int rc)
{
    static const char *const names[] = {[BLK_READ] = "reads",
        [BLK_WRITE] = "writes",
        [BLK_FLUSH] = "flushes",
        [BLK_DISCARD] = "discards",
        [BLK_ZERO] = "writes of zeroes"};
    struct blk *blk = req->blk;
    uint32_t bit = UINT32_C(1) << req->io.kind;

    if (rc == 0 || rc == -EOPNOTSUPP) {
        blk->failing &= ~bit;
        return;
    }
    if ((blk->failing & bit) == 0)
        log_limited(&blk->log_rate, LOG_ERR, "blk",
            "%s: %s fail: %s; the guest sees I/O errors", blk->virtio.base.id,
            names[req->io.kind],
            rc == -EDQUOT ? "no more space is allowed (max-growth of the drive,"
                            " or a quota of the host)"
                          : strerror(-rc));
    blk->failing |= bit;
}

static void submit(struct blk_request *req)
{
    struct blk_backend *b = req->blk->backend;

    b->ops->submit(b, &req->io);
}

static void transfer_done(struct blk_io *io, int rc)
{
    struct blk_request *req = container_of(io, struct blk_request, io);
    uint64_t filled = 0;

    note_result(req, rc);
    if (req->fetches) {
        /* A read that failed half-way has written as well. */
        iov_mark_dirty(&req->data, req->data_len);
        filled = rc == 0 ? req->data_len : 0;
    }
    if (rc == 0)
        req->blk->virtio.stats.bytes += req->data_len;
    answer(req, status_of(rc), filled);
}

static void flush_done(struct blk_io *io, int rc)
{
    struct blk_request *req = container_of(io, struct blk_request, io);

    note_result(req, rc);
    answer(req, status_of(rc), 0);
}

/* Whether [sector, sector + sectors) lies on the disk. */
static bool on_disk(const struct blk *blk, uint64_t sector, uint64_t sectors)
{
    return num_range_within(sector, sectors, blk->backend->capacity);
}

/* Of one request: seg_max segments of size_max bytes. */
static uint64_t max_bytes(const struct blk *blk)
{
    return (uint64_t)(blk->queue_size - 2u) * BLK_SEGMENT_BYTES;
}

/* 5.2.6.2: without FLUSH a write that has completed is a durable one. */
static bool is_write_through(const struct blk *blk)
{
    return !blk->unsafe && !virtio_has(&blk->virtio, BLK_F_FLUSH);
}

static void start_transfer(struct blk_request *req, uint64_t sector)
{
    struct blk *blk = req->blk;
    struct iov_cursor c = req->data;
    uint64_t taken;

    if (req->data_len % BLK_SECTOR != 0 || req->data_len > max_bytes(blk) ||
        !on_disk(blk, sector, req->data_len / BLK_SECTOR) ||
        (!req->fetches && blk->backend->read_only)) {
        answer(req, BLK_S_IOERR, 0);
        return;
    }
    /* Member by member: the backend's own part need not be cleared. */
    req->io.kind = req->fetches ? BLK_READ : BLK_WRITE;
    req->io.durable = !req->fetches && is_write_through(blk);
    req->io.may_unmap = false;
    req->io.offset = sector * BLK_SECTOR;
    req->io.len = req->data_len;
    req->io.iov = req->chain.iov;
    req->io.iov_count = 0;
    req->io.done = transfer_done;
    if (req->data_len == 0) {
        transfer_done(&req->io, 0);
        return;
    }
    req->io.iov_count = iov_take(&c, req->data_len, req->chain.iov,
        (unsigned int)req->chain.readable_count + req->chain.writable_count,
        &taken);
    assert(taken == req->data_len);
    submit(req);
}

static void start_flush(struct blk_request *req)
{
    req->io = (struct blk_io){.kind = BLK_FLUSH, .done = flush_done};
    submit(req);
}

static void get_id(struct blk_request *req)
{
    uint64_t n = num_min(req->data_len, BLK_ID_BYTES);
    bool ok = iov_write(&req->data, req->blk->serial, n);

    assert(ok);
    (void)ok;
    answer(req, BLK_S_OK, n);
}

/* 5.2.6.2: what a range may be depends on the type of the request. */
static uint8_t check_range(
    const struct blk *blk, uint32_t type, const struct blk_range *range)
{
    uint32_t flags = le32_get(range->flags);
    uint32_t allowed = type == BLK_T_WRITE_ZEROES ? BLK_RANGE_UNMAP : 0;

    if ((flags & ~allowed) != 0)
        return BLK_S_UNSUPP;
    if (blk->backend->read_only ||
        le32_get(range->sectors) > BLK_RANGE_SECTORS ||
        !on_disk(blk, le64_get(range->sector), le32_get(range->sectors)))
        return BLK_S_IOERR;
    return BLK_S_OK;
}

static void start_range(struct blk_request *req, uint32_t type)
{
    struct blk_range range;
    uint8_t status = BLK_S_IOERR;

    _Static_assert(BLK_RANGES_MAX == 1, "a request is one operation");
    if (req->data_len == sizeof(range) &&
        iov_read(&req->data, &range, sizeof(range)))
        status = check_range(req->blk, type, &range);
    if (status != BLK_S_OK || le32_get(range.sectors) == 0) {
        answer(req, status, 0);
        return;
    }
    req->io =
        (struct blk_io){.kind = type == BLK_T_DISCARD ? BLK_DISCARD : BLK_ZERO,
            .durable = type == BLK_T_WRITE_ZEROES && is_write_through(req->blk),
            .may_unmap = (le32_get(range.flags) & BLK_RANGE_UNMAP) != 0,
            .offset = le64_get(range.sector) * BLK_SECTOR,
            .len = (uint64_t)le32_get(range.sectors) * BLK_SECTOR,
            .done = flush_done};
    submit(req);
}

static void dispatch(struct blk_request *req, const struct blk_header *header)
{
    struct virtio_device *v = &req->blk->virtio;
    uint32_t type = le32_get(header->type);
    bool known;

    switch (type) {
    case BLK_T_IN:
    case BLK_T_GET_ID:
        known = req->fetches;
        break;
    case BLK_T_OUT:
        known = !req->fetches;
        break;
    case BLK_T_FLUSH:
        known = virtio_has(v, BLK_F_FLUSH);
        break;
    case BLK_T_DISCARD:
        known = !req->fetches && virtio_has(v, BLK_F_DISCARD);
        break;
    case BLK_T_WRITE_ZEROES:
        known = !req->fetches && virtio_has(v, BLK_F_WRITE_ZEROES);
        break;
    default:
        known = false;
        break;
    }
    if (!known)
        answer(req, BLK_S_UNSUPP, 0);
    else if (type == BLK_T_IN || type == BLK_T_OUT)
        start_transfer(req, le64_get(header->sector));
    else if (type == BLK_T_FLUSH)
        start_flush(req);
    else if (type == BLK_T_GET_ID)
        get_id(req);
    else
        start_range(req, type);
}

/*
 * Takes a chain apart: header, data, and the status in the last writable
 * byte. False if it has not even those.
 */
static bool start_request(
    struct blk *blk, unsigned int queue, struct queue_chain *chain)
{
    struct blk_request *req = container_of(chain, struct blk_request, chain);
    struct iov_cursor in = iov_readable(chain);
    struct blk_header header;

    if (chain->writable_bytes == 0 || !iov_read(&in, &header, sizeof(header)))
        return false;
    req->blk = blk;
    req->queue = (uint8_t)queue;
    /* An IN of nothing but a status fetches no bytes, which is legal. */
    req->fetches = in.left == 0 && le32_get(header.type) != BLK_T_OUT;
    req->data = req->fetches ? iov_writable(chain) : in;
    req->data_len = req->data.left - (req->fetches ? 1 : 0);
    dispatch(req, &header);
    return true;
}

/* The I/O thread has others to serve: so much, and then they have a turn. */
#define BATCH_BYTES (UINT64_C(64) << 20)

/* Header and status are not data. */
#define FRAME_BYTES (sizeof(struct blk_header) + 1u)

/* Nanoseconds that a request has to wait for the limit; 0: it is charged. */
static uint64_t charge(
    struct blk *blk, const struct queue_chain *chain, uint64_t now_ns)
{
    uint64_t bytes = (uint64_t)chain->readable_bytes + chain->writable_bytes;

    if (blk->virtio.host.loop == NULL || !rate_is_limited(&blk->rate))
        return 0;
    bytes = bytes > FRAME_BYTES ? bytes - FRAME_BYTES : 0;
    return rate_take(&blk->rate, now_ns, bytes, 1);
}

/* The queue stands still, with kicks off, until the timer fires. */
static void throttle(struct blk *blk, unsigned int queue, uint64_t until_ns)
{
    bool first = blk->waiting == 0;

    blk->waiting |= UINT32_C(1) << queue;
    blk->throttled++;
    if (first || until_ns < blk->timer.deadline_ns)
        loop_timer_arm(blk->virtio.host.loop, &blk->timer, until_ns);
}

/* Completions in one queue may have let requests of another one go on. */
static void notify_all(struct blk *blk)
{
    for (unsigned int i = 0; i < blk->ops.queue_count; i++)
        virtio_notify(&blk->virtio, i);
}

static void blk_kick(struct virtio_device *v, unsigned int queue)
{
    struct blk *blk = from_virtio(v);
    uint64_t now_ns = rate_is_limited(&blk->rate) ? clock_now_ns() : 0;
    unsigned int count = 0;
    uint64_t wait_ns = 0;
    uint64_t bytes = 0;
    struct queue_chain *chain = NULL;
    bool more = false;

    blk->waiting &= ~(UINT32_C(1) << queue);
    virtio_begin_batch(v, queue);
    while (!more && (chain = virtio_pop(v, queue)) != NULL) {
        wait_ns = charge(blk, chain, now_ns);
        if (wait_ns != 0) {
            virtio_unpop(v, queue, chain);
            break;
        }
        bytes += (uint64_t)chain->readable_bytes + chain->writable_bytes;
        if (!start_request(blk, queue, chain)) {
            virtio_unpop(v, queue, chain);
            virtio_fail(v, "block request without header or status");
            break;
        }
        more = ++count == blk->queue_size || bytes >= BATCH_BYTES;
    }
    blk->backend->ops->commit(blk->backend);
    notify_all(blk);
    if (wait_ns != 0)
        throttle(blk, queue, now_ns + wait_ns);
    else
        virtio_end_batch(v, queue, more);
}

/* Queues that stand still have their turn, each from another one on. */
static void serve_waiting(struct blk *blk)
{
    uint32_t waiting = blk->waiting;
    unsigned int n = blk->ops.queue_count;
    unsigned int first = (unsigned int)(blk->throttled % n);

    blk->waiting = 0;
    for (unsigned int k = 0; k < n; k++) {
        unsigned int i = (first + k) % n;

        if ((waiting >> i & 1) != 0)
            blk_kick(&blk->virtio, i);
    }
}

static void on_timer(void *opaque)
{
    serve_waiting(opaque);
}

static void blk_batch_done(void *opaque)
{
    notify_all(opaque);
}

static void blk_read_config(const struct virtio_device *v, uint64_t offset,
    uint8_t *ret_data, uint32_t len)
{
    const struct blk *blk =
        container_of((struct virtio_device *)(uintptr_t)v, struct blk, virtio);
    const struct blk_backend *b = blk->backend;
    const struct blk_config_space config = {
        .capacity = le64_put(b->capacity),
        .size_max = le32_put(BLK_SEGMENT_BYTES),
        /* Header and status take a descriptor each. */
        .seg_max = le32_put(blk->queue_size - 2u),
        .blk_size = le32_put(b->block_size),
        .physical_block_exp = (uint8_t)(__builtin_ctz(b->physical_size) -
                                        __builtin_ctz(b->block_size)),
        .min_io_size = le16_put(1),
        .num_queues = le16_put((uint16_t)blk->ops.queue_count),
        .max_discard_sectors = le32_put(BLK_RANGE_SECTORS),
        .max_discard_seg = le32_put(BLK_RANGES_MAX),
        .discard_sector_alignment = le32_put(b->physical_size / BLK_SECTOR),
        .max_write_zeroes_sectors = le32_put(BLK_RANGE_SECTORS),
        .max_write_zeroes_seg = le32_put(BLK_RANGES_MAX),
        .write_zeroes_may_unmap = 1,
    };

    virtio_config_copy(&config, sizeof(config), offset, ret_data, len);
}

static void blk_drain(struct virtio_device *v)
{
    struct blk_backend *b = from_virtio(v)->backend;

    b->ops->drain(b);
}

static void blk_reset(struct virtio_device *v)
{
    struct blk *blk = from_virtio(v);

    blk->state.capacity = blk->backend->capacity;
    /*
     * The driver that is gone has spent what it has spent; but after a load
     * that was refused there may be more than there can be.
     */
    rate_resume(&blk->rate, clock_now_ns());
    blk->waiting = 0;
}

static int blk_post_load(struct virtio_device *v, struct err *err)
{
    struct blk *blk = from_virtio(v);

    rate_resume(&blk->rate, clock_now_ns());
    blk->waiting = 0;
    if (blk->state.capacity == blk->backend->capacity)
        return 0;
    return err_set(err, EINVAL,
        "device %s: the snapshot's disk has %llu sectors, the one given has "
        "%llu",
        v->base.id, (unsigned long long)blk->state.capacity,
        (unsigned long long)blk->backend->capacity);
}

static const struct virtio_ops blk_ops = {
    .device_id = VIRTIO_ID_BLOCK,
    .queue_count = 1,
    .request_size = sizeof(struct blk_request),
    .kick = blk_kick,
    .read_config = blk_read_config,
    .drain = blk_drain,
    .reset = blk_reset,
    .post_load = blk_post_load,
};

static const struct state_field blk_fields[] = {
    VIRTIO_STATE_FIELDS(struct blk_state, virtio),
    STATE_SCALAR(struct blk_state, capacity, 1),
    RATE_STATE_FIELDS(struct blk_state, rate),
};

static const struct state_desc blk_desc =
    STATE_DESC(struct blk_state, "virtio-blk", 1, blk_fields);

static const struct device_ops blk_device_ops = {
    .state = &blk_desc,
    VIRTIO_DEVICE_OPS,
};

static void attach(struct blk *blk, struct blk_backend *b)
{
    assert(num_is_pow2(b->block_size) && num_is_pow2(b->physical_size));
    assert(b->physical_size >= b->block_size && b->block_size >= BLK_SECTOR);
    blk->backend = b;
    blk->state.capacity = b->capacity;
    b->dev = &blk->virtio.base;
    b->batch_done = blk_batch_done;
    b->opaque = blk;
}

static uint64_t features_of(
    const struct blk_config *config, const struct blk_backend *b)
{
    uint64_t features =
        BLK_F_SIZE_MAX | BLK_F_SEG_MAX | BLK_F_BLK_SIZE | BLK_F_TOPOLOGY;

    if (config->queue_count > 1)
        features |= BLK_F_MQ;
    if (!config->unsafe)
        features |= BLK_F_FLUSH;
    if (b->read_only)
        features |= BLK_F_RO;
    if (!b->read_only && b->can_discard)
        features |= BLK_F_DISCARD;
    if (!b->read_only && b->can_zero)
        features |= BLK_F_WRITE_ZEROES;
    return features;
}

int blk_init(struct blk *blk, const struct blk_config *config,
    const struct virtio_host *host, struct err *err)
{
    uint16_t sizes[VIRTIO_QUEUES_MAX];
    struct virtio_config virtio = {.ops = &blk->ops,
        .device_ops = &blk_device_ops,
        .id = config->id,
        .state = &blk->state.virtio,
        .features = features_of(config, config->backend),
        .queue_sizes = sizes};
    int rc = rate_check(&config->rate, err);

    assert(config->queue_size >= 4 && config->queue_size <= BLK_QUEUE_SIZE_MAX);
    assert(
        config->queue_count >= 1 && config->queue_count <= VIRTIO_QUEUES_MAX);
    *blk = (struct blk){.ops = blk_ops,
        .queue_size = config->queue_size,
        .unsafe = config->unsafe,
        .timer = {.fire = on_timer, .opaque = blk, .dev = &blk->virtio.base}};
    if (rc < 0)
        return err_wrap(err, rc, "device %s", config->id);
    blk->ops.queue_count = config->queue_count;
    for (unsigned int i = 0; i < VIRTIO_QUEUES_MAX; i++)
        sizes[i] = config->queue_size;
    memcpy(blk->serial, config->serial, strnlen(config->serial, BLK_ID_BYTES));
    attach(blk, config->backend);
    rate_init(&blk->rate, &config->rate, &blk->state.rate, clock_now_ns());
    return virtio_init(&blk->virtio, &virtio, host, err);
}

void blk_fini(struct blk *blk)
{
    if (blk->virtio.host.loop != NULL)
        loop_timer_disarm(blk->virtio.host.loop, &blk->timer);
    virtio_fini(&blk->virtio);
}

int blk_set_rate(
    struct blk *blk, const struct rate_change *change, struct err *err)
{
    int rc = rate_update(&blk->rate, change, clock_now_ns(), err);

    if (rc < 0)
        return err_wrap(err, rc, "device %s", blk->virtio.base.id);
    serve_waiting(blk);
    return 0;
}

/* What the driver was told at its start and does not ask for again. */
static int check_replacement(
    const struct blk *blk, const struct blk_backend *b, struct err *err)
{
    const struct blk_backend *old = blk->backend;
    const char *id = blk->virtio.base.id;

    if (b->read_only != old->read_only)
        return err_set(err, EINVAL,
            "device %s: the disk it has is %s, so must be the new one", id,
            old->read_only ? "read-only" : "writable");
    if (b->block_size != old->block_size)
        return err_set(err, EINVAL,
            "device %s: blocks of %u bytes cannot take the place of blocks of "
            "%u; use a disk with the same block size",
            id, b->block_size, old->block_size);
    return 0;
}

int blk_set_backend(struct blk *blk, struct blk_backend *backend,
    struct blk_backend **ret_old, struct err *err)
{
    struct blk_backend *old = blk->backend;
    int rc = check_replacement(blk, backend, err);

    if (rc < 0)
        return rc;
    old->ops->drain(old);
    notify_all(blk);
    attach(blk, backend);
    virtio_config_changed(&blk->virtio);
    *ret_old = old;
    return 0;
}
