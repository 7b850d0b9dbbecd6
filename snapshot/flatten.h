/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A copy of a snapshot that shares no image file with any other: for those
 * who want to move one, or to be rid of a long chain. Every page is checked
 * against its hash on the way. Thread rule: one thread.
 */
#ifndef SNAPSHOT_FLATTEN_H
#define SNAPSHOT_FLATTEN_H

#include <stdbool.h>

#include "snapshot/snap.h"
#include "snapshot/store.h"
#include "snapshot/verify.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/*
 * Writes it into `store` under a new id and `name` (NULL: none). -EBADMSG if
 * the snapshot is damaged, -ENOTSUP if it has files that are not known.
 */
CC_MUST_CHECK int flatten_snap(const struct snap *snap, struct store *store,
    const char *name, bool sync, const struct verify_progress *progress,
    struct snapshot_id *ret_id, struct err *err);

#endif
