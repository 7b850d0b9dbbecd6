/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A campaign: as many afl-fuzz as there are to be, each with a guest of its
 * own, started, watched and ended together.
 *
 * Owns the processes: none of them outlives it, however it ends. Thread rule:
 * one thread, whose signals SIGINT, SIGTERM, SIGHUP and SIGCHLD are the
 * campaign's while it runs. File-controlled: what the fuzzers leave in their
 * output folder (afl_stats.h) and print, which is shown in part if one fails.
 */
#ifndef FUZZ_CAMPAIGN_H
#define FUZZ_CAMPAIGN_H

#include <stdbool.h>
#include <stdint.h>

#include "fuzz/afl_stats.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define CAMPAIGN_JOBS_MAX 256u

enum campaign_with {
    CAMPAIGN_NYX, /* afl-fuzz loads libnyx.so: -X, or -Y for more than one */
    CAMPAIGN_AFL, /* afl-fuzz starts spore-afl as any other target */
};

struct campaign_options {
    const char *dir;  /* of the target */
    const char *in;   /* inputs to begin with; "-": go on with what is there */
    const char *out;  /* where the fuzzers keep what they find */
    const char *dict; /* of tokens, NULL: none */
    uint32_t jobs;
    uint32_t timeout_ms; /* of a run, 0: afl-fuzz finds one */
    uint64_t seconds;    /* until it ends, 0: never */
    enum campaign_with with;
    bool has_levels;   /* the target; it is fuzzed message by message then */
    char *const *more; /* options of afl-fuzz; NULL-terminated */
    bool has_screen;   /* one job's own display goes to standard output */
};

/* Of all fuzzers together; seconds of the one that is longest at it. */
typedef void campaign_report(
    void *arg, const struct afl_stats *stats, uint32_t running);

/*
 * Runs it to its end: when its time is up, or with a signal that asks for it
 * (0 both), or when a fuzzer fails. `report` comes every few seconds, unless
 * has_screen, and once at the end. -ENOENT if something is not installed.
 */
CC_MUST_CHECK int campaign_run(const struct campaign_options *options,
    campaign_report *report, void *arg, struct err *err);

#endif
