/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A full save of a guest's memory, from the first page to the commit, without
 * a guest: of a memory that was barely touched, of one that a Linux guest
 * filled by a half, and of one without a single zero page; with and without
 * fsync; and again with everything in the store already. Beside the time that
 * passed, that of the processor: on a host that is busy it says more.
 *
 *     bench_snapshot_image [FOLDER] [MIB] [ROUNDS]
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/stats.h"
#include "snapshot/dedupe.h"
#include "snapshot/page_writer.h"
#include "snapshot/save.h"
#include "snapshot/snap.h"
#include "snapshot/verify.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

struct rig {
    struct store store;
    uint64_t pages;
    int mem_fd;
    uint8_t *ram;
};

static void must(bool ok, const struct err *err)
{
    if (ok)
        return;
    (void)fprintf(stderr, "bench_snapshot_image: %s\n", err->text);
    exit(1);
}

/* One page in `every` is filled, in runs of 16. */
static void fill(struct rig *rig, uint64_t every)
{
    const struct err err = {.text = "memory"};
    uint64_t x = 88172645463325252u;

    must(ftruncate(rig->mem_fd, 0) == 0, &err);
    must(
        ftruncate(rig->mem_fd, (off_t)(rig->pages * NUM_PAGE_SIZE)) == 0, &err);
    for (uint64_t page = 0; page < rig->pages; page++) {
        uint64_t *words = (uint64_t *)(void *)(rig->ram + page * NUM_PAGE_SIZE);

        if (page / 16 % every != 0)
            continue;
        for (size_t i = 0; i < NUM_PAGE_SIZE / sizeof(*words); i++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            words[i] = x;
        }
    }
}

struct parts {
    struct page_index_builder builder;
    struct page_hashes hashes;
    struct page_index index;
    struct dedupe dedupe;
    struct state_writer state;
    struct save save;
    struct page_writer image;
    int image_fd;
};

static struct snapshot_id save_all(
    struct rig *rig, bool sync, bool dedupe, struct parts *p)
{
    struct manifest manifest = {.pages = rig->pages, .vcpus = 1};
    struct page_image own = {.type = PAGE_IMAGE_MEM, .pages = rig->pages};
    struct snapshot_id id;
    struct err err;

    must(save_begin(&p->save, &rig->store, NULL, sync, &err) == 0, &err);
    id = own.id = manifest.id = p->save.id;
    must(page_index_builder_init(&p->builder, rig->pages, &own, &err) == 0,
        &err);
    must(page_hashes_init(&p->hashes, rig->pages) == 0, &err);
    if (dedupe)
        must(dedupe_init(&p->dedupe, &rig->store, DEDUPE_BYTES_DEFAULT,
                 DEDUPE_RUN_MIN_DEFAULT, &err) == 0,
            &err);
    must(save_create_image(&p->save, &own, &p->image_fd, &err) == 0, &err);
    page_writer_init(&p->image, p->image_fd, &p->save, &p->builder, &p->hashes,
        dedupe ? &p->dedupe : NULL);
    must(page_writer_put_ram(
             &p->image, rig->mem_fd, rig->ram, 0, rig->pages, &err) == 0,
        &err);
    must(page_index_builder_finish(&p->builder, &p->index, &err) == 0, &err);
    must(save_write_memory(&p->save, &p->index, &p->hashes, &err) == 0, &err);
    must(save_write_manifest(&p->save, &manifest, &err) == 0, &err);
    state_writer_init(&p->state, &id);
    must(save_commit(&p->save, &p->state, &err) == 0, &err);
    return id;
}

static void drop(struct parts *p)
{
    state_writer_fini(&p->state);
    page_index_fini(&p->index);
    page_hashes_fini(&p->hashes);
    dedupe_fini(&p->dedupe);
    fd_closep(&p->image_fd);
}

