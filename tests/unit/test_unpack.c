/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/packers.h"
#include "vmm/base/cc.h"
#include "vmm/hw/unpack.h"

static const enum unpack_format supported[] = {
    UNPACK_GZIP, UNPACK_XZ, UNPACK_ZSTD, UNPACK_LZ4, UNPACK_LZMA};

/* More than one LZ4 block, half of it hard to compress. */
#define PLAIN_SIZE ((size_t)(9 * NUM_MIB))
#define ROOM       (PLAIN_SIZE + NUM_MIB)

struct sample {
    uint8_t *plain;
    size_t plain_size;
    uint8_t *packed;
    size_t packed_size;
    uint8_t *out; /* exactly plain_size bytes */
};

static struct sample make_sample(enum unpack_format format, size_t size)
{
    struct sample s = {.plain = malloc(size),
        .plain_size = size,
        .packed = malloc(ROOM),
        .out = malloc(size)};
    uint32_t x = 12345;
    uint8_t *exact;

    assert_non_null(s.plain);
    assert_non_null(s.packed);
    assert_non_null(s.out);
    for (size_t i = 0; i < size; i++) {
        x = x * 1664525 + 1013904223;
        s.plain[i] = (uint8_t)(i % 8192 < 4096 ? x >> 24 : i / 8192);
    }
    s.packed_size = pack(format, s.plain, size, s.packed, ROOM);
    assert_true(s.packed_size > 0);
    exact = realloc(s.packed, s.packed_size);
    assert_non_null(exact);
    s.packed = exact;
    return s;
}

static void free_sample(struct sample *s)
{
    free(s->plain);
    free(s->packed);
    free(s->out);
}

static void test_round_trip(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(supported); i++) {
        struct sample s = make_sample(supported[i], PLAIN_SIZE);
        size_t len = 0;
        size_t used = 0;

        assert_true(unpack_supports(supported[i]));
        assert_int_equal(unpack_detect(s.packed, s.packed_size), supported[i]);
        assert_int_equal(unpack(supported[i], s.packed, s.packed_size, s.out,
                             s.plain_size, &len, &used, NULL),
            0);
        assert_int_equal(len, s.plain_size);
        assert_int_equal(used, s.packed_size);
        assert_memory_equal(s.out, s.plain, s.plain_size);
        free_sample(&s);
    }
}

static void test_too_little_room(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(supported); i++) {
        struct sample s = make_sample(supported[i], 20000);
        size_t len = 77;
        size_t used = 77;

        for (size_t room = 0; room < s.plain_size; room += 1999) {
            uint8_t *out = malloc(room + 1); /* the sanitizer sees overruns */
            int rc;

            assert_non_null(out);
            rc = unpack(supported[i], s.packed, s.packed_size, out, room, &len,
                &used, NULL);
            if (room == 0)
                assert_true(rc < 0);
            else
                assert_int_equal(rc, -EFBIG);
            free(out);
        }
        assert_int_equal(len, 77);
        assert_int_equal(used, 77);
        free_sample(&s);
    }
}

/*
 * Cut anywhere, nothing may unpack to all of it; only LZ4, which has no end
 * mark, may end well between two blocks.
 */
static void test_cut_short(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(supported); i++) {
        struct sample s = make_sample(supported[i], 3000);

        for (size_t size = 0; size < s.packed_size; size++) {
            uint8_t *cut = malloc(size + 1);
            size_t len, used;
            int rc;

            assert_non_null(cut);
            memcpy(cut, s.packed, size);
            rc = unpack(supported[i], cut, size, s.out, s.plain_size, &len,
                &used, NULL);
            if (rc == 0) {
                assert_int_equal(supported[i], UNPACK_LZ4);
                assert_true(len < s.plain_size);
            }
            free(cut);
        }
        free_sample(&s);
    }
}

static void test_what_follows_is_not_used(void **state)
{
    static const uint8_t trailer[4] = {1, 2, 3, 4};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(supported); i++) {
        struct sample s = make_sample(supported[i], 3000);
        uint8_t *longer = malloc(s.packed_size + sizeof(trailer));
        size_t len, used;

        assert_non_null(longer);
        memcpy(longer, s.packed, s.packed_size);
        memcpy(longer + s.packed_size, trailer, sizeof(trailer));
        assert_int_equal(
            unpack(supported[i], longer, s.packed_size + sizeof(trailer), s.out,
                s.plain_size, &len, &used, NULL),
            0);
        assert_int_equal(used, s.packed_size);
        assert_int_equal(len, s.plain_size);
        assert_memory_equal(s.out, s.plain, s.plain_size);
        free(longer);
        free_sample(&s);
    }
}

/* Checked formats notice a flipped bit; no format writes outside. */
static void test_flipped_bits(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(supported); i++) {
        struct sample s = make_sample(supported[i], 3000);

        for (size_t bit = 0; bit < s.packed_size * 8; bit += 5) {
            size_t len, used;
            int rc;

            s.packed[bit / 8] ^= (uint8_t)(1u << bit % 8);
            rc = unpack(supported[i], s.packed, s.packed_size, s.out,
                s.plain_size, &len, &used, NULL);
            s.packed[bit / 8] ^= (uint8_t)(1u << bit % 8);
            if (rc == 0 && supported[i] == UNPACK_XZ)
                assert_memory_equal(s.out, s.plain, s.plain_size);
            if (rc == 0)
                assert_true(len <= s.plain_size && used <= s.packed_size);
        }
        free_sample(&s);
    }
}

/* A dictionary that nobody needs is not allocated. */
static void test_absurd_dictionary(void **state)
{
    struct sample s = make_sample(UNPACK_LZMA, 3000);
    const uint32_t dictionary = 0xc0000000;
    size_t len, used;
    struct err err;

    (void)state;
    memcpy(s.packed + 1, &dictionary, sizeof(dictionary));
    s.packed[1] = 0;
    assert_int_equal(unpack(UNPACK_LZMA, s.packed, s.packed_size, s.out,
                         s.plain_size, &len, &used, &err),
        -ENOMEM);
    assert_non_null(strstr(err.text, "dictionary"));
    free_sample(&s);
}

static void test_detection(void **state)
{
    static const uint8_t bzip2[] = "BZh91AY";
    static const uint8_t lzo[] = {0x89, 'L', 'Z', 'O', 0, '\r', '\n'};
    static const uint8_t zeroes[8] = {0};

    (void)state;
    assert_int_equal(unpack_detect(bzip2, sizeof(bzip2)), UNPACK_BZIP2);
    assert_int_equal(unpack_detect(lzo, sizeof(lzo)), UNPACK_LZO);
    assert_int_equal(unpack_detect(lzo, 5), UNPACK_UNKNOWN);
    assert_int_equal(unpack_detect(zeroes, sizeof(zeroes)), UNPACK_UNKNOWN);
    assert_int_equal(unpack_detect(zeroes, 0), UNPACK_UNKNOWN);
    assert_false(unpack_supports(UNPACK_BZIP2));
    assert_false(unpack_supports(UNPACK_LZO));
    assert_false(unpack_supports(UNPACK_UNKNOWN));
    assert_string_equal(unpack_format_name(UNPACK_LZO), "lzo");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_too_little_room),
        cmocka_unit_test(test_cut_short),
        cmocka_unit_test(test_what_follows_is_not_used),
        cmocka_unit_test(test_flipped_bits),
        cmocka_unit_test(test_absurd_dictionary),
        cmocka_unit_test(test_detection),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
