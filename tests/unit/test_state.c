/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/cc.h"
#include "vmm/core/state.h"

struct sample {
    uint64_t d;
    uint32_t c;
    uint32_t late; /* since version 3 */
    uint16_t b;
    uint8_t a;
    uint8_t late_bytes[3]; /* since version 2 */
    uint16_t words[5];
};

/* In another order than the struct: the wire follows the table. */
static const struct state_field sample_fields[] = {
    STATE_SCALAR(struct sample, a, 1),
    STATE_SCALAR(struct sample, b, 1),
    STATE_SCALAR(struct sample, late, 3),
    STATE_SCALAR(struct sample, c, 1),
    STATE_ARRAY(struct sample, words, 1),
    STATE_ARRAY(struct sample, late_bytes, 2),
    STATE_SCALAR(struct sample, d, 1),
};

static const struct state_desc sample_desc =
    STATE_DESC(struct sample, "sample", 3, sample_fields);

static const struct sample filled = {.d = 0x1122334455667788,
    .c = 0x99aabbcc,
    .late = 0xddeeff01,
    .b = 0x0203,
    .a = 0x04,
    .late_bytes = {5, 6, 7},
    .words = {0x0809, 0x0a0b, 0x0c0d, 0x0e0f, 0x1011}};

static const uint8_t wire_v3[] = {0x04, 0x03, 0x02, 0x01, 0xff, 0xee, 0xdd,
    0xcc, 0xbb, 0xaa, 0x99, 0x09, 0x08, 0x0b, 0x0a, 0x0d, 0x0c, 0x0f, 0x0e,
    0x11, 0x10, 5, 6, 7, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11};

static const uint8_t wire_v2[] = {0x04, 0x03, 0x02, 0xcc, 0xbb, 0xaa, 0x99,
    0x09, 0x08, 0x0b, 0x0a, 0x0d, 0x0c, 0x0f, 0x0e, 0x11, 0x10, 5, 6, 7, 0x88,
    0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11};

static const uint8_t wire_v1[] = {0x04, 0x03, 0x02, 0xcc, 0xbb, 0xaa, 0x99,
    0x09, 0x08, 0x0b, 0x0a, 0x0d, 0x0c, 0x0f, 0x0e, 0x11, 0x10, 0x88, 0x77,
    0x66, 0x55, 0x44, 0x33, 0x22, 0x11};

static void test_wire_size_of_each_version(void **state)
{
    (void)state;
    assert_int_equal(state_wire_size(&sample_desc, 0), 0);
    assert_int_equal(state_wire_size(&sample_desc, 1), sizeof(wire_v1));
    assert_int_equal(state_wire_size(&sample_desc, 2), sizeof(wire_v2));
    assert_int_equal(state_wire_size(&sample_desc, 3), sizeof(wire_v3));
}

static void test_wire_form(void **state)
{
    uint8_t wire[sizeof(wire_v3) + 4];
    struct bytes_writer w;

    (void)state;
    bytes_writer_init(&w, wire, sizeof(wire));
    bytes_put_u16(&w, 0xffff);
    state_save(&sample_desc, &filled, &w);
    assert_false(w.failed);
    assert_int_equal(w.pos, 2 + sizeof(wire_v3));
    assert_memory_equal(wire + 2, wire_v3, sizeof(wire_v3));
}

static void test_save_into_every_short_buffer_fails(void **state)
{
    uint8_t wire[sizeof(wire_v3)];

    (void)state;
    for (size_t n = 0; n < sizeof(wire_v3); n++) {
        struct bytes_writer w;

        bytes_writer_init(&w, wire, n);
        state_save(&sample_desc, &filled, &w);
        assert_true(w.failed);
    }
}

static void test_round_trip(void **state)
{
    struct bytes_reader r;
    struct sample got;

    (void)state;
    memset(&got, 0xa5, sizeof(got));
    bytes_reader_init(&r, wire_v3, sizeof(wire_v3));
    assert_int_equal(state_load(&sample_desc, 3, &r, &got), 0);
    assert_int_equal(bytes_left(&r), 0);
    assert_null(state_differs(&sample_desc, &got, &filled));
    assert_true(got.d == filled.d);
    assert_int_equal(got.c, filled.c);
    assert_int_equal(got.late, filled.late);
    assert_int_equal(got.b, filled.b);
    assert_int_equal(got.a, filled.a);
    assert_memory_equal(got.late_bytes, filled.late_bytes, 3);
    assert_memory_equal(got.words, filled.words, sizeof(got.words));
}

static void test_reader_stops_behind_its_own(void **state)
{
    uint8_t wire[sizeof(wire_v2) + 3];
    struct bytes_reader r;
    struct sample got;

    (void)state;
    memcpy(wire, wire_v2, sizeof(wire_v2));
    memset(wire + sizeof(wire_v2), 0x77, 3);
    bytes_reader_init(&r, wire, sizeof(wire));
    assert_int_equal(state_load(&sample_desc, 2, &r, &got), 0);
    assert_int_equal(bytes_left(&r), 3);
    assert_int_equal(bytes_get_u8(&r), 0x77);
}