static void measure(struct rig *rig, const char *name, unsigned int rounds,
    bool sync, bool dedupe)
{
    struct snapshot_id first = {0};
    struct stats ms = {0};
    struct stats cpu = {0};
    char cpu_name[80];
    uint64_t written = 0;
    struct err err;

    if (dedupe) {
        struct parts p = {0};

        first = save_all(rig, false, false, &p);
        drop(&p);
    }
    for (unsigned int i = 0; i < rounds; i++) {
        uint64_t started = clock_now_ns();
        uint64_t cpu_started = clock_process_cpu_ns();
        struct parts p = {0};
        struct snapshot_id id = save_all(rig, sync, dedupe, &p);

        stats_add(&ms, (double)(clock_now_ns() - started) / 1e6);
        stats_add(&cpu, (double)(clock_process_cpu_ns() - cpu_started) / 1e6);
        written = p.image.pages_written;
        drop(&p);
        must(store_remove(&rig->store, &id, &err) == 0, &err);
    }
    if (dedupe)
        must(store_remove(&rig->store, &first, &err) == 0, &err);
    (void)printf(
        "  \"%s_pages_written\": %llu,\n  ", name, (unsigned long long)written);
    stats_print(&ms, name, "ms", stdout);
    (void)snprintf(cpu_name, sizeof(cpu_name), "%s_cpu", name);
    (void)printf(",\n  ");
    stats_print(&cpu, cpu_name, "ms", stdout);
    (void)puts(",");
    stats_free(&cpu);
    stats_free(&ms);
}

/* What a restore does before it maps: all checks, and whether to trust. */
static void measure_open(struct rig *rig, unsigned int rounds)
{
    struct parts p = {0};
    struct snapshot_id id = save_all(rig, false, false, &p);
    struct stats us = {0};
    struct err err;

    drop(&p);
    for (unsigned int i = 0; i < 20 * rounds; i++) {
        uint64_t started = clock_now_ns();
        struct snap snap;

        must(snap_open(&rig->store, &id, &snap, &err) == 0, &err);
        must(verify_is_trusted(&snap), &err);
        stats_add(&us, (double)(clock_now_ns() - started) / 1e3);
        snap_close(&snap);
    }
    must(store_remove(&rig->store, &id, &err) == 0, &err);
    (void)printf("  ");
    stats_print(&us, "open", "us", stdout);
    (void)puts(",");
    stats_free(&us);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        uint64_t every;
    } memories[] = {{"sparse", 100}, {"half", 2}, {"full", 1}};
    const char *folder = argc > 1 ? argv[1] : "/tmp";
    uint64_t mib = argc > 2 ? strtoull(argv[2], NULL, 10) : 128;
    unsigned int rounds =
        argc > 3 ? (unsigned int)strtoul(argv[3], NULL, 10) : 20;
    char path[256];
    struct rig rig = {.pages = mib * (NUM_MIB / NUM_PAGE_SIZE)};
    struct err err = {.text = "cannot start"};

    (void)snprintf(path, sizeof(path), "%s/bench-store.XXXXXX", folder);
    must(mib > 0 && mib <= 65536 && mkdtemp(path) != NULL, &err);
    must(store_open(&rig.store, path, true, &err) == 0, &err);
    rig.mem_fd = memfd_create("ram", MFD_CLOEXEC);
    must(rig.mem_fd >= 0 &&
             ftruncate(rig.mem_fd, (off_t)(rig.pages * NUM_PAGE_SIZE)) == 0,
        &err);
    rig.ram = mmap(NULL, rig.pages * NUM_PAGE_SIZE, PROT_READ | PROT_WRITE,
        MAP_SHARED, rig.mem_fd, 0);
    must(rig.ram != MAP_FAILED, &err);
    (void)printf("{\n  \"folder\": \"%s\", \"mib\": %llu,\n", folder,
        (unsigned long long)mib);
    for (size_t i = 0; i < ARRAY_SIZE(memories); i++) {
        char name[64];

        fill(&rig, memories[i].every);
        (void)snprintf(name, sizeof(name), "%s_no_sync", memories[i].name);
        measure(&rig, name, rounds, false, false);
        (void)snprintf(name, sizeof(name), "%s_sync", memories[i].name);
        measure(&rig, name, rounds / 4 + 1, true, false);
        (void)snprintf(name, sizeof(name), "%s_shared", memories[i].name);
        measure(&rig, name, rounds, false, true);
    }
    measure_open(&rig, rounds);
    (void)puts("  \"end\": true\n}");
    store_close(&rig.store);
    must(rmdir(path) == 0, &err);
    return 0;
}
