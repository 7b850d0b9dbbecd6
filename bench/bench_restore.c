/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_restore [-n RUNS] [-b SECONDS] [-m MIB] [-f FOLDER] [-k COUNT [-c]]
 * GUEST
 *
 * Restores of a bare guest, byte.elf of tests/guests, whose first act is to
 * send a byte. 64 MiB of its RAM, all over it, have contents. By RAM size
 * (or for -m alone), in us:
 *
 * process   from before the start of a process that restores it to the byte,
 *           and from the process's killing to its end
 * inside    the same work in this process on one thread, by stages, and its
 *           undoing
 * shell     the same where the machine was made ahead, its memory not mapped
 *           yet: opening, filling, run
 * mapped    filling and run of one whose memory was mapped ahead too
 *
 * With -k: COUNT processes at once restore it, by stages and with what each
 * costs while it lives (crowd.h); with -c what the page cache has of the
 * snapshot is put out of it before. No run begins after so many SECONDS.
 *
 * Prints JSON. FOLDER, /dev/shm by default, is where the snapshots are put.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/crowd.h"
#include "bench/guest.h"
#include "bench/stats.h"
#include "vmm/base/clock.h"
#include "vmm/hw/layout.h"
#include "vmm/machine_snapshot.h"

#define FILL_FIRST 4096u /* page */
#define FILL_RUNS  1024u
#define FILL_PAGES 16u /* in a run */
#define GAP_NS     10000000

struct rig {
    char folder[256];
    struct store store;
    struct snapshot_id id;
};

struct options {
    int runs;
    uint64_t end_ns; /* clock */
    uint64_t only_mib;
    size_t at_once; /* 0: no crowd */
    bool is_cold;
};

struct figures {
    struct stats byte_us;
    struct stats killed_us;
    struct stats open_us;
    struct stats prepare_us;
    struct stats vm_us;
    struct stats rest_us;
    struct stats run_us;
    struct stats all_us;
    struct stats all_cpu_us;
    struct stats undo_us;
    struct stats shell_us;
    struct stats shell_cpu_us;
    struct stats shell_fill_us;
    struct stats mapped_us;
    struct stats mapped_cpu_us;
};

/* ---- the snapshot -------------------------------------------------------- */

static void fill(struct guest *g)
{
    struct gmem *mem = &g->machine.mem;
    uint64_t stride = (gmem_page_count(mem) - FILL_FIRST) / FILL_RUNS;
    static uint64_t page[NUM_PAGE_SIZE / sizeof(uint64_t)];

    for (uint64_t i = 0; i < FILL_RUNS; i++) {
        for (uint64_t k = 0; k < FILL_PAGES; k++) {
            page[i % 64] = i << 8 | k | 1;
            gmem_restore_pages(mem, FILL_FIRST + i * stride + k, 1, page);
        }
    }
}

static void save(struct rig *rig, const char *path, uint64_t bytes)
{
    const struct machine_snapshot_options options = {.sync = false};
    struct guest *g = guest_new(path, bytes, MACHINE_TRACK_LATER);
    struct err err = {.text = "the vCPU does not settle"};

    guest_run_round(g);
    guest_must(vcpu_settle(&g->machine.vcpus[0]), &err);
    fill(g);
    guest_must(machine_snapshot_paused(
                   &g->machine, &rig->store, &options, &rig->id, &err),
        &err);
    guest_free(g);
}

/* ---- in a process of its own --------------------------------------------- */

enum mark { MARK_MAIN, MARK_OPEN, MARK_PREPARED, MARK_VM, MARK_STATE };

/* The process: restores and runs until it is killed. */
static int run_child(const char *folder, const char *ref)
{
    uint64_t marks[CROWD_MARKS] = {[MARK_MAIN] = clock_now_ns()};
    struct store store;
    struct snapshot_id id;
    struct snap snap;
    struct guest *g;
    struct err err;

    guest_must(store_open(&store, folder, false, &err), &err);
    guest_must(store_find(&store, ref, &id, &err), &err);
    guest_must(snap_open(&store, &id, &snap, &err), &err);
    marks[MARK_OPEN] = clock_now_ns();
    g = guest_restore(&snap, STDOUT_FILENO);
    marks[MARK_STATE] = clock_now_ns();
    guest_must(machine_start(&g->machine, &err), &err);
    marks[MARK_PREPARED] = g->built_ns;
    marks[MARK_VM] = g->timings.at_ns[TIMINGS_KVM];
    (void)!write(CROWD_FD, marks, sizeof(marks));
    snap_close(&snap);
    return loop_run(&g->loop) < 0;
}

