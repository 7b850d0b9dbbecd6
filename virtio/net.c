/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/net.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>

#include "virtio/iov.h"
#include "virtio/net_rx.h"
#include "vmm/base/num.h"

/* Of one go, so that no device keeps the I/O thread to itself. */
#define TX_BATCH       64u
#define TX_BATCH_BYTES (UINT64_C(1) << 20)

static struct net *from_virtio(struct virtio_device *v)
{
    return container_of(v, struct net, virtio);
}

/* 5.1.3.1: a feature without what it requires is none. */
static uint64_t effective_features(uint64_t f)
{
    if ((f & NET_F_CSUM) == 0)
        f &= ~NET_HOST_OFFLOADS;
    if ((f & (NET_F_HOST_TSO4 | NET_F_HOST_TSO6)) == 0)
        f &= ~NET_F_HOST_ECN;
    if ((f & NET_F_GUEST_CSUM) == 0)
        f &= ~NET_GUEST_OFFLOADS;
    if ((f & (NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6)) == 0)
        f &= ~NET_F_GUEST_ECN;
    return f;
}

static void take_features(struct net *net, uint64_t features)
{
    struct net_backend *b = net->backend;

    net->features = effective_features(features);
    if (b->ops->set_offloads != NULL && !net->gone &&
        b->ops->set_offloads(b, net->features & NET_GUEST_OFFLOADS) < 0)
        net->virtio.stats.errors++;
}

/* Tells the guest; a state that is being saved is left alone till resume. */
static void update_link(struct net *net)
{
    uint32_t up = net_link_is_up(net);

    if (up == net->state.link_up || net->virtio.quiesced)
        return;
    net->state.link_up = up;
    virtio_config_changed(&net->virtio);
}

/* The backend is no more; what the guest sends goes nowhere from now on. */
static void lose_backend(struct net *net, int code)
{
    if (net->gone)
        return;
    net->gone = true;
    net->tx_waits = false;
    net->rx_waits = false;
    update_link(net);
    if (net->on_gone != NULL)
        net->on_gone(net->opaque, code);
    virtio_end_batch(&net->virtio, NET_QUEUE_TX, true);
}

/* The features that a gso_type needs, NET_HDR_GSO_ECN aside; 0: unknown. */
static uint64_t gso_feature(unsigned int type)
{
    switch (type) {
    case NET_HDR_GSO_TCPV4:
        return NET_F_HOST_TSO4;
    case NET_HDR_GSO_TCPV6:
        return NET_F_HOST_TSO6;
    case NET_HDR_GSO_UDP:
        return NET_F_HOST_UFO;
    default:
        return 0;
    }
}

/*
 * Checks a driver's header against 5.1.6.2.1, with what lies behind it of
 * `len` bytes, and leaves in it only what the backend may rely on.
 */
static bool check_header(
    const struct net *net, struct net_header *h, uint64_t len)
{
    const struct net_header given = *h;
    uint32_t csum_end =
        (uint32_t)le16_get(given.csum_start) + le16_get(given.csum_offset) + 2u;
    unsigned int type = given.gso_type & ~NET_HDR_GSO_ECN;
    uint64_t needs = 0;

    *h = (struct net_header){0};
    if ((given.flags & NET_HDR_F_NEEDS_CSUM) != 0) {
        needs |= NET_F_CSUM;
        if (csum_end > len)
            return false;
        h->flags = NET_HDR_F_NEEDS_CSUM;
        h->csum_start = given.csum_start;
        h->csum_offset = given.csum_offset;
    }
    if (given.gso_type != NET_HDR_GSO_NONE) {
        uint64_t gso = gso_feature(type);

        if (gso == 0 || le16_get(given.gso_size) == 0 || h->flags == 0)
            return false;
        needs |= gso;
        if (type != given.gso_type)
            needs |= NET_F_HOST_ECN;
        if (type != given.gso_type && type == NET_HDR_GSO_UDP)
            return false;
        h->gso_type = given.gso_type;
        h->gso_size = given.gso_size;
        /* A hint, and not to be trusted (5.1.6.2.2). */
        h->hdr_len = le16_put((uint16_t)num_min(le16_get(given.hdr_len), len));
    }
    return (net->features & needs) == needs;
}

