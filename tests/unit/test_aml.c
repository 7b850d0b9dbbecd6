/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "vmm/base/cc.h"
#include "vmm/hw/aml.h"

#define ROOM 8192u

struct output {
    struct bytes_writer w;
    uint8_t data[ROOM];
};

static void begin(struct output *out)
{
    bytes_writer_init(&out->w, out->data, sizeof(out->data));
}

#define EXPECT(out, ...)                                                       \
    do {                                                                       \
        const uint8_t expected[] = {__VA_ARGS__};                              \
        assert_false((out).w.failed);                                          \
        assert_int_equal((out).w.pos, sizeof(expected));                       \
        assert_memory_equal((out).data, expected, sizeof(expected));           \
    } while (0)

/* Encodings as in ACPI 6.4, 20.2.3. */
static void test_integers(void **state)
{
    struct output out;

    (void)state;
    begin(&out);
    aml_integer(&out.w, 0);
    aml_integer(&out.w, 1);
    aml_integer(&out.w, 2);
    aml_integer(&out.w, 0xff);
    EXPECT(out, 0x00, 0x01, 0x0a, 2, 0x0a, 0xff);
    begin(&out);
    aml_integer(&out.w, 0x100);
    aml_integer(&out.w, 0xffff);
    EXPECT(out, 0x0b, 0x00, 0x01, 0x0b, 0xff, 0xff);
    begin(&out);
    aml_integer(&out.w, 0x10000);
    aml_integer(&out.w, 0xffffffff);
    EXPECT(out, 0x0c, 0, 0, 1, 0, 0x0c, 0xff, 0xff, 0xff, 0xff);
    begin(&out);
    aml_integer(&out.w, 0x100000000);
    EXPECT(out, 0x0e, 0, 0, 0, 0, 1, 0, 0, 0);
}

static void test_names_and_strings(void **state)
{
    struct output out;

    (void)state;
    begin(&out);
    aml_name(&out.w, "_S5");
    aml_string(&out.w, "ab");
    EXPECT(out, 0x08, '_', 'S', '5', '_', 0x0d, 'a', 'b', 0);
    begin(&out);
    aml_eisa_id(&out.w, "PNP0501");
    EXPECT(out, 0x0c, 0x41, 0xd0, 0x05, 0x01);
    begin(&out);
    aml_eisa_id(&out.w, "PNP0C0C");
    EXPECT(out, 0x0c, 0x41, 0xd0, 0x0c, 0x0c);
    begin(&out);
    aml_notify(&out.w, "PWRB", 0x80);
    EXPECT(out, 0x86, 'P', 'W', 'R', 'B', 0x0a, 0x80);
}

static void test_blocks(void **state)
{
    struct aml_block outer, inner;
    struct output out;

    (void)state;
    begin(&out);
    outer = aml_open_scope(&out.w, "_SB");
    inner = aml_open_device(&out.w, "A");
    aml_close(&out.w, inner);
    inner = aml_open_method(&out.w, "_EVT", 1);
    aml_close(&out.w, inner);
    aml_close(&out.w, outer);
    EXPECT(out, 0x10, 19, '_', 'S', 'B', '_', 0x5b, 0x82, 5, 'A', '_', '_', '_',
        0x14, 6, '_', 'E', 'V', 'T', 1);
    begin(&out);
    outer = aml_open_package(&out.w, 2);
    aml_integer(&out.w, 5);
    aml_integer(&out.w, 0);
    aml_close(&out.w, outer);
    EXPECT(out, 0x12, 5, 2, 0x0a, 5, 0);
    begin(&out);
    outer = aml_open_if_arg0(&out.w, 9);
    aml_close(&out.w, outer);
    EXPECT(out, 0xa0, 5, 0x93, 0x68, 0x0a, 9);
}

static void test_resources(void **state)
{
    struct aml_block crs;
    struct output out;

    (void)state;
    begin(&out);
    crs = aml_open_crs(&out.w);
    aml_io(&out.w, 0x3f8, 8);
    aml_close(&out.w, crs);
    EXPECT(out, 0x08, '_', 'C', 'R', 'S', 0x11, 13, 0x0a, 10, 0x47, 1, 0xf8,
        0x03, 0xf8, 0x03, 1, 8, 0x79, 0);
    begin(&out);
    crs = aml_open_crs(&out.w);
    aml_memory32(&out.w, 0xc0001000, 0x1000);
    aml_interrupt(&out.w, 0x11);
    aml_close(&out.w, crs);
    EXPECT(out, 0x08, '_', 'C', 'R', 'S', 0x11, 26, 0x0a, 23, 0x86, 9, 0, 1,
        0x00, 0x10, 0x00, 0xc0, 0x00, 0x10, 0x00, 0x00, 0x89, 6, 0, 3, 1, 0x11,
        0, 0, 0, 0x79, 0);
}

/* The length's own bytes count: the steps are where it gets one longer. */
static void test_package_lengths(void **state)
{
    static const struct {
        size_t body;
        uint8_t length[3];
        size_t bytes;
    } cases[] = {
        {62, {63}, 1}, {63, {0x41, 0x04}, 2}, /* 65 */
        {4093, {0x4f, 0xff}, 2},              /* 4095 */
        {4094, {0x81, 0x00, 0x01}, 3}         /* 4097 */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct output out;
        struct aml_block block;

        begin(&out);
        block = aml_open_package(&out.w, 0);
        while (out.w.pos < cases[i].body)
            bytes_put_u8(&out.w, (uint8_t)out.w.pos);
        aml_close(&out.w, block);
        assert_int_equal(out.w.pos, 1 + cases[i].bytes + cases[i].body);
        assert_memory_equal(out.data + 1, cases[i].length, cases[i].bytes);
        for (size_t j = 1; j < cases[i].body; j++)
            assert_int_equal(out.data[1 + cases[i].bytes + j], (uint8_t)j);
    }
}

static void put_device(struct bytes_writer *w)
{
    struct aml_block device = aml_open_device(w, "VR00");
    struct aml_block crs;

    aml_name(w, "_HID");
    aml_string(w, "LNRO0005");
    crs = aml_open_crs(w);
    aml_memory32(w, 0xc0000000, 0x1000);
    aml_interrupt(w, 16);
    aml_close(w, crs);
    aml_close(w, device);
}

static void test_full_writer_fails_whole(void **state)
{
    struct output out;

    (void)state;
    begin(&out);
    put_device(&out.w);
    for (size_t room = 0; room < out.w.pos; room++) {
        uint8_t *data = malloc(room + 1);
        struct bytes_writer w;

        assert_non_null(data);
        bytes_writer_init(&w, data, room);
        put_device(&w);
        assert_true(w.failed);
        free(data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_names_and_strings),
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_resources),
        cmocka_unit_test(test_package_lengths),
        cmocka_unit_test(test_full_writer_fails_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
