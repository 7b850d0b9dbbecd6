/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A drive of a machine and its driver: an image of random bytes, a virtio
 * block device that works on it, and a model of what the disk must hold. What
 * is checked is read through the device, the model was never near it.
 *
 * Thread rule: one thread. Failures are cmocka's assertions.
 */
#ifndef TESTS_UNIT_SUPPORT_DISK_RIG_H
#define TESTS_UNIT_SUPPORT_DISK_RIG_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/unit/support/drive_queue.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/config.h"
#include "vmm/core/gmem.h"
#include "vmm/core/loop.h"
#include "vmm/core/uring.h"
#include "vmm/machine_drive.h"

#define DISK_RIG_SECTORS 2045u /* the last cluster is cut */
#define DISK_RIG_BYTES   (DISK_RIG_SECTORS * BLK_SECTOR)
#define DISK_RIG_BATCH   16u /* requests of a round, each in its own part */

/* Where the bytes of request 0 are in guest memory. */
#define DISK_RIG_DATA UINT64_C(0x100000)

struct disk_rig {
    struct gmem mem;
    struct loop loop;
    struct uring uring;
    int irq;
    char path[64]; /* the image, in the working folder */
    struct config_drive config;
    struct machine_drive_options options;
    struct machine_drive *drive; /* NULL: closed */
    struct device *dev;
    struct drive_queue d;
    uint8_t model[DISK_RIG_BYTES];
    uint64_t seed;
};

/* A rig with an image and no drive yet; the caller fills in `options`. */
struct disk_rig *disk_rig_new(bool has_ring);
/* Closes the drive and removes the image. */
void disk_rig_free(struct disk_rig *f);

CC_MUST_CHECK int disk_rig_try_open(struct disk_rig *f, struct err *err);
void disk_rig_open(struct disk_rig *f);
void disk_rig_close(struct disk_rig *f);

/* A driver that begins anew with the device that is there. */
void disk_rig_restart(struct disk_rig *f);

/* Below `below`, from the rig's seed. */
uint64_t disk_rig_next(struct disk_rig *f, uint64_t below);

/* Request `i` with a place of its own; it waits for the next run. */
void disk_rig_add(struct disk_rig *f, unsigned int i, uint32_t type,
    uint64_t sector, uint32_t len);

/* A write, write-zeroes or discard somewhere in the `i`th sixteenth. */
void disk_rig_add_random(struct disk_rig *f, unsigned int i);

/* Kicks, and waits until `n` requests are done, well. */
void disk_rig_run(struct disk_rig *f, unsigned int n);

/* DISK_RIG_BATCH random ones at once. */
void disk_rig_round(struct disk_rig *f);
void disk_rig_flush(struct disk_rig *f);

/* Reads all of the disk through the device: it is the model. */
void disk_rig_check(struct disk_rig *f);

#endif
