/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine_virtio.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "vmm/base/log.h"
#include "vmm/base/num.h"
#include "vmm/machine_devices.h"
#include "vmm/machine_drive.h"
#include "vmm/machine_net.h"

/* Kinds of devices that there is one of at most. */
#define SINGLE_DEVICES 4u

#define FILE_DEVICES (CONFIG_DRIVES_MAX + CONFIG_PMEMS_MAX)

_Static_assert(FILE_DEVICES + CONFIG_NETS_MAX + SINGLE_DEVICES <=
                   LAYOUT_GSI_COUNT - LAYOUT_GSI_VIRTIO,
    "each virtio device has a line of its own");
_Static_assert(
    FILE_DEVICES + CONFIG_NETS_MAX + SINGLE_DEVICES <= LAYOUT_VIRTIO_MAX,
    "each virtio device has a window of its own");

static int bind_kick(
    void *opaque, uint64_t address, uint32_t queue, int eventfd)
{
    struct machine *m = opaque;

    return kvm_vm_ioeventfd(&m->vm, address, queue, eventfd, true);
}

static void unbind_kick(
    void *opaque, uint64_t address, uint32_t queue, int eventfd)
{
    struct machine *m = opaque;
    int rc = kvm_vm_ioeventfd(&m->vm, address, queue, eventfd, false);

    if (rc < 0)
        log_debug("machine", "KVM keeps an ioeventfd: %d", rc);
}

/* The window, line and doorbells of the next virtio device. */
static int next_virtio(
    struct machine *m, struct virtio_host *ret_host, struct err *err)
{
    uint32_t n = m->virtio_count;
    struct virtio_host host = {.mem = &m->mem,
        .loop = m->host.loop,
        .base = LAYOUT_VIRTIO + n * LAYOUT_VIRTIO_STRIDE,
        .bind_kick = bind_kick,
        .unbind_kick = unbind_kick,
        .opaque = m};
    int rc = irqchip_line(&m->irqchip, LAYOUT_GSI_VIRTIO + n, &host.irq, err);

    if (rc == 0)
        *ret_host = host;
    return rc;
}

static void map_virtio(struct machine *m, struct virtio_device *v)
{
    machine_devices_map_mmio(m, v->host.base, LAYOUT_VIRTIO_STRIDE, &v->base);
    m->virtio_count++;
}

static int add_uring(struct machine *m, struct err *err)
{
    if (m->config->drive_count == 0 && m->config->pmem_count == 0)
        return 0;
    m->uring = calloc(1, sizeof(*m->uring));
    if (m->uring == NULL)
        return err_sys(err, ENOMEM, "drives");
    uring_init(m->uring, m->host.loop);
    return 0;
}

static int add_drives(struct machine *m, struct err *err)
{
    for (uint32_t i = 0; i < m->config->drive_count; i++) {
        struct virtio_host host;
        int rc = next_virtio(m, &host, err);

        if (rc == 0)
            rc = machine_drive_new(
                &m->config->drives[i], m->uring, &host, &m->drives[i], err);
        if (rc < 0)
            return rc;
        map_virtio(m, &m->drives[i]->blk.virtio);
    }
    return 0;
}

/* The memory is there already: machine_pmem_map_all. */
static int add_pmems(
    struct machine *m, const struct machine_events *events, struct err *err)
{
    for (uint32_t i = 0; i < m->config->pmem_count; i++) {
        struct machine_pmem *p = m->pmems[i];
        struct virtio_host host;
        int rc = next_virtio(m, &host, err);

        p->on_fault = events->host_fault;
        p->opaque = events->opaque;
        if (rc == 0)
            rc = machine_pmem_add_device(p, m->uring, &host, err);
        if (rc < 0)
            return rc;
        map_virtio(m, &p->pmem.virtio);
        /* Apart from all devices by the layout; it has no state to save. */
        rc = bus_add(&m->mmio, p->start, p->file.size, &p->pmem.window);
        assert(rc == 0);
    }
    return 0;
}

static int add_vsock_uds(struct machine *m, struct err *err)
{
    int rc;

    if (m->config->vsock_path == NULL)
        return 0;
    m->vsock_uds = calloc(1, sizeof(*m->vsock_uds));
    if (m->vsock_uds == NULL)
        return err_sys(err, ENOMEM, "%s", m->config->vsock_path);
    rc = vsock_uds_open(m->vsock_uds, m->vsock, m->config->vsock_path, -1, err);
    if (rc < 0) {
        free(m->vsock_uds);
        m->vsock_uds = NULL;
        return rc;
    }
    if (m->host.outside != NULL)
        vsock_uds_set_connect(
            m->vsock_uds, m->host.outside->connect, m->host.outside->opaque);
    return 0;
}

static int add_vsock(struct machine *m, struct err *err)
{
    struct vsock_config config = {
        .id = "vsock", .guest_cid = m->config->guest_cid};
    struct virtio_host host;
    int rc;

    if (!config_has_vsock(m->config))
        return 0;
    rc = next_virtio(m, &host, err);
    if (rc < 0)
        return rc;
    m->vsock = calloc(1, sizeof(*m->vsock));
    if (m->vsock == NULL)
        return err_sys(err, ENOMEM, "vsock device");
    rc = vsock_init(m->vsock, &config, &host, err);
    if (rc < 0) {
        free(m->vsock);
        m->vsock = NULL;
        return rc;
    }
    if (m->host.accept != NULL)
        vsock_set_accept(
            m->vsock, VSOCK_ACCEPT_MONITOR, m->host.accept, m->host.opaque);
    map_virtio(m, &m->vsock->virtio);
    return add_vsock_uds(m, err);
}

