/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/net_rx.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "virtio/iov.h"
#include "virtio/net.h"
#include "virtio/queue_group.h"
#include "vmm/base/num.h"

/* Of one go, so that no device keeps the I/O thread to itself. */
#define RX_BATCH       64u
#define RX_BATCH_BYTES (UINT64_C(1) << 20)

static bool is_mergeable(const struct net *net)
{
    return (net->features & NET_F_MRG_RXBUF) != 0;
}

static unsigned int slots_of(const struct queue_chain *chain)
{
    return (unsigned int)chain->readable_count + chain->writable_count;
}

/* Pops until `need` bytes are there, or what one frame may use (5.1.6.3.1). */
static void fill_stage(struct net *net, uint64_t need)
{
    struct net_stage *s = &net->stage;
    struct virtio_device *v = &net->virtio;
    unsigned int max = is_mergeable(net) ? NET_QUEUE_SIZE_MAX : 1;

    while (s->room < need && s->count < max) {
        struct queue_chain *chain = virtio_pop(v, NET_QUEUE_RX);

        if (chain == NULL)
            return;
        if (chain->writable_bytes < sizeof(struct net_header)) {
            virtio_unpop(v, NET_QUEUE_RX, chain);
            virtio_fail(v, "receive buffer without room for a header");
            return;
        }
        if (s->first + s->count == NET_QUEUE_SIZE_MAX) {
            memmove(s->chains, s->chains + s->first,
                s->count * sizeof(s->chains[0]));
            s->first = 0;
        }
        s->chains[s->first + s->count++] = chain;
        s->room += chain->writable_bytes;
        s->slots += slots_of(chain);
    }
}

/* Back to the queue, in the order that virtio_unpop wants. */
static void empty_stage(struct net *net)
{
    struct net_stage *s = &net->stage;

    while (s->count > 0)
        virtio_unpop(
            &net->virtio, NET_QUEUE_RX, s->chains[s->first + --s->count]);
    s->first = 0;
    s->room = 0;
    s->slots = 0;
}

/* More at once, fewer by and by: reading too little costs a copy. */
static void note_chains(struct net *net, unsigned int n)
{
    uint32_t now = n * NET_RX_CHAINS_UNIT;

    if (now >= net->rx_chains)
        net->rx_chains = now;
    else
        net->rx_chains -= (uint32_t)num_div_up(net->rx_chains - now, 8);
}

/*
 * Marks what was written to the chains. A driver's buffers often lie side by
 * side, and a mark is an atomic access: one for all that do.
 */
static void mark_written(
    struct queue_chain *const *chains, const uint32_t *written, unsigned int n)
{
    struct gslice run = {0};

    for (unsigned int i = 0; i < n; i++) {
        const struct gslice *slice = queue_chain_writable(chains[i]);
        uint64_t left = written[i];

        for (; left > 0; slice++) {
            uint64_t len = num_min(left, slice->len);

            left -= len;
            if (run.len > 0 && run.offset + run.len == slice->offset) {
                run.len += len;
                continue;
            }
            if (run.len > 0)
                gslice_mark_dirty(&run, 0, run.len);
            run = *slice;
            run.len = len;
        }
    }
    gslice_mark_dirty(&run, 0, run.len);
}

/* The first `total` bytes of the stage are a frame: to the driver with it. */
static void use_stage(struct net *net, uint64_t total)
{
    struct net_stage *s = &net->stage;
    struct queue_chain **chains = s->chains + s->first;
    struct iov_cursor at = iov_writable(chains[0]);
    uint64_t left = total;
    unsigned int n = 0;
    le16 num_buffers;
    bool ok;

    assert(total >= sizeof(struct net_header) && total <= s->room);
    do {
        struct iov_cursor c = iov_writable(chains[n]);

        s->written[n] = (uint32_t)num_min(left, c.left);
        s->room -= c.left;
        s->slots -= slots_of(chains[n]);
        left -= s->written[n];
        n++;
    } while (left > 0);
    mark_written(chains, s->written, n);
    num_buffers = le16_put((uint16_t)n);
    note_chains(net, n);
    ok = iov_skip(&at, offsetof(struct net_header, num_buffers)) &&
         iov_write(&at, &num_buffers, sizeof(num_buffers));
    assert(ok);
    (void)ok;
    queue_push_group(
        &net->virtio.queues[NET_QUEUE_RX].q, chains, s->written, n);
    s->first += n;
    s->count -= n;
    net->stats.rx_frames++;
    net->stats.rx_bytes += total - sizeof(struct net_header);
    net->virtio.stats.bytes += total - sizeof(struct net_header);
    if (net->rx_gate != NULL)
        net->rx_gate->charge(net->rx_gate, total - sizeof(struct net_header));
}

