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
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/kernel_images.h"
#include "tests/unit/packers.h"
#include "vmm/base/fd.h"
#include "vmm/hw/boot.h"
#include "vmm/hw/layout.h"

#define MEM_SIZE (16 * NUM_MIB)
#define RSDP     UINT64_C(0xe0000)

struct machine {
    struct gmem mem;
    struct boot_config config;
    struct boot_entry entry;
    struct err err;
};

static int setup(void **state)
{
    struct machine *m = calloc(1, sizeof(*m));

    assert_non_null(m);
    *state = m;
    m->config.rsdp = gpa(RSDP);
    m->config.cmdline = "console=ttyS0";
    return gmem_init(&m->mem, MEM_SIZE, NULL);
}

static int teardown(void **state)
{
    struct machine *m = *state;

    gmem_fini(&m->mem);
    free(m);
    return 0;
}

static int load(struct machine *m, const void *kernel, size_t size)
{
    m->config.kernel = bytes_source(kernel, size);
    return boot_load(&m->mem, &m->config, &m->entry, &m->err);
}

static uint64_t u64_at(const struct machine *m, uint64_t address)
{
    uint64_t v;

    assert_int_equal(gmem_read(&m->mem, gpa(address), &v, sizeof(v)), 0);
    return v;
}

static uint32_t u32_at(const struct machine *m, uint64_t address)
{
    return (uint32_t)(u64_at(m, address) & UINT32_MAX);
}

/* The descriptor that a selector names must say what the segment says. */
static void check_segment(
    const struct machine *m, const struct boot_segment *s, int is_code)
{
    uint64_t d;

    assert_true(s->selector + 7u <= m->entry.gdt_limit);
    d = u64_at(m, m->entry.gdt_base + s->selector);
    assert_int_equal(s->base, 0);
    assert_int_equal(s->limit, UINT32_MAX);
    assert_int_equal(d & 0xffff, 0xffff);     /* limit */
    assert_int_equal(d >> 48 & 0xf, 0xf);     /* limit */
    assert_int_equal(d >> 16 & 0xffffff, 0);  /* base */
    assert_int_equal(d >> 56, 0);             /* base */
    assert_int_equal(d >> 40 & 0xf, s->type); /* type */
    assert_int_equal(d >> 44 & 1, s->code_or_data);
    assert_int_equal(d >> 45 & 3, 0); /* ring */
    assert_int_equal(d >> 47 & 1, 1); /* present */
    assert_int_equal(d >> 53 & 1, s->l);
    assert_int_equal(d >> 54 & 1, s->db);
    assert_int_equal(d >> 55 & 1, 1); /* pages */
    assert_int_equal(s->g, 1);
    assert_int_equal(s->type >> 3, is_code);
}

static void check_pvh(const struct machine *m, uint64_t rip)
{
    const struct boot_entry *e = &m->entry;

    assert_int_equal(e->mode, BOOT_PVH);
    assert_int_equal(e->rip, rip);
    assert_int_equal(e->rbx, LAYOUT_PVH_INFO);
    assert_int_equal(e->rflags, 2);
    assert_int_equal(e->cr0 & 0x80000001, 1);
    assert_int_equal(e->cr4 | e->cr3 | e->efer, 0);
    check_segment(m, &e->cs, 1);
    check_segment(m, &e->data, 0);
    assert_int_equal(e->cs.db, 1);
    assert_int_equal(e->cs.l, 0);
    assert_int_equal(e->tr.type, 11);
    assert_int_equal(e->tr.limit, 0x67);
    assert_int_equal(u32_at(m, e->rbx), 0x336ec578);
    assert_int_equal(u32_at(m, e->rbx + 4), 1);
    assert_int_equal(u64_at(m, e->rbx + 24), LAYOUT_CMDLINE);
    assert_int_equal(u64_at(m, e->rbx + 32), RSDP);
}

static void check_contents(const struct machine *m)
{
    for (uint64_t i = 0; i < 0x100; i += 8)
        assert_int_equal(
            u64_at(m, SMALL_ELF_START + i) & 0xff, (0xc0 + i) & 0xff);
}

