/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A persistent memory of a machine: the file, its place among the guest's
 * addresses, and the virtio device that tells of it.
 *
 * Made in two steps, since memory must be there before the interrupt
 * controller and a device needs lines of one. Thread rule: made before and
 * freed after the vCPUs run; machine_pmem_find_cut from any thread.
 */
#ifndef VMM_MACHINE_PMEM_H
#define VMM_MACHINE_PMEM_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/pmem.h"
#include "virtio/pmem_file.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/config.h"
#include "vmm/core/gmem.h"
#include "vmm/core/uring.h"
#include "vmm/hw/kvm.h"

struct machine_pmem {
    const struct config_pmem *config; /* borrowed */
    struct pmem_file file;
    uint64_t start; /* guest address */
    struct pmem pmem;
    bool has_device;

    /* The guest cannot go on: on a vCPU thread, with one line for people. */
    void (*on_fault)(void *opaque, const char *text);
    void *opaque;
};

/*
 * Opens the files that the configuration names and gives them to the VM as
 * memory, behind `mem`. On failure some of `pmems` may be made, and all of
 * those are the caller's to free. `config` outlives them.
 */
CC_MUST_CHECK int machine_pmem_map_all(const struct config *config,
    struct kvm_vm *vm, const struct gmem *mem,
    struct machine_pmem *pmems[CONFIG_PMEMS_MAX], struct err *err);

/* Makes its device; on_fault and opaque are set. */
CC_MUST_CHECK int machine_pmem_add_device(struct machine_pmem *p,
    struct uring *uring, const struct virtio_host *host, struct err *err);

/* Whether a file was cut since it was mapped, and then a line on which. */
bool machine_pmem_find_cut(struct machine_pmem *const pmems[CONFIG_PMEMS_MAX],
    uint32_t count, struct err *err);

/* Completes what is in flight first; NULL is fine. */
void machine_pmem_free(struct machine_pmem *p);

#endif