/* At once, in processes that are killed when each has sent its byte. */
static void start_crowd(struct rig *rig, struct crowd *crowd, size_t count)
{
    char ref[SNAPSHOT_ID_TEXT_SIZE];
    char name[] = "/proc/self/exe";
    char child[] = "--child";
    char *argv[] = {name, child, rig->folder, ref, NULL};
    const struct crowd_config config = {
        .argv = argv, .with_marks = true, .timeout_ns = 120 * CLOCK_NS_PER_S};
    const struct err err = {.text = "a process gives no byte"};

    snapshot_id_to_text(&rig->id, ref);
    guest_must(crowd_start(crowd, &config, count), &err);
}

static void end_crowd(struct crowd *crowd)
{
    const struct err err = {.text = "a process does not end"};

    guest_must(crowd_end(crowd, true), &err);
}

static void run_process(struct figures *f, struct rig *rig)
{
    struct crowd crowd;
    uint64_t killed_ns;

    start_crowd(rig, &crowd, 1);
    killed_ns = clock_now_ns();
    end_crowd(&crowd);
    stats_add(&f->byte_us,
        (double)(crowd.members[0].byte_ns - crowd.members[0].asked_ns) / 1e3);
    stats_add(
        &f->killed_us, (double)(crowd.members[0].reaped_ns - killed_ns) / 1e3);
    crowd_free(&crowd);
}

/* ---- many at once -------------------------------------------------------- */

static const char *const stage_names[] = {"stage_process", "stage_open",
    "stage_prepare", "stage_memory_vm", "stage_state", "stage_run"};

#define STAGES ARRAY_SIZE(stage_names)

static void add_stages(struct stats *stages, const struct crowd *crowd)
{
    for (size_t i = 0; i < crowd->count; i++) {
        const struct crowd_member *m = &crowd->members[i];
        uint64_t from = m->asked_ns;

        for (size_t k = 0; k < STAGES; k++) {
            uint64_t to = k < CROWD_MARKS ? m->marks[k] : m->byte_ns;

            stats_add(&stages[k], (double)(to - from) / 1e3);
            from = to;
        }
    }
}

static void measure_crowd(struct rig *rig, const struct options *o)
{
    struct crowd_figures figures = {0};
    struct stats stages[STAGES] = {0};
    struct stats left_kib = {0};
    struct stats kill_ms = {0};

    for (int i = 0; i < o->runs && clock_now_ns() < o->end_ns; i++) {
        const struct timespec gap = {.tv_nsec = GAP_NS};
        struct crowd_host before;
        struct crowd crowd;
        uint64_t killed_ns;

        if (o->is_cold) {
            const struct err err = {.text = "the snapshot cannot be read"};
            double left;

            guest_must(crowd_cool(rig->folder, &left), &err);
            stats_add(&left_kib, left);
        }
        crowd_look_at_host(&before);
        start_crowd(rig, &crowd, o->at_once);
        crowd_figures_add(&figures, &crowd, &before);
        add_stages(stages, &crowd);
        killed_ns = clock_now_ns();
        end_crowd(&crowd);
        stats_add(&kill_ms, (double)(clock_now_ns() - killed_ns) / 1e6);
        crowd_free(&crowd);
        (void)nanosleep(&gap, NULL);
    }
    (void)printf("{\"at_once\": %zu, ", o->at_once);
    crowd_figures_print(&figures, stdout);
    for (size_t i = 0; i < STAGES; i++) {
        (void)fputs(", ", stdout);
        stats_print(&stages[i], stage_names[i], "us", stdout);
        stats_free(&stages[i]);
    }
    (void)fputs(", ", stdout);
    stats_print(&kill_ms, "all_ended", "ms", stdout);
    (void)fputs(", ", stdout);
    stats_print(&left_kib, "cold_left", "KiB", stdout);
    (void)fputs("}", stdout);
    stats_free(&kill_ms);
    stats_free(&left_kib);
    crowd_figures_free(&figures);
}