static void test_pvh_elf(void **state)
{
    struct machine *m = *state;
    uint8_t elf[SMALL_ELF_SIZE];
    uint64_t info = LAYOUT_PVH_INFO;
    char cmdline[32];
    uint64_t map;

    put_small_elf(elf, 1);
    assert_int_equal(load(m, elf, sizeof(elf)), 0);
    check_pvh(m, SMALL_ELF_ENTRY);
    check_contents(m);
    assert_int_equal(u32_at(m, info + 12), 0); /* modules */
    assert_int_equal(
        gmem_read(&m->mem, gpa(LAYOUT_CMDLINE), cmdline, sizeof(cmdline)), 0);
    assert_string_equal(cmdline, "console=ttyS0");
    map = u64_at(m, info + 40);
    assert_int_equal(u32_at(m, info + 48), 3);
    assert_int_equal(u64_at(m, map), 0);
    assert_int_equal(u64_at(m, map + 8), LAYOUT_EBDA_START);
    assert_int_equal(u64_at(m, map + 16), 1);
    assert_int_equal(u64_at(m, map + 24), LAYOUT_EBDA_START);
    assert_int_equal(u64_at(m, map + 32), 0x100000 - LAYOUT_EBDA_START);
    assert_int_equal(u64_at(m, map + 40), 2);
    assert_int_equal(u64_at(m, map + 48), 0x100000);
    assert_int_equal(u64_at(m, map + 56), MEM_SIZE - 0x100000);
    assert_int_equal(u64_at(m, map + 64), 1);
}

static void test_memory_above_4_gib_is_mapped(void **state)
{
    struct machine *m = *state;
    uint8_t elf[SMALL_ELF_SIZE];
    uint64_t map;

    gmem_fini(&m->mem);
    assert_int_equal(gmem_init(&m->mem, 5 * NUM_GIB, NULL), 0);
    put_small_elf(elf, 1);
    assert_int_equal(load(m, elf, sizeof(elf)), 0);
    map = u64_at(m, LAYOUT_PVH_INFO + 40);
    assert_int_equal(u32_at(m, LAYOUT_PVH_INFO + 48), 4);
    assert_int_equal(u64_at(m, map + 56), GMEM_GAP_START - 0x100000);
    assert_int_equal(u64_at(m, map + 72), GMEM_GAP_END);
    assert_int_equal(u64_at(m, map + 80), 2 * NUM_GIB);
    assert_int_equal(u64_at(m, map + 88), 1);
}

/* What the tables map `address` to, with 2 MiB pages only. */
static uint64_t walk(const struct machine *m, uint64_t address)
{
    uint64_t e = u64_at(m, m->entry.cr3 + (address >> 39 & 511) * 8);

    assert_int_equal(e & 0xfff, 3);
    e = u64_at(m, e - 3 + (address >> 30 & 511) * 8);
    assert_int_equal(e & 0xfff, 3);
    e = u64_at(m, e - 3 + (address >> 21 & 511) * 8);
    assert_int_equal(e & 0xfff, 0x83);
    return (e - 0x83) + (address & 0x1fffff);
}

static void check_linux64(const struct machine *m, uint64_t rip)
{
    const struct boot_entry *e = &m->entry;

    assert_int_equal(e->mode, BOOT_LINUX64);
    assert_int_equal(e->rip, rip);
    assert_int_equal(e->rsi, LAYOUT_ZERO_PAGE);
    assert_int_equal(e->cr0 & 0x80000001, 0x80000001);
    assert_int_equal(e->cr4 & 0x20, 0x20);
    assert_int_equal(e->efer, 0x500);
    check_segment(m, &e->cs, 1);
    check_segment(m, &e->data, 0);
    assert_int_equal(e->cs.selector, 0x10);
    assert_int_equal(e->data.selector, 0x18);
    assert_int_equal(e->cs.l, 1);
    assert_int_equal(e->cs.db, 0);
    for (uint64_t a = 0x1234; a < 4 * NUM_GIB; a += 0x1ff000)
        assert_int_equal(walk(m, a), a);
    assert_int_equal(walk(m, UINT32_MAX), UINT32_MAX);
}

