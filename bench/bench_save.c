/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_save [-n RUNS] [-w full|diff] GUEST FOLDER...
 *
 * Saves of a bare guest, rounds.elf of tests/guests. In each FOLDER:
 *
 * full      all of 128 MiB, half of it with contents, with and without fsync
 * diff      of 1 GiB, N pages written since the parent: how long the guest
 *           stands still for it, and the whole save; none of the pages was
 *           copied before the stop, which is the worst that can come
 *
 * and once how long a pause and its end take by themselves. Prints JSON.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/guest.h"
#include "bench/stats.h"
#include "vmm/base/clock.h"
#include "vmm/machine_snapshot.h"

#define FULL_MEM  (128 * NUM_MIB)
#define DIFF_MEM  (NUM_GIB)
#define FILL_FROM (64 * NUM_MIB >> NUM_PAGE_SHIFT)
#define FILL      (64 * NUM_MIB >> NUM_PAGE_SHIFT)

struct rig {
    char folder[256];
    struct store store;
};

static void rig_init(struct rig *rig, const char *folder)
{
    struct err err = {.text = "the folder cannot be made"};

    (void)snprintf(
        rig->folder, sizeof(rig->folder), "%s/bench-save-XXXXXX", folder);
    guest_must(mkdtemp(rig->folder) == NULL ? -1 : 0, &err);
    guest_must(store_open(&rig->store, rig->folder, true, &err), &err);
}

static void rig_fini(struct rig *rig)
{
    store_close(&rig->store);
    (void)rmdir(rig->folder);
}

/* No page is zero and none is like another. */
static void fill(struct guest *g)
{
    static uint64_t words[NUM_PAGE_SIZE / sizeof(uint64_t)];
    uint64_t x = 88172645463325252u;

    for (uint64_t page = 0; page < FILL; page++) {
        for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            words[i] = x;
        }
        gmem_restore_pages(&g->machine.mem, FILL_FROM + page, 1, words);
    }
}

static void settle(struct guest *g)
{
    const struct err err = {.text = "the vCPU does not settle"};

    guest_must(vcpu_settle(&g->machine.vcpus[0]), &err);
}

static struct guest *start(const char *path, uint64_t bytes, uint32_t ring)
{
    struct guest *g = guest_new(path, bytes, MACHINE_TRACK_LATER);

    guest_set_ring(g, ring);
    guest_run_round(g);
    settle(g);
    return g;
}

static void save(struct rig *rig, struct guest *g,
    const struct machine_snapshot_options *options, struct snapshot_id *ret_id)
{
    struct err err;

    guest_must(machine_snapshot_paused(
                   &g->machine, &rig->store, options, ret_id, &err),
        &err);
}

static void remove_id(struct rig *rig, const struct snapshot_id *id)
{
    struct err err;

    guest_must(store_remove(&rig->store, id, &err), &err);
}

static void print_begin(const char *what, const char *folder)
{
    (void)printf(", \"%s %s\": {", what, folder);
}

static void measure_full(
    const char *path, const char *folder, bool sync, int runs)
{
    const struct machine_snapshot_options options = {.sync = sync};
    struct guest *g = start(path, FULL_MEM, 0);
    struct stats ms = {0};
    struct stats cpu_ms = {0};
    struct rig rig;

    rig_init(&rig, folder);
    fill(g);
    for (int i = 0; i < runs; i++) {
        uint64_t cpu = stats_cpu_ns();
        uint64_t from = clock_now_ns();
        struct snapshot_id id;

        save(&rig, g, &options, &id);
        stats_add(&ms, (double)(clock_now_ns() - from) / 1e6);
        stats_add(&cpu_ms, (double)(stats_cpu_ns() - cpu) / 1e6);
        remove_id(&rig, &id);
    }
    guest_free(g);
    rig_fini(&rig);
    print_begin(sync ? "full" : "full_no_sync", folder);
    stats_print(&ms, "save", "ms", stdout);
    (void)fputs(", ", stdout);
    stats_print(&cpu_ms, "cpu", "ms", stdout);
    (void)fputs("}\n", stdout);
    stats_free(&ms);
    stats_free(&cpu_ms);
}

