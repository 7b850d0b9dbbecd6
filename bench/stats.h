/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Samples of one quantity, and their summary as JSON.
 */
#ifndef BENCH_STATS_H
#define BENCH_STATS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct stats {
    double *samples;
    size_t count;
    size_t room;
};

void stats_add(struct stats *s, double sample);
void stats_free(struct stats *s);

/* The q-quantile (0 to 1) by the nearest rank; 0 without samples. */
double stats_quantile(struct stats *s, double q);

/*
 * "name": {"unit": ..., "n": ..., "min": ..., "p50": ..., "p90": ..., ...}, and
 * "samples", sorted, if BENCH_SAMPLES is in the environment.
 */
void stats_print(
    struct stats *s, const char *name, const char *unit, FILE *out);

/* Processor time of this thread in ns: a busy host disturbs it least. */
uint64_t stats_cpu_ns(void);

#endif