static struct boot_params zero_page(const struct machine *m)
{
    struct boot_params zp;

    assert_int_equal(
        gmem_read(&m->mem, gpa(LAYOUT_ZERO_PAGE), &zp, sizeof(zp)), 0);
    assert_int_equal(zp.hdr.header, 0x53726448);
    assert_int_equal(zp.hdr.type_of_loader, 0xff);
    assert_int_equal(zp.hdr.cmd_line_ptr, LAYOUT_CMDLINE);
    assert_int_equal(zp.acpi_rsdp_addr, RSDP);
    assert_int_equal(zp.sentinel, 0);
    assert_int_equal(zp.e820_entries, 3);
    assert_int_equal(zp.e820_table[2].addr, 0x100000);
    assert_int_equal(zp.e820_table[2].size, MEM_SIZE - 0x100000);
    assert_int_equal(zp.e820_table[1].type, 2);
    return zp;
}

static void test_64_bit_elf_without_note(void **state)
{
    struct machine *m = *state;
    uint8_t elf[SMALL_ELF_SIZE];
    const uint8_t initrd[] = "initrd";
    struct image_source piece = bytes_source(initrd, sizeof(initrd));
    struct boot_params zp;

    m->config.initrds = &piece;
    m->config.initrd_count = 1;
    put_small_elf(elf, 0);
    assert_int_equal(load(m, elf, sizeof(elf)), 0);
    check_linux64(m, SMALL_ELF_ENTRY);
    check_contents(m);
    zp = zero_page(m);
    assert_int_equal(zp.hdr.ramdisk_image, MEM_SIZE - NUM_PAGE_SIZE);
    assert_int_equal(zp.hdr.ramdisk_size, sizeof(initrd));
    assert_true((zp.hdr.loadflags & LOADED_HIGH) != 0);
}

static void test_packed_bzimage_is_its_elf(void **state)
{
    static const enum unpack_format formats[] = {
        UNPACK_GZIP, UNPACK_XZ, UNPACK_ZSTD, UNPACK_LZ4, UNPACK_LZMA};
    struct machine *m = *state;

    for (size_t i = 0; i < 2 * ARRAY_SIZE(formats); i++) {
        int pvh = i % 2 == 0;
        uint8_t elf[SMALL_ELF_SIZE];
        uint8_t bytes[0x2000] = {0};
        size_t n;

        put_small_elf(elf, pvh);
        n = pack_payload(formats[i / 2], elf, sizeof(elf),
            bytes + BZIMAGE_SETUP + 0x80, sizeof(bytes) - BZIMAGE_SETUP - 0x80);
        assert_true(n > 0);
        put_bzimage(bytes, sizeof(bytes) - BZIMAGE_SETUP, 0x80, (uint32_t)n);
        assert_int_equal(load(m, bytes, sizeof(bytes)), 0);
        check_contents(m);
        if (pvh) {
            check_pvh(m, SMALL_ELF_ENTRY);
        } else {
            check_linux64(m, SMALL_ELF_ENTRY);
            assert_int_equal(zero_page(m).hdr.kernel_alignment, 0x200000);
        }
    }
}

static void test_unknown_packing_is_left_to_the_kernel(void **state)
{
    struct machine *m = *state;
    uint8_t bytes[0x2000];
    struct boot_params zp;

    memset(bytes, 0x90, sizeof(bytes));
    memcpy(bytes + BZIMAGE_SETUP + 0x80, "BZh9", 4);
    put_bzimage(bytes, sizeof(bytes) - BZIMAGE_SETUP, 0x80, 0x1000);
    assert_int_equal(load(m, bytes, sizeof(bytes)), 0);
    check_linux64(m, 0x400200);
    assert_int_equal(u64_at(m, 0x400200), 0x9090909090909090);
    zp = zero_page(m);
    assert_int_equal(zp.hdr.code32_start, 0x400000);
    assert_int_equal(zp.hdr.init_size, 0x10000);
    assert_int_equal(zp.hdr.setup_data, 0);

    m->config.cmdline = NULL;
    bytes[0x1f1 + offsetof(struct setup_header, xloadflags)] = 0;
    assert_int_equal(load(m, bytes, sizeof(bytes)), -EINVAL);
    assert_non_null(strstr(m->err.text, "bzip2"));
}

