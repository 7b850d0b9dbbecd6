/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_fuzz [-n RUNS] [-d RUNS] DIR [INPUT...]
 *
 * Runs of a fuzzing target, one input after the other, and where their time
 * goes; prints JSON. Times in us: the whole trip, of which the guest and what
 * the reset before it took; what is left is the map's clearing and the input.
 * With -d the guest's RAM is hashed every so many runs and compared with that
 * of an executor which has run nothing.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/guest.h"
#include "bench/stats.h"
#include "fuzz/executor.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"

#define INPUT_MAX  (1u << 20)
#define TIMEOUT_US 10000000u

struct inputs {
    struct fuzz_input *all;
    size_t count;
};

struct figures {
    struct stats trip_us;
    struct stats run_us;
    struct stats reset_us;
    struct stats pages;
    unsigned long verdicts[FUZZ_VERDICTS];
    unsigned long hashes;
    unsigned long drifted;
};

static struct fuzz_input read_input(const char *path)
{
    struct err err = {.text = "cannot read an input"};
    uint8_t *bytes = malloc(INPUT_MAX);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n =
        fd < 0 || bytes == NULL ? -1 : fd_read_full(fd, bytes, INPUT_MAX);

    guest_must(n < 0 ? -1 : 0, &err);
    (void)close(fd);
    return (struct fuzz_input){bytes, (size_t)n};
}

static struct inputs read_inputs(char **paths, int count)
{
    static const uint8_t none[4] = "INIT";
    struct inputs in = {
        .all = calloc((size_t)count + 1, sizeof(in.all[0])), .count = 1};
    struct err err = {.text = "out of memory"};

    guest_must(in.all == NULL ? -1 : 0, &err);
    in.all[0] = (struct fuzz_input){none, sizeof(none)};
    for (int i = 0; i < count; i++)
        in.all[i] = read_input(paths[i]);
    if (count > 0)
        in.count = (size_t)count;
    return in;
}

static uint64_t hash_of(struct executor *ex)
{
    struct err err;
    uint64_t hash;

    guest_must(executor_hash(ex, &hash, &err), &err);
    return hash;
}

static struct executor *open_one(const struct fuzz_target *target)
{
    const struct executor_options options = {.print_fd = -1};
    struct executor *ex;
    struct err err;

    guest_must(executor_open(target, &options, &ex, &err), &err);
    return ex;
}

static void measure(struct figures *f, struct executor *ex,
    const struct inputs *in, unsigned long runs, unsigned long every,
    uint64_t fresh)
{
    for (unsigned long i = 0; i < runs; i++) {
        const struct fuzz_input *input = &in->all[i % in->count];
        struct fuzz_result result;
        struct err err;
        uint64_t from = clock_now_ns();

        guest_must(executor_run(ex, input->bytes, input->size, TIMEOUT_US,
                       &result, &err),
            &err);
        if (i >= runs / 10) {
            stats_add(&f->trip_us, (double)(clock_now_ns() - from) / 1e3);
            stats_add(&f->run_us, (double)result.run_ns / 1e3);
            stats_add(&f->reset_us, (double)result.reset_ns / 1e3);
            stats_add(&f->pages, result.pages);
        }
        f->verdicts[result.verdict]++;
        if (every > 0 && (i + 1) % every == 0) {
            f->hashes++;
            f->drifted += hash_of(ex) != fresh ? 1 : 0;
        }
    }
}

static void print(
    struct figures *f, const struct executor *ex, unsigned long runs)
{
    static const char *const names[FUZZ_VERDICTS] = {[FUZZ_OK] = "ok",
        [FUZZ_CRASH] = "crash",
        [FUZZ_SANITIZER] = "sanitizer",
        [FUZZ_HANG] = "hang",
        [FUZZ_INPUT_WRITE] = "input_write",
        [FUZZ_ABORT] = "abort"};
    struct executor_stats stats = executor_stats(ex);
    uint8_t *map = executor_map(ex);
    size_t edges = 0;
    size_t len;

    for (size_t i = 0; i < executor_map_size(ex); i++)
        edges += map[i] != 0 ? 1 : 0;
    (void)printf("{\"bench\": \"fuzz\", \"runs\": %lu, \"map\": %zu, "
                 "\"edges_of_last\": %zu,\n \"verdicts\": {",
        runs, executor_map_size(ex), edges);
    for (unsigned int i = 0; i < FUZZ_VERDICTS; i++)
        (void)printf(
            "%s\"%s\": %lu", i == 0 ? "" : ", ", names[i], f->verdicts[i]);
    (void)printf("},\n \"entered_kernel\": %" PRIu64 ", \"flushes\": %" PRIu64
                 ", \"pages\": %" PRIu64 ", \"hot\": %" PRIu64
                 ", \"hashes\": %lu, \"drifted\": %lu,\n ",
        stats.entered, stats.flushes, stats.pages, stats.hot, f->hashes,
        f->drifted);
    stats_print(&f->trip_us, "trip", "us", stdout);
    (void)fputs(",\n ", stdout);
    stats_print(&f->run_us, "run", "us", stdout);
    (void)fputs(",\n ", stdout);
    stats_print(&f->reset_us, "reset", "us", stdout);
    (void)fputs(",\n ", stdout);
    stats_print(&f->pages, "pages_per_run", "pages", stdout);
    (void)fputs("}\n", stdout);
    if (f->verdicts[FUZZ_OK] != runs)
        (void)fprintf(stderr, "%.2000s\n", executor_text(ex, &len));
}

int main(int argc, char **argv)
{
    struct figures f = {0};
    struct fuzz_target target;
    unsigned long runs = 1000;
    unsigned long every = 0;
    struct executor *ex;
    struct inputs in;
    uint64_t fresh = 0;
    struct err err;
    int opt;

    while ((opt = getopt(argc, argv, "n:d:")) != -1) {
        if (opt == 'n')
            runs = strtoul(optarg, NULL, 10);
        else if (opt == 'd')
            every = strtoul(optarg, NULL, 10);
        else
            optind = argc;
    }
    if (optind >= argc) {
        (void)fputs(
            "usage: bench_fuzz [-n RUNS] [-d RUNS] DIR [INPUT...]\n", stderr);
        return 2;
    }
    guest_must(fuzz_target_open(argv[optind], &target, &err), &err);
    in = read_inputs(argv + optind + 1, argc - optind - 1);
    if (every > 0) {
        ex = open_one(&target);
        fresh = hash_of(ex);
        executor_free(ex);
    }
    ex = open_one(&target);
    measure(&f, ex, &in, runs, every, fresh);
    print(&f, ex, runs);
    executor_free(ex);
    fuzz_target_fini(&target);
    return f.drifted == 0 ? 0 : 1;
}
