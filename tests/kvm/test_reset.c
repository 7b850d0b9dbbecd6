/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In-place reset against copies of everything: RAM by its bytes, devices,
 * vCPUs, and what the guest does afterwards.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "snapshot/reset.h"
#include "tests/kvm/support/bare.h"
#include "tests/kvm/support/writer.h"

#define LEVELS 6u

/* All of a machine at one moment. */
struct copy {
    uint8_t *ram;
    struct frozen frozen;
};

struct rig {
    struct bare *b;
    struct reset reset;
    struct copy levels[LEVELS + 1];
    uint64_t seed;
};

static uint32_t pick(struct rig *r, uint32_t below)
{
    r->seed = r->seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(r->seed >> 33) % below;
}

static struct copy take(struct rig *r)
{
    struct machine *m = &r->b->machine;
    struct parts parts = machine_parts(m);
    struct copy c = {.ram = malloc(m->mem.size)};
    struct err err;

    assert_non_null(c.ram);
    gmem_copy_pages(&m->mem, 0, gmem_page_count(&m->mem), c.ram);
    if (parts_quiesce(&parts, &err) < 0 ||
        frozen_take(&c.frozen, &parts, &err) < 0)
        fail_msg("%s", err.text);
    parts_resume(&parts);
    return c;
}

static void drop(struct copy *c)
{
    free(c->ram);
    frozen_fini(&c->frozen);
    *c = (struct copy){0};
}

static void expect_same(struct rig *r, const struct copy *want)
{
    struct parts parts = machine_parts(&r->b->machine);
    struct copy got = take(r);
    char text[128];

    for (uint64_t page = 0; page < gmem_page_count(parts.mem); page++) {
        if (memcmp(got.ram + page * NUM_PAGE_SIZE,
                want->ram + page * NUM_PAGE_SIZE, NUM_PAGE_SIZE) != 0)
            fail_msg("page %llu differs", (unsigned long long)page);
    }
    if (frozen_differs(&got.frozen, &want->frozen, &parts, text, sizeof(text)))
        fail_msg("%s", text);
    drop(&got);
}

static void run_a_bit(struct rig *r)
{
    uint32_t told = bare_peek(r->b, WRITER_TOLD);

    machine_resume(&r->b->machine);
    bare_wait_change(r->b, WRITER_TOLD, told);
    machine_pause(&r->b->machine);
    writer_expect_pages(r->b);
}

static void begin(struct rig *r, struct bare *b, uint32_t hot_max)
{
    struct reset_config config = {.vcpu_parts = RESET_VCPU_PARTS_ALL,
        .clock = VM_CLOCK_FOLLOW,
        .hot_max = hot_max};
    struct err err;

    *r = (struct rig){.b = b, .seed = 5};
    machine_pause(&b->machine);
    if (machine_prepare_parts(&b->machine, &err) < 0)
        fail_msg("%s", err.text);
    config.parts = machine_parts(&b->machine);
    if (reset_init(&r->reset, &config, &err) < 0)
        fail_msg("%s", err.text);
    r->levels[0] = take(r);
}

static void end(struct rig *r)
{
    for (uint32_t i = 0; i <= LEVELS; i++)
        drop(&r->levels[i]);
    reset_fini(&r->reset);
    bare_free(r->b);
}

static void push(struct rig *r)
{
    struct err err;

    if (reset_push(&r->reset, &err) < 0)
        fail_msg("%s", err.text);
    r->levels[reset_level(&r->reset)] = take(r);
}

static void back_to(struct rig *r, uint32_t level)
{
    uint32_t top = reset_level(&r->reset);
    struct err err;

    if (reset_to_level(&r->reset, level, &err) < 0)
        fail_msg("%s", err.text);
    for (uint32_t i = level + 1; i <= top; i++)
        drop(&r->levels[i]);
    expect_same(r, &r->levels[level]);
    reset_resume(&r->reset);
}

/* Runs, resets, pushes and pops at random; each reset is compared. */
static void random_walk(struct rig *r, int steps)
{
    for (int i = 0; i < steps; i++) {
        uint32_t top = reset_level(&r->reset);

        run_a_bit(r);
        switch (pick(r, 6)) {
        case 0:
            if (top < LEVELS)
                push(r);
            break;
        case 1:
            back_to(r, pick(r, top + 1));
            break;
        default:
            back_to(r, top);
            break;
        }
    }
}

static void check(
    uint32_t ring, enum machine_tracking tracking, uint32_t hot, int steps)
{
    struct rig r;

    begin(&r, writer_start(ring, tracking), hot);
    random_walk(&r, steps);
    end(&r);
}

static void test_ring_0_by_bitmap(void **state)
{
    (void)state;
    check(0, MACHINE_TRACK_BITMAP, 0, 150);
}

/* Where guest kernels are interpreted KVM overruns its dirty ring. */
static bool has_ring(void)
{
    struct kvm kvm;
    bool has;

    assert_int_equal(kvm_open(&kvm, NULL), 0);
    has = !kvm.features.ring0_emulated;
    kvm_close(&kvm);
    return has;
}

static void test_by_ring(void **state)
{
    (void)state;
    if (!has_ring()) {
        print_message("skipped: this host's dirty ring is not to be relied "
                      "on\n");
        skip();
    }
    check(3, MACHINE_TRACK_RING, 0, 60);
    check(0, MACHINE_TRACK_RING, 0, 150);
}

static void test_ring_0_with_hot_pages(void **state)
{
    (void)state;
    check(0, MACHINE_TRACK_BITMAP, 4096, 300);
}

static void test_ring_3(void **state)
{
    (void)state;
    check(3, MACHINE_TRACK_BITMAP, 0, 60);
}

static void test_ring_3_with_hot_pages(void **state)
{
    (void)state;
    check(3, MACHINE_TRACK_BITMAP, 4096, 300);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ring_0_by_bitmap),
        cmocka_unit_test(test_by_ring),
        cmocka_unit_test(test_ring_0_with_hot_pages),
        cmocka_unit_test(test_ring_3),
        cmocka_unit_test(test_ring_3_with_hot_pages),
    };
    int rc = bare_need_kvm();

    return rc != 0 ? rc : cmocka_run_group_tests(tests, NULL, NULL);
}