/* A damaged payload is an error and never started some other way. */
static void test_damaged_payload(void **state)
{
    struct machine *m = *state;
    uint8_t elf[SMALL_ELF_SIZE];
    uint8_t bytes[0x2000] = {0};
    size_t n;

    put_small_elf(elf, 1);
    n = pack_payload(UNPACK_GZIP, elf, sizeof(elf), bytes + BZIMAGE_SETUP,
        sizeof(bytes) - BZIMAGE_SETUP);
    put_bzimage(bytes, sizeof(bytes) - BZIMAGE_SETUP, 0, (uint32_t)n);
    bytes[BZIMAGE_SETUP + 40] ^= 1;
    assert_true(load(m, bytes, sizeof(bytes)) < 0);
    assert_non_null(strstr(m->err.text, "image: "));
}

static void test_initrd_pieces(void **state)
{
    CC_CLEANUP(fd_closep) int fd = memfd_create("initrd", MFD_CLOEXEC);
    struct machine *m = *state;
    uint8_t elf[SMALL_ELF_SIZE];
    uint8_t large[6001];
    uint8_t found[6001];
    struct image_source pieces[3] = {
        bytes_source("abcde", 5),
        {.kind = IMAGE_FD, .name = "large", .fd = fd},
        bytes_source("xyz", 3),
    };
    uint64_t module, at, size;

    for (size_t i = 0; i < sizeof(large); i++)
        large[i] = (uint8_t)(i % 241);
    assert_int_equal(fd_write_full(fd, large, sizeof(large)), 0);
    m->config.initrds = pieces;
    m->config.initrd_count = 3;
    put_small_elf(elf, 1);
    assert_int_equal(load(m, elf, sizeof(elf)), 0);
    assert_int_equal(u32_at(m, LAYOUT_PVH_INFO + 12), 1);
    module = u64_at(m, LAYOUT_PVH_INFO + 16);
    at = u64_at(m, module);
    size = u64_at(m, module + 8);
    assert_int_equal(size, 8 + 6004 + 3);
    assert_int_equal(at, MEM_SIZE - 2 * NUM_PAGE_SIZE);
    assert_int_equal(u64_at(m, at), 0x6564636261); /* "abcde\0\0\0" */
    assert_int_equal(gmem_read(&m->mem, gpa(at + 8), found, sizeof(found)), 0);
    assert_memory_equal(found, large, sizeof(large));
    assert_int_equal(u32_at(m, at + 8 + 6004), 0x7a7978);
}

/* Fits to the last page above the kernel; one byte more asks for memory. */
static void test_initrd_room(void **state)
{
    CC_CLEANUP(fd_closep) int fd = memfd_create("initrd", MFD_CLOEXEC);
    struct machine *m = *state;
    uint8_t elf[SMALL_ELF_SIZE];
    struct image_source piece = {.kind = IMAGE_FD, .name = "initrd", .fd = fd};
    off_t room = (off_t)(MEM_SIZE - SMALL_ELF_START - 2 * NUM_PAGE_SIZE);

    m->config.initrds = &piece;
    m->config.initrd_count = 1;
    put_small_elf(elf, 1);
    assert_int_equal(ftruncate(fd, room), 0);
    assert_int_equal(load(m, elf, sizeof(elf)), 0);
    assert_int_equal(u64_at(m, u64_at(m, LAYOUT_PVH_INFO + 16)),
        SMALL_ELF_START + 2 * NUM_PAGE_SIZE);
    assert_int_equal(ftruncate(fd, room + 1), 0);
    assert_int_equal(load(m, elf, sizeof(elf)), -ENOMEM);
    assert_non_null(strstr(m->err.text, "--mem 17 or more"));
    assert_int_equal(ftruncate(fd, (off_t)(3 * NUM_GIB)), 0);
    assert_int_equal(load(m, elf, sizeof(elf)), -EFBIG);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(load(m, elf, sizeof(elf)), 0);
    assert_int_equal(u32_at(m, LAYOUT_PVH_INFO + 12), 0);
}

