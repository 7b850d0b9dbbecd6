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

static void expect_used(struct fixture *f, uint32_t id, uint32_t len)
{
    uint32_t got_id = 0;
    uint32_t got_len = 0;

    assert_true(drive_get_used(&f->d, &got_id, &got_len));
    assert_int_equal(got_id, id);
    assert_int_equal(got_len, len);
}

static void test_chain_is_split_into_readable_and_writable(void **state)
{
    struct fixture *f = *state;
    const struct drive_buffer bufs[] = {
        {DATA, 16, false},
        {DATA + 0x1000, 100, false},
        {DATA + 0x2000, 512, true},
        {DATA + 0x3001, 1, true},
    };
    struct queue_chain *chain;
    uint16_t head;
    uint8_t byte = 0x5a;

    start(f, 0);
    expect_empty(f);
    head = drive_add(&f->d, bufs, 4);
    chain = pop(f);
    assert_int_equal(chain->readable_count, 2);
    assert_int_equal(chain->readable_bytes, 116);
    assert_int_equal(chain->writable_count, 2);
    assert_int_equal(chain->writable_bytes, 513);
    assert_int_equal(queue_chain_readable(chain)[1].offset, DATA + 0x1000);
    assert_int_equal(queue_chain_readable(chain)[1].len, 100);
    assert_int_equal(queue_chain_writable(chain)[1].offset, DATA + 0x3001);
    gslice_write(&queue_chain_writable(chain)[1], 0, &byte, 1);
    queue_push(&f->q, chain, 513);
    expect_used(f, head, 513);
    expect_empty(f);
}

static void test_used_ring_is_marked_dirty(void **state)
{
    struct fixture *f = *state;
    const struct drive_buffer buf = {DATA, 16, true};

    start(f, 0);
    (void)drive_add(&f->d, &buf, 1);
    bitmap_clear_all(&f->mem.dirty);
    queue_push(&f->q, pop(f), 16);
    assert_true(bitmap_test(&f->mem.dirty, f->d.used >> NUM_PAGE_SHIFT));
    assert_int_equal(bitmap_count(&f->mem.dirty), 1);
}

static void test_indices_wrap_around(void **state)
{
    struct fixture *f = *state;
    const struct drive_buffer bufs[] = {{DATA, 8, false}, {DATA, 8, true}};

    drive_queue_set_index(&f->d, 65530);
    start(f, F_BOTH);
    for (uint32_t i = 0; i < 200000; i++) {
        uint16_t head = drive_add(&f->d, bufs, 2);

        queue_push(&f->q, pop(f), i % 9);
        expect_used(f, head, i % 9);
    }
    assert_int_equal(f->state.avail_next, (uint16_t)(65530 + 200000));
    assert_int_equal(f->state.used_next, f->state.avail_next);
    assert_int_equal(f->q.fault, NULL);
}

static void test_full_queue_is_popped_and_pushed_out_of_order(void **state)
{
    struct fixture *f = *state;
    const struct drive_buffer buf = {DATA, 16, true};
    struct queue_chain *chains[SIZE];

    drive_queue_set_index(&f->d, 65528);
    start(f, 0);
    for (int round = 0; round < 3; round++) {
        for (uint16_t i = 0; i < SIZE; i++)
            (void)drive_add(&f->d, &buf, 1);
        for (uint16_t i = 0; i < SIZE; i++)
            chains[i] = pop(f);
        expect_empty(f);
        for (uint16_t i = 0; i < SIZE; i++) {
            uint16_t at = (uint16_t)((i * 7 + 3) % SIZE);

            assert_ptr_equal(chains[at]->slices[0].owner, &f->mem);
            queue_push(&f->q, chains[at], at);
            expect_used(f, chains[at]->head, at);
        }
    }
}

static void test_pooled_requests_do_not_overlap(void **state)
{
    struct fixture *f = *state;
    struct drive_buffer bufs[SIZE];
    struct queue_chain *chains[SIZE];

    start(f, F_BOTH);
    for (uint16_t i = 0; i < SIZE; i++)
        bufs[i] = (struct drive_buffer){DATA + i * 64u, 64, true};
    for (uint16_t i = 0; i < SIZE; i++)
        (void)drive_add_indirect(&f->d, TABLE + i * 0x1000u, bufs, SIZE);
    for (uint16_t i = 0; i < SIZE; i++) {
        chains[i] = pop(f);
        for (uint16_t k = 0; k < SIZE; k++)
            chains[i]->iov[k].iov_len = i;
    }
    for (uint16_t i = 0; i < SIZE; i++) {
        assert_int_equal(chains[i]->writable_count, SIZE);
        for (uint16_t k = 0; k < SIZE; k++) {
            assert_int_equal(chains[i]->slices[k].offset, DATA + k * 64u);
            assert_int_equal(chains[i]->iov[k].iov_len, i);
        }
        queue_push(&f->q, chains[i], 0);
    }
}

