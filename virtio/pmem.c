/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/pmem.h"

#include <assert.h>
#include <errno.h>

#include "virtio/iov.h"
#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/base/num.h"

#define REQUEST_QUEUE 0u

struct pmem_request {
    struct queue_chain chain;
    struct pmem_request *next;
};

static struct pmem *from_virtio(struct virtio_device *v)
{
    return container_of(v, struct pmem, virtio);
}

static void answer(struct pmem *p, struct pmem_request *req, uint32_t status)
{
    const le32 wire = le32_put(status);
    struct iov_cursor w = iov_writable(&req->chain);
    bool ok = iov_write(&w, &wire, sizeof(wire));

    assert(ok);
    (void)ok;
    p->stats.flushes++;
    if (status != PMEM_RESP_OK)
        p->virtio.stats.errors++;
    virtio_push(&p->virtio, REQUEST_QUEUE, &req->chain, sizeof(wire));
}

static void answer_all(struct pmem *p, int64_t res)
{
    while (p->syncing != NULL) {
        struct pmem_request *req = p->syncing;

        p->syncing = req->next;
        answer(p, req, res < 0 ? PMEM_RESP_EIO : PMEM_RESP_OK);
    }
}

/* Looks for what came meanwhile, which the queue is kicked for once more. */
static void end_sync(void *opaque)
{
    struct pmem *p = opaque;

    virtio_notify(&p->virtio, REQUEST_QUEUE);
    virtio_end_batch(&p->virtio, REQUEST_QUEUE, false);
}

static void sync_done(struct uring_op *op, int64_t res)
{
    struct pmem *p = container_of(op, struct pmem, op);

    /* The ring could not wait where a system call can. */
    if (res == -EAGAIN || res == -EINTR)
        res = uring_run_sync(op);
    answer_all(p, res);
}

/* At the first flush: most devices never see one. */
static void try_uring(struct pmem *p)
{
    p->tried = true;
    if (p->uring == NULL)
        return;
    p->slot = uring_add_file(p->uring, p->fd);
    if (p->slot < 0)
        return;
    uring_client_init(&p->client, p->uring, &p->virtio.base);
    p->client.batch_done = end_sync;
    p->client.opaque = p;
}

static void start_sync(struct pmem *p)
{
    if (!p->tried)
        try_uring(p);
    p->stats.syncs++;
    p->op = (struct uring_op){.kind = URING_FDATASYNC,
        .fd = p->fd,
        .slot = p->slot,
        .complete = sync_done};
    if (p->slot < 0 || uring_start(&p->client, &p->op) < 0) {
        answer_all(p, uring_run_sync(&p->op));
        end_sync(p);
    } else if (p->virtio.host.loop == NULL) {
        /* Nobody comes back for what is not done now. */
        uring_drain(&p->client);
    } else {
        uring_submit(&p->client);
    }
}

/* False if the chain has no room for a type and a status. */
static bool start_request(struct pmem *p, struct pmem_request *req)
{
    struct iov_cursor in = iov_readable(&req->chain);
    le32 type;

    if (req->chain.writable_bytes < sizeof(le32) ||
        !iov_read(&in, &type, sizeof(type)))
        return false;
    if (le32_get(type) != PMEM_REQ_FLUSH) {
        answer(p, req, PMEM_RESP_EIO);
    } else if (p->read_only) {
        bool lost = __atomic_load_n(&p->dropping, __ATOMIC_RELAXED);

        answer(p, req, lost ? PMEM_RESP_EIO : PMEM_RESP_OK);
    } else {
        req->next = p->syncing;
        p->syncing = req;
    }
    return true;
}

/* Whether the next fdatasync has to wait, and then the timer runs. */
static bool is_throttled(struct pmem *p)
{
    struct virtio_device *v = &p->virtio;
    uint64_t now_ns;
    uint64_t wait_ns;

    /* Without a loop nothing could come back to it later. */
    if (p->read_only || v->host.loop == NULL ||
        !queue_has_work(&v->queues[REQUEST_QUEUE].q))
        return false;
    now_ns = clock_now_ns();
    wait_ns = rate_take(&p->rate, now_ns, p->size, 1);
    if (wait_ns == 0)
        return false;
    p->stats.throttled++;
    loop_timer_arm(v->host.loop, &p->timer, now_ns + wait_ns);
    return true;
}

static void serve(struct virtio_device *v, unsigned int queue)
{
    struct pmem *p = from_virtio(v);
    struct queue_chain *chain = NULL;
    unsigned int count = 0;

    assert(queue == REQUEST_QUEUE);
    if (!virtio_queue_live(v, queue) || p->syncing != NULL)
        return;
    /* Until the end of the sync, or while the timer runs: no kicks needed. */
    virtio_begin_batch(v, queue);
    if (is_throttled(p))
        return;
    while (count < PMEM_QUEUE_SIZE && (chain = virtio_pop(v, queue)) != NULL) {
        count++;
        if (!start_request(
                p, container_of(chain, struct pmem_request, chain))) {
            virtio_unpop(v, queue, chain);
            virtio_fail(v, "persistent memory request without type or status");
            break;
        }
    }
    if (p->syncing != NULL) {
        start_sync(p);
        return;
    }
    virtio_notify(v, queue);
    virtio_end_batch(v, queue, chain != NULL);
}

static void on_timer(void *opaque)
{
    struct pmem *p = opaque;

    serve(&p->virtio, REQUEST_QUEUE);
}

