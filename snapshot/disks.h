/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The section `disks` of a snapshot: for each drive of the machine which file
 * it is and how that file was, and whether the snapshot has what was written
 * to the drive. The pages of such a drive are in the files `disk-map.<n>` and
 * `disk-hashes.<n>` (an index and hashes, as for RAM, of the drive's clusters
 * of 4096 bytes), n being the drive's number, and in images.
 *
 * What disks_decode is given is hostile. Thread rule: pure functions.
 */
#ifndef SNAPSHOT_DISKS_H
#define SNAPSHOT_DISKS_H

#include <stdbool.h>
#include <stdint.h>

#include "snapshot/id.h"
#include "snapshot/state_file.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define DISKS_SECTION         "disks"
#define DISKS_SECTION_VERSION 1u
#define DISKS_MAX             16u
#define DISKS_PATH_MAX        4095u

#define DISKS_MAP_PREFIX    "disk-map."
#define DISKS_HASHES_PREFIX "disk-hashes."

enum disk_kind {
    /* The file as it was then: the snapshot has nothing of it. */
    DISK_FILE = 1,
    /* The file, and over it what the snapshot has. */
    DISK_OVERLAY = 2,
};

struct disk_record {
    enum disk_kind kind;
    uint64_t bytes;   /* of the file */
    uint64_t mtime_s; /* when it was last written to; 0: a block device */
    uint32_t mtime_ns;
    char *path; /* disks_path_is_valid */
};

struct disks {
    uint32_t count;
    struct disk_record records[DISKS_MAX]; /* by the drive's number */
};

void disks_fini(struct disks *disks);

/* Absolute, at most DISKS_PATH_MAX bytes, none of them a control character. */
bool disks_path_is_valid(const char *path);

/* Adds the section; nothing of it is kept. */
CC_MUST_CHECK int disks_store(
    const struct disks *disks, struct state_writer *w, struct err *err);

/*
 * Decodes the body of the section: 0, -EBADMSG, -ENOTSUP for a version of the
 * future, or -ENOMEM.
 */
CC_MUST_CHECK int disks_decode(const struct state_section *section,
    struct disks *ret_disks, struct err *err);

/* The names of the files of drive `n`. */
void disks_map_name(uint32_t n, char ret_name[SNAPSHOT_FILE_MAX + 1]);
void disks_hashes_name(uint32_t n, char ret_name[SNAPSHOT_FILE_MAX + 1]);

#endif
