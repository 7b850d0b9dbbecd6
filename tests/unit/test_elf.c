/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/kernel_images.h"
#include "vmm/base/fd.h"
#include "vmm/hw/elf.h"

#define MEM_SIZE (16 * NUM_MIB)

static int setup(void **state)
{
    struct gmem *mem = malloc(sizeof(*mem));

    assert_non_null(mem);
    *state = mem;
    return gmem_init(mem, MEM_SIZE, NULL);
}

static int teardown(void **state)
{
    struct gmem *mem = *state;

    gmem_fini(mem);
    free(mem);
    return 0;
}

static int load(struct gmem *mem, const uint8_t *data, size_t size,
    struct elf_loaded *ret_loaded, struct err *err)
{
    struct image_source source = bytes_source(data, size);
    struct image image;
    int rc;

    assert_int_equal(image_open(&source, &image, err), 0);
    rc = elf_load(&image, mem, ret_loaded, err);
    image_close(&image);
    return rc;
}

static uint8_t byte_at(const struct gmem *mem, uint64_t address)
{
    uint8_t b;

    assert_int_equal(gmem_read(mem, gpa(address), &b, 1), 0);
    return b;
}

static void check_small(const struct gmem *mem, const struct elf_loaded *loaded)
{
    assert_true(loaded->is_64);
    assert_true(loaded->has_entry);
    assert_int_equal(loaded->entry, SMALL_ELF_ENTRY);
    assert_int_equal(loaded->lowest, SMALL_ELF_START);
    assert_int_equal(loaded->highest, SMALL_ELF_START + 0x100 + SMALL_ELF_BSS);
    assert_int_equal(loaded->low_end, loaded->highest);
    for (uint64_t i = 0; i < 0x100; i++)
        assert_int_equal(
            byte_at(mem, SMALL_ELF_START + i), (uint8_t)(0xc0 + i));
    assert_int_equal(byte_at(mem, SMALL_ELF_START + 0x100), 0);
    assert_int_equal(byte_at(mem, SMALL_ELF_START - 1), 0);
}

static void test_loads_by_physical_address(void **state)
{
    uint8_t elf[SMALL_ELF_SIZE];
    struct elf_loaded loaded;

    put_small_elf(elf, 0);
    assert_int_equal(load(*state, elf, sizeof(elf), &loaded, NULL), 0);
    check_small(*state, &loaded);
    assert_false(loaded.has_pvh);
}

static void test_finds_the_pvh_note(void **state)
{
    uint8_t elf[SMALL_ELF_SIZE];
    struct elf_loaded loaded;

    put_small_elf(elf, 1);
    assert_int_equal(load(*state, elf, sizeof(elf), &loaded, NULL), 0);
    assert_true(loaded.has_pvh);
    assert_int_equal(loaded.pvh_entry, SMALL_ELF_ENTRY);
}

/* The file is longer than an image's head: segments come from the file. */
static void test_loads_from_a_file(void **state)
{
    CC_CLEANUP(fd_closep) int fd = memfd_create("elf", MFD_CLOEXEC);
    uint8_t elf[3 * IMAGE_HEAD] = {0};
    const uint64_t entry = 0x300010;
    Elf64_Phdr ph[2] = {
        {.p_type = PT_LOAD,
            .p_offset = IMAGE_HEAD - 8,
            .p_paddr = 0x300000,
            .p_filesz = IMAGE_HEAD,
            .p_memsz = IMAGE_HEAD},
        {.p_type = PT_NOTE, .p_offset = 2 * IMAGE_HEAD + 100, .p_align = 4},
    };
    struct image_source source = {.kind = IMAGE_FD, .name = "memfd"};
    struct elf_loaded loaded;
    struct image image;

    assert_true(fd >= 0);
    for (size_t i = 0; i < IMAGE_HEAD; i++)
        elf[IMAGE_HEAD - 8 + i] = (uint8_t)(i % 251);
    ph[1].p_filesz = put_note(
        elf + 2 * IMAGE_HEAD + 100, "Xen", 18, &entry, sizeof(entry), 4);
    put_elf64(elf, 0, ph, 2);
    assert_int_equal(fd_write_full(fd, elf, sizeof(elf)), 0);
    source.fd = fd;
    assert_int_equal(image_open(&source, &image, NULL), 0);
    assert_int_equal(elf_load(&image, *state, &loaded, NULL), 0);
    assert_true(loaded.has_pvh);
    assert_int_equal(loaded.pvh_entry, entry);
    assert_false(loaded.has_entry);
    for (uint64_t i = 0; i < IMAGE_HEAD; i++)
        assert_int_equal(byte_at(*state, 0x300000 + i), i % 251);

    /* Cut short after it was opened. */
    assert_int_equal(ftruncate(fd, IMAGE_HEAD + 100), 0);
    assert_int_equal(elf_load(&image, *state, &loaded, NULL), -ENODATA);
    image_close(&image);
    assert_true(lseek(fd, 0, SEEK_SET) == 0); /* borrowed, so still open */
}

