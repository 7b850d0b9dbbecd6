/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_first_byte [OPTION...] -- COMMAND...
 *
 * Starts COMMAND again and again and measures, from before the start of the
 * process, until the first byte on its standard output and until it has been
 * reaped; its largest resident set too. Works for any monitor that boots or
 * restores a bare guest. Prints JSON.
 *
 *   -n RUNS      how often (200)
 *   -b SECONDS   and no longer than this
 *   -g GAP_MS    between runs, for what the last one left to the kernel (20)
 *   -k COUNT     so many processes at once, and what they cost while they live
 *   -m           that of one
 *   -K           they are killed when each has sent a byte, as with -k and -m
 *   -f           by fork and exec, not by posix_spawn
 *   -i           bytes wait at their standard input
 *   -c FOLDER    before each run what is in FOLDER is put out of the page cache
 *   -q           their standard error is nobody's
 *   -t SECONDS   until a byte comes, or an end (60)
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/crowd.h"
#include "bench/stats.h"
#include "vmm/base/clock.h"

struct bench {
    struct crowd_config config;
    size_t count;
    bool kills;
    bool looks;
    const char *cold;
    struct crowd_figures figures;
    struct stats reaped_ms;
    struct stats max_rss_kib;
    struct stats cold_left_kib;
};

/* How it ended, unless it was killed. */
static int check_end(const struct bench *b, const struct crowd *c)
{
    for (size_t i = 0; i < c->count && !b->kills; i++) {
        if (!WIFEXITED(c->members[i].status))
            return -EIO;
    }
    return 0;
}

static void add_ends(struct bench *b, const struct crowd *c, uint64_t killed_ns)
{
    for (size_t i = 0; i < c->count; i++) {
        const struct crowd_member *m = &c->members[i];
        uint64_t from = b->kills ? killed_ns : m->asked_ns;

        stats_add(&b->reaped_ms, (double)(m->reaped_ns - from) / 1e6);
        stats_add(&b->max_rss_kib, (double)m->max_rss_kib);
    }
}

static int run_once(struct bench *b)
{
    struct crowd crowd;
    struct crowd_host before;
    uint64_t killed_ns = 0;
    double left_kib;
    int rc;

    if (b->cold != NULL) {
        rc = crowd_cool(b->cold, &left_kib);
        if (rc < 0)
            return rc;
        stats_add(&b->cold_left_kib, left_kib);
    }
    crowd_look_at_host(&before);
    rc = crowd_start(&crowd, &b->config, b->count);
    if (rc == 0) {
        crowd_figures_add(&b->figures, &crowd, b->looks ? &before : NULL);
        killed_ns = clock_now_ns();
        rc = crowd_end(&crowd, b->kills);
    }
    if (rc == 0)
        rc = check_end(b, &crowd);
    if (rc == 0)
        add_ends(b, &crowd, killed_ns);
    crowd_free(&crowd);
    return rc;
}

static void print(struct bench *b)
{
    (void)printf(
        "{\"bench\": \"first_byte\", \"command\": \"%s\", \"at_once\": %zu, ",
        b->config.argv[0], b->count);
    crowd_figures_print(&b->figures, stdout);
    (void)fputs(", ", stdout);
    stats_print(
        &b->reaped_ms, b->kills ? "kill_to_end" : "reaped", "ms", stdout);
    (void)fputs(", ", stdout);
    stats_print(&b->max_rss_kib, "max_rss", "KiB", stdout);
    if (b->cold != NULL) {
        (void)fputs(", ", stdout);
        stats_print(&b->cold_left_kib, "cold_left", "KiB", stdout);
    }
    (void)fputs("}\n", stdout);
    crowd_figures_free(&b->figures);
    stats_free(&b->reaped_ms);
    stats_free(&b->max_rss_kib);
    stats_free(&b->cold_left_kib);
}

int main(int argc, char **argv)
{
    struct bench b = {
        .config = {.timeout_ns = 60 * CLOCK_NS_PER_S}, .count = 1};
    struct timespec gap = {.tv_nsec = 20000000};
    uint64_t budget_ns = UINT64_MAX;
    uint64_t from = clock_now_ns();
    int runs = 200;
    int opt;

    while ((opt = getopt(argc, argv, "+n:b:g:k:mKfic:qt:")) != -1) {
        if (opt == 'n')
            runs = atoi(optarg);
        else if (opt == 'b')
            budget_ns = strtoull(optarg, NULL, 10) * CLOCK_NS_PER_S;
        else if (opt == 'g')
            gap.tv_nsec = atol(optarg) % 1000 * 1000000;
        else if (opt == 'k')
            b.count = strtoull(optarg, NULL, 10);
        else if (opt == 't')
            b.config.timeout_ns = strtoull(optarg, NULL, 10) * CLOCK_NS_PER_S;
        else if (opt == 'c')
            b.cold = optarg;
        else if (opt == 'f')
            b.config.forks = true;
        else if (opt == 'i')
            b.config.with_input = true;
        else if (opt == 'q')
            b.config.is_quiet = true;
        else if (opt == 'm' || opt == 'K')
            b.kills = true;
        else
            return 2;
        b.looks = b.looks || opt == 'm' || opt == 'k';
    }
    b.kills = b.kills || b.looks;
    b.config.argv = argv + optind;
    if (optind >= argc || runs < 1 || b.count < 1) {
        (void)fputs("usage: bench_first_byte [-n RUNS] [-b SECONDS] "
                    "[-g GAP_MS] [-k COUNT] [-m] [-K] [-f] [-i] [-c FOLDER] "
                    "[-q] [-t SECONDS] -- COMMAND...\n",
            stderr);
        return 2;
    }
    for (int i = 0; i < runs && clock_now_ns() - from < budget_ns; i++) {
        int rc = run_once(&b);

        if (rc < 0) {
            (void)fprintf(
                stderr, "%s: %s\n", argv[optind], strerrordesc_np(-rc));
            return 1;
        }
        (void)nanosleep(&gap, NULL);
    }
    print(&b);
    return 0;
}
