/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "virtio/iov.h"
#include "vmm/base/num.h"

#define DATA UINT64_C(0x100000)

/* Slices of 3, 1 and 5000 bytes, the last two of them writable as well. */
struct fixture {
    struct gmem mem;
    struct gslice slices[5];
    struct queue_chain chain;
};

static int set_up(void **state)
{
    static struct fixture fixture;
    static const uint64_t lens[] = {3, 1, 5000, 2, 4096};
    struct fixture *f = &fixture;

    *f = (struct fixture){.chain = {.slices = f->slices,
                              .readable_count = 3,
                              .readable_bytes = 5004,
                              .writable_count = 2,
                              .writable_bytes = 4098}};
    assert_int_equal(gmem_init(&f->mem, 4 * NUM_MIB, NULL), 0);
    for (unsigned int i = 0; i < 5; i++)
        assert_int_equal(
            gmem_slice(&f->mem, gpa(DATA + i * 0x2000), lens[i], &f->slices[i]),
            0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    gmem_fini(&f->mem);
    return 0;
}

static void fill(struct fixture *f)
{
    uint8_t n = 0;

    for (unsigned int i = 0; i < 3; i++) {
        for (uint64_t k = 0; k < f->slices[i].len; k++, n++)
            gslice_write(&f->slices[i], k, &n, 1);
    }
}

static void test_read_crosses_slices(void **state)
{
    struct fixture *f = *state;
    struct iov_cursor c = iov_readable(&f->chain);
    uint8_t got[5004];

    fill(f);
    assert_true(iov_read(&c, got, 2));
    assert_true(iov_read(&c, got + 2, 10));
    assert_int_equal(c.left, 4992);
    assert_true(iov_skip(&c, 100));
    assert_true(iov_read(&c, got + 112, 4892));
    for (size_t i = 0; i < sizeof(got); i++) {
        if (i < 12 || i >= 112)
            assert_int_equal(got[i], (uint8_t)i);
    }
    assert_int_equal(c.left, 0);
}

static void test_what_is_not_there_moves_nothing(void **state)
{
    struct fixture *f = *state;
    struct iov_cursor c = iov_readable(&f->chain);
    struct iov_cursor w = iov_writable(&f->chain);
    uint8_t buf[5005];

    memset(buf, 0xee, sizeof(buf));
    assert_false(iov_read(&c, buf, sizeof(buf)));
    assert_int_equal(buf[0], 0xee);
    assert_false(iov_skip(&c, 5005));
    assert_int_equal(c.left, 5004);
    assert_false(iov_write(&w, buf, 4099));
    assert_false(iov_zero(&w, 4099));
    assert_int_equal(w.left, 4098);
    assert_int_equal(bitmap_count(&f->mem.dirty), 0);
    assert_true(iov_skip(&c, 5004));
    assert_false(iov_read(&c, buf, 1));
    assert_true(iov_read(&c, buf, 0));
}

static void test_empty_part(void **state)
{
    struct fixture *f = *state;
    struct iov_cursor c;
    uint8_t byte;

    f->chain.readable_count = 0;
    f->chain.readable_bytes = 0;
    c = iov_readable(&f->chain);
    assert_int_equal(c.left, 0);
    assert_false(iov_read(&c, &byte, 1));
}

static void test_write_and_zero_mark_dirty(void **state)
{
    struct fixture *f = *state;
    struct iov_cursor c = iov_writable(&f->chain);
    uint8_t got[4098];

    assert_true(iov_write(&c, "abcd", 4));
    assert_int_equal(bitmap_count(&f->mem.dirty), 2);
    assert_true(iov_zero(&c, 4000));
    assert_true(iov_write(&c, "z", 1));
    gslice_read(&f->slices[3], 0, got, 2);
    gslice_read(&f->slices[4], 0, got + 2, 4096);
    assert_memory_equal(got, "abcd\0", 5);
    assert_int_equal(got[4003], 0);
    assert_int_equal(got[4004], 'z');
    assert_true(bitmap_test(&f->mem.dirty, f->slices[3].offset >> 12));
}

static void test_take_covers_and_advances(void **state)
{
    struct fixture *f = *state;
    struct iov_cursor c = iov_readable(&f->chain);
    struct iovec iov[4];
    uint64_t bytes = 0;

    assert_true(iov_skip(&c, 2));
    assert_int_equal(iov_take(&c, 102, iov, 4, &bytes), 3);
    assert_int_equal(bytes, 102);
    assert_int_equal(iov[0].iov_len, 1);
    assert_int_equal(iov[2].iov_len, 100);
    assert_ptr_equal(iov[0].iov_base, f->slices[0].host + 2);
    /* More than is left gives what is left; `max` cuts short. */
    assert_int_equal(iov_take(&c, 100000, iov, 4, &bytes), 1);
    assert_int_equal(bytes, 4900);
    assert_int_equal(iov_take(&c, 1, iov, 4, &bytes), 0);
    c = iov_readable(&f->chain);
    assert_int_equal(iov_take(&c, 5004, iov, 2, &bytes), 2);
    assert_int_equal(bytes, 4);
    assert_int_equal(c.left, 5000);
}

static void test_mark_dirty_covers_exactly_the_pages(void **state)
{
    struct fixture *f = *state;
    struct iov_cursor c = iov_readable(&f->chain);

    iov_mark_dirty(&c, 4);
    assert_int_equal(bitmap_count(&f->mem.dirty), 2);
    iov_mark_dirty(&c, 4097);
    assert_int_equal(bitmap_count(&f->mem.dirty), 4);
    assert_int_equal(c.left, 903);
}

static void test_join(void **state)
{
    uint8_t buf[64];
    struct iovec iov[] = {{buf, 8}, {buf + 8, 8}, {buf + 16, 16}, {buf + 40, 8},
        {buf + 32, 8}, {buf + 40, 4}};

    (void)state;
    assert_int_equal(iov_join(iov, 0), 0);
    assert_int_equal(iov_join(iov, 1), 1);
    assert_int_equal(iov_join(iov, ARRAY_SIZE(iov)), 3);
    assert_ptr_equal(iov[0].iov_base, buf);
    assert_int_equal(iov[0].iov_len, 32);
    assert_ptr_equal(iov[1].iov_base, buf + 40);
    assert_int_equal(iov[1].iov_len, 8);
    assert_ptr_equal(iov[2].iov_base, buf + 32);
    assert_int_equal(iov[2].iov_len, 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(test_read_crosses_slices),
        T(test_what_is_not_there_moves_nothing),
        T(test_empty_part),
        T(test_write_and_zero_mark_dirty),
        T(test_take_covers_and_advances),
        T(test_mark_dirty_covers_exactly_the_pages),
        cmocka_unit_test(test_join),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