static void test_32_bit_payload(void **state)
{
    uint8_t elf[0x200] = {0};
    const uint32_t entry = 0x100004;
    Elf32_Phdr ph[2] = {
        {.p_type = PT_NOTE, .p_offset = 0x100, .p_align = 4},
        {.p_type = PT_LOAD,
            .p_offset = 0x180,
            .p_vaddr = 0x100000,
            .p_paddr = 0x100000,
            .p_filesz = 8,
            .p_memsz = 16},
    };
    struct elf_loaded loaded;

    elf[0x180] = 0xf4;
    ph[0].p_filesz =
        (uint32_t)put_note(elf + 0x100, "Xen", 18, &entry, sizeof(entry), 4);
    put_elf32(elf, 0x100000, ph, 2);
    assert_int_equal(load(*state, elf, sizeof(elf), &loaded, NULL), 0);
    assert_false(loaded.is_64);
    assert_true(loaded.has_pvh);
    assert_int_equal(loaded.pvh_entry, entry);
    assert_int_equal(byte_at(*state, 0x100000), 0xf4);
}

/* The note behind others, of other owners and types, in both alignments. */
static void test_note_among_others(void **state)
{
    for (size_t align = 4; align <= 8; align += 4) {
        uint8_t elf[SMALL_ELF_SIZE];
        const uint64_t entry = SMALL_ELF_START;
        const char text[] = "thirteen byte";
        struct elf_loaded loaded;
        Elf64_Phdr ph[2];
        size_t at = 0x100;

        put_small_elf(elf, 1);
        memcpy(ph, elf + sizeof(Elf64_Ehdr), sizeof(ph));
        ph[1].p_offset = at;
        ph[1].p_align = align;
        at += put_note(elf + at, "GNU", 18, &entry, 8, align);
        at += put_note(elf + at, "Linux", 0x101, text, 13, align);
        at += put_note(elf + at, "Xen", 17, &entry, 8, align);
        at += put_note(elf + at, "Xen", 18, text, 5, align);
        at += put_note(elf + at, "Xen", 18, &entry, 8, align);
        assert_true(at <= 0x200);
        ph[1].p_filesz = at - 0x100;
        put_elf64(elf, 0, ph, 2);
        assert_int_equal(load(*state, elf, sizeof(elf), &loaded, NULL), 0);
        assert_true(loaded.has_pvh);
        assert_int_equal(loaded.pvh_entry, entry);
    }
}

static void test_cut_at_every_byte(void **state)
{
    uint8_t elf[SMALL_ELF_SIZE];
    struct elf_loaded loaded;

    put_small_elf(elf, 1);
    for (size_t len = 0; len < sizeof(elf); len++) {
        uint8_t *copy = malloc(len + 1);

        assert_non_null(copy);
        memcpy(copy, elf, len);
        memset(&loaded, 0x5a, sizeof(loaded));
        assert_true(load(*state, copy, len, &loaded, NULL) < 0);
        assert_int_equal(loaded.entry, 0x5a5a5a5a5a5a5a5a);
        free(copy);
    }
}

/* A valid image with one thing wrong, and what that is to give. */
struct defect {
    const char *name;
    size_t offset; /* of the field in the file */
    size_t len;
    uint64_t value;
    int rc;
    const char *text; /* in the message */
};

#define EHDR(field)                                                            \
    offsetof(Elf64_Ehdr, field), sizeof(((Elf64_Ehdr *)0)->field)
#define PHDR(field)                                                            \
    sizeof(Elf64_Ehdr) + offsetof(Elf64_Phdr, field),                          \
        sizeof(((Elf64_Phdr *)0)->field)

static const struct defect defects[] = {
    {"big-endian", EI_DATA, 1, ELFDATA2MSB, -ENOEXEC, "little-endian"},
    {"class", EI_CLASS, 1, 3, -ENOEXEC, "little-endian"},
    {"relocatable", EHDR(e_type), ET_REL, -ENOEXEC, "type 1"},
    {"arm", EHDR(e_machine), EM_AARCH64, -ENOEXEC, "machine 183"},
    {"phdr size", EHDR(e_phentsize), 32, -EINVAL, "program headers"},
    {"no phdrs", EHDR(e_phnum), 0, -EINVAL, "1 to 64"},
    {"many phdrs", EHDR(e_phnum), 65, -EINVAL, "1 to 64"},
    {"phdrs beyond", EHDR(e_phoff), UINT64_MAX, -ENODATA, "program headers"},
    {"nothing to load", PHDR(p_type), PT_NULL, -EINVAL, "nothing"},
    {"file size", PHDR(p_filesz), 0x4000, -EINVAL, "more in the file"},
    {"offset", PHDR(p_offset), 0x201, -ENODATA, "within segment 0"},
    {"offset wraps", PHDR(p_offset), UINT64_MAX, -ENODATA, "segment 0"},
    {"address wraps", PHDR(p_paddr), UINT64_MAX - 0x10, -EINVAL, "wraps"},
    {"too low", PHDR(p_paddr), 0xff000, -EINVAL, "link it higher"},
    {"beyond RAM", PHDR(p_paddr), 0x1000000, -ENOMEM, "--mem 17 or more"},
    {"across the end", PHDR(p_memsz), 0xf00001, -ENOMEM, "--mem 18 or more"},
    {"in the gap", PHDR(p_paddr), 0xc0000000, -EINVAL, "devices"},
    {"above the gap", PHDR(p_paddr), 0x100000000, -ENOMEM, "--mem 3073"},
    {"absurd", PHDR(p_paddr), UINT64_C(1) << 50, -EINVAL, "any guest"},
    {"pvh entry outside", 0x190, 8, 0x100000, -EINVAL, "PVH entry"},
    {"pvh entry high", 0x194, 4, 1, -EINVAL, "PVH entry"},
};

