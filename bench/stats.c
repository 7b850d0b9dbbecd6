/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/stats.h"

#include <stdint.h>
#include <stdlib.h>
#include <time.h>

void stats_add(struct stats *s, double sample)
{
    if (s->count == s->room) {
        size_t room = s->room == 0 ? 256 : s->room * 2;
        double *bigger = realloc(s->samples, room * sizeof(*bigger));

        if (bigger == NULL)
            abort();
        s->samples = bigger;
        s->room = room;
    }
    s->samples[s->count++] = sample;
}

void stats_free(struct stats *s)
{
    free(s->samples);
    *s = (struct stats){0};
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

double stats_quantile(struct stats *s, double q)
{
    size_t rank;

    if (s->count == 0)
        return 0;
    qsort(s->samples, s->count, sizeof(s->samples[0]), compare);
    rank = (size_t)(q * (double)s->count);
    return s->samples[rank < s->count ? rank : s->count - 1];
}

void stats_print(struct stats *s, const char *name, const char *unit, FILE *out)
{
    (void)fprintf(out,
        "\"%s\": {\"unit\": \"%s\", \"n\": %zu, \"min\": %.4g, \"p50\": %.4g, "
        "\"p90\": %.4g, \"p99\": %.4g, \"max\": %.4g",
        name, unit, s->count, stats_quantile(s, 0), stats_quantile(s, 0.5),
        stats_quantile(s, 0.9), stats_quantile(s, 0.99), stats_quantile(s, 1));
    if (getenv("BENCH_SAMPLES") != NULL) {
        for (size_t i = 0; i < s->count; i++) {
            (void)fprintf(out, "%s%.5g", i == 0 ? ", \"samples\": [" : ", ",
                s->samples[i]);
        }
        (void)fputs(s->count > 0 ? "]" : "", out);
    }
    (void)fputs("}", out);
}

uint64_t stats_cpu_ns(void)
{
    struct timespec ts = {0};

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}
