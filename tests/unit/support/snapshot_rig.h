/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store in a temporary directory, a memory to save and the saving of it, as
 * the engine does it. Failures are assertions.
 */
#ifndef TESTS_UNIT_SUPPORT_SNAPSHOT_RIG_H
#define TESTS_UNIT_SUPPORT_SNAPSHOT_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshot/id.h"
#include "snapshot/snap.h"
#include "snapshot/store.h"
#include "vmm/base/err.h"

struct snapshot_rig {
    char path[64]; /* of the store */
    struct store store;
    uint64_t pages;
    uint8_t *ram;    /* a shared mapping of */
    int mem_fd;      /* a memfd */
    bool sync;       /* false at first */
    uint32_t dedupe; /* least run of it; 0: none */

    /* A disk besides, as the seeds of its clusters; 0 of them: none. */
    uint64_t clusters;
    uint64_t *disk;
    uint64_t *disk_saved; /* as of the last save */
};

/* A cluster that is as the disk below. */
#define SNAPSHOT_RIG_BELOW UINT64_MAX

/* `path` NULL: a new directory below $TMPDIR. */
void snapshot_rig_init(
    struct snapshot_rig *rig, const char *path, uint64_t pages);
/* Removes the store too. */
void snapshot_rig_fini(struct snapshot_rig *rig);
/* What is left is left. */
void snapshot_rig_close(struct snapshot_rig *rig);

/* Fills a page with bytes that depend on the seed; seed 0 is zeroes. */
void snapshot_rig_fill(struct snapshot_rig *rig, uint64_t page, uint64_t seed);

/* Gives it a disk, all of it below; to be filled by cluster. */
void snapshot_rig_add_disk(struct snapshot_rig *rig, uint64_t clusters);

/*
 * Whether the snapshot's disk is that of these seeds; a cluster that is
 * damaged differs.
 */
bool snapshot_rig_disk_is(
    const struct snap *snap, const uint64_t *seeds, uint64_t clusters);

/*
 * Saves all of the memory, or with a parent what differs from `before` (the
 * memory as it was at the parent), and the same of the disk, where the parent
 * must be what was saved last. 0, or what failed; nothing is asserted.
 */
int snapshot_rig_save(struct snapshot_rig *rig, const char *name,
    const struct snapshot_id *parent, const uint8_t *before,
    struct snapshot_id *ret_id, struct err *err);

/* The memory that a snapshot holds, through its index; the caller frees it. */
uint8_t *snapshot_rig_load(const struct snap *snap);

/* rm -r of a folder below the temporary directory. */
void snapshot_rig_remove_tree(const char *path);

#endif
