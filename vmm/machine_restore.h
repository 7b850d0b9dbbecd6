/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine out of a snapshot: what machine_init does where it does not boot.
 *
 * Thread rule: as machine_init. The snapshot is hostile: its description goes
 * through config_check, its states through each device's post_load and KVM.
 */
#ifndef VMM_MACHINE_RESTORE_H
#define VMM_MACHINE_RESTORE_H

#include <stdbool.h>

#include "snapshot/page_client.h"
#include "snapshot/snap.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/config.h"
#include "vmm/hw/vm_clock.h"
#include "vmm/machine.h"

/* Where a machine comes from that does not boot. */
struct machine_origin {
    struct snap *snap; /* borrowed until machine_init returns */
    enum vm_clock_policy clock;
    bool allow_changed_disks; /* files that were written to since the save */
    /*
     * What gives the machine its memory (vmm/restore_memory.h), to outlive the
     * machine; NULL: it is mapped from the snapshot's files.
     */
    struct page_client *pages;
    /* The balloon's size is the description's, and not what it was. */
    bool sets_balloon;
};

/*
 * The description in the snapshot, over what *config holds, as another process
 * can have it (machine_drive_restore_config); the caller changes in it what is
 * to be another (paths of disks, networks).
 */
CC_MUST_CHECK int machine_restore_config(
    struct snap *snap, struct config *config, struct err *err);

/* The rest in the order of machine_init; each is its own step there. */
CC_MUST_CHECK int machine_restore_memory(struct machine *m, struct err *err);
CC_MUST_CHECK int machine_restore_cpuid(struct machine *m, struct err *err);
CC_MUST_CHECK int machine_restore_state(struct machine *m, struct err *err);

/* The processor as a guest sees it on this host; cpuid_fini releases it. */
CC_MUST_CHECK int machine_restore_host_cpuid(
    const struct machine *m, struct cpuid *ret_cpuid, struct err *err);

/*
 * Gives a machine that was made ahead (machine_host.is_shell) the guest of
 * `origin`: what is left to do when the request comes. The snapshot's
 * machine must have as much RAM and the same vCPUs and devices; others are
 * refused, and so is another snapshot than that whose memory is mapped ahead.
 * After an error the machine can only be thrown away.
 */
CC_MUST_CHECK int machine_fill(
    struct machine *m, const struct machine_origin *origin, struct err *err);

#endif
