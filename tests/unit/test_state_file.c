/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/state_file.h"

static const struct snapshot_id some_id = {.b = {1, 2, 3}};

struct thing {
    uint32_t a;
    uint16_t b[3];
};

static const struct state_field thing_fields[] = {
    STATE_SCALAR(struct thing, a, 1),
    STATE_ARRAY(struct thing, b, 2),
};
static const struct state_desc thing_desc =
    STATE_DESC(struct thing, "thing", 2, thing_fields);

static void make(uint8_t **ret_data, size_t *ret_size)
{
    static const struct thing thing = {.a = 7, .b = {1, 2, 3}};
    struct state_record record = {.name = "index", .size = 99};
    struct state_writer w;
    struct err err;

    state_writer_init(&w, &some_id);
    assert_int_equal(state_writer_add(&w, "vcpu.0", 4, STATE_SECTION_REQUIRED,
                         "abcdef", 6, &err),
        0);
    assert_int_equal(state_writer_add(&w, "empty", 1, 0, NULL, 0, &err), 0);
    assert_int_equal(
        state_writer_add_table(&w, "device.thing", &thing_desc, &thing, &err),
        0);
    assert_int_equal(state_writer_add_record(&w, &record, &err), 0);
    assert_int_equal(
        state_writer_add(&w, "empty", 1, 0, NULL, 0, &err), -EEXIST);
    assert_int_equal(state_writer_add(&w, "a/b", 1, 0, NULL, 0, &err), -EINVAL);
    assert_int_equal(state_writer_add(&w, "v0", 0, 0, NULL, 0, &err), -EINVAL);
    assert_int_equal(state_writer_add_record(&w, &record, &err), -EEXIST);
    assert_int_equal(state_writer_seal(&w, ret_data, ret_size, &err), 0);
    state_writer_fini(&w);
}

/* A copy with some bytes changed and the checksum made to fit. */
static int decode_changed(const uint8_t *data, size_t size, size_t offset,
    const void *bytes, size_t len, struct state_file *ret_file, struct err *err)
{
    uint8_t *copy = malloc(size);
    struct hash128 hash;

    assert_non_null(copy);
    memcpy(copy, data, size);
    memcpy(copy + offset, bytes, len);
    hash = hash_bytes(copy, size - 16);
    memcpy(copy + size - 16, hash.b, 16);
    return state_file_decode(copy, size, ret_file, err);
}

static void test_round_trip(void **state)
{
    const struct state_section *section;
    struct state_file file;
    struct thing thing;
    uint8_t *data;
    size_t size;
    struct err err;

    (void)state;
    make(&data, &size);
    assert_int_equal(state_file_decode(data, size, &file, &err), 0);
    assert_true(snapshot_id_equal(&file.id, &some_id));
    assert_int_equal(file.section_count, 3);
    assert_int_equal(state_file_find_record(&file, "index")->size, 99);
    assert_null(state_file_find_record(&file, "hashes"));
    /* Nobody took the required ones yet: the first is named. */
    assert_int_equal(state_file_check_all_taken(&file, &err), -ENOTSUP);
    assert_non_null(strstr(err.text, "vcpu.0"));
    assert_int_equal(
        state_file_require(&file, "vcpu.0", 3, &section, &err), -ENOTSUP);
    assert_non_null(strstr(err.text, "vcpu.0 has version 4"));
    assert_int_equal(state_file_require(&file, "vcpu.0", 4, &section, &err), 0);
    assert_int_equal(section->size, 6);
    assert_memory_equal(section->data, "abcdef", 6);
    assert_int_equal(
        state_file_require(&file, "vcpu.1", 4, &section, &err), -ENOENT);
    assert_int_equal(state_file_check_all_taken(&file, &err), -ENOTSUP);
    assert_non_null(strstr(err.text, "device.thing"));
    assert_int_equal(
        state_file_load_table(&file, "device.thing", &thing_desc, &thing, &err),
        0);
    assert_int_equal(thing.a, 7);
    assert_int_equal(thing.b[2], 3);
    assert_int_equal(state_file_check_all_taken(&file, &err), 0);
    assert_int_equal(
        state_file_load_table(&file, "vcpu.0", &thing_desc, &thing, &err),
        -ENOTSUP);
    state_file_fini(&file);
}

/* Any bit, any length. */
static void test_damage(void **state)
{
    struct state_file file;
    uint8_t *data;
    size_t size;
    struct err err;

    (void)state;
    make(&data, &size);
    for (size_t bit = 0; bit < 8 * size; bit++) {
        uint8_t *copy = malloc(size);

        assert_non_null(copy);
        memcpy(copy, data, size);
        copy[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_int_equal(state_file_decode(copy, size, &file, &err), -EBADMSG);
    }
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *copy = malloc(cut + 1);

        assert_non_null(copy);
        memcpy(copy, data, cut);
        assert_int_equal(state_file_decode(copy, cut, &file, &err), -EBADMSG);
    }
    free(data);
}

/* Wrong although the checksum fits: someone made it so. */
static void test_hostile(void **state)
{
    static const uint8_t huge[] = {
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    static const uint8_t zero[16];
    static const struct {
        const char *what;
        size_t offset;
        const void *bytes;
        size_t len;
        int rc;
    } changes[] = {
        {"version 2", 8, "\2", 1, -ENOTSUP},
        {"version 0", 8, zero, 4, -ENOTSUP},
        {"reserved", 12, "\1", 1, -EBADMSG},
        {"size", 16, huge, 8, -EBADMSG},
        {"sections", 24, huge, 4, -EBADMSG},
        {"one section more", 24, "\4", 1, -EBADMSG},
        {"no sections", 24, zero, 4, -EBADMSG},
        {"records", 28, huge, 4, -EBADMSG},
        {"id", 32, zero, 16, -EBADMSG},
        {"reserved at the end", 63, "\1", 1, -EBADMSG},
        {"empty name", 64, zero, 1, -EBADMSG},
        {"slash in a name", 64, "/", 1, -EBADMSG},
        {"bytes behind a name", 64 + 47, "x", 1, -EBADMSG},
        {"name without an end", 64 + 6,
            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
            "xxxxx",
            42, -EBADMSG},
        {"two of a name", 64, "empty\0", 6, -EBADMSG},
        {"section version", 64 + 48, zero, 4, -EBADMSG},
        {"flags", 64 + 52, "\3", 1, -ENOTSUP},
        {"length", 64 + 56, huge, 8, -EBADMSG},
        {"length + 1", 64 + 56, "\7", 1, -EBADMSG},
        {"record name", 64 + 3 * 64, "..", 2, -EBADMSG},
        {"record size", 64 + 3 * 64 + 48, huge, 8, -EBADMSG},
    };
    struct state_file file;
    uint8_t *data;
    size_t size;
    struct err err;

    (void)state;
    make(&data, &size);
    for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
        int rc = decode_changed(data, size, changes[i].offset, changes[i].bytes,
            changes[i].len, &file, &err);

        if (rc != changes[i].rc)
            fail_msg("%s: %d", changes[i].what, rc);
    }
    assert_int_equal(
        decode_changed(data, size, 64, "vcpu.1", 6, &file, &err), 0);
    state_file_fini(&file);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_hostile),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
