/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine_net.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/netswitch_join.h"

#define QUEUE_SIZE 256u

/* What others who do the same without privileges give their guests. */
#define USER_ADDRESS UINT32_C(0x0a00020f)
#define USER_PREFIX  24u

/* Of a network: stations that passt answers for. */
#define USER_GATEWAY 2u
#define USER_DNS     3u

/* The longest that passt sends, so that the guest handles the fewest. */
#define USER_MTU 65520u

/* A station of the guest's network that is not the guest. */
static uint32_t station(const struct machine_net_address *a, uint32_t number)
{
    uint32_t network = a->address & ~(UINT32_MAX >> a->prefix);

    return network + number == a->address ? network + 1 : network + number;
}

bool machine_net_address(
    const struct config_net *config, struct machine_net_address *ret_address)
{
    struct machine_net_address a = {.address = config->address,
        .gateway = config->gateway,
        .prefix = config->prefix};

    if (a.prefix == 0 && config->backend == CONFIG_NET_USER) {
        a.address = USER_ADDRESS;
        a.prefix = USER_PREFIX;
    }
    if (a.prefix == 0)
        return false;
    if (config->backend == CONFIG_NET_USER) {
        if (a.gateway == 0)
            a.gateway = station(&a, USER_GATEWAY);
        a.dns = station(&a, USER_DNS);
    }
    *ret_address = a;
    return true;
}

uint16_t machine_net_mtu(const struct config_net *config)
{
    if (config->mtu == 0 && config->backend == CONFIG_NET_USER)
        return USER_MTU;
    return config->mtu;
}

/* Once, on the loop: the guest goes on without this network. */
static void on_gone(void *opaque, int code)
{
    struct machine_net *n = opaque;

    /* passt is about to say why. */
    if (n->config->backend == CONFIG_NET_USER)
        return;
    log_warn("net", "%s: the other end is gone: %s: the link is down",
        n->config->id, strerror(-code));
}

static void on_passt_end(void *opaque, const char *why)
{
    struct machine_net *n = opaque;

    log_warn("net", "%s: %s: the link is down", n->config->id, why);
    net_set_link(&n->net, false);
}

static int start_passt(
    struct machine_net *n, struct loop *loop, struct err *err)
{
    const struct config_net *config = n->config;
    struct machine_net_address address = {0};
    struct passt_config passt = {.forwards = config->forwards,
        .forward_count = config->forward_count,
        .on_end = on_passt_end,
        .opaque = n,
        .dev = &n->net.virtio.base};
    CC_CLEANUP(fd_closep) int fd = -1;
    int rc;

    (void)machine_net_address(config, &address);
    passt.address = address.address;
    passt.prefix = address.prefix;
    passt.gateway = address.gateway;
    passt.dns = address.dns;
    rc = passt_start(&n->passt, &passt, loop, &fd, err);
    if (rc < 0)
        return rc;
    rc = net_stream_init(&n->stream, fd, err);
    if (rc == 0)
        (void)fd_steal(&fd);
    n->backend = &n->stream.backend;
    return rc;
}

/* A descriptor that we were started with: of a tap, or a stream socket. */
static int take_fd(struct machine_net *n, int fd, struct err *err)
{
    struct stat st;
    int rc;

    if (fstat(fd, &st) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return err_sys(err, errno, "descriptor %d", fd);
    if (S_ISSOCK(st.st_mode)) {
        rc = net_stream_init(&n->stream, fd, err);
        n->backend = &n->stream.backend;
    } else {
        rc = net_tap_init(&n->tap, fd, err);
        n->backend = &n->tap.backend;
    }
    return rc;
}

static int join_switch(
    struct machine_net *n, const struct outside *outside, struct err *err)
{
    const char *where = n->config->target;
    CC_CLEANUP(fd_closep) int fd = -1;
    int rc = outside == NULL
                 ? netswitch_join(where, &fd, err)
                 : outside->join_switch(outside->opaque, where, &fd, err);

    if (rc == 0)
        rc = net_stream_init(&n->stream, fd, err);
    if (rc < 0)
        return rc;
    (void)fd_steal(&fd);
    n->backend = &n->stream.backend;
    return 0;
}

static int connect_backend(struct machine_net *n, struct loop *loop,
    const struct outside *outside, struct err *err)
{
    const struct config_net *config = n->config;
    int rc;

    switch (config->backend) {
    case CONFIG_NET_TAP:
        rc = net_tap_open(&n->tap, config->target, err);
        n->backend = &n->tap.backend;
        return rc;
    case CONFIG_NET_STREAM:
        rc = net_stream_connect(&n->stream, config->target, err);
        n->backend = &n->stream.backend;
        return rc;
    case CONFIG_NET_FD:
        return take_fd(n, config->fd, err);
    case CONFIG_NET_SWITCH:
        return join_switch(n, outside, err);
    case CONFIG_NET_USER:
    default:
        return start_passt(n, loop, err);
    }
}

static int make_device(
    struct machine_net *n, const struct virtio_host *host, struct err *err)
{
    const struct config_net *config = n->config;
    struct net_config net = {.id = n->id,
        .backend = n->backend,
        .mac = config->has_mac ? config->mac : NULL,
        .mtu = machine_net_mtu(config),
        .queue_size = QUEUE_SIZE,
        .rx_gate = &n->rx.gate,
        .tx_gate = &n->tx.gate,
        .on_gone = on_gone,
        .opaque = n};
    int rc;

    rc = net_limit_init(&n->rx, &config->rx, host->loop, err);

    if (rc == 0)
        rc = net_limit_init(&n->tx, &config->tx, host->loop, err);
    if (rc == 0)
        rc = net_init(&n->net, &net, host, err);
    if (rc < 0)
        return rc;
    net_limit_attach(&n->rx, &n->net);
    net_limit_attach(&n->tx, &n->net);
    if (n->mmds != NULL)
        mmds_net_attach(n->mmds, host->loop, &n->net.virtio.base);
    return 0;
}

/* Puts the metadata service in front of the backend. */
static int add_mmds(struct machine_net *n, struct mmds *mmds, struct err *err)
{
    n->mmds = calloc(1, sizeof(*n->mmds));
    if (n->mmds == NULL)
        return err_sys(err, ENOMEM, "metadata service");
    mmds_net_init(n->mmds, n->backend, mmds);
    n->backend = &n->mmds->backend;
    return 0;
}

int machine_net_new(const struct config_net *config,
    const struct virtio_host *host, const struct outside *outside,
    struct mmds *mmds, struct machine_net **ret_net, struct err *err)
{
    struct machine_net *n = calloc(1, sizeof(*n));
    int rc;

    if (n == NULL)
        return err_sys(err, ENOMEM, "network interface %s", config->id);
    n->config = config;
    (void)snprintf(n->id, sizeof(n->id), "net-%s", config->id);
    rc = connect_backend(n, host->loop, outside, err);
    if (rc == 0 && config->has_mmds && mmds != NULL)
        rc = add_mmds(n, mmds, err);
    if (rc == 0)
        rc = make_device(n, host, err);
    if (rc < 0) {
        machine_net_free(n);
        return err_wrap(err, rc, "network interface %s", config->id);
    }
    *ret_net = n;
    return 0;
}

void machine_net_free(struct machine_net *n)
{
    if (n == NULL)
        return;
    net_limit_fini(&n->rx);
    net_limit_fini(&n->tx);
    net_fini(&n->net);
    net_tap_fini(&n->tap);
    net_stream_fini(&n->stream);
    passt_stop(&n->passt);
    if (n->mmds != NULL)
        mmds_net_fini(n->mmds);
    free(n->mmds);
    free(n);
}