/* Not higher than the kernel says it can reach. */
static void test_initrd_below_the_kernels_limit(void **state)
{
    struct machine *m = *state;
    struct image_source piece = bytes_source("initrd", 6);
    const uint32_t limit = 0x7fffff;
    uint8_t bytes[0x2000] = {0};

    m->config.initrds = &piece;
    m->config.initrd_count = 1;
    put_bzimage(bytes, sizeof(bytes) - BZIMAGE_SETUP, 0, 0);
    memcpy(bytes + 0x1f1 + offsetof(struct setup_header, initrd_addr_max),
        &limit, sizeof(limit));
    assert_int_equal(load(m, bytes, sizeof(bytes)), 0);
    assert_int_equal(zero_page(m).hdr.ramdisk_image, 0x7ff000);
}

static void test_command_line_limit_of_the_kernel(void **state)
{
    struct machine *m = *state;
    uint8_t bytes[0x2000] = {0};
    char line[2049];

    memset(line, 'x', sizeof(line));
    m->config.cmdline = line;
    put_bzimage(bytes, sizeof(bytes) - BZIMAGE_SETUP, 0, 0);
    line[2047] = '\0';
    assert_int_equal(load(m, bytes, sizeof(bytes)), 0);
    line[2047] = 'x';
    line[2048] = '\0';
    assert_int_equal(load(m, bytes, sizeof(bytes)), -E2BIG);
    assert_non_null(strstr(m->err.text, "2047"));
}

static void test_what_cannot_be_started(void **state)
{
    struct machine *m = *state;
    uint8_t elf[SMALL_ELF_SIZE];
    uint8_t small[0x100] = {0};
    Elf32_Phdr ph = {
        .p_type = PT_LOAD, .p_paddr = 0x100000, .p_filesz = 16, .p_memsz = 16};

    assert_int_equal(load(m, small, sizeof(small)), -ENOEXEC);
    assert_int_equal(load(m, small, 0), -ENOEXEC);
    put_elf32(small, 0x100000, &ph, 1);
    assert_int_equal(load(m, small, sizeof(small)), -ENOEXEC);
    assert_non_null(strstr(m->err.text, "32-bit"));
    put_small_elf(elf, 0);
    memset(elf + offsetof(Elf64_Ehdr, e_entry), 0xff, 8);
    assert_int_equal(load(m, elf, sizeof(elf)), -ENOEXEC);
    assert_non_null(strstr(m->err.text, "no PVH note"));
}

static void test_files(void **state)
{
    struct machine *m = *state;
    char dir[] = "/tmp/test_boot.XXXXXX";
    char path[64];

    m->config.kernel = (struct image_source){.kind = IMAGE_PATH, .name = path};
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/fifo", dir);
    assert_int_equal(
        boot_load(&m->mem, &m->config, &m->entry, &m->err), -ENOENT);
    assert_non_null(strstr(m->err.text, path));
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(
        boot_load(&m->mem, &m->config, &m->entry, &m->err), -EINVAL);
    assert_non_null(strstr(m->err.text, "regular file"));
    assert_int_equal(unlink(path), 0);
    (void)snprintf(path, sizeof(path), "%s", dir);
    assert_int_equal(
        boot_load(&m->mem, &m->config, &m->entry, &m->err), -EINVAL);
    assert_int_equal(rmdir(dir), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_pvh_elf),
        TEST(test_memory_above_4_gib_is_mapped),
        TEST(test_64_bit_elf_without_note),
        TEST(test_packed_bzimage_is_its_elf),
        TEST(test_unknown_packing_is_left_to_the_kernel),
        TEST(test_damaged_payload),
        TEST(test_initrd_pieces),
        TEST(test_initrd_room),
        TEST(test_initrd_below_the_kernels_limit),
        TEST(test_command_line_limit_of_the_kernel),
        TEST(test_what_cannot_be_started),
        TEST(test_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
