/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/rng.h"

#include <assert.h>
#include <errno.h>
#include <sys/random.h>

#include "virtio/iov.h"
#include "vmm/base/clock.h"
#include "vmm/base/num.h"

#define REQUEST_QUEUE 0u

/* Bytes of one go, so that no device keeps the I/O thread to itself. */
#define KICK_BYTES (UINT64_C(64) * NUM_KIB)

static struct rng *from_virtio(struct virtio_device *v)
{
    return container_of(v, struct rng, virtio);
}

/* Bytes of one slice that could be filled. */
static size_t fill(const struct iovec *iov)
{
    uint8_t *to = iov->iov_base;
    size_t done = 0;

    while (done < iov->iov_len) {
        /* Waiting for the host's pool would hold up all other devices. */
        ssize_t n = getrandom(to + done, iov->iov_len - done, GRND_NONBLOCK);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    return done;
}

static void answer(struct rng *rng, struct queue_chain *chain, uint64_t wanted)
{
    struct iov_cursor written = iov_writable(chain);
    struct iov_cursor c = written;
    uint64_t done = 0;
    uint64_t taken;
    unsigned int count =
        iov_take(&c, wanted, chain->iov, chain->writable_count, &taken);

    assert(taken == wanted);
    for (unsigned int i = 0; i < count; i++) {
        size_t n = fill(&chain->iov[i]);

        done += n;
        if (n < chain->iov[i].iov_len)
            break;
    }
    if (done < wanted) {
        rng->stats.host_failed++;
        rng->virtio.stats.errors++;
    }
    iov_mark_dirty(&written, done);
    rng->virtio.stats.bytes += done;
    virtio_push(&rng->virtio, REQUEST_QUEUE, chain, (uint32_t)done);
}

/* 5.4.6.1: only device-writable buffers; and there must be room for a byte. */
static const char *find_fault(const struct queue_chain *chain)
{
    if (chain->readable_count != 0)
        return "entropy request with a readable descriptor";
    if (chain->writable_bytes == 0)
        return "entropy request without room";
    return NULL;
}

static void throttle(struct rng *rng, uint64_t now_ns, uint64_t wait_ns)
{
    rng->stats.throttled++;
    loop_timer_arm(rng->virtio.host.loop, &rng->timer, now_ns + wait_ns);
}

static void serve(struct virtio_device *v, unsigned int queue)
{
    struct rng *rng = from_virtio(v);
    struct queue_chain *chain = NULL;
    uint64_t now_ns = clock_now_ns();
    uint64_t wait_ns = 0;
    uint64_t bytes = 0;
    unsigned int count = 0;

    assert(queue == REQUEST_QUEUE);
    virtio_begin_batch(v, queue);
    while (bytes < KICK_BYTES && count < RNG_QUEUE_SIZE && wait_ns == 0 &&
           (chain = virtio_pop(v, queue)) != NULL) {
        const char *fault = find_fault(chain);
        uint64_t n = num_min(chain->writable_bytes, RNG_CHAIN_BYTES);

        if (fault != NULL) {
            virtio_unpop(v, queue, chain);
            virtio_fail(v, fault);
            break;
        }
        /* Without a loop nothing could come back to it later. */
        if (v->host.loop != NULL)
            wait_ns = rate_take(&rng->rate, now_ns, n, 1);
        if (wait_ns != 0) {
            virtio_unpop(v, queue, chain);
            break;
        }
        answer(rng, chain, n);
        bytes += n;
        count++;
    }
    virtio_notify(v, queue);
    /* A chain that waits needs the timer and no kicks. */
    if (wait_ns != 0)
        throttle(rng, now_ns, wait_ns);
    else
        virtio_end_batch(v, queue, chain != NULL);
}

static void on_timer(void *opaque)
{
    struct rng *rng = opaque;

    serve(&rng->virtio, REQUEST_QUEUE);
}

static void rng_read_config(const struct virtio_device *v, uint64_t offset,
    uint8_t *ret_data, uint32_t len)
{
    (void)v;
    virtio_config_copy(NULL, 0, offset, ret_data, len);
}

/*
 * What was taken stays taken, or a driver could help itself; but after a load
 * that was refused there may be more than there can be.
 */
static void rng_reset(struct virtio_device *v)
{
    rate_resume(&from_virtio(v)->rate, clock_now_ns());
}

static int rng_post_load(struct virtio_device *v, struct err *err)
{
    (void)err;
    rate_resume(&from_virtio(v)->rate, clock_now_ns());
    return 0;
}

static const struct virtio_ops rng_ops = {
    .device_id = VIRTIO_ID_RNG,
    .queue_count = 1,
    .request_size = sizeof(struct queue_chain),
    .kick = serve,
    .read_config = rng_read_config,
    .reset = rng_reset,
    .post_load = rng_post_load,
};

static const struct state_field rng_fields[] = {
    VIRTIO_STATE_FIELDS(struct rng_state, virtio),
    RATE_STATE_FIELDS(struct rng_state, rate),
};

static const struct state_desc rng_desc =
    STATE_DESC(struct rng_state, "virtio-rng", 1, rng_fields);

static const struct device_ops rng_device_ops = {
    .state = &rng_desc,
    VIRTIO_DEVICE_OPS,
};

int rng_init(struct rng *rng, const struct rng_config *config,
    const struct virtio_host *host, struct err *err)
{
    static const uint16_t sizes[] = {RNG_QUEUE_SIZE};
    const struct virtio_config virtio = {.ops = &rng_ops,
        .device_ops = &rng_device_ops,
        .id = config->id,
        .state = &rng->state.virtio,
        .queue_sizes = sizes};
    int rc = rate_check(&config->rate, err);

    *rng = (struct rng){
        .timer = {.fire = on_timer, .opaque = rng, .dev = &rng->virtio.base}};
    if (rc < 0)
        return rc;
    rate_init(&rng->rate, &config->rate, &rng->state.rate, clock_now_ns());
    return virtio_init(&rng->virtio, &virtio, host, err);
}

void rng_fini(struct rng *rng)
{
    if (rng->virtio.host.loop != NULL)
        loop_timer_disarm(rng->virtio.host.loop, &rng->timer);
    virtio_fini(&rng->virtio);
}

int rng_set_rate(
    struct rng *rng, const struct rate_config *config, struct err *err)
{
    int rc = rate_check(config, err);

    if (rc < 0)
        return rc;
    rate_init(&rng->rate, config, &rng->state.rate, clock_now_ns());
    /* What waited for the old limits must not wait that long for these. */
    serve(&rng->virtio, REQUEST_QUEUE);
    return 0;
}
