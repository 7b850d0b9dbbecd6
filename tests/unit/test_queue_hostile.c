/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "tests/unit/support/drive_queue.h"
#include "virtio/queue.h"
#include "virtio/spec.h"
#include "vmm/base/num.h"

#define RAM    (16 * NUM_MIB)
#define RINGS  UINT64_C(0x10000)
#define TABLE  UINT64_C(0x40000)
#define DATA   UINT64_C(0x100000)
#define SIZE   ((uint16_t)16)
#define F_BOTH (VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX)

struct fixture {
    struct gmem mem;
    struct queue_state state;
    struct queue q;
    struct drive_queue d;
};

static void start(struct fixture *f, uint64_t features)
{
    f->state = drive_queue_state(&f->d);
    assert_int_equal(queue_enable(&f->q, features), 0);
}

static int set_up(void **state)
{
    static struct fixture fixture;
    struct fixture *f = &fixture;

    *f = (struct fixture){0};
    assert_int_equal(gmem_init(&f->mem, RAM, NULL), 0);
    queue_init(&f->q, &f->state, &f->mem, 256, sizeof(struct queue_chain));
    drive_queue_init(&f->d, &f->mem, RINGS, SIZE);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    queue_fini(&f->q);
    gmem_fini(&f->mem);
    return 0;
}

/* Pops one chain that must be there. */
static struct queue_chain *pop(struct fixture *f)
{
    struct queue_chain *chain = NULL;

    assert_int_equal(queue_pop(&f->q, &chain), 1);
    return chain;
}

static void expect_empty(struct fixture *f)
{
    struct queue_chain *chain;

    assert_int_equal(queue_pop(&f->q, &chain), 0);
}

static void expect_refused(struct fixture *f, const char *why)
{
    struct queue_chain *chain;

    assert_int_equal(queue_pop(&f->q, &chain), -EPROTO);
    assert_non_null(strstr(f->q.fault, why));
    assert_int_equal(f->q.inflight, 0);
}

static void test_cycle_is_refused(void **state)
{
    struct fixture *f = *state;
    const struct drive_buffer buf = {DATA, 1, true};
    const struct drive_buffer empty = {DATA, 0, true};

    start(f, 0);
    drive_set_desc(&f->mem, f->d.desc, 0, &buf, VIRTQ_DESC_F_NEXT, 1);
    drive_set_desc(&f->mem, f->d.desc, 1, &buf, VIRTQ_DESC_F_NEXT, 0);
    drive_put_avail(&f->d, 0);
    expect_refused(f, "longer than the queue");
    /* Empty descriptors take no room, and still end. */
    drive_set_desc(&f->mem, f->d.desc, 0, &empty, VIRTQ_DESC_F_NEXT, 0);
    expect_refused(f, "longer than the queue");
}

static void test_cycle_in_indirect_table_is_refused(void **state)
{
    struct fixture *f = *state;
    const struct drive_buffer bufs[] = {{DATA, 1, true}, {DATA, 1, true}};

    start(f, VIRTIO_F_INDIRECT_DESC);
    (void)drive_add_indirect(&f->d, TABLE, bufs, 2);
    drive_set_desc(&f->mem, TABLE, 1, &bufs[1], VIRTQ_DESC_F_NEXT, 0);
    expect_refused(f, "longer than the queue");
}

static void test_buffer_outside_ram_is_refused(void **state)
{
    struct fixture *f = *state;
    const struct drive_buffer bad[] = {
        {RAM, 1, true},
        {RAM - 1, 2, true},
        {UINT64_MAX, 2, true},
        {UINT64_MAX - 15, 16, false},
        {GMEM_GAP_START, 1, true},
        {0, UINT32_MAX, false},
    };

    start(f, 0);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        drive_set_desc(&f->mem, f->d.desc, 0, &bad[i], 0, 0);
        if (i == 0)
            drive_put_avail(&f->d, 0);
        expect_refused(f, "outside RAM");
    }
}

static void test_readable_behind_writable_is_refused(void **state)
{
    struct fixture *f = *state;
    const struct drive_buffer bufs[] = {{DATA, 1, true}, {DATA, 1, false}};

    start(f, 0);
    (void)drive_add(&f->d, bufs, 2);
    expect_refused(f, "behind a writable");
}