/* 0 when done with the chain, one way or the other; or as backend->send. */
static int transmit(struct net *net, struct queue_chain *chain)
{
    struct net_backend *b = net->backend;
    struct iov_cursor at = iov_readable(chain);
    struct net_header header;
    unsigned int count = 0;
    uint64_t len;
    uint64_t taken;
    int rc;

    if (!iov_read(&at, &header, sizeof(header)) || at.left < NET_FRAME_MIN ||
        at.left > NET_FRAME_MAX || !check_header(net, &header, at.left)) {
        net->stats.tx_malformed++;
        net->virtio.stats.violations++;
        return 0;
    }
    len = at.left;
    if (!net_link_is_up(net)) {
        net->stats.tx_dropped++;
        return 0;
    }
    if (b->has_header)
        net->iov[count++] =
            (struct iovec){.iov_base = &header, .iov_len = sizeof(header)};
    /* A chain has at most NET_QUEUE_SIZE_MAX slices. */
    count += iov_take(&at, len, net->iov + count, NET_IOV_MAX - count, &taken);
    assert(taken == len);
    rc = b->ops->send(
        b, net->iov, count, len + (b->has_header ? sizeof(header) : 0));
    if (rc == -EAGAIN || rc == -ENOTCONN)
        return rc;
    if (rc < 0) {
        net->stats.tx_dropped++;
        net->virtio.stats.errors++;
        return 0;
    }
    net->stats.tx_frames++;
    net->stats.tx_bytes += len;
    net->virtio.stats.bytes += len;
    if (net->tx_gate != NULL)
        net->tx_gate->charge(net->tx_gate, len);
    return 0;
}

/*
 * Whether a frame may go now. When not, kicks stay off and chains stay where
 * they are until net_ready.
 */
static bool tx_gate_is_open(struct net *net)
{
    if (net->tx_gate == NULL || net->tx_gate->is_open(net->tx_gate))
        return true;
    net->stats.tx_gated++;
    return false;
}

static void serve_tx(struct net *net)
{
    struct virtio_device *v = &net->virtio;
    uint64_t enough = net->stats.tx_bytes + TX_BATCH_BYTES;
    struct queue_chain *chain;
    unsigned int n = 0;
    bool more = false;
    bool rests = false;
    int rc = 0;

    net->tx_waits = false;
    virtio_begin_batch(v, NET_QUEUE_TX);
    while (!more && (chain = virtio_pop(v, NET_QUEUE_TX)) != NULL) {
        rests = !tx_gate_is_open(net);
        if (!rests)
            rc = transmit(net, chain);
        if (rests || rc < 0) {
            virtio_unpop(v, NET_QUEUE_TX, chain);
            break;
        }
        virtio_push(v, NET_QUEUE_TX, chain, 0);
        more = ++n == TX_BATCH || net->stats.tx_bytes >= enough;
    }
    virtio_notify(v, NET_QUEUE_TX);
    if (rc == -EAGAIN) {
        net->tx_waits = true;
        net->stats.tx_stalls++;
    } else if (rc == -ENOTCONN) {
        lose_backend(net, rc);
    } else if (!rests) {
        virtio_end_batch(v, NET_QUEUE_TX, more);
    }
}

static void serve_rx(struct net *net)
{
    int rc = net_rx_serve(net);

    if (rc < 0)
        lose_backend(net, rc);
}

/* What a frame of the guest's was answered with comes at once. */
static void serve_tx_and_answers(struct net *net)
{
    serve_tx(net);
    if (!net->gone && net->backend->holds_input)
        serve_rx(net);
}

/*
 * Has the loop watch for what is waited for and for nothing else: a hang-up
 * cannot be masked, so a descriptor that nobody waits for is not watched.
 */
static void update_watch(struct net *net)
{
    const struct virtio_device *v = &net->virtio;
    const struct net_backend *b = net->backend;
    uint32_t events = 0;
    int rc = 0;

    if (v->host.loop == NULL || b->fd < 0)
        return;
    if (!net->gone) {
        if (net->rx_waits && virtio_queue_live(v, NET_QUEUE_RX))
            events |= EPOLLIN;
        if (b->holds_output ||
            (net->tx_waits && virtio_queue_live(v, NET_QUEUE_TX)))
            events |= EPOLLOUT;
    }
    if (events == net->watched)
        return;
    if (events == 0)
        loop_remove(v->host.loop, &net->source);
    else if (net->watched == 0)
        rc = loop_add(v->host.loop, &net->source, events);
    else
        rc = loop_change(v->host.loop, &net->source, events);
    if (rc < 0) {
        loop_remove(v->host.loop, &net->source);
        events = 0;
        lose_backend(net, rc);
    }
    net->watched = events;
}

