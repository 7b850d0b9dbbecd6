/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes started one behind the other without waiting, each of which sends
 * a byte on its standard output when it has come to life: when it did, what it
 * costs the host while it lives, and how long its end takes. One thread.
 */
#ifndef BENCH_CROWD_H
#define BENCH_CROWD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "bench/stats.h"
#include "vmm/base/cc.h"

#define CROWD_MARKS 5u

struct crowd_config {
    char **argv;
    bool forks;      /* fork and exec, not posix_spawn */
    bool with_input; /* bytes wait at its standard input, which stays open */
    bool with_marks; /* it writes CROWD_MARKS times of its own to CROWD_FD */
    bool is_quiet;   /* its standard error is /dev/null */
    uint64_t timeout_ns; /* for all first bytes, and for all ends */
};

/* Where a process with marks writes them: uint64_t[CROWD_MARKS], one write. */
#define CROWD_FD 3

/* A process and its descendants. */
struct crowd_usage {
    double pss_kib;
    double private_kib;
    double minor_faults;
    double major_faults;
    unsigned processes;
};

struct crowd_member {
    pid_t pid; /* 0: reaped, or never started */
    int out;
    int in;
    int marks_fd;
    int status;
    bool is_there;
    uint64_t asked_ns; /* before its start; all by CLOCK_MONOTONIC */
    uint64_t byte_ns;
    uint64_t reaped_ns;
    long max_rss_kib;
    uint64_t marks[CROWD_MARKS];
};

struct crowd {
    struct crowd_config config;
    struct crowd_member *members;
    size_t count;
    size_t there;
    int epoll;
};

/* The host's memory: what is available, and what the kernel itself has. */
struct crowd_host {
    double available_kib;
    double kernel_kib;
};

/*
 * Starts `count` processes and returns when each has sent a byte. -ENODATA:
 * one has ended without; -ETIMEDOUT. crowd_free is due in any case.
 */
CC_MUST_CHECK int crowd_start(
    struct crowd *c, const struct crowd_config *config, size_t count);

/* `pid` and its descendants; of smaps_rollup what this user may read. */
void crowd_look_at(pid_t pid, struct crowd_usage *ret_usage);
void crowd_look_at_host(struct crowd_host *ret_host);

/*
 * Waits for their ends, after killing them if that is asked for, and until
 * nobody has their standard output any more, which what they had started does.
 */
CC_MUST_CHECK int crowd_end(struct crowd *c, bool kills);

/* Kills what is left. */
void crowd_free(struct crowd *c);

/* What crowds have cost, a sample for each member or (all, less, kernel) run.
 */
struct crowd_figures {
    struct stats first_byte_ms;
    struct stats all_ms; /* from the first's start to the last's byte */
    struct stats pss_kib;
    struct stats private_kib;
    struct stats less_kib;   /* of the host's available memory, for each */
    struct stats kernel_kib; /* of the kernel's own, for each */
    struct stats minor_faults;
    struct stats major_faults;
    struct stats processes;
};

/* `before` is the host's memory before they were started; NULL: times only. */
void crowd_figures_add(struct crowd_figures *f, const struct crowd *c,
    const struct crowd_host *before);

/* Members of a JSON object. */
void crowd_figures_print(struct crowd_figures *f, FILE *out);
void crowd_figures_free(struct crowd_figures *f);

/*
 * Puts what the page cache has of the files below `folder` out of it, and says
 * how much stayed, as all of a tmpfs does.
 */
CC_MUST_CHECK int crowd_cool(const char *folder, double *ret_left_kib);

#endif