/* Overlapping buffers add up to more than the RAM there is. */
static void test_chain_of_4_gib_is_refused(void **state)
{
    struct fixture *f = *state;
    struct drive_buffer bufs[SIZE];
    struct gmem big;
    struct queue_state qs;
    struct queue q;
    struct drive_queue d;
    struct queue_chain *chain;

    (void)f;
    assert_int_equal(gmem_init(&big, 512 * NUM_MIB, NULL), 0);
    drive_queue_init(&d, &big, RINGS, SIZE);
    queue_init(&q, &qs, &big, SIZE, sizeof(struct queue_chain));
    qs = drive_queue_state(&d);
    assert_int_equal(queue_enable(&q, 0), 0);
    for (uint16_t i = 0; i < SIZE; i++)
        bufs[i] = (struct drive_buffer){0, 512u << 20, false};
    (void)drive_add(&d, bufs, 7);
    assert_int_equal(queue_pop(&q, &chain), 1);
    assert_int_equal(chain->readable_bytes, UINT32_C(7) << 29);
    queue_push(&q, chain, 0);
    (void)drive_add(&d, bufs, 8);
    assert_int_equal(queue_pop(&q, &chain), -EPROTO);
    assert_non_null(strstr(q.fault, "2^32"));
    queue_fini(&q);
    gmem_fini(&big);
}

static void test_index_beyond_the_table_is_refused(void **state)
{
    struct fixture *f = *state;
    const struct drive_buffer buf = {DATA, 1, true};
    const struct drive_buffer bufs[] = {{DATA, 1, true}, {DATA, 1, true}};

    start(f, VIRTIO_F_INDIRECT_DESC);
    drive_put_avail(&f->d, SIZE);
    expect_refused(f, "beyond its table");
    drive_set_desc(&f->mem, f->d.desc, 3, &buf, VIRTQ_DESC_F_NEXT, 0xffff);
    f->d.avail_idx--;
    drive_put_avail(&f->d, 3);
    expect_refused(f, "beyond its table");
    /* Within the queue, but not within the indirect table. */
    f->d.avail_idx--;
    (void)drive_add_indirect(&f->d, TABLE, bufs, 2);
    drive_set_desc(&f->mem, TABLE, 0, &bufs[0], VIRTQ_DESC_F_NEXT, 2);
    expect_refused(f, "beyond its table");
}

static void test_indirect_mistakes_are_refused(void **state)
{
    struct fixture *f = *state;
    const struct drive_buffer inner = {DATA, 1, true};
    struct drive_buffer table = {TABLE, 16, false};

    start(f, VIRTIO_F_INDIRECT_DESC);
    drive_set_desc(&f->mem, TABLE, 0, &inner, 0, 0);
    drive_put_avail(&f->d, 0);

    drive_set_desc(&f->mem, f->d.desc, 0, &table,
        VIRTQ_DESC_F_INDIRECT | VIRTQ_DESC_F_NEXT, 1);
    expect_refused(f, "has a successor");
    table.len = 0;
    drive_set_desc(&f->mem, f->d.desc, 0, &table, VIRTQ_DESC_F_INDIRECT, 0);
    expect_refused(f, "length of an indirect");
    table.len = 17;
    drive_set_desc(&f->mem, f->d.desc, 0, &table, VIRTQ_DESC_F_INDIRECT, 0);
    expect_refused(f, "length of an indirect");
    table.len = 32;
    table.addr = RAM - 16;
    drive_set_desc(&f->mem, f->d.desc, 0, &table, VIRTQ_DESC_F_INDIRECT, 0);
    expect_refused(f, "table lies outside");
    table.addr = TABLE;
    table.len = 16;
    drive_set_desc(&f->mem, f->d.desc, 0, &table, VIRTQ_DESC_F_INDIRECT, 0);
    drive_set_desc(&f->mem, TABLE, 0, &table, VIRTQ_DESC_F_INDIRECT, 0);
    expect_refused(f, "nested");
}

static void test_indirect_table_longer_than_the_queue_is_refused(void **state)
{
    struct fixture *f = *state;
    struct drive_buffer bufs[SIZE + 1];

    for (uint16_t i = 0; i < SIZE + 1; i++)
        bufs[i] = (struct drive_buffer){DATA + i, 1, true};
    start(f, VIRTIO_F_INDIRECT_DESC);
    (void)drive_add_indirect(&f->d, TABLE, bufs, SIZE + 1);
    expect_refused(f, "length of an indirect table");
}

static void test_indirect_needs_negotiation(void **state)
{
    struct fixture *f = *state;
    const struct drive_buffer buf = {DATA, 1, true};

    start(f, VIRTIO_F_EVENT_IDX);
    (void)drive_add_indirect(&f->d, TABLE, &buf, 1);
    expect_refused(f, "not negotiated");
}