static void on_backend(void *opaque, uint32_t events)
{
    struct net *net = opaque;
    struct net_backend *b = net->backend;

    if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) {
        if (b->holds_output && b->ops->flush(b) == -ENOTCONN)
            lose_backend(net, -ENOTCONN);
        serve_tx_and_answers(net);
    }
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
        serve_rx(net);
    update_watch(net);
}

void net_ready(void *opaque)
{
    struct net *net = opaque;

    serve_tx(net);
    serve_rx(net);
    update_watch(net);
}

void net_set_link(struct net *net, bool up)
{
    net->link_wanted = up;
    update_link(net);
    net_ready(net);
}

static void kick(struct virtio_device *v, unsigned int queue)
{
    struct net *net = from_virtio(v);

    if (queue == NET_QUEUE_TX)
        serve_tx_and_answers(net);
    else
        serve_rx(net);
    update_watch(net);
}

static void read_config(const struct virtio_device *v, uint64_t offset,
    uint8_t *ret_data, uint32_t len)
{
    const struct net_state *s = v->base.state;
    struct net_config_space image = {
        .status = le16_put(s->link_up != 0 ? NET_S_LINK_UP : 0),
        .max_virtqueue_pairs = le16_put(1),
        .mtu = le16_put(s->mtu)};

    memcpy(image.mac, s->mac, sizeof(image.mac));
    virtio_config_copy(&image, sizeof(image), offset, ret_data, len);
}

/* Kicks from before DRIVER_OK were not delivered; and frames may wait. */
static void activate(struct virtio_device *v)
{
    take_features(from_virtio(v), v->state->driver_features);
    virtio_end_batch(v, NET_QUEUE_RX, true);
}

/*
 * May be on a vCPU's thread: what is watched is put right on the loop's when
 * it next fires, or at the next kick.
 */
static void forget(struct net *net)
{
    net->held_len = 0;
    net->rx_chains = NET_QUEUE_SIZE_MAX * NET_RX_CHAINS_UNIT;
    net->tx_waits = false;
    net->rx_waits = false;
}

static void reset(struct virtio_device *v)
{
    struct net *net = from_virtio(v);

    forget(net);
    take_features(net, 0);
    memcpy(net->state.mac, net->mac, sizeof(net->mac));
    net->state.mtu = net->mtu;
    net->state.link_up = net_link_is_up(net);
    net->state.unused = 0;
}

static int post_load(struct virtio_device *v, struct err *err)
{
    struct net *net = from_virtio(v);
    const struct net_state *s = &net->state;

    if (s->link_up > 1 || s->unused != 0)
        return err_set(err, EINVAL,
            "device %s: the link is neither up nor down", v->base.id);
    if ((s->mtu != 0 && net->mtu == 0) || (s->mtu != 0 && s->mtu < NET_MTU_MIN))
        return err_set(err, EINVAL,
            "device %s: the snapshot has an MTU of %u, this one %u", v->base.id,
            s->mtu, net->mtu);
    /* What a driver has written but not settled yet is not held against it. */
    if (s->mtu == 0 && (v->state->status & VIRTIO_STATUS_FEATURES_OK) != 0 &&
        (v->state->driver_features & NET_F_MTU) != 0)
        return err_set(err, EINVAL, "device %s: a driver that was told no MTU",
            v->base.id);
    /* What is behind it now may have one that this guest was never told. */
    if (s->mtu == 0)
        v->features &= ~NET_F_MTU;
    memcpy(net->mac, s->mac, sizeof(net->mac));
    net->mtu = s->mtu;
    forget(net);
    take_features(net, v->state->driver_features);
    return 0;
}

static void resume(struct virtio_device *v)
{
    update_link(from_virtio(v));
    /* What was waited for is not known any more: look at everything. */
    virtio_end_batch(v, NET_QUEUE_TX, true);
    virtio_end_batch(v, NET_QUEUE_RX, true);
}

static const struct state_field net_fields[] = {
    VIRTIO_STATE_FIELDS(struct net_state, virtio),
    STATE_ARRAY(struct net_state, mac, 1),
    STATE_SCALAR(struct net_state, mtu, 1),
    STATE_SCALAR(struct net_state, link_up, 1),
    STATE_SCALAR(struct net_state, unused, 1),
};

static const struct state_desc net_desc =
    STATE_DESC(struct net_state, "virtio-net", 1, net_fields);