/* One diff on top of *id, which it replaces. */
static void diff(struct rig *rig, struct guest *g, struct snapshot_id *id,
    struct stats *stop_us, struct stats *save_ms)
{
    const struct machine_snapshot_options options = {
        .diff = true, .track = true};
    struct snapshot_id next;
    struct machine_snapshot s;
    struct err err;
    uint64_t from = clock_now_ns();

    guest_must(
        machine_snapshot_begin(&s, &g->machine, &rig->store, &options, &err),
        &err);
    guest_must(machine_save_copy(&s.save, true, &err), &err);
    guest_run_round(g);
    settle(g);
    guest_must(machine_save_stop(&s.save, false, &err), &err);
    guest_must(machine_snapshot_finish(&s, &next, &err), &err);
    stats_add(save_ms, (double)(clock_now_ns() - from) / 1e6);
    stats_add(stop_us, (double)s.save.stopped_ns / 1e3);
    machine_snapshot_fini(&s);
    remove_id(rig, id);
    *id = next;
}

static void measure_diff(
    const char *path, const char *folder, uint32_t pages, int runs)
{
    const struct machine_snapshot_options options = {.track = true};
    struct guest *g = start(path, DIFF_MEM, 3);
    struct stats stop_us = {0};
    struct stats save_ms = {0};
    struct snapshot_id id;
    char name[32];
    struct rig rig;

    rig_init(&rig, folder);
    fill(g);
    guest_set_pages(g, pages);
    save(&rig, g, &options, &id);
    for (int i = 0; i < runs; i++)
        diff(&rig, g, &id, &stop_us, &save_ms);
    remove_id(&rig, &id);
    guest_free(g);
    rig_fini(&rig);
    (void)snprintf(name, sizeof(name), "diff_%u", pages);
    print_begin(name, folder);
    stats_print(&stop_us, "stop", "us", stdout);
    (void)fputs(", ", stdout);
    stats_print(&save_ms, "save", "ms", stdout);
    (void)fputs("}\n", stdout);
    stats_free(&stop_us);
    stats_free(&save_ms);
}

static void measure_pause(const char *path, int runs)
{
    struct guest *g = guest_new(path, FULL_MEM, MACHINE_TRACK_LATER);
    struct stats us = {0};
    struct err err;

    guest_set_ring(g, 3);
    guest_must(machine_start(&g->machine, &err), &err);
    for (int i = 0; i < runs; i++) {
        uint64_t from = clock_now_ns();

        machine_pause(&g->machine);
        machine_resume(&g->machine);
        stats_add(&us, (double)(clock_now_ns() - from) / 1e3);
        (void)usleep(1000);
    }
    guest_free(g);
    (void)fputs(", ", stdout);
    stats_print(&us, "pause_resume", "us", stdout);
    (void)fputs("\n", stdout);
    stats_free(&us);
}

int main(int argc, char **argv)
{
    static const uint32_t counts[] = {0, 10, 100, 1000, 10000};
    const char *what = "";
    int runs = 200;
    int opt;

    while ((opt = getopt(argc, argv, "n:w:")) != -1) {
        if (opt == 'n')
            runs = atoi(optarg);
        else if (opt == 'w')
            what = optarg;
    }
    if (optind > argc - 2) {
        (void)fputs("usage: bench_save [-n RUNS] [-w full|diff] GUEST "
                    "FOLDER...\n",
            stderr);
        return 2;
    }
    (void)fputs("{\"bench\": \"save\"\n", stdout);
    for (int i = optind + 1; i < argc; i++) {
        for (int sync = 0; strcmp(what, "diff") != 0 && sync < 2; sync++)
            measure_full(argv[optind], argv[i], sync != 0, runs);
        for (size_t k = 0; strcmp(what, "full") != 0 && k < ARRAY_SIZE(counts);
             k++)
            measure_diff(argv[optind], argv[i], counts[k], runs);
    }
    measure_pause(argv[optind], runs);
    (void)fputs("}\n", stdout);
    return 0;
}
