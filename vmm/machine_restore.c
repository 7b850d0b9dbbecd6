/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine_restore.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "snapshot/frozen_file.h"
#include "snapshot/ram.h"
#include "vmm/base/bytes.h"
#include "vmm/hw/cpuid_check.h"
#include "vmm/machine_drive_restore.h"

int machine_restore_config(
    struct snap *snap, struct config *config, struct err *err)
{
    const struct state_section *section;
    int rc = state_file_require(
        &snap->state, MACHINE_SECTION, MACHINE_SECTION_VERSION, &section, err);

    if (rc < 0)
        return rc;
    rc = config_load_json(config, (const char *)section->data, section->size,
        "snapshot's machine", err);
    /* Its memory is what is mapped of the snapshot, whatever it was before. */
    config->has_huge_pages = false;
    if (rc == 0 && config->mem_bytes >> NUM_PAGE_SHIFT != snap->index.pages)
        rc = err_set(err, EBADMSG,
            "the snapshot's index is of %llu pages, its machine has %llu",
            (unsigned long long)snap->index.pages,
            (unsigned long long)(config->mem_bytes >> NUM_PAGE_SHIFT));
    return rc == 0 ? machine_drive_restore_config(snap, config, err) : rc;
}

int machine_restore_memory(struct machine *m, struct err *err)
{
    const struct machine_origin *origin = m->host.origin;
    const struct snap *snap = origin->snap;
    int rc = gmem_init_private(&m->mem, m->config->mem_bytes, err);

    if (rc < 0)
        return rc;
    if (origin->pages != NULL)
        return page_client_attach(origin->pages, &m->mem, err);
    return ram_map(&m->mem, &snap->index, snap->image_fds, err);
}

/* A guest that was saved since this host started has its features here. */
static bool is_of_this_host(struct snap *snap)
{
    static const uint8_t unknown[HOST_ID_BYTES];
    const struct state_section *section =
        state_file_take(&snap->state, HOST_SECTION);
    uint8_t id[HOST_ID_BYTES];

    if (section == NULL || section->version != HOST_SECTION_VERSION ||
        section->size != HOST_ID_BYTES)
        return false;
    machine_host_id(id);
    return memcmp(id, unknown, sizeof(id)) != 0 &&
           memcmp(id, section->data, sizeof(id)) == 0;
}

int machine_restore_host_cpuid(
    const struct machine *m, struct cpuid *ret_cpuid, struct err *err)
{
    int rc = cpuid_init(ret_cpuid, m->host.kvm, err);

    if (rc == 0)
        cpuid_see(ret_cpuid, &m->host.kvm->features);
    return rc;
}

static int check_host(
    const struct machine *m, const struct cpuid *saved, struct err *err)
{
    struct cpuid host;
    int rc = machine_restore_host_cpuid(m, &host, err);

    if (rc < 0)
        return rc;
    rc = cpuid_check(saved, &host, err);
    cpuid_fini(&host);
    return rc;
}

static int load_cpuid(
    struct snap *snap, struct cpuid *ret_cpuid, struct err *err)
{
    const struct state_section *section;
    struct bytes_reader in;
    int rc = state_file_require(
        &snap->state, CPUID_SECTION, CPUID_WIRE_VERSION, &section, err);

    if (rc < 0)
        return rc;
    bytes_reader_init(&in, section->data, section->size);
    return cpuid_decode(&in, ret_cpuid, err);
}

int machine_restore_cpuid(struct machine *m, struct err *err)
{
    struct snap *snap = m->host.origin->snap;
    int rc = load_cpuid(snap, &m->cpuid, err);

    if (rc < 0 || is_of_this_host(snap))
        return rc;
    return check_host(m, &m->cpuid, err);
}

/*
 * What the description says of a device, where the state of the device has
 * it too: the guest is told that it changed.
 */
