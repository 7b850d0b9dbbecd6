/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_dirty [-n ROUNDS] GUEST
 *
 * What it costs to know which pages a guest wrote. GUEST is rounds.elf of
 * tests/guests: each round writes to N pages and exits. Per method, ring and
 * N: the round itself, and the harvest behind it. Then, by RAM size: a
 * harvest of nothing, and turning the log on and off. Prints JSON, in us.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "bench/stats.h"
#include "vmm/base/clock.h"
#include "vmm/hw/boot.h"
#include "vmm/hw/dirty.h"
#include "vmm/hw/vcpu.h"

#define MAILBOX    UINT64_C(0x40000) /* pvh.h */
#define FIRST_PAGE 1024u
#define PORT       0x80u
#define WARM_UP    5

struct rig {
    struct kvm kvm;
    struct kvm_vm vm;
    struct gmem mem;
    struct cpuid cpuid;
    struct bus pio;
    struct bus mmio;
    struct dirty dirty;
    struct vcpu vcpu;
};

enum way { PLAIN, BITMAP, BITMAP_HOT, RING };

static const char *const way_names[] = {"no_log", "bitmap", "hot_set", "ring"};

/* What a bench calls either works or ends it. */
static void must(int rc, const struct err *err)
{
    if (rc >= 0)
        return;
    (void)fprintf(stderr, "bench_dirty: %s\n", err->text);
    exit(1);
}

static void ignore_stop(void *opaque, const struct vcpu_stop *stop)
{
    (void)opaque;
    (void)stop;
}

static void rig_init(struct rig *r, uint64_t bytes, enum dirty_method method)
{
    const struct dirty_config config = {.method = method, .ring_anyway = true};
    struct vcpu_config vcpu = {.vcpus = 1,
        .pio = &r->pio,
        .mmio = &r->mmio,
        .dirty = &r->dirty,
        .on_stop = ignore_stop};
    struct err err;

    memset(r, 0, sizeof(*r));
    bus_init(&r->pio);
    bus_init(&r->mmio);
    must(kvm_open(&r->kvm, &err), &err);
    must(gmem_init(&r->mem, bytes, &err), &err);
    must(kvm_vm_init(&r->vm, &r->kvm, &err), &err);
    must(dirty_init(&r->dirty, &r->vm, &r->mem, &config, &err), &err);
    must(kvm_vm_add_memory(&r->vm, &r->mem, &err), &err);
    must(kvm_vm_add_irqchip(&r->vm, &err), &err);
    must(cpuid_init(&r->cpuid, &r->kvm, &err), &err);
    must(vcpu_init(&r->vcpu, &r->vm, &r->cpuid, &vcpu, &err), &err);
}

static void rig_fini(struct rig *r)
{
    vcpu_fini(&r->vcpu);
    dirty_fini(&r->dirty);
    cpuid_fini(&r->cpuid);
    kvm_vm_fini(&r->vm);
    gmem_fini(&r->mem);
    kvm_close(&r->kvm);
}

static void poke(struct rig *r, uint64_t offset, uint32_t value)
{
    must(gmem_write(&r->mem, gpa(MAILBOX + offset), &value, sizeof(value)),
        &(struct err){.text = "the mailbox is not RAM"});
}

static void load(struct rig *r, const char *guest, uint32_t ring)
{
    const struct boot_config boot = {
        .kernel = {.kind = IMAGE_PATH, .name = guest}};
    struct boot_entry entry;
    struct err err;

    must(boot_load(&r->mem, &boot, &entry, &err), &err);
    must(vcpu_set_boot_state(&r->vcpu, &entry, &err), &err);
    poke(r, 0, ring);
    poke(r, 4, FIRST_PAGE);
}

/* Until the guest's next round is done. */
static void run_round(struct rig *r)
{
    for (;;) {
        if (ioctl(r->vcpu.fd, KVM_RUN, 0L) < 0) {
            if (errno != EINTR && errno != EAGAIN)
                must(-1, &(struct err){.text = "KVM_RUN"});
            continue;
        }
        switch (r->vcpu.run->exit_reason) {
        case KVM_EXIT_IO:
            if (r->vcpu.run->io.port == PORT)
                return;
            break;
        case KVM_EXIT_DIRTY_RING_FULL:
            must(dirty_ring_full(&r->dirty), &(struct err){.text = "ring"});
            break;
        default:
            must(-1, &(struct err){.text = "the guest does not go on"});
        }
    }
}

static void set_hot(struct rig *r, uint32_t count)
{
    uint32_t *pages = calloc(count + 1u, sizeof(*pages));
    struct err err;

    if (pages == NULL)
        must(-1, &(struct err){.text = "out of memory"});
    for (uint32_t i = 0; i < count; i++)
        pages[i] = FIRST_PAGE + i;
    must(dirty_set_hot(&r->dirty, pages, count, &err), &err);
    free(pages);
}