static void test_defects(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(defects); i++) {
        const struct defect *d = &defects[i];
        uint8_t elf[SMALL_ELF_SIZE];
        struct elf_loaded loaded;
        struct err err = {0};
        int rc;

        put_small_elf(elf, 1);
        memcpy(elf + d->offset, &d->value, d->len);
        rc = load(*state, elf, sizeof(elf), &loaded, &err);
        if (rc != d->rc || strstr(err.text, d->text) == NULL)
            fail_msg("%s: %d %s", d->name, rc, err.text);
        assert_non_null(strstr(err.text, "image: "));
    }
}

static void test_overlapping_segments(void **state)
{
    uint8_t elf[SMALL_ELF_SIZE];
    struct elf_loaded loaded;
    Elf64_Phdr ph[2];

    put_small_elf(elf, 0);
    memcpy(&ph[0], elf + sizeof(Elf64_Ehdr), sizeof(ph[0]));
    ph[1] = ph[0];
    ph[1].p_paddr += ph[0].p_memsz;
    put_elf64(elf, 0, ph, 2);
    assert_int_equal(load(*state, elf, sizeof(elf), &loaded, NULL), 0);
    ph[1].p_paddr--;
    put_elf64(elf, 0, ph, 2);
    assert_int_equal(load(*state, elf, sizeof(elf), &loaded, NULL), -EINVAL);
    ph[1].p_paddr = ph[0].p_paddr - ph[0].p_memsz;
    put_elf64(elf, 0, ph, 2);
    assert_int_equal(load(*state, elf, sizeof(elf), &loaded, NULL), 0);
    assert_int_equal(loaded.lowest, ph[1].p_paddr);
}

/* --mem must do for all segments, not just for the first that has no room. */
static void test_memory_asked_for_is_enough(void **state)
{
    uint8_t elf[SMALL_ELF_SIZE];
    struct elf_loaded loaded;
    struct gmem larger;
    struct err err;
    Elf64_Phdr ph[2];

    put_small_elf(elf, 0);
    memcpy(&ph[0], elf + sizeof(Elf64_Ehdr), sizeof(ph[0]));
    ph[1] = ph[0];
    ph[0].p_paddr = 20 * NUM_MIB;
    ph[1].p_paddr = 30 * NUM_MIB;
    put_elf64(elf, 0, ph, 2);
    assert_int_equal(load(*state, elf, sizeof(elf), &loaded, &err), -ENOMEM);
    assert_non_null(strstr(err.text, "--mem 31 or more"));
    assert_int_equal(gmem_init(&larger, 31 * NUM_MIB, NULL), 0);
    assert_int_equal(load(&larger, elf, sizeof(elf), &loaded, &err), 0);
    gmem_fini(&larger);
}

/* A note that claims to be endless must not be believed. */
static void test_endless_note(void **state)
{
    uint8_t elf[SMALL_ELF_SIZE];
    const uint32_t huge = UINT32_MAX;
    struct elf_loaded loaded;

    put_small_elf(elf, 1);
    memcpy(elf + 0x184, &huge, sizeof(huge));
    assert_int_equal(load(*state, elf, sizeof(elf), &loaded, NULL), 0);
    assert_false(loaded.has_pvh);
    memcpy(elf + 0x180, &huge, sizeof(huge));
    assert_int_equal(load(*state, elf, sizeof(elf), &loaded, NULL), 0);
    assert_false(loaded.has_pvh);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_loads_by_physical_address, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_finds_the_pvh_note, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_loads_from_a_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_32_bit_payload, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_note_among_others, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_cut_at_every_byte, setup, teardown),
        cmocka_unit_test_setup_teardown(test_defects, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_overlapping_segments, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_memory_asked_for_is_enough, setup, teardown),
        cmocka_unit_test_setup_teardown(test_endless_note, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
