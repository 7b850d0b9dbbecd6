/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `spore snapshot` prints about snapshots, as text or as JSON. Strings
 * of a snapshot are printed without control characters (manifest.h refuses
 * them). Thread rule: one thread.
 */
#ifndef VMM_SNAPSHOT_SHOW_H
#define VMM_SNAPSHOT_SHOW_H

#include <stdbool.h>
#include <stdio.h>

#include "snapshot/snap.h"
#include "snapshot/store.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/* A line (or element) for each; those that cannot be read say why. */
CC_MUST_CHECK int snapshot_show_list(
    struct store *store, bool is_json, FILE *out, struct err *err);

/* Manifest, sections, files, images of one. */
CC_MUST_CHECK int snapshot_show_one(
    const struct snap *snap, bool is_json, FILE *out, struct err *err);

/*
 * What is different in `b`: pages by their contents (from the hashes), and
 * sections of the state. *ret_differs says whether anything is.
 */
CC_MUST_CHECK int snapshot_show_diff(const struct snap *a, const struct snap *b,
    bool is_json, FILE *out, bool *ret_differs, struct err *err);

#endif
