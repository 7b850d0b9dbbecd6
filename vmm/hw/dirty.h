/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages of guest RAM were written: one account over KVM's dirty ring or
 * dirty bitmap, which see the guest and KVM itself, and the monitor's own
 * writes (struct gmem).
 *
 * Owns the ring mappings and the lists; borrows the VM and the memory, which
 * both outlive it. Pages are numbered as in the file behind the memory.
 *
 * What exact means here: a page is in a harvest if it was written since the
 * harvest before (or since dirty_start), and it is protected again before the
 * harvest returns. So whoever reads a page's bytes after the harvest has all
 * writes that were counted, and a later write is in the next harvest: nothing
 * falls between, also while vCPUs and devices run. A write that is going on
 * meanwhile may be counted in this harvest, the next, or both: KVM marks a page
 * when it makes it writable. (Processors
 * that log pages themselves, Intel PML, hand them over at an exit: in ring
 * mode a write by a vCPU that is still running may be counted one harvest
 * late. With all vCPUs paused a harvest is complete.)
 *
 * Thread rule: dirty_init to dirty_start from the thread that builds the
 * machine; dirty_harvest and dirty_set_hot from one thread at a time, any, also
 * a vCPU's own outside of KVM_RUN; dirty_ring_full on vCPU threads. All of
 * them take the tracker's lock for as long as they run and wait for nothing
 * else while they hold it: so nobody may wait for a vCPU inside them, and a
 * vCPU with a full ring never waits for a pause.
 * Guest-controlled: which pages and how many. KVM-controlled: ring entries,
 * whose slot and offset are checked all the same.
 */
#ifndef VMM_HW_DIRTY_H
#define VMM_HW_DIRTY_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/bitmap.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/gmem.h"
#include "vmm/hw/kvm.h"

enum dirty_method {
    DIRTY_AUTO,   /* BITMAP, which has the hot set; RING on a KVM without */
    DIRTY_RING,   /* cost by pages written; exits when a ring is full */
    DIRTY_BITMAP, /* cost by RAM size too, a bit per page; hot set */
};

struct dirty_config {
    enum dirty_method method;
    /* Per vCPU, a power of two; 0: DIRTY_RING_ENTRIES. 16 bytes each. */
    uint32_t ring_entries;
    /*
     * RING where ring 0 is emulated, which is refused otherwise: KVM pushes
     * an entry for each write that it emulates and looks only now and then
     * whether the ring is full, so it overflows. Good for guests that stay in
     * ring 3 from dirty_start on.
     */
    bool ring_anyway;
    /*
     * The memslots are made with logging on: dirty_init then comes before
     * kvm_vm_add_memory, and everything since counts, the monitor's writes
     * before it too. Otherwise nothing is logged until dirty_start.
     */
    bool from_start;
};

#define DIRTY_RING_ENTRIES 4096u

struct dirty_ring {
    struct kvm_dirty_gfn *entries; /* NULL: none; shared with KVM */
    uint32_t next;                 /* the next to look at, modulo size */
};

struct dirty {
    struct kvm_vm *vm; /* NULL: not initialised */
    struct gmem *mem;
    enum dirty_method method; /* never AUTO once initialised */
    uint32_t ring_entries;
    uint32_t ring_count;
    struct dirty_ring rings[LAYOUT_VCPUS_MAX];
    pthread_mutex_t lock; /* the rest, and rings[].next */
    bool is_on;
    bool has_failed; /* RING, for good: KVM lost entries or left pages open */
    struct bitmap hot;
    struct bitmap seen; /* what is in lists[filling] */
    uint64_t *log;      /* BITMAP: what KVM gave, a bit per page of a slot */
    uint32_t *lists[2]; /* room for every page; one fills, one is lent */
    unsigned int filling;
    size_t count;       /* in lists[filling] */
    size_t lent;        /* in the other */
    uint64_t ring_full; /* exits so far */
};

/*
 * Chooses the method and tells KVM. Before the first vCPU is made, because
 * of the rings; before kvm_vm_add_memory if `from_start`. -ENOTSUP for a
 * method that is forced and that this KVM lacks.
 */
CC_MUST_CHECK int dirty_init(struct dirty *t, struct kvm_vm *vm,
    struct gmem *mem, const struct dirty_config *config, struct err *err);
/* vCPUs must not run any more. Fine on a zeroed one. */
void dirty_fini(struct dirty *t);

/*
 * Takes a vCPU in, before it first runs (vcpu.c must know `t` for the exits:
 * struct vcpu_config). Nothing to do but for rings.
 */
CC_MUST_CHECK int dirty_add_vcpu(struct dirty *t, int vcpu_fd, struct err *err);

/*
 * Begins or ends logging on a VM that may be running: a change of each
 * memslot, what it costs is in bench/bench_dirty.c. What was written before
 * dirty_start, by the monitor too, counts no more. Fine if it is on (off).
 */
CC_MUST_CHECK int dirty_start(struct dirty *t, struct err *err);
CC_MUST_CHECK int dirty_stop(struct dirty *t, struct err *err);

struct dirty_pages {
    const uint32_t *pages; /* each once, in no order; hot ones are not in it */
    size_t count;
};

/*
 * The pages written since the last harvest. The list is the tracker's and
 * good until the next call. The caller reads or resets the pages afterwards;
 * what it writes through gmem itself counts as any write of the monitor's.
 * -EIO if KVM fails, or has written over ring entries that were not yet read:
 * only a full save is exact then.
 */
CC_MUST_CHECK int dirty_harvest(
    struct dirty *t, struct dirty_pages *ret_pages, struct err *err);

/*
 * Replaces the hot set: pages that stay writable from their next write on and
 * are in no harvest, so that whoever has it treats them as written every
 * time. Page-table pages of the guest do not belong in it (their writes must
 * be seen by KVM). Only with BITMAP, -ENOTSUP otherwise: a ring is emptied in
 * order, and emptying protects. A page that leaves the set is in the next
 * harvest if it was written while it was in it, whenever that was. Between
 * harvests; `count` 0 empties it. -EINVAL for a page that is not RAM.
 */
CC_MUST_CHECK int dirty_set_hot(
    struct dirty *t, const uint32_t *pages, size_t count, struct err *err);

/*
 * KVM_EXIT_DIRTY_RING_FULL, on the vCPU's thread: empties all rings into what
 * the next harvest gives. 0, or -EIO as above: then the vCPU must stop.
 */
CC_MUST_CHECK int dirty_ring_full(struct dirty *t);

#endif
