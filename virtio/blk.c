/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/blk.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "virtio/iov.h"
#include "vmm/base/num.h"

#define REQUEST_QUEUE 0u

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
    virtio_push(&blk->virtio, REQUEST_QUEUE, &req->chain,
        (uint32_t)(filled == data ? data + sizeof(status) : filled));
}

static uint8_t status_of(int rc)
{
    if (rc == 0)
        return BLK_S_OK;
    return rc == -EOPNOTSUPP ? BLK_S_UNSUPP : BLK_S_IOERR;
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
    answer(container_of(io, struct blk_request, io), status_of(rc), 0);
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
    req->io = (struct blk_io){.kind = req->fetches ? BLK_READ : BLK_WRITE,
        .durable = !req->fetches && is_write_through(blk),
        .offset = sector * BLK_SECTOR,
        .len = req->data_len,
        .iov = req->chain.iov,
        .done = transfer_done};
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
static bool start_request(struct blk *blk, struct queue_chain *chain)
{
    struct blk_request *req = container_of(chain, struct blk_request, chain);
    struct iov_cursor in = iov_readable(chain);
    struct blk_header header;

    if (chain->writable_bytes == 0 || !iov_read(&in, &header, sizeof(header)))
        return false;
    req->blk = blk;
    /* An IN of nothing but a status fetches no bytes, which is legal. */
    req->fetches = in.left == 0 && le32_get(header.type) != BLK_T_OUT;
    req->data = req->fetches ? iov_writable(chain) : in;
    req->data_len = req->data.left - (req->fetches ? 1 : 0);
    dispatch(req, &header);
    return true;
}

/* The I/O thread has others to serve: so much, and then they have a turn. */
#define BATCH_BYTES (UINT64_C(64) << 20)

static void blk_kick(struct virtio_device *v, unsigned int queue)
{
    struct blk *blk = from_virtio(v);
    unsigned int count = 0;
    uint64_t bytes = 0;
    struct queue_chain *chain = NULL;
    bool more = false;

    assert(queue == REQUEST_QUEUE);
    virtio_begin_batch(v, queue);
    while (!more && (chain = virtio_pop(v, queue)) != NULL) {
        bytes += (uint64_t)chain->readable_bytes + chain->writable_bytes;
        if (!start_request(blk, chain)) {
            virtio_unpop(v, queue, chain);
            virtio_fail(v, "block request without header or status");
            break;
        }
        more = ++count == blk->queue_size || bytes >= BATCH_BYTES;
    }
    blk->backend->ops->commit(blk->backend);
    virtio_notify(v, queue);
    virtio_end_batch(v, queue, more);
}

static void blk_batch_done(void *opaque)
{
    struct blk *blk = opaque;

    virtio_notify(&blk->virtio, REQUEST_QUEUE);
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
        .num_queues = le16_put(1),
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
}

static int blk_post_load(struct virtio_device *v, struct err *err)
{
    const struct blk *blk = from_virtio(v);

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
};

static const struct state_desc blk_desc =
    STATE_DESC(struct blk_state, "virtio-blk", 1, blk_fields);

static const struct device_ops blk_device_ops = {
    .state = &blk_desc,
    VIRTIO_DEVICE_OPS,
};

int blk_init(struct blk *blk, const struct blk_config *config,
    const struct virtio_host *host, struct err *err)
{
    struct blk_backend *b = config->backend;
    struct virtio_config virtio = {.ops = &blk_ops,
        .device_ops = &blk_device_ops,
        .id = config->id,
        .state = &blk->state.virtio,
        .features =
            BLK_F_SIZE_MAX | BLK_F_SEG_MAX | BLK_F_BLK_SIZE | BLK_F_TOPOLOGY,
        .queue_sizes = &config->queue_size};

    assert(config->queue_size >= 4 && config->queue_size <= BLK_QUEUE_SIZE_MAX);
    assert(num_is_pow2(b->block_size) && num_is_pow2(b->physical_size));
    assert(b->physical_size >= b->block_size && b->block_size >= BLK_SECTOR);
    *blk = (struct blk){.backend = b,
        .queue_size = config->queue_size,
        .unsafe = config->unsafe};
    memcpy(blk->serial, config->serial, strnlen(config->serial, BLK_ID_BYTES));
    if (!config->unsafe)
        virtio.features |= BLK_F_FLUSH;
    if (b->read_only)
        virtio.features |= BLK_F_RO;
    if (!b->read_only && b->can_discard)
        virtio.features |= BLK_F_DISCARD;
    if (!b->read_only && b->can_zero)
        virtio.features |= BLK_F_WRITE_ZEROES;
    blk->state.capacity = b->capacity;
    b->dev = &blk->virtio.base;
    b->batch_done = blk_batch_done;
    b->opaque = blk;
    return virtio_init(&blk->virtio, &virtio, host, err);
}

void blk_fini(struct blk *blk)
{
    virtio_fini(&blk->virtio);
}