static void measure(
    const char *guest, enum way way, uint32_t ring, uint32_t pages, int rounds)
{
    struct stats round_us = {0};
    struct stats harvest_us = {0};
    struct dirty_pages found;
    struct rig *r = malloc(sizeof(*r));
    struct err err;

    if (r == NULL)
        must(-1, &(struct err){.text = "out of memory"});
    rig_init(r, 128 * NUM_MIB, way == RING ? DIRTY_RING : DIRTY_BITMAP);
    load(r, guest, ring);
    poke(r, 8, pages);
    run_round(r);
    if (way != PLAIN)
        must(dirty_start(&r->dirty, &err), &err);
    if (way == BITMAP_HOT)
        set_hot(r, pages);
    for (int n = -WARM_UP; n < rounds; n++) {
        uint64_t start = clock_now_ns();
        uint64_t middle;
        uint64_t end;

        run_round(r);
        middle = clock_now_ns();
        if (way != PLAIN)
            must(dirty_harvest(&r->dirty, &found, &err), &err);
        end = clock_now_ns();
        if (n < 0)
            continue;
        stats_add(&round_us, (double)(middle - start) / 1e3);
        stats_add(&harvest_us, (double)(end - middle) / 1e3);
    }
    (void)printf(", \"%s_ring%u_%u\": {", way_names[way], ring, pages);
    stats_print(&round_us, "round", "us", stdout);
    if (way != PLAIN) {
        (void)fputs(", ", stdout);
        stats_print(&harvest_us, "harvest", "us", stdout);
    }
    (void)fputs("}\n", stdout);
    stats_free(&round_us);
    stats_free(&harvest_us);
    rig_fini(r);
    free(r);
}

/* The guest has touched 2,000 pages, so that there is something to protect. */
static void measure_size(
    const char *guest, enum dirty_method method, uint64_t mib, int rounds)
{
    struct stats on_us = {0};
    struct stats off_us = {0};
    struct stats empty_us = {0};
    struct dirty_pages found;
    struct rig *r = malloc(sizeof(*r));
    struct err err;

    if (r == NULL)
        must(-1, &(struct err){.text = "out of memory"});
    rig_init(r, mib * NUM_MIB, method);
    load(r, guest, 3);
    poke(r, 8, 2000);
    run_round(r);
    for (int n = 0; n < rounds; n++) {
        uint64_t at[4];

        at[0] = clock_now_ns();
        must(dirty_start(&r->dirty, &err), &err);
        at[1] = clock_now_ns();
        must(dirty_harvest(&r->dirty, &found, &err), &err);
        at[2] = clock_now_ns();
        must(dirty_stop(&r->dirty, &err), &err);
        at[3] = clock_now_ns();
        stats_add(&on_us, (double)(at[1] - at[0]) / 1e3);
        stats_add(&empty_us, (double)(at[2] - at[1]) / 1e3);
        stats_add(&off_us, (double)(at[3] - at[2]) / 1e3);
        run_round(r);
    }
    (void)printf(", \"%s_%llu_mib\": {",
        method == DIRTY_RING ? "ring" : "bitmap", (unsigned long long)mib);
    stats_print(&on_us, "start", "us", stdout);
    (void)fputs(", ", stdout);
    stats_print(&empty_us, "empty_harvest", "us", stdout);
    (void)fputs(", ", stdout);
    stats_print(&off_us, "stop", "us", stdout);
    (void)fputs("}\n", stdout);
    stats_free(&on_us);
    stats_free(&empty_us);
    stats_free(&off_us);
    rig_fini(r);
    free(r);
}

int main(int argc, char **argv)
{
    static const uint32_t counts[] = {0, 10, 100, 1000};
    static const uint64_t sizes[] = {128, 1024, 8192};
    int rounds = 200;
    const char *guest;

    if (argc == 4 && strcmp(argv[1], "-n") == 0)
        rounds = atoi(argv[2]);
    else if (argc != 2) {
        (void)fputs("usage: bench_dirty [-n ROUNDS] GUEST\n", stderr);
        return 2;
    }
    guest = argv[argc - 1];
    (void)fputs("{\"bench\": \"dirty\"\n", stdout);
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        measure(guest, PLAIN, 0, counts[i], rounds);
        measure(guest, PLAIN, 3, counts[i], rounds);
        measure(guest, BITMAP, 0, counts[i], rounds);
        measure(guest, BITMAP, 3, counts[i], rounds);
        measure(guest, BITMAP_HOT, 0, counts[i], rounds);
        measure(guest, BITMAP_HOT, 3, counts[i], rounds);
        measure(guest, RING, 3, counts[i], rounds);
    }
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        measure_size(guest, DIRTY_BITMAP, sizes[i], rounds / 4);
        measure_size(guest, DIRTY_RING, sizes[i], rounds / 4);
    }
    (void)fputs("}\n", stdout);
    return 0;
}