/*
 * iovecs of the first chains of the stage, as many as frames took lately, from
 * byte `skip` on; one is left over. A driver with GSO has 64 KiB of buffers
 * waiting for what is mostly a frame of a few hundred bytes, and the kernel
 * looks at every iovec it is given.
 */
static unsigned int make_iov(struct net *net, uint64_t skip, uint64_t *ret_room)
{
    const struct net_stage *s = &net->stage;
    unsigned int chains = (unsigned int)num_min(
        s->count, num_max(net->rx_chains / NET_RX_CHAINS_UNIT, 1));
    unsigned int n = 0;
    uint64_t room = 0;

    for (unsigned int i = 0; i < chains && n < NET_IOV_MAX - 1; i++) {
        struct iov_cursor c = iov_writable(s->chains[s->first + i]);
        uint64_t bytes;
        bool ok = i > 0 || iov_skip(&c, skip);

        assert(ok);
        (void)ok;
        n += iov_take(&c, c.left, net->iov + n, NET_IOV_MAX - 1 - n, &bytes);
        room += bytes;
    }
    *ret_room = room;
    return iov_join(net->iov, n);
}

/* What went wrong, as serve_one has it. */
static int failed(struct net *net, ssize_t code)
{
    if (code == -EAGAIN)
        return 0;
    if (code == -ENOTCONN)
        return -ENOTCONN;
    net->stats.rx_dropped++;
    net->virtio.stats.errors++;
    /* It would be polled for nothing, over and over. */
    return ++net->rx_failures >= NET_FAILURES_MAX ? -ENOTCONN : 1;
}

/* Copies to the stage from byte `at` of it on; there is the room. */
static void write_stage(
    struct net *net, uint64_t at, const uint8_t *from, uint64_t len)
{
    const struct net_stage *s = &net->stage;

    for (unsigned int i = 0; len > 0; i++) {
        struct iov_cursor c = iov_writable(s->chains[s->first + i]);
        uint64_t skip = num_min(c.left, at);
        uint64_t n = num_min(c.left - skip, len);
        bool ok = iov_skip(&c, skip) && iov_write(&c, from, n);

        assert(ok);
        (void)ok;
        at -= skip;
        from += n;
        len -= n;
    }
}

/* A frame did not fit: the memory is the driver's still, but written to. */
static int lose_frame(struct net *net)
{
    const struct net_stage *s = &net->stage;

    for (unsigned int i = 0; i < s->count; i++) {
        struct iov_cursor c = iov_writable(s->chains[s->first + i]);

        iov_mark_dirty(&c, c.left);
    }
    return failed(net, -EMSGSIZE);
}

/*
 * Reads a frame straight into the stage; what is longer than frames were
 * lately spills into the buffer of held frames and is copied. A frame that is
 * longer than the backend thought possible is lost.
 */
static int read_direct(struct net *net, uint64_t skip)
{
    static const struct net_header none;
    struct net_backend *b = net->backend;
    uint64_t room;
    unsigned int count = make_iov(net, skip, &room);
    ssize_t n;

    if (skip + room < sizeof(none) + b->frame_max)
        net->iov[count++] =
            (struct iovec){.iov_base = net->held, .iov_len = NET_BUFFER_BYTES};
    n = b->ops->receive(b, net->iov, count);
    if (n == -EMSGSIZE)
        return lose_frame(net);
    if (n < 0)
        return failed(net, n);
    if (skip + (uint64_t)n > net->stage.room ||
        skip + (uint64_t)n <= sizeof(none))
        return lose_frame(net);
    if (skip > 0)
        write_stage(net, 0, (const uint8_t *)&none, sizeof(none));
    if ((uint64_t)n > room) {
        write_stage(net, skip + room, net->held, (uint64_t)n - room);
        net->stats.rx_copied++;
    }
    net->rx_failures = 0;
    use_stage(net, skip + (uint64_t)n);
    return 1;
}

