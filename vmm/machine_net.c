/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine_net.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/netswitch_join.h"

#define QUEUE_SIZE 256u

/* Once, on the loop: the guest goes on without this network. */
static void on_gone(void *opaque, int code)
{
    struct machine_net *n = opaque;

    log_warn("net", "%s: the other end is gone (%d): the link is down",
        n->config->id, code);
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

static int join_switch(struct machine_net *n, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    int rc = netswitch_join(n->config->target, &fd, err);

    if (rc == 0)
        rc = net_stream_init(&n->stream, fd, err);
    if (rc < 0)
        return rc;
    (void)fd_steal(&fd);
    n->backend = &n->stream.backend;
    return 0;
}

static int connect_backend(struct machine_net *n, struct err *err)
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
        return join_switch(n, err);
    case CONFIG_NET_USER:
    default:
        return err_set(
            err, ENOTSUP, "this kind of network is not supported yet");
    }
}

static int make_device(
    struct machine_net *n, const struct virtio_host *host, struct err *err)
{
    const struct config_net *config = n->config;
    struct net_config net = {.id = n->id,
        .backend = n->backend,
        .mac = config->has_mac ? config->mac : NULL,
        .mtu = config->mtu,
        .queue_size = QUEUE_SIZE,
        .rx_gate = &n->rx.gate,
        .tx_gate = &n->tx.gate,
        .on_gone = on_gone,
        .opaque = n};
    int rc = net_limit_init(&n->rx, &config->rx, host->loop, err);

    if (rc == 0)
        rc = net_limit_init(&n->tx, &config->tx, host->loop, err);
    if (rc == 0)
        rc = net_init(&n->net, &net, host, err);
    if (rc < 0)
        return rc;
    net_limit_attach(&n->rx, &n->net);
    net_limit_attach(&n->tx, &n->net);
    return 0;
}

int machine_net_new(const struct config_net *config,
    const struct virtio_host *host, struct machine_net **ret_net,
    struct err *err)
{
    struct machine_net *n = calloc(1, sizeof(*n));
    int rc;

    if (n == NULL)
        return err_sys(err, ENOMEM, "network interface %s", config->id);
    n->config = config;
    (void)snprintf(n->id, sizeof(n->id), "net-%s", config->id);
    rc = connect_backend(n, err);
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
    free(n);
}
