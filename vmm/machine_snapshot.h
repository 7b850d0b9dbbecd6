/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot of a machine into a store that this process has open: both halves
 * of a save, vmm/machine_save.h and snapshot/assembly.h, one behind the other.
 *
 * Thread rule: as those.
 */
#ifndef VMM_MACHINE_SNAPSHOT_H
#define VMM_MACHINE_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#include "snapshot/assembly.h"
#include "snapshot/id.h"
#include "snapshot/store.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/machine.h"
#include "vmm/machine_save.h"

struct machine_snapshot_options {
    const char *name; /* in the store; NULL: none */
    bool diff;        /* on what the machine was last saved to or came from */
    bool sync;        /* on stable storage before it appears */
    bool track; /* follow writes from here on, so that a diff can come next */
    bool share; /* look for pages that the store has already */
    const bool *is_cancelled; /* as machine_save_options */
};

struct machine_snapshot {
    struct assembly assembly;
    struct machine_save save;
};

/*
 * The steps of machine_save.h, and with the last of them the snapshot is
 * there. On failure of the first nothing is left to be freed.
 */
CC_MUST_CHECK int machine_snapshot_begin(struct machine_snapshot *s,
    struct machine *m, struct store *store,
    const struct machine_snapshot_options *options, struct err *err);
CC_MUST_CHECK int machine_snapshot_finish(
    struct machine_snapshot *s, struct snapshot_id *ret_id, struct err *err);

/* Frees; one that was not finished leaves nothing. */
void machine_snapshot_fini(struct machine_snapshot *s);

/* All steps at once, for a machine whose guest does not run. */
CC_MUST_CHECK int machine_snapshot_paused(struct machine *m,
    struct store *store, const struct machine_snapshot_options *options,
    struct snapshot_id *ret_id, struct err *err);

#endif