/* ---- in this process ----------------------------------------------------- */

static void run_inside(struct figures *f, struct rig *rig)
{
    const uint64_t *marks;
    struct snap snap;
    struct guest *g;
    struct err err;
    uint64_t cpu = stats_cpu_ns();
    uint64_t at[5];
    uint64_t prepared;

    at[0] = clock_now_ns();
    guest_must(snap_open(&rig->store, &rig->id, &snap, &err), &err);
    at[1] = clock_now_ns();
    g = guest_restore(&snap, -1);
    at[2] = clock_now_ns();
    guest_run_to(g, LAYOUT_PORT_SERIAL);
    at[3] = clock_now_ns();
    cpu = stats_cpu_ns() - cpu;
    marks = g->timings.at_ns;
    prepared = g->built_ns;
    stats_add(&f->open_us, (double)(at[1] - at[0]) / 1e3);
    stats_add(&f->prepare_us, (double)(prepared - at[1]) / 1e3);
    stats_add(&f->vm_us, (double)(marks[TIMINGS_KVM] - prepared) / 1e3);
    stats_add(&f->rest_us, (double)(at[2] - marks[TIMINGS_KVM]) / 1e3);
    stats_add(&f->run_us, (double)(at[3] - at[2]) / 1e3);
    stats_add(&f->all_us, (double)(at[3] - at[0]) / 1e3);
    stats_add(&f->all_cpu_us, (double)cpu / 1e3);
    at[3] = clock_now_ns();
    guest_free(g);
    snap_close(&snap);
    at[4] = clock_now_ns();
    stats_add(&f->undo_us, (double)(at[4] - at[3]) / 1e3);
}

static void run_mapped(struct figures *f, struct rig *rig)
{
    struct snap snap;
    struct guest *g;
    struct err err;
    uint64_t from;
    uint64_t cpu;

    guest_must(snap_open(&rig->store, &rig->id, &snap, &err), &err);
    g = guest_shell(&snap, true);
    /* Its sections are taken once only. */
    snap_close(&snap);
    guest_must(snap_open(&rig->store, &rig->id, &snap, &err), &err);
    cpu = stats_cpu_ns();
    from = clock_now_ns();
    guest_fill(g, &snap);
    guest_run_to(g, LAYOUT_PORT_SERIAL);
    stats_add(&f->mapped_us, (double)(clock_now_ns() - from) / 1e3);
    stats_add(&f->mapped_cpu_us, (double)(stats_cpu_ns() - cpu) / 1e3);
    guest_free(g);
    snap_close(&snap);
}

static void run_shell(struct figures *f, struct rig *rig)
{
    struct snap model;
    struct snap snap;
    struct guest *g;
    struct err err;
    uint64_t at[4];
    uint64_t cpu;

    guest_must(snap_open(&rig->store, &rig->id, &model, &err), &err);
    g = guest_shell(&model, false);
    snap_close(&model);
    cpu = stats_cpu_ns();
    at[0] = clock_now_ns();
    guest_must(snap_open(&rig->store, &rig->id, &snap, &err), &err);
    at[1] = clock_now_ns();
    guest_fill(g, &snap);
    at[2] = clock_now_ns();
    guest_run_to(g, LAYOUT_PORT_SERIAL);
    at[3] = clock_now_ns();
    cpu = stats_cpu_ns() - cpu;
    stats_add(&f->shell_us, (double)(at[3] - at[0]) / 1e3);
    stats_add(&f->shell_cpu_us, (double)cpu / 1e3);
    stats_add(&f->shell_fill_us, (double)(at[2] - at[1]) / 1e3);
    guest_free(g);
    snap_close(&snap);
}

/* ---- figures ------------------------------------------------------------- */

