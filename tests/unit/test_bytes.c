/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/cc.h"

/* Memory of exactly `len` bytes, so that a sanitizer sees the end of it. */
static uint8_t *exact_copy(const uint8_t *data, size_t len)
{
    uint8_t *copy = malloc(len == 0 ? 1 : len);

    assert_non_null(copy);
    if (len != 0)
        memcpy(copy, data, len);
    return copy;
}

#define RECORD_SIZE 26u

struct record {
    uint8_t a;
    uint16_t b;
    uint32_t c;
    uint8_t skipped[3];
    uint64_t d;
    uint8_t e[5];
    uint8_t f[3];
};

static const struct record sample = {.a = 0x11,
    .b = 0x2233,
    .c = 0x44556677,
    .skipped = {0, 0, 0},
    .d = 0x8899aabbccddeeff,
    .e = {1, 2, 3, 4, 5},
    .f = {6, 7, 8}};

static void put_record(struct bytes_writer *w, const struct record *r)
{
    bytes_put_u8(w, r->a);
    bytes_put_u16(w, r->b);
    bytes_put_u32(w, r->c);
    bytes_put_zero(w, sizeof(r->skipped));
    bytes_put_u64(w, r->d);
    bytes_put(w, r->e, sizeof(r->e));
    bytes_put(w, r->f, sizeof(r->f));
}

static void get_record(struct bytes_reader *r, struct record *ret)
{
    const uint8_t *f;

    ret->a = bytes_get_u8(r);
    ret->b = bytes_get_u16(r);
    ret->c = bytes_get_u32(r);
    bytes_skip(r, sizeof(ret->skipped));
    ret->d = bytes_get_u64(r);
    bytes_get(r, ret->e, sizeof(ret->e));
    f = bytes_take(r, sizeof(ret->f));
    if (f != NULL)
        memcpy(ret->f, f, sizeof(ret->f));
}

static void test_wire_form_is_little_endian(void **state)
{
    static const uint8_t want[RECORD_SIZE] = {0x11, 0x33, 0x22, 0x77, 0x66,
        0x55, 0x44, 0, 0, 0, 0xff, 0xee, 0xdd, 0xcc, 0xbb, 0xaa, 0x99, 0x88, 1,
        2, 3, 4, 5, 6, 7, 8};
    uint8_t wire[RECORD_SIZE];
    struct bytes_writer w;

    (void)state;
    memset(wire, 0xa5, sizeof(wire));
    bytes_writer_init(&w, wire, sizeof(wire));
    put_record(&w, &sample);
    assert_false(w.failed);
    assert_int_equal(w.pos, RECORD_SIZE);
    assert_memory_equal(wire, want, sizeof(want));
}

/* What a reader cut off after `n` bytes must give. */
static void expect_cut(const struct record *r, size_t n)
{
    static const uint8_t none[5] = {0};

    assert_int_equal(r->a, n >= 1 ? sample.a : 0);
    assert_int_equal(r->b, n >= 3 ? sample.b : 0);
    assert_int_equal(r->c, n >= 7 ? sample.c : 0);
    assert_int_equal(r->d, n >= 18 ? sample.d : 0);
    assert_memory_equal(r->e, n >= 23 ? sample.e : none, sizeof(r->e));
    assert_memory_equal(r->f, n >= 26 ? sample.f : none, sizeof(r->f));
}

static void test_reader_cut_at_every_byte(void **state)
{
    uint8_t wire[RECORD_SIZE];
    struct bytes_writer w;

    (void)state;
    bytes_writer_init(&w, wire, sizeof(wire));
    put_record(&w, &sample);
    for (size_t n = 0; n <= RECORD_SIZE; n++) {
        uint8_t *copy = exact_copy(wire, n);
        struct record got;
        struct bytes_reader r;

        memset(&got, 0xa5, sizeof(got));
        memset(got.f, 0, sizeof(got.f));
        bytes_reader_init(&r, copy, n);
        get_record(&r, &got);
        expect_cut(&got, n);
        assert_int_equal(r.failed, n < RECORD_SIZE);
        assert_int_equal(bytes_left(&r), 0);
        assert_true(r.pos <= r.size);
        free(copy);
    }
}

static void test_writer_cut_at_every_byte(void **state)
{
    uint8_t whole[RECORD_SIZE];
    struct bytes_writer w;

    (void)state;
    bytes_writer_init(&w, whole, sizeof(whole));
    put_record(&w, &sample);
    for (size_t n = 0; n < RECORD_SIZE; n++) {
        uint8_t *out = exact_copy(whole, n);

        memset(out, 0xa5, n);
        bytes_writer_init(&w, out, n);
        put_record(&w, &sample);
        assert_true(w.failed);
        assert_true(w.pos <= n);
        /* Whole fields up to the one that did not fit, nothing behind. */
        assert_memory_equal(out, whole, w.pos);
        for (size_t i = w.pos; i < n; i++)
            assert_int_equal(out[i], 0xa5);
        free(out);
    }
}