static void pmem_read_config(const struct virtio_device *v, uint64_t offset,
    uint8_t *ret_data, uint32_t len)
{
    const struct pmem *p =
        container_of((struct virtio_device *)(uintptr_t)v, struct pmem, virtio);
    const struct pmem_config_space config = {
        .start = le64_put(p->start), .size = le64_put(p->size)};

    virtio_config_copy(&config, sizeof(config), offset, ret_data, len);
}

static void pmem_drain(struct virtio_device *v)
{
    struct pmem *p = from_virtio(v);

    if (p->syncing != NULL)
        uring_drain(&p->client);
}

static void pmem_reset(struct virtio_device *v)
{
    struct pmem *p = from_virtio(v);

    p->state.start = p->start;
    p->state.size = p->size;
    /* After a load that was refused there may be more than there can be. */
    rate_resume(&p->rate, clock_now_ns());
    __atomic_store_n(&p->dropping, false, __ATOMIC_RELAXED);
}

static int pmem_post_load(struct virtio_device *v, struct err *err)
{
    struct pmem *p = from_virtio(v);

    rate_resume(&p->rate, clock_now_ns());
    if (p->state.start == p->start && p->state.size == p->size)
        return 0;
    return err_set(err, EINVAL,
        "device %s: the snapshot has %llu MiB of persistent memory at 0x%llx, "
        "this machine %llu MiB at 0x%llx",
        v->base.id, (unsigned long long)(p->state.size / NUM_MIB),
        (unsigned long long)p->state.start,
        (unsigned long long)(p->size / NUM_MIB), (unsigned long long)p->start);
}

/* A save during a sync found the driver told not to kick. */
static void pmem_resume(struct virtio_device *v)
{
    virtio_end_batch(v, REQUEST_QUEUE, false);
}

static void window_access(struct device *dev, struct bus_access *access)
{
    struct pmem *p = container_of(dev, struct pmem, window);

    if (!access->is_write || !p->read_only) {
        if (p->on_fault != NULL)
            p->on_fault(p->opaque);
        return;
    }
    __atomic_store_n(&p->dropping, true, __ATOMIC_RELAXED);
    if (__atomic_fetch_add(&p->stats.dropped_writes, 1, __ATOMIC_RELAXED) == 0)
        log_warn("pmem",
            "%s is read-only: what the guest writes to it is dropped", dev->id);
}

static const struct device_ops window_ops = {.access = window_access};

static const struct virtio_ops pmem_ops = {
    .device_id = VIRTIO_ID_PMEM,
    .queue_count = 1,
    .request_size = sizeof(struct pmem_request),
    .kick = serve,
    .read_config = pmem_read_config,
    .drain = pmem_drain,
    .reset = pmem_reset,
    .post_load = pmem_post_load,
    .resume = pmem_resume,
};

static const struct state_field pmem_fields[] = {
    VIRTIO_STATE_FIELDS(struct pmem_state, virtio),
    STATE_SCALAR(struct pmem_state, start, 1),
    STATE_SCALAR(struct pmem_state, size, 1),
    RATE_STATE_FIELDS(struct pmem_state, rate),
};

static const struct state_desc pmem_desc =
    STATE_DESC(struct pmem_state, "virtio-pmem", 1, pmem_fields);

static const struct device_ops pmem_device_ops = {
    .state = &pmem_desc,
    VIRTIO_DEVICE_OPS,
};

int pmem_init(struct pmem *pmem, const struct pmem_config *config,
    const struct virtio_host *host, struct err *err)
{
    static const uint16_t sizes[] = {PMEM_QUEUE_SIZE};
    const struct virtio_config virtio = {.ops = &pmem_ops,
        .device_ops = &pmem_device_ops,
        .id = config->id,
        .state = &pmem->state.virtio,
        .queue_sizes = sizes};
    int rc = rate_check(&config->rate, err);

    *pmem = (struct pmem){.start = config->start,
        .size = config->size,
        .fd = config->fd,
        .read_only = config->read_only,
        .on_fault = config->on_fault,
        .opaque = config->opaque,
        .uring = config->uring,
        .slot = -1,
        .timer = {.fire = on_timer, .opaque = pmem, .dev = &pmem->virtio.base}};
    if (rc < 0)
        return rc;
    pmem->state.start = config->start;
    pmem->state.size = config->size;
    device_init(&pmem->window, &window_ops, config->id, NULL);
    rate_init(&pmem->rate, &config->rate, &pmem->state.rate, clock_now_ns());
    return virtio_init(&pmem->virtio, &virtio, host, err);
}

void pmem_fini(struct pmem *pmem)
{
    if (pmem->virtio.host.loop != NULL)
        loop_timer_disarm(pmem->virtio.host.loop, &pmem->timer);
    if (pmem->slot >= 0)
        uring_remove_file(pmem->uring, pmem->slot);
    pmem->slot = -1;
    uring_client_fini(&pmem->client);
    virtio_fini(&pmem->virtio);
}

int pmem_set_rate(
    struct pmem *pmem, const struct rate_config *config, struct err *err)
{
    int rc = rate_check(config, err);

    if (rc < 0)
        return rc;
    rate_init(&pmem->rate, config, &pmem->state.rate, clock_now_ns());
    /* What waited for the old limits must not wait that long for these. */
    serve(&pmem->virtio, REQUEST_QUEUE);
    return 0;
}