static void print(struct figures *f)
{
    const struct {
        const char *name;
        struct stats *stats;
    } all[] = {{"process_to_byte", &f->byte_us},
        {"process_kill_to_end", &f->killed_us}, {"inside", &f->all_us},
        {"inside_cpu", &f->all_cpu_us}, {"inside_open", &f->open_us},
        {"inside_prepare", &f->prepare_us}, {"inside_memory_vm", &f->vm_us},
        {"inside_rest", &f->rest_us}, {"inside_run", &f->run_us},
        {"inside_undo", &f->undo_us}, {"shell", &f->shell_us},
        {"shell_cpu", &f->shell_cpu_us}, {"shell_fill", &f->shell_fill_us},
        {"mapped", &f->mapped_us}, {"mapped_cpu", &f->mapped_cpu_us}};

    (void)fputs("{", stdout);
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        stats_print(all[i].stats, all[i].name, "us", stdout);
        (void)fputs(i + 1 < ARRAY_SIZE(all) ? ",\n  " : "}", stdout);
        stats_free(all[i].stats);
    }
}

static void measure_ways(struct rig *rig, const struct options *o)
{
    const struct timespec gap = {.tv_nsec = GAP_NS};
    struct figures f = {0};

    for (int i = 0; i < o->runs && clock_now_ns() < o->end_ns; i++) {
        run_process(&f, rig);
        /* What the last one left to the kernel is over by then. */
        (void)nanosleep(&gap, NULL);
        run_inside(&f, rig);
        (void)nanosleep(&gap, NULL);
        run_shell(&f, rig);
        (void)nanosleep(&gap, NULL);
        run_mapped(&f, rig);
        (void)nanosleep(&gap, NULL);
    }
    print(&f);
}

static void measure(
    struct rig *rig, const char *path, uint64_t mib, const struct options *o)
{
    struct err err;

    save(rig, path, mib * NUM_MIB);
    (void)printf(", \"mib_%llu\": ", (unsigned long long)mib);
    if (o->at_once > 0)
        measure_crowd(rig, o);
    else
        measure_ways(rig, o);
    (void)fputs("\n", stdout);
    guest_must(store_remove(&rig->store, &rig->id, &err), &err);
}

int main(int argc, char **argv)
{
    static const uint64_t sizes[] = {128, 1024, 8192};
    struct options o = {.runs = 200, .end_ns = UINT64_MAX};
    const char *folder = "/dev/shm";
    struct rig rig = {0};
    struct err err = {.text = "the folder cannot be made"};
    int opt;

    if (argc == 4 && strcmp(argv[1], "--child") == 0)
        return run_child(argv[2], argv[3]);
    while ((opt = getopt(argc, argv, "n:b:m:f:k:c")) != -1) {
        if (opt == 'n')
            o.runs = atoi(optarg);
        else if (opt == 'b')
            o.end_ns =
                clock_now_ns() + strtoull(optarg, NULL, 10) * CLOCK_NS_PER_S;
        else if (opt == 'm')
            o.only_mib = strtoull(optarg, NULL, 10);
        else if (opt == 'f')
            folder = optarg;
        else if (opt == 'k')
            o.at_once = strtoull(optarg, NULL, 10);
        else if (opt == 'c')
            o.is_cold = true;
    }
    if (optind != argc - 1) {
        (void)fputs("usage: bench_restore [-n RUNS] [-b SECONDS] [-m MIB] "
                    "[-f FOLDER] [-k COUNT [-c]] GUEST\n",
            stderr);
        return 2;
    }
    (void)snprintf(
        rig.folder, sizeof(rig.folder), "%s/bench-restore-XXXXXX", folder);
    guest_must(mkdtemp(rig.folder) == NULL ? -1 : 0, &err);
    guest_must(store_open(&rig.store, rig.folder, true, &err), &err);
    (void)fputs("{\"bench\": \"restore\"\n", stdout);
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        if (o.only_mib == 0 || o.only_mib == sizes[i])
            measure(&rig, argv[optind], sizes[i], &o);
    }
    (void)fputs("}\n", stdout);
    store_close(&rig.store);
    (void)rmdir(rig.folder);
    return 0;
}
