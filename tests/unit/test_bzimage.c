/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/kernel_images.h"
#include "tests/unit/packers.h"
#include "vmm/hw/bzimage.h"

#define CODE_SIZE  0x4000u
#define PAYLOAD_AT 0x300u
#define PLAIN_SIZE 0x2000u
#define IMAGE_SIZE (BZIMAGE_SETUP + CODE_SIZE)

static const enum unpack_format supported[] = {
    UNPACK_GZIP, UNPACK_XZ, UNPACK_ZSTD, UNPACK_LZ4, UNPACK_LZMA};

struct fixture {
    uint8_t plain[PLAIN_SIZE];
    uint8_t bytes[IMAGE_SIZE];
    uint32_t payload_size;
    struct image image;
};

static void make(struct fixture *f, enum unpack_format format)
{
    struct image_source source = bytes_source(f->bytes, sizeof(f->bytes));

    memset(f, 0, sizeof(*f));
    for (size_t i = 0; i < PLAIN_SIZE; i++)
        f->plain[i] = (uint8_t)(i * i / 77);
    f->payload_size = (uint32_t)pack_payload(format, f->plain, PLAIN_SIZE,
        f->bytes + BZIMAGE_SETUP + PAYLOAD_AT, CODE_SIZE - PAYLOAD_AT);
    if (f->payload_size == 0) {
        memcpy(f->bytes + BZIMAGE_SETUP + PAYLOAD_AT, "BZh9", 4);
        f->payload_size = 0x100;
    }
    put_bzimage(f->bytes, CODE_SIZE, PAYLOAD_AT, f->payload_size);
    assert_int_equal(image_open(&source, &f->image, NULL), 0);
}

static void test_parse(void **state)
{
    struct fixture f;
    struct bzimage bz;

    (void)state;
    make(&f, UNPACK_ZSTD);
    assert_true(bzimage_detect(&f.image));
    assert_int_equal(bzimage_parse(&f.image, &bz, NULL), 0);
    assert_int_equal(bz.code_offset, BZIMAGE_SETUP);
    assert_int_equal(bz.code_size, CODE_SIZE);
    assert_int_equal(bz.payload_offset, BZIMAGE_SETUP + PAYLOAD_AT);
    assert_int_equal(bz.payload_size, f.payload_size);
    assert_int_equal(bz.format, UNPACK_ZSTD);
    assert_int_equal(bz.cmdline_max, 2047);
    assert_int_equal(bz.initrd_max, 0x7fffffff);
}

static void test_unpack_all_formats(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(supported); i++) {
        struct bzimage_payload payload = {0};
        struct fixture f;
        struct bzimage bz;

        make(&f, supported[i]);
        assert_int_equal(bzimage_parse(&f.image, &bz, NULL), 0);
        assert_int_equal(bz.format, supported[i]);
        assert_int_equal(
            bzimage_unpack(&f.image, &bz, PLAIN_SIZE, &payload, NULL), 0);
        assert_int_equal(payload.size, PLAIN_SIZE);
        assert_memory_equal(payload.data, f.plain, PLAIN_SIZE);
        bzimage_payload_free(&payload);
        assert_null(payload.data);
        bzimage_payload_free(&payload);

        assert_int_equal(
            bzimage_unpack(&f.image, &bz, PLAIN_SIZE - 1, &payload, NULL),
            -ENOMEM);
        assert_null(payload.data);
    }
}

/* The declared size bounds the output and must be met. */
static void test_declared_size_is_checked(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(supported); i++) {
        static const int32_t lies[] = {1, -1, 4096, -4096, -8192};
        struct fixture f;
        struct bzimage bz;

        make(&f, supported[i]);
        assert_int_equal(bzimage_parse(&f.image, &bz, NULL), 0);
        for (size_t j = 0; j < ARRAY_SIZE(lies); j++) {
            uint32_t declared = (uint32_t)((int32_t)PLAIN_SIZE + lies[j]);
            struct bzimage_payload payload = {0};

            memcpy(f.bytes + bz.payload_offset + bz.payload_size - 4, &declared,
                sizeof(declared));
            assert_true(
                bzimage_unpack(&f.image, &bz, NUM_MIB, &payload, NULL) < 0);
            assert_null(payload.data);
        }
    }
}

static void test_garbage_behind_the_payload(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(supported); i++) {
        const uint32_t size = PLAIN_SIZE;
        struct bzimage_payload payload = {0};
        struct fixture f;
        struct bzimage bz;

        make(&f, supported[i]);
        assert_int_equal(bzimage_parse(&f.image, &bz, NULL), 0);
        bz.payload_size += 8;
        memset(f.bytes + bz.payload_offset + bz.payload_size - 8, 0x5a, 4);
        memcpy(f.bytes + bz.payload_offset + bz.payload_size - 4, &size,
            sizeof(size));
        assert_true(bzimage_unpack(&f.image, &bz, NUM_MIB, &payload, NULL) < 0);
        assert_null(payload.data);
    }
}

struct defect {
    size_t offset; /* of the field in the setup header */
    size_t len;
    uint64_t value;
    int rc;
    const char *text;
};

#define HDR(field)                                                             \
    offsetof(struct setup_header, field),                                      \
        sizeof(((struct setup_header *)0)->field)

