/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_reset [-n ROUNDS] [-o RING,WAY,PAGES] GUEST
 *
 * In-place reset of a machine whose one vCPU runs on this thread. GUEST is
 * rounds.elf of tests/guests: each round writes to N pages and exits; then the
 * machine is reset. Prints JSON, in us: the round trip, the part of it that
 * is the reset, processor time of both, and beside them the same rounds
 * without resets and without a log of writes ("exit"), which a reset is not
 * to blame for. "beside" is the difference of the medians.
 *
 * Ways: sync, registers through struct kvm_run and nothing else of the vCPU,
 * page tables promised to stay; all, every part of the vCPU, no promise.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/guest.h"
#include "bench/stats.h"
#include "snapshot/reset.h"
#include "vmm/base/clock.h"

#define MEM     (128 * NUM_MIB)
#define WARM_UP 64
#define BLOCK   20

enum way { SYNC, ALL };

static const char *const way_names[] = {"sync", "all"};

struct figures {
    struct stats trip_us;
    struct stats reset_us;
    struct stats cpu_us;
    struct stats exit_us;
    struct stats exit_cpu_us;
};

static struct guest *start(
    const char *path, uint32_t ring, uint32_t pages, bool log)
{
    struct guest *g =
        guest_new(path, MEM, log ? MACHINE_TRACK_BITMAP : MACHINE_TRACK_LATER);
    struct err err = {.text = "the vCPU does not settle"};

    guest_set_ring(g, ring);
    guest_set_pages(g, pages);
    guest_run_round(g);
    guest_must(vcpu_settle(&g->machine.vcpus[0]), &err);
    return g;
}

static struct reset *take_root(struct guest *g, enum way way)
{
    struct reset_config config = {
        .vcpu_parts = way == SYNC ? 0 : RESET_VCPU_PARTS_ALL,
        .static_page_tables = way == SYNC,
        .clock = VM_CLOCK_FOLLOW,
        .hot_max = 4096};
    struct reset *r = malloc(sizeof(*r));
    struct err err = {.text = "out of memory"};

    guest_must(r == NULL ? -1 : 0, &err);
    guest_must(machine_prepare_parts(&g->machine, &err), &err);
    config.parts = machine_parts(&g->machine);
    guest_must(reset_init(r, &config, &err), &err);
    return r;
}

static void exit_round(struct figures *f, struct guest *g, bool counts)
{
    uint64_t cpu = stats_cpu_ns();
    uint64_t from = clock_now_ns();
    uint64_t to;

    guest_run_round(g);
    to = clock_now_ns();
    if (!counts)
        return;
    stats_add(&f->exit_us, (double)(to - from) / 1e3);
    stats_add(&f->exit_cpu_us, (double)(stats_cpu_ns() - cpu) / 1e3);
}

static void reset_round(
    struct figures *f, struct guest *g, struct reset *r, bool counts)
{
    uint64_t cpu = stats_cpu_ns();
    uint64_t from = clock_now_ns();
    uint64_t middle;
    uint64_t to;
    struct err err;

    guest_run_round(g);
    middle = clock_now_ns();
    guest_must(reset_to_top(r, &err), &err);
    reset_resume(r);
    to = clock_now_ns();
    if (!counts)
        return;
    stats_add(&f->trip_us, (double)(to - from) / 1e3);
    stats_add(&f->reset_us, (double)(to - middle) / 1e3);
    stats_add(&f->cpu_us, (double)(stats_cpu_ns() - cpu) / 1e3);
}

/* Blocks of either kind in turn: what else the host does is in both. */
static void run_rounds(struct figures *f, const char *path, enum way way,
    uint32_t ring, uint32_t pages, int rounds)
{
    struct guest *plain = start(path, ring, pages, false);
    struct guest *g = start(path, ring, pages, true);
    struct reset *r = take_root(g, way);

    for (int n = 0; n < WARM_UP; n++)
        reset_round(f, g, r, false);
    for (int n = 0; n < rounds; n += BLOCK) {
        for (int i = -1; i < BLOCK; i++)
            exit_round(f, plain, i >= 0);
        for (int i = -1; i < BLOCK; i++)
            reset_round(f, g, r, i >= 0);
    }
    reset_fini(r);
    free(r);
    guest_free(g);
    guest_free(plain);
}

static double beside(struct stats *all, struct stats *exit)
{
    return stats_quantile(all, 0.5) - stats_quantile(exit, 0.5);
}

static void measure(
    const char *path, enum way way, uint32_t ring, uint32_t pages, int rounds)
{
    struct figures f = {0};

    run_rounds(&f, path, way, ring, pages, rounds);
    (void)printf(", \"%s_ring%u_%u\": {\"beside_p50\": %.2f, "
                 "\"beside_cpu_p50\": %.2f, ",
        way_names[way], ring, pages, beside(&f.trip_us, &f.exit_us),
        beside(&f.cpu_us, &f.exit_cpu_us));
    stats_print(&f.trip_us, "trip", "us", stdout);
    (void)fputs(", ", stdout);
    stats_print(&f.reset_us, "reset", "us", stdout);
    (void)fputs(", ", stdout);
    stats_print(&f.cpu_us, "cpu", "us", stdout);
    (void)fputs(", ", stdout);
    stats_print(&f.exit_us, "exit", "us", stdout);
    (void)fputs(", ", stdout);
    stats_print(&f.exit_cpu_us, "exit_cpu", "us", stdout);
    (void)fputs("}\n", stdout);
    stats_free(&f.trip_us);
    stats_free(&f.reset_us);
    stats_free(&f.cpu_us);
    stats_free(&f.exit_us);
    stats_free(&f.exit_cpu_us);
}

static int usage(void)
{
    (void)fputs("usage: bench_reset [-n ROUNDS] [-o RING,sync|all,PAGES] "
                "GUEST\n",
        stderr);
    return 2;
}

int main(int argc, char **argv)
{
    static const uint32_t counts[] = {0, 1, 10, 100, 1000};
    unsigned int only_ring = 0;
    unsigned int only_pages = 0;
    char only_way[8] = "";
    int rounds = 200;
    int opt;

    while ((opt = getopt(argc, argv, "n:o:")) != -1) {
        if (opt == 'n')
            rounds = atoi(optarg);
        else if (opt != 'o' || sscanf(optarg, "%u,%7[a-z],%u", &only_ring,
                                   only_way, &only_pages) != 3)
            return usage();
    }
    if (optind != argc - 1)
        return usage();
    (void)fputs("{\"bench\": \"reset\"\n", stdout);
    for (enum way way = SYNC; way <= ALL; way++) {
        for (uint32_t ring = 0; ring <= 3; ring += 3) {
            for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
                if (only_way[0] != '\0' &&
                    (strcmp(only_way, way_names[way]) != 0 ||
                        only_ring != ring || only_pages != counts[i]))
                    continue;
                measure(argv[optind], way, ring, counts[i], rounds);
            }
        }
    }
    (void)fputs("}\n", stdout);
    return 0;
}