static int add_nets(struct machine *m, struct err *err)
{
    for (uint32_t i = 0; i < m->config->net_count; i++) {
        struct virtio_host host;
        int rc = next_virtio(m, &host, err);

        if (rc == 0)
            rc = machine_net_new(&m->config->nets[i], &host, m->host.outside,
                m->host.mmds, &m->nets[i], err);
        if (rc < 0)
            return rc;
        map_virtio(m, &m->nets[i]->net.virtio);
    }
    return 0;
}

static int add_rng(struct machine *m, struct err *err)
{
    const struct rng_config config = {.id = "rng", .rate = m->config->entropy};
    struct virtio_host host;
    int rc;

    if (!m->config->has_entropy)
        return 0;
    rc = next_virtio(m, &host, err);
    if (rc < 0)
        return rc;
    m->rng = calloc(1, sizeof(*m->rng));
    if (m->rng == NULL)
        return err_sys(err, ENOMEM, "entropy device");
    rc = rng_init(m->rng, &config, &host, err);
    if (rc < 0) {
        free(m->rng);
        m->rng = NULL;
        return rc;
    }
    map_virtio(m, &m->rng->virtio);
    return 0;
}

static int add_balloon(struct machine *m, struct err *err)
{
    const struct config_balloon *c = &m->config->balloon;
    const struct balloon_config config = {.id = "balloon",
        .target = c->target_mib * (NUM_MIB / NUM_PAGE_SIZE),
        .stats_interval_ms = c->stats_interval_s * UINT64_C(1000),
        .deflate_on_oom = c->deflate_on_oom,
        .page_hinting = c->page_hinting,
        .page_reporting = c->page_reporting};
    struct virtio_host host;
    int rc;

    if (!m->config->has_balloon)
        return 0;
    rc = next_virtio(m, &host, err);
    if (rc < 0)
        return rc;
    m->balloon = calloc(1, sizeof(*m->balloon));
    if (m->balloon == NULL)
        return err_sys(err, ENOMEM, "balloon");
    rc = balloon_init(m->balloon, &config, &host, err);
    if (rc < 0) {
        free(m->balloon);
        m->balloon = NULL;
        return rc;
    }
    map_virtio(m, &m->balloon->virtio);
    return 0;
}

static int add_vconsole(struct machine *m, struct err *err)
{
    struct vconsole_host end = {0};
    struct virtio_host host;
    int rc;

    if (!m->config->has_vconsole)
        return 0;
    if (m->host.vconsole != NULL)
        end = console_end(m->host.vconsole);
    rc = next_virtio(m, &host, err);
    if (rc < 0)
        return rc;
    m->vconsole = calloc(1, sizeof(*m->vconsole));
    if (m->vconsole == NULL)
        return err_sys(err, ENOMEM, "virtio console");
    rc = vconsole_init(m->vconsole, "vconsole", &end, &host, err);
    if (rc < 0) {
        free(m->vconsole);
        m->vconsole = NULL;
        return rc;
    }
    map_virtio(m, &m->vconsole->virtio);
    if (m->host.vconsole == NULL)
        return 0;
    return console_attach_virtio(m->host.vconsole, m->vconsole, err);
}

int machine_virtio_init(
    struct machine *m, const struct machine_events *events, struct err *err)
{
    int rc = add_uring(m, err);

    if (rc == 0)
        rc = add_drives(m, err);
    if (rc == 0)
        rc = add_pmems(m, events, err);
    if (rc == 0)
        rc = add_vsock(m, err);
    if (rc == 0)
        rc = add_nets(m, err);
    if (rc == 0)
        rc = add_rng(m, err);
    if (rc == 0)
        rc = add_balloon(m, err);
    if (rc == 0)
        rc = add_vconsole(m, err);
    return rc;
}

void machine_virtio_fini(struct machine *m)
{
    if (m->host.vconsole != NULL)
        console_fini(m->host.vconsole);
    if (m->vconsole != NULL)
        vconsole_fini(m->vconsole);
    free(m->vconsole);
    if (m->balloon != NULL)
        balloon_fini(m->balloon);
    free(m->balloon);
    if (m->rng != NULL)
        rng_fini(m->rng);
    free(m->rng);
    for (uint32_t i = 0; i < CONFIG_NETS_MAX; i++)
        machine_net_free(m->nets[i]);
    if (m->vsock_uds != NULL)
        vsock_uds_close(m->vsock_uds);
    free(m->vsock_uds);
    if (m->vsock != NULL)
        vsock_fini(m->vsock);
    free(m->vsock);
    for (uint32_t i = 0; i < CONFIG_DRIVES_MAX; i++)
        machine_drive_free(m->drives[i]);
    for (uint32_t i = 0; i < CONFIG_PMEMS_MAX; i++)
        machine_pmem_free(m->pmems[i]);
    if (m->uring != NULL)
        uring_fini(m->uring);
    free(m->uring);
}