static void test_unpop_hands_out_the_chain_again(void **state)
{
    struct fixture *f = *state;
    const struct drive_buffer bufs[] = {{DATA, 8, false}, {DATA, 9, false}};
    struct queue_chain *chain;

    drive_queue_set_index(&f->d, 65535);
    start(f, 0);
    (void)drive_add(&f->d, &bufs[0], 1);
    (void)drive_add(&f->d, &bufs[1], 1);
    queue_push(&f->q, pop(f), 0);
    chain = pop(f);
    queue_unpop(&f->q, chain);
    assert_int_equal(f->q.inflight, 0);
    chain = pop(f);
    assert_int_equal(chain->readable_bytes, 9);
    queue_push(&f->q, chain, 0);
    expect_empty(f);
}

static void test_indirect_table(void **state)
{
    struct fixture *f = *state;
    const struct drive_buffer bufs[] = {
        {DATA, 16, false}, {DATA + 64, 32, true}, {DATA + 128, 1, true}};
    struct queue_chain *chain;
    uint16_t head;

    start(f, VIRTIO_F_INDIRECT_DESC);
    head = drive_add_indirect(&f->d, TABLE, bufs, 3);
    chain = pop(f);
    assert_int_equal(chain->readable_bytes, 16);
    assert_int_equal(chain->writable_bytes, 33);
    queue_push(&f->q, chain, 33);
    expect_used(f, head, 33);
}

/* 2.7.5.3.2: direct descriptors may come before it, and WRITE is ignored. */
static void test_indirect_table_behind_direct_descriptor(void **state)
{
    struct fixture *f = *state;
    const struct drive_buffer direct = {DATA, 16, false};
    const struct drive_buffer inner[] = {{DATA, 1, false}, {DATA, 2, true}};
    const struct drive_buffer table = {TABLE, 32, true};
    struct queue_chain *chain;

    start(f, VIRTIO_F_INDIRECT_DESC);
    drive_set_desc(&f->mem, TABLE, 0, &inner[0], VIRTQ_DESC_F_NEXT, 1);
    drive_set_desc(&f->mem, TABLE, 1, &inner[1], 0, 0);
    drive_set_desc(&f->mem, f->d.desc, 5, &direct, VIRTQ_DESC_F_NEXT, 9);
    drive_set_desc(&f->mem, f->d.desc, 9, &table, VIRTQ_DESC_F_INDIRECT, 0);
    drive_put_avail(&f->d, 5);
    chain = pop(f);
    assert_int_equal(chain->head, 5);
    assert_int_equal(chain->readable_bytes, 17);
    assert_int_equal(chain->writable_bytes, 2);
    queue_push(&f->q, chain, 0);
}

static void test_empty_descriptor_is_passed_over(void **state)
{
    struct fixture *f = *state;
    const struct drive_buffer bufs[] = {{UINT64_MAX, 0, false},
        {DATA, 4, false}, {UINT64_MAX, 0, true}, {DATA, 5, true}};
    struct queue_chain *chain;

    start(f, 0);
    (void)drive_add(&f->d, bufs, 4);
    chain = pop(f);
    assert_int_equal(chain->readable_count, 1);
    assert_int_equal(chain->writable_count, 1);
    queue_push(&f->q, chain, 5);
}

static void test_longest_chain_is_the_queue(void **state)
{
    struct fixture *f = *state;
    struct drive_buffer bufs[SIZE];
    struct queue_chain *chain;

    for (uint16_t i = 0; i < SIZE; i++)
        bufs[i] = (struct drive_buffer){DATA + i, 1, true};
    start(f, VIRTIO_F_INDIRECT_DESC);
    (void)drive_add(&f->d, bufs, SIZE);
    chain = pop(f);
    assert_int_equal(chain->writable_count, SIZE);
    queue_push(&f->q, chain, 0);
    (void)drive_add_indirect(&f->d, TABLE, bufs, SIZE);
    chain = pop(f);
    assert_int_equal(chain->writable_count, SIZE);
    queue_push(&f->q, chain, 0);
}

