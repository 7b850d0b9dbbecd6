/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine_pmem.h"

#include <errno.h>
#include <stdlib.h>

#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/num.h"
#include "vmm/hw/layout.h"

/* At the first address from `from` on that suits it. */
static int map_one(const struct config_pmem *config, struct kvm_vm *vm,
    uint64_t from, struct machine_pmem **ret_pmem, struct err *err)
{
    struct pmem_file_config file = {
        .path = config->path, .fd = -1, .read_only = config->is_read_only};
    struct machine_pmem *p = calloc(1, sizeof(*p));
    const char *warning = NULL;
    int rc;

    if (p == NULL)
        return err_sys(err, ENOMEM, "%s", config->path);
    rc = fd_from_path(config->path, !config->is_read_only, &file.fd, err);
    if (rc < 0) {
        free(p);
        return rc;
    }
    p->config = config;
    p->start = num_align_up(from, LAYOUT_PMEM_ALIGN);
    rc = pmem_file_open(&p->file, &file, &warning, err);
    if (rc < 0) {
        free(p);
        return rc;
    }
    if (warning != NULL)
        log_warn("pmem", "%s: %s", config->path, warning);
    rc = kvm_vm_add_region(
        vm, p->start, p->file.size, p->file.host, config->is_read_only, err);
    if (rc < 0) {
        machine_pmem_free(p);
        return rc;
    }
    *ret_pmem = p;
    return 0;
}

int machine_pmem_map_all(const struct config *config, struct kvm_vm *vm,
    const struct gmem *mem, struct machine_pmem *pmems[CONFIG_PMEMS_MAX],
    struct err *err)
{
    const struct gmem_region *last = &mem->regions[mem->region_count - 1];
    uint64_t free_from = num_max(GMEM_GAP_END, last->start.v + last->size);

    for (uint32_t i = 0; i < config->pmem_count; i++) {
        int rc = map_one(&config->pmems[i], vm, free_from, &pmems[i], err);

        if (rc < 0)
            return rc;
        free_from = pmems[i]->start + pmems[i]->file.size;
    }
    return 0;
}

bool machine_pmem_find_cut(struct machine_pmem *const pmems[CONFIG_PMEMS_MAX],
    uint32_t count, struct err *err)
{
    for (uint32_t i = 0; i < count; i++) {
        if (pmem_file_is_cut(&pmems[i]->file)) {
            (void)pmem_file_explain(&pmems[i]->file, err);
            return true;
        }
    }
    return false;
}

static void on_fault(void *opaque)
{
    struct machine_pmem *p = opaque;
    struct err err;

    (void)pmem_file_explain(&p->file, &err);
    p->on_fault(p->opaque, err.text);
}

int machine_pmem_add_device(struct machine_pmem *p, struct uring *uring,
    const struct virtio_host *host, struct err *err)
{
    const struct pmem_config config = {.id = p->config->id,
        .fd = p->file.fd,
        .uring = uring,
        .start = p->start,
        .size = p->file.size,
        .read_only = p->config->is_read_only,
        .rate = p->config->limits,
        .on_fault = on_fault,
        .opaque = p};
    int rc = pmem_init(&p->pmem, &config, host, err);

    if (rc == 0)
        p->has_device = true;
    return rc;
}

void machine_pmem_free(struct machine_pmem *p)
{
    struct device *dev;

    if (p == NULL)
        return;
    if (p->has_device) {
        /* A reset waits for what is in flight; the guest is gone. */
        dev = &p->pmem.virtio.base;
        device_lock(dev);
        dev->ops->reset(dev);
        device_unlock(dev);
        pmem_fini(&p->pmem);
    }
    pmem_file_close(&p->file);
    free(p);
}
