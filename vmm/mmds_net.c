/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/mmds_net.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "vmm/base/clock.h"
#include "vmm/base/num.h"

static struct mmds_net *from_backend(struct net_backend *b)
{
    return container_of(b, struct mmds_net, backend);
}

/* What the device is to know of the other backend's state, and of ours. */
static void update(struct mmds_net *n)
{
    n->backend.frame_max =
        (uint32_t)num_max(n->inner->frame_max, MMDS_FRAME_OUT_MAX);
    n->backend.holds_output = n->inner->holds_output;
    n->backend.holds_input =
        n->inner->holds_input || mmds_tcp_has_output(&n->tcp);
    if (n->loop != NULL && !n->is_ticking && mmds_tcp_is_waiting(&n->tcp)) {
        n->is_ticking = true;
        loop_timer_arm(n->loop, &n->timer, clock_now_ns() + MMDS_TICK_NS);
    }
}

static void on_tick(void *opaque)
{
    struct mmds_net *n = opaque;

    n->is_ticking = false;
    mmds_tcp_tick(&n->tcp, clock_now_ns());
    update(n);
    if (mmds_tcp_has_output(&n->tcp))
        n->backend.ready(n->backend.opaque);
}

/* Copies what lies from byte `skip` on, as much as there is room for. */
static size_t gather(const struct iovec *iov, unsigned int count, size_t skip,
    uint8_t *to, size_t room)
{
    size_t len = 0;

    for (unsigned int i = 0; i < count && len < room; i++) {
        size_t over = num_min(skip, iov[i].iov_len);
        size_t n = num_min(iov[i].iov_len - over, room - len);

        skip -= over;
        if (n == 0)
            continue;
        memcpy(to + len, (const uint8_t *)iov[i].iov_base + over, n);
        len += n;
    }
    return len;
}

static void scatter(const struct iovec *iov, unsigned int count, size_t skip,
    const uint8_t *from, size_t len)
{
    for (unsigned int i = 0; i < count && len > 0; i++) {
        size_t over = num_min(skip, iov[i].iov_len);
        size_t n = num_min(iov[i].iov_len - over, len);

        skip -= over;
        if (n == 0)
            continue;
        memcpy((uint8_t *)iov[i].iov_base + over, from, n);
        from += n;
        len -= n;
    }
    assert(len == 0);
}

static size_t header_bytes(const struct mmds_net *n)
{
    return n->backend.has_header ? sizeof(struct net_header) : 0;
}

static int send_frame(
    struct net_backend *b, struct iovec *iov, unsigned int count, size_t len)
{
    struct mmds_net *n = from_backend(b);
    struct net_header header = {0};
    size_t skip = header_bytes(n);
    uint8_t head[MMDS_HEAD_BYTES];
    size_t got = gather(iov, count, skip, head, sizeof(head));
    int rc;

    assert(len >= skip);
    if (!mmds_tcp_wants(&n->tcp, head, got)) {
        rc = n->inner->ops->send(n->inner, iov, count, len);
        update(n);
        return rc;
    }
    len -= skip;
    /* Longer than any window of ours, and so sent again in shorter ones. */
    if (len > sizeof(n->frame))
        return 0;
    /* The guest may have changed it meanwhile: the copy is looked at anew. */
    len = gather(iov, count, skip, n->frame, len);
    if (skip > 0)
        (void)gather(iov, count, 0, (uint8_t *)&header, sizeof(header));
    mmds_tcp_input(&n->tcp, n->frame, len,
        (header.flags & NET_HDR_F_NEEDS_CSUM) == 0, clock_now_ns());
    update(n);
    return 0;
}

static ssize_t receive_frame(
    struct net_backend *b, struct iovec *iov, unsigned int count)
{
    static const struct net_header none;
    struct mmds_net *n = from_backend(b);
    size_t skip = header_bytes(n);
    uint8_t frame[MMDS_FRAME_OUT_MAX];
    size_t len = mmds_tcp_output(&n->tcp, frame);
    ssize_t rc;

    if (len > 0) {
        if (skip > 0)
            scatter(iov, count, 0, (const uint8_t *)&none, skip);
        scatter(iov, count, skip, frame, len);
        rc = (ssize_t)(skip + len);
    } else {
        rc = n->inner->ops->receive(n->inner, iov, count);
    }
    update(n);
    return rc;
}

static int flush(struct net_backend *b)
{
    struct mmds_net *n = from_backend(b);
    int rc = n->inner->ops->flush(n->inner);

    update(n);
    return rc;
}

/* The driver begins, ends, or is another than it was: so is the guest. */
static int set_offloads(struct net_backend *b, uint64_t features)
{
    struct mmds_net *n = from_backend(b);
    int rc = 0;

    mmds_tcp_reset(&n->tcp);
    if (n->inner->ops->set_offloads != NULL)
        rc = n->inner->ops->set_offloads(n->inner, features);
    update(n);
    return rc;
}

static void inner_ready(void *opaque)
{
    struct mmds_net *n = opaque;

    update(n);
    n->backend.ready(n->backend.opaque);
}

static const struct net_backend_ops ops = {
    .send = send_frame,
    .receive = receive_frame,
    .flush = flush,
    .set_offloads = set_offloads,
};

void mmds_net_init(
    struct mmds_net *n, struct net_backend *inner, struct mmds *mmds)
{
    n->inner = inner;
    n->backend = (struct net_backend){.ops = &ops,
        .fd = inner->fd,
        .offloads = inner->offloads,
        .has_header = inner->has_header};
    inner->ready = inner_ready;
    inner->opaque = n;
    mmds_tcp_init(&n->tcp, mmds);
    update(n);
}

void mmds_net_attach(struct mmds_net *n, struct loop *loop, struct device *dev)
{
    n->timer = (struct loop_timer){.fire = on_tick, .opaque = n, .dev = dev};
    n->loop = loop;
}

void mmds_net_fini(struct mmds_net *n)
{
    if (n->loop != NULL)
        loop_timer_disarm(n->loop, &n->timer);
    n->loop = NULL;
    if (n->inner != NULL)
        mmds_tcp_reset(&n->tcp);
    n->inner = NULL;
}