static const struct device_ops net_device_ops = {
    .state = &net_desc, VIRTIO_DEVICE_OPS};

static const struct virtio_ops net_ops = {
    .device_id = VIRTIO_ID_NET,
    .queue_count = NET_QUEUES,
    .request_size = sizeof(struct queue_chain),
    .kick = kick,
    .read_config = read_config,
    .activate = activate,
    .reset = reset,
    .post_load = post_load,
    .resume = resume,
};

static int check_mac(
    const char *id, const uint8_t mac[NET_MAC_BYTES], struct err *err)
{
    static const uint8_t none[NET_MAC_BYTES];

    if ((mac[0] & 1u) == 0 && memcmp(mac, none, sizeof(none)) != 0)
        return 0;
    return err_set(err, EINVAL,
        "%s: the MAC address must be that of one station, not of a group", id);
}

int net_set_mac(
    struct net *net, const uint8_t mac[NET_MAC_BYTES], struct err *err)
{
    int rc = check_mac(net->virtio.base.id, mac, err);

    if (rc < 0)
        return rc;
    if (memcmp(net->mac, mac, NET_MAC_BYTES) == 0)
        return 0;
    memcpy(net->mac, mac, NET_MAC_BYTES);
    memcpy(net->state.mac, mac, NET_MAC_BYTES);
    virtio_config_changed(&net->virtio);
    return 0;
}

/* A locally administered address of one station (IEEE 802, 8.2). */
static int pick_mac(const struct net_config *config,
    uint8_t ret_mac[NET_MAC_BYTES], struct err *err)
{
    int rc;

    if (config->mac == NULL) {
        if (getrandom(ret_mac, NET_MAC_BYTES, 0) != (ssize_t)NET_MAC_BYTES)
            return err_sys(err, errno, "%s: no random MAC address", config->id);
        ret_mac[0] = (uint8_t)((ret_mac[0] & 0xfcu) | 0x02u);
        return 0;
    }
    rc = check_mac(config->id, config->mac, err);
    if (rc < 0)
        return rc;
    memcpy(ret_mac, config->mac, NET_MAC_BYTES);
    return 0;
}

int net_init(struct net *net, const struct net_config *config,
    const struct virtio_host *host, struct err *err)
{
    struct net_backend *b = config->backend;
    const uint16_t sizes[NET_QUEUES] = {config->queue_size, config->queue_size};
    struct virtio_config virtio = {.ops = &net_ops,
        .device_ops = &net_device_ops,
        .id = config->id,
        .state = &net->state.virtio,
        .features = NET_F_MAC | NET_F_STATUS | NET_F_MRG_RXBUF | b->offloads,
        .queue_sizes = sizes};
    int rc;

    assert(config->queue_size <= NET_QUEUE_SIZE_MAX);
    assert((b->offloads & ~(NET_HOST_OFFLOADS | NET_GUEST_OFFLOADS)) == 0);
    assert(b->has_header || b->offloads == 0);
    *net = (struct net){.backend = b,
        .rx_gate = config->rx_gate,
        .tx_gate = config->tx_gate,
        .on_gone = config->on_gone,
        .opaque = config->opaque,
        .mtu = config->mtu,
        .link_wanted = true};
    rc = pick_mac(config, net->mac, err);
    if (rc < 0)
        return rc;
    if (config->mtu != 0 && config->mtu < NET_MTU_MIN)
        return err_set(err, EINVAL, "%s: an MTU of %u: it must be %u to 65535",
            config->id, config->mtu, NET_MTU_MIN);
    if (config->mtu != 0)
        virtio.features |= NET_F_MTU;
    net->held = malloc(NET_BUFFER_BYTES);
    if (net->held == NULL)
        return err_sys(err, ENOMEM, "%s", config->id);
    rc = virtio_init(&net->virtio, &virtio, host, err);
    if (rc < 0) {
        net_fini(net);
        return rc;
    }
    net->source = (struct loop_source){.fd = b->fd,
        .handle = on_backend,
        .opaque = net,
        .dev = &net->virtio.base};
    b->ready = net_ready;
    b->opaque = net;
    reset(&net->virtio);
    return 0;
}

void net_fini(struct net *net)
{
    if (net->virtio.ops != NULL && net->virtio.host.loop != NULL)
        loop_remove(net->virtio.host.loop, &net->source);
    virtio_fini(&net->virtio);
    free(net->held);
    net->held = NULL;
}
