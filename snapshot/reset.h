/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In-place reset: puts a running machine back to where it was, at the cost of
 * what changed since.
 *
 * Owns a stack of levels. The root knows all of RAM; a level pushed on top
 * holds what had changed since the one below. Each has the state of devices,
 * vCPUs and disks of its moment too. What is put back is always the top; the
 * levels above one that is gone back to are lost.
 *
 * Pages that change in nearly every round become hot: they stay writable and
 * are copied back each time, instead of faulting. Page tables of the guest are
 * never hot, and when one of them changed, KVM is made to forget what it had
 * derived from it (reset_config.static_page_tables says when that can be
 * known).
 *
 * Where the owner names pages that every entry to ring 0 writes, a round that
 * left them alone was all in ring 3: no table and little of the vCPU can have
 * changed, and putting it back takes no system call on the vCPU.
 *
 * Thread rule: the thread that owns the machine, every vCPU out of the guest
 * and settled (vcpu_settle, or vcpu_step's doorbell after an OUT). Nothing of
 * the guest runs while a function here does. Guest-controlled: which pages
 * changed, and all bytes, which are only copied.
 */
#ifndef SNAPSHOT_RESET_H
#define SNAPSHOT_RESET_H

#include <stdbool.h>
#include <stdint.h>

#include "snapshot/page_stack.h"
#include "snapshot/page_tables.h"
#include "snapshot/parts.h"
#include "vmm/base/bitmap.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/* What the guest may have changed in vCPUs that no exit tells of. */
#define RESET_VCPU_PARTS_ALL                                                   \
    (VCPU_STATE_ALL & ~(VCPU_STATE_SYNCED | VCPU_STATE_TSC))

/* A disk that takes part: its content goes with RAM. */
struct reset_disk_ops {
    int (*push)(void *opaque, struct err *err);
    /* Back to the top level; no request is in flight. */
    int (*reset)(void *opaque, struct err *err);
    /* The top level is gone: the one below is the top, and nothing moves. */
    void (*pop)(void *opaque);
};

struct reset_disk {
    const struct reset_disk_ops *ops;
    void *opaque;
};

#define RESET_DISKS_MAX 16u

struct reset_config {
    struct parts parts; /* with a tracker that is on */

    /*
     * RAM as it is now, as a mapping that does not change: the image that a
     * machine which has not run yet was restored from. NULL: RAM is copied.
     */
    const uint8_t *root;

    /*
     * Parts of vCPU state to put back each time besides registers and
     * pending events: RESET_VCPU_PARTS_ALL, or less where the guest's side is
     * known not to change them between resets; 0 leaves a reset without any
     * system call on a vCPU. Each costs one of 8 us where measured.
     */
    uint32_t vcpu_parts;

    /*
     * The guest's side promises that between resets page tables change in
     * pages that were tables of the current address space at the push
     * already, if at all. Without that, where KVM shadows page tables, every
     * reset drops all that KVM knows of RAM (15 us and a fault for each page
     * where measured), since any page may have been a table meanwhile.
     */
    bool static_page_tables;

    /*
     * More address spaces than that which is current at a push whose tables
     * are told apart; copied.
     */
    const struct page_tables_regs *spaces;
    uint32_t space_count;

    /*
     * Pages of which one at least is written whenever ring 0 is entered: its
     * stack and the like; copied. After a round that wrote none of them, only
     * quiet_parts are put back besides registers and pending events. None: it
     * may have been entered in any round.
     */
    const uint32_t *entry_pages;
    uint32_t entry_page_count;
    uint32_t quiet_parts; /* what ring 3 changes: VCPU_STATE_XSAVE or 0 */

    /*
     * Pages that the guest shares with its owner: they stay as they are in a
     * reset, and writable; copied. They must not hold page tables.
     */
    const uint32_t *kept;
    uint32_t kept_count;

    /* Freeze: the guest's clock and TSC go back as well. */
    enum vm_clock_policy clock;

    /* Most pages that may be hot; 0: none. */
    uint32_t hot_max;

    const struct reset_disk *disks; /* copied */
    uint32_t disk_count;
};

struct reset_stats {
    uint64_t resets;
    uint64_t pages;   /* put back, hot ones included */
    uint64_t hot;     /* of them */
    uint64_t flushes; /* KVM made to forget RAM */
    uint64_t devices; /* given their state back */
    uint64_t entered; /* resets before which ring 0 may have run */
};

struct reset {
    struct reset_config config;
    struct reset_disk disks[RESET_DISKS_MAX];
    bool has_sync; /* registers travel in struct kvm_run */
    struct page_stack pages;
    struct frozen *levels; /* [0, pages.top] */
    struct page_tables_regs *spaces;
    struct bitmap tables; /* page tables at the latest push */
    struct bitmap entry;  /* pages that an entry to ring 0 writes */
    struct bitmap kept;
    uint8_t *heat; /* a count for each page */
    uint32_t *hot; /* the kept ones first */
    uint32_t hot_kept;
    uint32_t hot_count;
    uint32_t hot_known;  /* of them, the tracker knows */
    uint32_t since_hot;  /* resets since the tracker was told */
    uint32_t since_cold; /* since all pages were made cold */
    uint64_t stopped;    /* devices that reset_resume is due for */
    struct reset_stats stats;
};

/*
 * Takes the root: the machine as it is now. On failure nothing is left of it
 * and the machine goes on as it was.
 */
CC_MUST_CHECK int reset_init(
    struct reset *r, const struct reset_config *config, struct err *err);

/* A zeroed one is let be. The machine stays as it is. */
void reset_fini(struct reset *r);

/* A new level on top, at the cost of what changed since the last one. */
CC_MUST_CHECK int reset_push(struct reset *r, struct err *err);

/*
 * Puts the machine back to the top level: all of it is as it was, and the
 * devices that were put back stay stopped until reset_resume. After an error
 * the machine can only be thrown away.
 */
CC_MUST_CHECK int reset_to_top(struct reset *r, struct err *err);

/*
 * Puts it back to level `level`, 0 being the root, which becomes the top;
 * asserted to be at or below the top. As above on errors.
 */
CC_MUST_CHECK int reset_to_level(
    struct reset *r, uint32_t level, struct err *err);

/*
 * After a reset that worked, before the guest runs. Devices may write to RAM
 * from here on: what arrived for the guest meanwhile, for one.
 */
void reset_resume(struct reset *r);

/* Of the top; 0 with only the root there. */
static inline uint32_t reset_level(const struct reset *r)
{
    return r->pages.top;
}

/* The state of the top level, for comparisons. */
static inline const struct frozen *reset_top(const struct reset *r)
{
    return &r->levels[r->pages.top];
}

#endif