static void test_older_versions_leave_newer_fields_zero(void **state)
{
    struct sample want = filled;
    struct bytes_reader r;
    struct sample got;

    (void)state;
    want.late = 0;
    memset(&got, 0xa5, sizeof(got));
    bytes_reader_init(&r, wire_v2, sizeof(wire_v2));
    assert_int_equal(state_load(&sample_desc, 2, &r, &got), 0);
    assert_null(state_differs(&sample_desc, &got, &want));

    memset(want.late_bytes, 0, sizeof(want.late_bytes));
    memset(&got, 0xa5, sizeof(got));
    bytes_reader_init(&r, wire_v1, sizeof(wire_v1));
    assert_int_equal(state_load(&sample_desc, 1, &r, &got), 0);
    assert_null(state_differs(&sample_desc, &got, &want));
}

static void expect_refused(
    uint32_t version, const uint8_t *wire, size_t size, int want)
{
    struct sample untouched;
    struct sample got;
    struct bytes_reader r;
    uint8_t *copy = malloc(size == 0 ? 1 : size);

    assert_non_null(copy);
    if (size != 0)
        memcpy(copy, wire, size);
    memset(&untouched, 0xa5, sizeof(untouched));
    memset(&got, 0xa5, sizeof(got));
    bytes_reader_init(&r, copy, size);
    assert_int_equal(state_load(&sample_desc, version, &r, &got), want);
    assert_memory_equal(&got, &untouched, sizeof(got));
    free(copy);
}

static void test_unknown_versions_are_refused(void **state)
{
    (void)state;
    expect_refused(0, wire_v3, sizeof(wire_v3), -ENOTSUP);
    expect_refused(4, wire_v3, sizeof(wire_v3), -ENOTSUP);
    expect_refused(UINT32_MAX, wire_v3, sizeof(wire_v3), -ENOTSUP);
    expect_refused(0x10001, wire_v3, sizeof(wire_v3), -ENOTSUP);
}

static void test_load_cut_at_every_byte_is_refused(void **state)
{
    (void)state;
    for (size_t n = 0; n < sizeof(wire_v3); n++)
        expect_refused(3, wire_v3, n, -ENODATA);
    for (size_t n = 0; n < sizeof(wire_v2); n++)
        expect_refused(2, wire_v2, n, -ENODATA);
    for (size_t n = 0; n < sizeof(wire_v1); n++)
        expect_refused(1, wire_v1, n, -ENODATA);
}

static void test_failed_reader_is_refused(void **state)
{
    struct bytes_reader r;
    struct sample got;

    (void)state;
    bytes_reader_init(&r, wire_v3, sizeof(wire_v3));
    bytes_skip(&r, 1000);
    assert_int_equal(state_load(&sample_desc, 3, &r, &got), -ENODATA);
}

/* Each byte of the struct that is in the table makes a difference. */
static void test_differs_names_the_first_field(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(sample_fields); i++) {
        const struct state_field *f = &sample_fields[i];

        for (size_t b = 0; b < (size_t)f->width * f->count; b++) {
            struct sample other = filled;

            ((uint8_t *)&other)[f->offset + b] ^= 0x10;
            assert_ptr_equal(state_differs(&sample_desc, &filled, &other), f);
        }
    }
    assert_null(state_differs(&sample_desc, &filled, &filled));
}

static void test_differs_ignores_padding(void **state)
{
    struct sample a;
    struct sample b;
    struct bytes_reader r;

    (void)state;
    bytes_reader_init(&r, wire_v3, sizeof(wire_v3));
    assert_int_equal(state_load(&sample_desc, 3, &r, &a), 0);
    memset(&b, 0xff, sizeof(b));
    for (size_t i = 0; i < ARRAY_SIZE(sample_fields); i++) {
        const struct state_field *f = &sample_fields[i];

        memcpy((uint8_t *)&b + f->offset, (const uint8_t *)&a + f->offset,
            (size_t)f->width * f->count);
    }
    assert_null(state_differs(&sample_desc, &a, &b));
}

static void test_field_get_widens(void **state)
{
    (void)state;
    assert_true(state_field_get(&sample_fields[0], &filled, 0) == filled.a);
    assert_true(state_field_get(&sample_fields[1], &filled, 0) == filled.b);
    assert_true(state_field_get(&sample_fields[2], &filled, 0) == filled.late);
    assert_true(state_field_get(&sample_fields[6], &filled, 0) == filled.d);
    for (uint32_t i = 0; i < 5; i++)
        assert_true(
            state_field_get(&sample_fields[4], &filled, i) == filled.words[i]);
    for (uint32_t i = 0; i < 3; i++)
        assert_true(state_field_get(&sample_fields[5], &filled, i) ==
                    filled.late_bytes[i]);
}

