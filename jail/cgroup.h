/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cgroup of one VM: what its processes may use together, of memory,
 * processes, CPU time and disks, so that a guest that takes all it can harms
 * no neighbour, and so that all of them can be ended at once.
 *
 * The keeper makes one before it starts the monitor, has the monitor start in
 * it, and removes it when the VM has ended. Both versions of cgroups are
 * spoken, on hosts that have one, the other, or some controllers in each:
 * where a controller is decides how its limit is written. With version 2
 * mounted there is always a folder in it too, for the start of processes inside
 * (CLONE_INTO_CGROUP) and for killing all of them at once.
 *
 * Memory. memory_max is for all that the VM's processes make the kernel
 * allocate: guest memory as far as it was touched, what the monitor wrote
 * itself, page tables (1/512 of touched memory, twice that with clones of
 * a snapshot), socket buffers, and pages of disk and snapshot files that they
 * were the first to read or write; these last are taken back under pressure
 * before anything is killed. So a VM that may use all its memory needs its size
 * and about 1/64 and 32 MiB above. None of it is swapped out: a guest short of
 * memory must not make its neighbours' disk slow. Where the limit is hit and
 * nothing can be taken back, the kernel kills what is in this cgroup, and
 * cgroup_oom_kills says so.
 *
 * What files in the cgroup file system say is parsed with bounds. Thread rule:
 * one thread at a time; cgroup_join is for another process.
 */
#ifndef JAIL_CGROUP_H
#define JAIL_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define CGROUP_IO_MAX   16u
#define CGROUP_PAIR_MAX 32u
#define CGROUP_FILE_MAX 64u

/* Bytes and operations a second of one block device; 0: no limit. */
struct cgroup_io {
    uint32_t major;
    uint32_t minor;
    uint64_t read_bytes;
    uint64_t write_bytes;
    uint64_t read_ops;
    uint64_t write_ops;
};

/* A file of a controller, and what is written to it as it is. */
struct cgroup_pair {
    char file[CGROUP_FILE_MAX]; /* "cpuset.cpus" */
    const char *value;
};

struct cgroup_config {
    const char *parent;    /* from the hierarchy's root; NULL: where we are */
    const char *name;      /* of the VM's own: see cgroup_name_is_valid */
    bool only_needed;      /* no folder in version 2 if nothing is set there */
    uint64_t memory_max;   /* bytes; 0: none, as for all below */
    uint64_t pids_max;     /* processes and threads */
    uint64_t cpu_quota_us; /* of CPU time in each period, over all CPUs */
    uint64_t cpu_period_us;
    uint32_t cpu_weight; /* 1 to 10000 beside siblings of 100 each */
    size_t io_count;
    struct cgroup_io io[CGROUP_IO_MAX];
    size_t pair_count; /* written last and in turn */
    struct cgroup_pair pairs[CGROUP_PAIR_MAX];
};

struct cgroup_stats {
    bool has_memory;
    bool has_memory_peak; /* Linux 5.19 with version 2 */
    bool has_cpu;
    bool has_pids;
    uint64_t memory_bytes;
    uint64_t memory_peak_bytes;
    uint64_t cpu_ns;
    uint64_t pids;
};

struct cgroup;

/*
 * Makes the VM's cgroup, with all limits set and nothing in it. -ENOENT if a
 * controller that a limit needs is on no mounted hierarchy, -EOPNOTSUPP if it
 * is there but not given to children, -EACCES or -EPERM without the right to
 * make children, -EEXIST if the name is in use, -EINVAL for what the kernel
 * refuses; the error names the cure. To be released by cgroup_remove, or by
 * cgroup_leave by who leaves it to others.
 */
CC_MUST_CHECK int cgroup_open(const struct cgroup_config *config,
    struct cgroup **ret_cgroup, struct err *err);

/*
 * For clone3(CLONE_INTO_CGROUP): the folder in version 2, which stays the
 * cgroup's, or -1. The process that was started so still has cgroup_join to
 * call if cgroup_needs_join.
 */
int cgroup_clone_fd(const struct cgroup *cgroup);
bool cgroup_needs_join(const struct cgroup *cgroup);

/*
 * Moves the calling process, which must have no other thread, into what
 * CLONE_INTO_CGROUP has no say in: all hierarchies of version 1, and with
 * `all` version 2 too. Much cheaper there than cgroup_add, and to be done
 * before anything big is allocated: memory stays charged where it was. For a
 * child that inherited the descriptors.
 */
CC_MUST_CHECK int cgroup_join(
    const struct cgroup *cgroup, bool all, struct err *err);

/* Moves a process with all its threads into every hierarchy. */
CC_MUST_CHECK int cgroup_add(
    const struct cgroup *cgroup, pid_t pid, struct err *err);

/* Whether any limit is in a hierarchy of version 1, or of version 2. */
bool cgroup_uses_version(const struct cgroup *cgroup, unsigned int version);

/*
 * How many processes in it were killed for want of memory, because of its
 * limit or of one above: 0 where that is not counted.
 */
uint64_t cgroup_oom_kills(const struct cgroup *cgroup);

void cgroup_get_stats(
    const struct cgroup *cgroup, struct cgroup_stats *ret_stats);

/*
 * Kills all that is in it, waits until that is gone, removes it and what was
 * made above it that nobody uses, and releases it in any case. -ETIMEDOUT if a
 * process does not go away, -EBUSY if there are cgroups below. Must not be
 * called by a process inside.
 */
int cgroup_remove(struct cgroup *cgroup, struct err *err);

/*
 * Removes the empty cgroups beside this one whose makers were killed before
 * they could: how many. For once in a process's life: it looks at 256.
 */
size_t cgroup_sweep(const struct cgroup *cgroup);

/*
 * Moves the calling process into a cgroup of version 2 that is there already,
 * called from the hierarchy's root: -ENOENT if there is none, or no version 2.
 */
CC_MUST_CHECK int cgroup_enter_v2(const char *path, struct err *err);

/* Releases it only; it stays, though its maker ends. */
void cgroup_leave(struct cgroup *cgroup);

/* Releases it only. NULL is none. */
void cgroup_close(struct cgroup *cgroup);

#endif