static void test_failure_is_sticky(void **state)
{
    static const uint8_t data[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct bytes_reader r;
    struct bytes_writer w;
    uint8_t out[4] = {9, 9, 9, 9};

    (void)state;
    bytes_reader_init(&r, data, sizeof(data));
    bytes_skip(&r, 9);
    assert_true(r.failed);
    assert_int_equal(bytes_left(&r), 0);
    /* One byte would fit. */
    assert_int_equal(bytes_get_u8(&r), 0);
    assert_null(bytes_take(&r, 0));
    bytes_seek(&r, 0);
    assert_int_equal(bytes_get_u32(&r), 0);
    assert_true(r.failed);

    bytes_writer_init(&w, out, sizeof(out));
    bytes_put_u64(&w, 0);
    assert_true(w.failed);
    bytes_put_u8(&w, 1);
    bytes_put_zero(&w, 1);
    bytes_put(&w, data, 0);
    assert_true(w.failed);
    assert_int_equal(w.pos, 0);
    for (size_t i = 0; i < sizeof(out); i++)
        assert_int_equal(out[i], 9);
}

static void test_failed_get_zeroes_the_destination(void **state)
{
    static const uint8_t data[4] = {1, 2, 3, 4};
    uint8_t dst[8];
    struct bytes_reader r;

    (void)state;
    memset(dst, 0xa5, sizeof(dst));
    bytes_reader_init(&r, data, sizeof(data));
    bytes_get(&r, dst, sizeof(dst));
    for (size_t i = 0; i < sizeof(dst); i++)
        assert_int_equal(dst[i], 0);
}

static void test_lengths_near_the_top(void **state)
{
    static const uint8_t data[16] = {0};
    static const uint64_t lengths[] = {
        17, UINT32_MAX, UINT64_C(1) << 63, UINT64_MAX - 7, UINT64_MAX};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        struct bytes_reader r;
        struct bytes_reader sub;

        bytes_reader_init(&r, data, sizeof(data));
        (void)bytes_get_u64(&r);
        assert_null(bytes_take(&r, lengths[i]));
        assert_true(r.failed);

        bytes_reader_init(&r, data, sizeof(data));
        (void)bytes_get_u64(&r);
        bytes_skip(&r, lengths[i]);
        assert_true(r.failed);

        bytes_reader_init(&r, data, sizeof(data));
        bytes_seek(&r, lengths[i]);
        assert_true(r.failed);

        bytes_reader_init(&r, data, sizeof(data));
        assert_false(bytes_reader_sub(&r, lengths[i], 0, &sub));
        assert_false(bytes_reader_sub(&r, 8, lengths[i], &sub));
        assert_false(bytes_reader_sub(&r, lengths[i], lengths[i], &sub));
        assert_false(bytes_reader_sub(&r, lengths[i], 16, &sub));
    }
}

static void test_empty_reader(void **state)
{
    struct bytes_reader r;
    struct bytes_reader sub;
    uint8_t dst;

    (void)state;
    bytes_reader_init(&r, NULL, 0);
    assert_non_null(bytes_take(&r, 0));
    bytes_get(&r, &dst, 0);
    bytes_skip(&r, 0);
    bytes_seek(&r, 0);
    assert_false(r.failed);
    assert_true(bytes_reader_sub(&r, 0, 0, &sub));
    assert_int_equal(bytes_left(&sub), 0);
    assert_false(bytes_reader_sub(&r, 0, 1, &sub));
    assert_int_equal(bytes_get_u8(&r), 0);
    assert_true(r.failed);
}

static void test_every_sub_reader(void **state)
{
    uint8_t data[12];

    (void)state;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i + 1);
    for (size_t at = 0; at <= sizeof(data) + 1; at++) {
        for (size_t len = 0; len <= sizeof(data) + 1; len++) {
            struct bytes_reader r;
            struct bytes_reader sub;

            bytes_reader_init(&r, data, sizeof(data));
            (void)bytes_get_u16(&r);
            if (at + len > sizeof(data)) {
                assert_false(bytes_reader_sub(&r, at, len, &sub));
                continue;
            }
            assert_true(bytes_reader_sub(&r, at, len, &sub));
            assert_int_equal(r.pos, 2);
            assert_int_equal(bytes_left(&sub), len);
            for (size_t i = 0; i < len; i++)
                assert_int_equal(bytes_get_u8(&sub), at + i + 1);
            assert_false(sub.failed);
            assert_int_equal(bytes_get_u8(&sub), 0);
            assert_true(sub.failed);
        }
    }
}

static void test_seek_is_absolute(void **state)
{
    static const uint8_t data[4] = {1, 2, 3, 4};
    struct bytes_reader r;

    (void)state;
    bytes_reader_init(&r, data, sizeof(data));
    bytes_seek(&r, 3);
    assert_int_equal(bytes_get_u8(&r), 4);
    bytes_seek(&r, 1);
    assert_int_equal(bytes_get_u16(&r), 0x0302);
    assert_ptr_equal(bytes_take(&r, 1), data + 3);
    bytes_seek(&r, 4);
    assert_int_equal(bytes_left(&r), 0);
    assert_false(r.failed);
    bytes_seek(&r, 5);
    assert_true(r.failed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wire_form_is_little_endian),
        cmocka_unit_test(test_reader_cut_at_every_byte),
        cmocka_unit_test(test_writer_cut_at_every_byte),
        cmocka_unit_test(test_failure_is_sticky),
        cmocka_unit_test(test_failed_get_zeroes_the_destination),
        cmocka_unit_test(test_lengths_near_the_top),
        cmocka_unit_test(test_empty_reader),
        cmocka_unit_test(test_every_sub_reader),
        cmocka_unit_test(test_seek_is_absolute),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