static void test_available_index_may_not_jump(void **state)
{
    struct fixture *f = *state;

    drive_queue_set_index(&f->d, 65535);
    start(f, 0);
    drive_set_avail_idx(&f->d, (uint16_t)(65535 + SIZE + 1));
    expect_refused(f, "ahead by more");
    /* Having work to report must not make the jump believable. */
    assert_true(queue_has_work(&f->q));
    expect_refused(f, "ahead by more");
    drive_set_avail_idx(&f->d, 65534);
    expect_refused(f, "ahead by more");
    drive_set_avail_idx(&f->d, 65535);
    expect_empty(f);
}

static void test_more_chains_than_descriptors_are_refused(void **state)
{
    struct fixture *f = *state;
    const struct drive_buffer buf = {DATA, 1, true};
    struct queue_chain *chains[SIZE];
    struct queue_chain *chain;

    start(f, 0);
    for (uint16_t i = 0; i < SIZE; i++) {
        (void)drive_add(&f->d, &buf, 1);
        chains[i] = pop(f);
    }
    (void)drive_add(&f->d, &buf, 1);
    assert_int_equal(queue_pop(&f->q, &chain), -EPROTO);
    assert_non_null(strstr(f->q.fault, "in flight"));
    for (uint16_t i = 0; i < SIZE; i++)
        queue_push(&f->q, chains[i], 0);
}

static void test_enable_checks_size_alignment_and_place(void **state)
{
    struct fixture *f = *state;
    const struct queue_state good = drive_queue_state(&f->d);
    static const uint16_t bad_sizes[] = {0, 3, 17, 255, 512, 32768, 65535};
    static const uint64_t bad_places[] = {RAM, RAM - 16, UINT64_MAX - 15,
        GMEM_GAP_START, GMEM_GAP_END, RAM + 0x10000};

    for (size_t i = 0; i < ARRAY_SIZE(bad_sizes); i++) {
        f->state = good;
        f->state.size = bad_sizes[i];
        assert_int_equal(queue_enable(&f->q, 0), -EPROTO);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad_places); i++) {
        for (int part = 0; part < 3; part++) {
            f->state = good;
            *(part == 0     ? &f->state.desc
                : part == 1 ? &f->state.avail
                            : &f->state.used) = bad_places[i];
            assert_int_equal(queue_enable(&f->q, 0), -EPROTO);
            assert_non_null(strstr(f->q.fault, "outside RAM"));
        }
    }
    f->state = good;
    f->state.desc += 8;
    assert_int_equal(queue_enable(&f->q, 0), -EPROTO);
    f->state = good;
    f->state.avail += 1;
    assert_int_equal(queue_enable(&f->q, 0), -EPROTO);
    f->state = good;
    f->state.used += 2;
    assert_int_equal(queue_enable(&f->q, 0), -EPROTO);
    assert_non_null(strstr(f->q.fault, "misaligned"));
    f->state = good;
    assert_int_equal(queue_enable(&f->q, 0), 0);
}

/* The last byte of each part counts, not only the first. */
static void test_ring_ends_are_checked(void **state)
{
    struct fixture *f = *state;
    struct queue_state s = drive_queue_state(&f->d);

    f->state = s;
    f->state.desc = RAM - virtq_desc_bytes(SIZE);
    assert_int_equal(queue_enable(&f->q, 0), 0);
    f->state.desc += 16;
    assert_int_equal(queue_enable(&f->q, 0), -EPROTO);
    f->state = s;
    f->state.avail = RAM - virtq_avail_bytes(SIZE);
    assert_int_equal(queue_enable(&f->q, 0), 0);
    f->state.avail += 2;
    assert_int_equal(queue_enable(&f->q, 0), -EPROTO);
    f->state = s;
    f->state.used = num_align_down(RAM - virtq_used_bytes(SIZE), 4);
    assert_int_equal(queue_enable(&f->q, 0), 0);
    f->state.used += 4;
    assert_int_equal(queue_enable(&f->q, 0), -EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(test_cycle_is_refused),
        T(test_cycle_in_indirect_table_is_refused),
        T(test_buffer_outside_ram_is_refused),
        T(test_readable_behind_writable_is_refused),
        T(test_chain_of_4_gib_is_refused),
        T(test_index_beyond_the_table_is_refused),
        T(test_indirect_mistakes_are_refused),
        T(test_indirect_table_longer_than_the_queue_is_refused),
        T(test_indirect_needs_negotiation),
        T(test_available_index_may_not_jump),
        T(test_more_chains_than_descriptors_are_refused),
        T(test_enable_checks_size_alignment_and_place),
        T(test_ring_ends_are_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