static void test_interrupts_by_flag(void **state)
{
    struct fixture *f = *state;
    const struct drive_buffer buf = {DATA, 1, true};

    start(f, 0);
    assert_false(queue_needs_interrupt(&f->q));
    (void)drive_add(&f->d, &buf, 1);
    queue_push(&f->q, pop(f), 0);
    assert_true(queue_needs_interrupt(&f->q));
    assert_false(queue_needs_interrupt(&f->q));
    drive_set_avail_flags(&f->d, VIRTQ_AVAIL_F_NO_INTERRUPT);
    (void)drive_add(&f->d, &buf, 1);
    queue_push(&f->q, pop(f), 0);
    assert_false(queue_needs_interrupt(&f->q));
}

static void push_n(struct fixture *f, unsigned int n)
{
    const struct drive_buffer buf = {DATA, 1, true};

    while (n-- > 0) {
        (void)drive_add(&f->d, &buf, 1);
        queue_push(&f->q, pop(f), 0);
    }
}

static void test_interrupts_by_event_index(void **state)
{
    struct fixture *f = *state;

    /* At the wrap, where a comparison of plain integers goes wrong. */
    drive_queue_set_index(&f->d, 65534);
    start(f, VIRTIO_F_EVENT_IDX);
    drive_set_used_event(&f->d, 65534);
    push_n(f, 1);
    assert_true(queue_needs_interrupt(&f->q));
    /* The driver has not moved its event: it is still awake. */
    push_n(f, 1);
    assert_false(queue_needs_interrupt(&f->q));
    /* Wants to hear of the third entry from here. */
    drive_set_used_event(&f->d, 2);
    push_n(f, 2);
    assert_false(queue_needs_interrupt(&f->q));
    push_n(f, 1);
    assert_true(queue_needs_interrupt(&f->q));
    /* A batch that runs over the event counts, too. */
    drive_set_used_event(&f->d, 5);
    push_n(f, 10);
    assert_true(queue_needs_interrupt(&f->q));
    /* Past it, without a word from the driver, there is no second one. */
    push_n(f, 1);
    assert_false(queue_needs_interrupt(&f->q));
}

static void test_kick_suppression_by_flag(void **state)
{
    struct fixture *f = *state;
    const struct drive_buffer buf = {DATA, 1, true};

    start(f, 0);
    queue_disable_kicks(&f->q);
    assert_int_equal(drive_used_flags(&f->d), VIRTQ_USED_F_NO_NOTIFY);
    (void)drive_add(&f->d, &buf, 1);
    /* Added while kicks were off: enabling must tell. */
    assert_true(queue_enable_kicks(&f->q));
    assert_int_equal(drive_used_flags(&f->d), 0);
    queue_push(&f->q, pop(f), 0);
    assert_false(queue_enable_kicks(&f->q));
}

static void test_kick_suppression_by_event_index(void **state)
{
    struct fixture *f = *state;
    const struct drive_buffer buf = {DATA, 1, true};

    drive_queue_set_index(&f->d, 65535);
    start(f, VIRTIO_F_EVENT_IDX);
    (void)drive_add(&f->d, &buf, 1);
    queue_disable_kicks(&f->q);
    queue_push(&f->q, pop(f), 0);
    assert_false(queue_enable_kicks(&f->q));
    assert_int_equal(drive_avail_event(&f->d), 0);
    assert_int_equal(drive_used_flags(&f->d), 0);
    (void)drive_add(&f->d, &buf, 1);
    assert_true(queue_enable_kicks(&f->q));
}

static void test_reset_and_other_size(void **state)
{
    struct fixture *f = *state;

    start(f, 0);
    push_n(f, 3);
    queue_reset(&f->q);
    assert_int_equal(f->state.ready, 0);
    assert_int_equal(f->state.used_next, 0);
    drive_queue_init(&f->d, &f->mem, RINGS, 256);
    start(f, VIRTIO_F_INDIRECT_DESC);
    push_n(f, 300);
    queue_reset(&f->q);
    drive_queue_init(&f->d, &f->mem, RINGS, 1);
    start(f, 0);
    push_n(f, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(test_chain_is_split_into_readable_and_writable),
        T(test_used_ring_is_marked_dirty),
        T(test_indices_wrap_around),
        T(test_full_queue_is_popped_and_pushed_out_of_order),
        T(test_pooled_requests_do_not_overlap),
        T(test_unpop_hands_out_the_chain_again),
        T(test_indirect_table),
        T(test_indirect_table_behind_direct_descriptor),
        T(test_empty_descriptor_is_passed_over),
        T(test_longest_chain_is_the_queue),
        T(test_interrupts_by_flag),
        T(test_interrupts_by_event_index),
        T(test_kick_suppression_by_flag),
        T(test_kick_suppression_by_event_index),
        T(test_reset_and_other_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