static void test_macros_describe_members(void **state)
{
    const struct state_field *words = &sample_fields[4];

    (void)state;
    assert_string_equal(words->name, "words");
    assert_int_equal(words->offset, offsetof(struct sample, words));
    assert_int_equal(words->width, 2);
    assert_int_equal(words->count, 5);
    assert_int_equal(words->since, 1);
    assert_string_equal(sample_desc.name, "sample");
    assert_int_equal(sample_desc.version, 3);
    assert_int_equal(sample_desc.size, sizeof(struct sample));
    assert_int_equal(sample_desc.field_count, 7);
}

struct row {
    uint32_t wide;
    uint8_t narrow;
    uint16_t unlisted;
};

struct table {
    uint8_t before;
    struct row rows[3];
    uint8_t after;
};

static const struct state_field table_fields[] = {
    STATE_SCALAR(struct table, before, 1),
    STATE_COLUMN(struct table, rows, narrow, 1),
    STATE_COLUMN(struct table, rows, wide, 2),
    STATE_SCALAR(struct table, after, 1),
};

static const struct state_desc table_desc =
    STATE_DESC(struct table, "table", 2, table_fields);

static const struct table full_table = {.before = 0x01,
    .rows = {{0x11121314, 0x21, 0x7777}, {0x15161718, 0x22, 0x7777},
        {0x191a1b1c, 0x23, 0x7777}},
    .after = 0x02};

static void test_columns_go_element_by_element(void **state)
{
    static const uint8_t want[] = {0x01, 0x21, 0x22, 0x23, 0x14, 0x13, 0x12,
        0x11, 0x18, 0x17, 0x16, 0x15, 0x1c, 0x1b, 0x1a, 0x19, 0x02};
    uint8_t wire[sizeof(want)];
    struct bytes_writer w;
    struct bytes_reader r;
    struct table got;

    (void)state;
    assert_int_equal(state_wire_size(&table_desc, 2), sizeof(want));
    assert_int_equal(state_wire_size(&table_desc, 1), sizeof(want) - 12);
    bytes_writer_init(&w, wire, sizeof(wire));
    state_save(&table_desc, &full_table, &w);
    assert_false(w.failed);
    assert_memory_equal(wire, want, sizeof(want));
    memset(&got, 0xa5, sizeof(got));
    bytes_reader_init(&r, wire, sizeof(wire));
    assert_int_equal(state_load(&table_desc, 2, &r, &got), 0);
    assert_null(state_differs(&table_desc, &got, &full_table));
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(got.rows[i].wide, full_table.rows[i].wide);
        assert_int_equal(got.rows[i].narrow, full_table.rows[i].narrow);
        /* What the table does not name is zero, not left over. */
        assert_int_equal(got.rows[i].unlisted, 0);
        assert_true(state_field_get(&table_fields[2], &got, i) ==
                    full_table.rows[i].wide);
    }
}

static void test_column_cut_at_every_byte_is_refused(void **state)
{
    uint8_t wire[17] = {0};

    (void)state;
    for (size_t n = 0; n < sizeof(wire); n++) {
        struct bytes_reader r;
        struct table got;

        bytes_reader_init(&r, wire, n);
        assert_int_equal(state_load(&table_desc, 2, &r, &got), -ENODATA);
    }
}

static void test_columns_differ_by_their_own_bytes(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        struct table other = full_table;

        other.rows[i].unlisted++;
        assert_null(state_differs(&table_desc, &full_table, &other));
        other.rows[i].wide ^= 0x80000000;
        assert_ptr_equal(
            state_differs(&table_desc, &full_table, &other), &table_fields[2]);
        other.rows[i].narrow ^= 1;
        assert_ptr_equal(
            state_differs(&table_desc, &full_table, &other), &table_fields[1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wire_size_of_each_version),
        cmocka_unit_test(test_wire_form),
        cmocka_unit_test(test_save_into_every_short_buffer_fails),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_reader_stops_behind_its_own),
        cmocka_unit_test(test_older_versions_leave_newer_fields_zero),
        cmocka_unit_test(test_unknown_versions_are_refused),
        cmocka_unit_test(test_load_cut_at_every_byte_is_refused),
        cmocka_unit_test(test_failed_reader_is_refused),
        cmocka_unit_test(test_differs_names_the_first_field),
        cmocka_unit_test(test_differs_ignores_padding),
        cmocka_unit_test(test_field_get_widens),
        cmocka_unit_test(test_macros_describe_members),
        cmocka_unit_test(test_columns_go_element_by_element),
        cmocka_unit_test(test_column_cut_at_every_byte_is_refused),
        cmocka_unit_test(test_columns_differ_by_their_own_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