static int read_held(struct net *net, uint64_t skip)
{
    struct net_backend *b = net->backend;
    struct iovec iov = {
        .iov_base = net->held + skip, .iov_len = NET_BUFFER_BYTES - skip};
    ssize_t n;

    memset(net->held, 0, sizeof(struct net_header));
    n = b->ops->receive(b, &iov, 1);
    if (n < 0)
        return failed(net, n);
    assert((uint64_t)n <= NET_BUFFER_BYTES - skip);
    if (skip + (uint64_t)n <= sizeof(struct net_header))
        return failed(net, -EMSGSIZE);
    net->rx_failures = 0;
    net->held_len = (uint32_t)(skip + (uint64_t)n);
    return 1;
}

/* Copies the held frame into the stage, which has the room. */
static void deliver_held(struct net *net)
{
    write_stage(net, 0, net->held, net->held_len);
    use_stage(net, net->held_len);
    net->stats.rx_copied++;
    net->held_len = 0;
}

/*
 * A driver without mergeable buffers, or with all of its descriptors in this
 * queue, will not come up with more room for this frame.
 */
static bool is_hopeless(const struct net *net)
{
    return !is_mergeable(net) ||
           net->stage.slots >= net->state.virtio.queues[NET_QUEUE_RX].size;
}

/*
 * 1 if a frame was delivered or lost, 0 if the backend has none, -ENOBUFS if
 * the driver has no room for it, -ENOTCONN if the other end is gone.
 */
static int serve_one(struct net *net)
{
    const struct net_backend *b = net->backend;
    struct net_stage *s = &net->stage;
    uint64_t skip = b->has_header ? 0 : sizeof(struct net_header);
    uint64_t need = sizeof(struct net_header) + b->frame_max;
    int rc;

    fill_stage(net, net->held_len > 0 ? net->held_len : need);
    if (s->count == 0)
        return -ENOBUFS;
    if (net->held_len == 0) {
        if (s->room >= need)
            return read_direct(net, skip);
        rc = read_held(net, skip);
        if (rc <= 0 || net->held_len == 0)
            return rc;
    }
    if (net->held_len <= s->room) {
        deliver_held(net);
        return 1;
    }
    if (!is_hopeless(net))
        return -ENOBUFS;
    net->stats.rx_dropped++;
    net->held_len = 0;
    return 1;
}

static bool gate_is_open(struct net *net)
{
    if (net->rx_gate == NULL || net->rx_gate->is_open(net->rx_gate))
        return true;
    net->stats.rx_gated++;
    return false;
}

int net_rx_serve(struct net *net)
{
    struct virtio_device *v = &net->virtio;
    uint64_t enough = net->stats.rx_bytes + RX_BATCH_BYTES;
    unsigned int n = 0;
    bool more = false;
    int rc = 1;

    net->rx_waits = false;
    if (!net_link_is_up(net) || !virtio_queue_live(v, NET_QUEUE_RX))
        return 0;
    virtio_begin_batch(v, NET_QUEUE_RX);
    while (!more && gate_is_open(net)) {
        rc = serve_one(net);
        /* Each turn of this one takes at least one chain off the queue. */
        if (rc == -ENOBUFS && virtio_queue_live(v, NET_QUEUE_RX) &&
            queue_enable_kicks(&v->queues[NET_QUEUE_RX].q))
            continue;
        if (rc <= 0)
            break;
        more = ++n == RX_BATCH || net->stats.rx_bytes >= enough;
    }
    empty_stage(net);
    virtio_notify(v, NET_QUEUE_RX);
    if (rc == -ENOBUFS)
        net->stats.rx_starved++;
    net->rx_waits = rc == 0 || more;
    /* The backend may have read ahead, so polling would not tell. */
    if (more)
        virtio_end_batch(v, NET_QUEUE_RX, true);
    return rc == -ENOTCONN ? rc : 0;
}
