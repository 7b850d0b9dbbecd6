/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metrics in the contract's schema: a line of JSON each time they are written,
 * on request and every minute, counters as what came since the line before.
 * Keys that this engine has no measure for are there and 0 (docs/api.md says
 * which are not).
 *
 * Owns the file. Thread rule: the loop's thread; what vCPU threads count is
 * read under their device's lock. A reader that does not read (a pipe that is
 * full) loses the line and holds nobody up.
 */
#ifndef VMM_METRICS_H
#define VMM_METRICS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/api/router.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/loop.h"
#include "vmm/instance.h"

#define METRICS_ENDPOINTS 32u

/* What takes long and is told how long it took. */
enum metrics_latency {
    METRICS_FULL_SNAPSHOT,
    METRICS_DIFF_SNAPSHOT,
    METRICS_LOAD,
    METRICS_PAUSE,
    METRICS_RESUME,
    METRICS_LATENCIES,
};

struct metrics {
    int fd; /* -1: nowhere to write to */
    bool emits_id;
    json_t *properties; /* or NULL */
    uint64_t counts[METRICS_ENDPOINTS];
    uint64_t fails[METRICS_ENDPOINTS];
    uint64_t deprecated;
    uint64_t missed;                        /* lines that were lost */
    uint64_t latency_us[METRICS_LATENCIES]; /* of the last one */
    uint64_t start_us;                      /* of the process */
    uint64_t start_cpu_us;
    json_t *before; /* the counters of the line before */
    struct instance *inst;
    const char *id; /* borrowed */
    struct loop_timer timer;
};

void metrics_init(struct metrics *metrics);
void metrics_fini(struct metrics *metrics);

/*
 * Writes to `path`, a file or a pipe, from here on; once. `properties`, an
 * object of strings or NULL, is borrowed. Starts to write every minute.
 */
CC_MUST_CHECK int metrics_open(struct metrics *metrics, const char *path,
    bool emits_id, json_t *properties, struct err *err);

/* A line every minute, from a loop that is there now; does nothing closed. */
void metrics_start(
    struct metrics *metrics, struct instance *inst, const char *id);

/* A request of a route was answered; negative `rc`: refused. */
void metrics_tally(
    struct metrics *metrics, const struct router_route *route, int rc);

/* Writes a line, if there is somewhere to write to. */
CC_MUST_CHECK int metrics_write(struct metrics *metrics, struct err *err);

#endif