static int set_nets(struct machine *m, struct err *err)
{
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < m->config->net_count; i++) {
        struct net *net = &m->nets[i]->net;

        if (!m->config->nets[i].has_mac)
            continue;
        device_lock(&net->virtio.base);
        rc = net_set_mac(net, m->config->nets[i].mac, err);
        device_unlock(&net->virtio.base);
    }
    return rc;
}

static int set_balloon(struct machine *m, struct err *err)
{
    uint64_t pages = m->config->balloon.target_mib * (NUM_MIB / NUM_PAGE_SIZE);
    int rc;

    if (m->balloon == NULL || !m->host.origin->sets_balloon)
        return 0;
    device_lock(&m->balloon->virtio.base);
    rc = balloon_set_target(m->balloon, pages, err);
    device_unlock(&m->balloon->virtio.base);
    return rc;
}

int machine_restore_state(struct machine *m, struct err *err)
{
    struct snap *snap = m->host.origin->snap;
    struct parts parts = machine_parts(m);
    struct frozen frozen;
    int rc = frozen_load(&snap->state, &parts, &frozen, err);

    if (rc < 0)
        return rc;
    rc = machine_drive_restore_all(
        m, snap, m->host.origin->allow_changed_disks, err);
    if (rc == 0)
        rc = state_file_check_all_taken(&snap->state, err);
    if (rc == 0)
        rc = frozen_apply(&frozen, &parts, m->host.origin->clock, err);
    frozen_fini(&frozen);
    if (rc == 0)
        rc = set_nets(m, err);
    if (rc == 0)
        rc = set_balloon(m, err);
    /* What is written from here on differs from the snapshot. */
    if (rc == 0 && m->dirty.is_on)
        m->base = snap->id;
    return rc;
}

/* The vCPUs have this host's; the guest must have what it was saved with. */
static int fill_cpuid(struct machine *m, struct err *err)
{
    struct snap *snap = m->host.origin->snap;
    struct cpuid saved;
    int rc = load_cpuid(snap, &saved, err);

    if (rc < 0)
        return rc;
    cpuid_set_identity(&saved, m->vcpu_count - 1, m->vcpu_count);
    if (cpuid_equal(&saved, &m->cpuid)) {
        cpuid_fini(&saved);
        return 0;
    }
    if (!is_of_this_host(snap))
        rc = cpuid_check(&saved, &m->cpuid, err);
    if (rc < 0) {
        cpuid_fini(&saved);
        return rc;
    }
    cpuid_fini(&m->cpuid);
    m->cpuid = saved;
    for (uint32_t i = 0; i < m->vcpu_count && rc == 0; i++)
        rc = vcpu_set_cpuid(&m->vcpus[i], &m->cpuid, m->vcpu_count, err);
    return rc;
}

static int fill_memory(struct machine *m, struct err *err)
{
    static const struct snapshot_id none;
    const struct snap *snap = m->host.origin->snap;
    uint64_t pages = gmem_page_count(&m->mem);

    if (snap->index.pages != pages)
        return err_set(err, EINVAL,
            "the snapshot has %llu pages of RAM, the machine made ahead %llu",
            (unsigned long long)snap->index.pages, (unsigned long long)pages);
    if (snapshot_id_equal(&m->mapped, &snap->id))
        return 0;
    if (!snapshot_id_equal(&m->mapped, &none))
        return err_set(
            err, EINVAL, "the machine was made ahead for another snapshot");
    return ram_map(&m->mem, &snap->index, snap->image_fds, err);
}

int machine_fill(
    struct machine *m, const struct machine_origin *origin, struct err *err)
{
    struct snap *snap = origin->snap;
    int rc;

    assert(m->host.is_shell);
    m->host.origin = origin;
    /* The machine is there; its parts are held against the state below. */
    (void)state_file_take(&snap->state, MACHINE_SECTION);
    rc = fill_memory(m, err);
    if (rc == 0)
        rc = fill_cpuid(m, err);
    if (rc == 0)
        rc = machine_restore_state(m, err);
    m->host.origin = NULL;
    if (rc < 0)
        return rc;
    m->host.is_shell = false;
    m->is_restored = true;
    return 0;
}