static void test_defects(void **state)
{
    static const struct defect defects[] = {
        {HDR(boot_flag), 0, -ENOEXEC, "not a bzImage"},
        {HDR(header), 0, -ENOEXEC, "not a bzImage"},
        {HDR(version), 0x207, -EINVAL, "2.07"},
        {HDR(loadflags), 0, -EINVAL, "zImage"},
        {HDR(jump), 0x10eb, -EINVAL, "cut short"},
        {HDR(setup_sects), 64, -EINVAL, "setup part"},
        {HDR(payload_offset), CODE_SIZE, -EINVAL, "payload is beyond"},
        {HDR(payload_offset), UINT32_MAX, -EINVAL, "payload is beyond"},
        {HDR(payload_length), UINT32_MAX, -EINVAL, "payload is beyond"},
        {HDR(payload_length), 4, -EINVAL, "payload is empty"},
        {HDR(syssize), 16, -EINVAL, "payload is beyond"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(defects); i++) {
        const struct defect *d = &defects[i];
        struct err err = {0};
        struct fixture f;
        struct bzimage bz;
        int rc;

        make(&f, UNPACK_GZIP);
        memcpy(f.bytes + 0x1f1 + d->offset, &d->value, d->len);
        rc = bzimage_parse(&f.image, &bz, &err);
        if (rc != d->rc || strstr(err.text, d->text) == NULL)
            fail_msg("defect %zu: %d %s", i, rc, err.text);
    }
}

static void test_cut_at_every_byte(void **state)
{
    struct fixture f;

    (void)state;
    make(&f, UNPACK_GZIP);
    for (size_t len = 0; len < BZIMAGE_SETUP + PAYLOAD_AT; len++) {
        uint8_t *copy = malloc(len + 1);
        struct image_source source = bytes_source(copy, len);
        struct image image;
        struct bzimage bz;

        assert_non_null(copy);
        memcpy(copy, f.bytes, len);
        assert_int_equal(image_open(&source, &image, NULL), 0);
        assert_true(bzimage_parse(&image, &bz, NULL) < 0);
        free(copy);
    }
}

/* An older header is shorter: what lies behind it is code, not fields. */
static void test_fields_behind_the_header_are_blank(void **state)
{
    const uint16_t jump = 0x56eb; /* to 0x258, where pref_address is */
    struct fixture f;
    struct bzimage bz;

    (void)state;
    make(&f, UNPACK_GZIP);
    memcpy(f.bytes + 0x200, &jump, sizeof(jump));
    assert_int_equal(bzimage_parse(&f.image, &bz, NULL), 0);
    assert_int_equal(bz.header.pref_address, 0);
    assert_int_equal(bz.header.init_size, 0);
    assert_int_equal(bz.header.payload_length, f.payload_size);
}

static void test_load_as_it_is(void **state)
{
    struct bzimage_loaded loaded;
    uint8_t code[CODE_SIZE];
    struct fixture f;
    struct bzimage bz;
    struct gmem mem;
    struct err err;

    (void)state;
    make(&f, UNPACK_BZIP2);
    assert_int_equal(bzimage_parse(&f.image, &bz, NULL), 0);
    assert_int_equal(bz.format, UNPACK_BZIP2);
    assert_int_equal(gmem_init(&mem, 8 * NUM_MIB, NULL), 0);
    assert_int_equal(bzimage_load(&f.image, &bz, &mem, &loaded, NULL), 0);
    assert_int_equal(loaded.entry, 0x400200);
    assert_int_equal(loaded.lowest, 0x400000);
    assert_int_equal(loaded.highest, 0x410000);
    assert_int_equal(bz.header.code32_start, 0x400000);
    assert_int_equal(gmem_read(&mem, gpa(0x400000), code, sizeof(code)), 0);
    assert_memory_equal(code, f.bytes + BZIMAGE_SETUP, CODE_SIZE);

    /* Not relocatable: where it says. */
    bz.header.relocatable_kernel = 0;
    bz.header.code32_start = 0x100000;
    assert_int_equal(bzimage_load(&f.image, &bz, &mem, &loaded, NULL), 0);
    assert_int_equal(loaded.entry, 0x100200);
    bz.header.code32_start = 0x10000;
    assert_int_equal(bzimage_load(&f.image, &bz, &mem, &loaded, NULL), -EINVAL);

    /* Room to unpack counts. */
    bz.header.code32_start = 0x100000;
    bz.header.init_size = 8 * NUM_MIB;
    assert_int_equal(bzimage_load(&f.image, &bz, &mem, &loaded, &err), -ENOMEM);
    assert_non_null(strstr(err.text, "--mem 9 or more"));
    bz.header.xloadflags = 0;
    assert_int_equal(bzimage_load(&f.image, &bz, &mem, &loaded, &err), -EINVAL);
    assert_non_null(strstr(err.text, "bzip2"));
    gmem_fini(&mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_unpack_all_formats),
        cmocka_unit_test(test_declared_size_is_checked),
        cmocka_unit_test(test_garbage_behind_the_payload),
        cmocka_unit_test(test_defects),
        cmocka_unit_test(test_cut_at_every_byte),
        cmocka_unit_test(test_fields_behind_the_header_are_blank),
        cmocka_unit_test(test_load_as_it_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
