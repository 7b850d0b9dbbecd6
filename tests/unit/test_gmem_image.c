/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private guest memory: image files mapped copy-on-write.
 */
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

#include "vmm/base/fd.h"
#include "vmm/core/gmem.h"

#define PAGES ((uint64_t)256)
#define SIZE  (PAGES * NUM_PAGE_SIZE)

/* Page i of the image is filled with byte i. */
static int make_image(void)
{
    uint8_t page[NUM_PAGE_SIZE];
    int fd = memfd_create("image", MFD_CLOEXEC);

    assert_true(fd >= 0);
    for (unsigned int i = 0; i < PAGES; i++) {
        memset(page, (int)(i & 0xff), sizeof(page));
        assert_int_equal(fd_write_full(fd, page, sizeof(page)), 0);
    }
    return fd;
}

static void map_image(
    struct gmem *mem, uint64_t page, uint64_t count, int fd, uint64_t file_page)
{
    struct iovec pages = gmem_pages_iovec(mem, page, count);

    assert_ptr_equal(
        mmap(pages.iov_base, pages.iov_len, PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_FIXED, fd, (off_t)(file_page << NUM_PAGE_SHIFT)),
        pages.iov_base);
}

static uint8_t first_byte(const struct gmem *mem, uint64_t page)
{
    uint8_t byte;

    assert_int_equal(
        gmem_read(mem, gpa(page << NUM_PAGE_SHIFT), &byte, sizeof(byte)), 0);
    return byte;
}

static void test_mapped_pages_are_the_images(void **state)
{
    struct gmem mem;
    int fd = make_image();
    uint8_t byte = 0xee;
    uint8_t page[NUM_PAGE_SIZE];

    (void)state;
    assert_int_equal(gmem_init_private(&mem, SIZE, NULL), 0);
    assert_int_equal(mem.fd, -1);
    assert_int_equal(first_byte(&mem, 7), 0);
    map_image(&mem, 0, PAGES, fd, 0);
    /* On top: three pages from elsewhere. */
    map_image(&mem, 10, 3, fd, 100);
    for (unsigned int i = 0; i < PAGES; i++)
        assert_int_equal(
            first_byte(&mem, i), i >= 10 && i < 13 ? i + 90 : (i & 0xff));
    assert_int_equal(bitmap_count(&mem.dirty), 0);

    /* Writes stay private and count. */
    assert_int_equal(
        gmem_write(&mem, gpa(11 << NUM_PAGE_SHIFT), &byte, sizeof(byte)), 0);
    assert_int_equal(first_byte(&mem, 11), 0xee);
    assert_int_equal(fd_pread_full(fd, &byte, 1, 101 << NUM_PAGE_SHIFT), 1);
    assert_int_equal(byte, 101);
    assert_int_equal(bitmap_count(&mem.dirty), 1);
    assert_true(bitmap_test(&mem.dirty, 11));

    /* Putting a page back is no write. */
    gmem_copy_pages(&mem, 12, 1, page);
    assert_int_equal(page[4095], 102);
    gmem_restore_pages(&mem, 11, 1, page);
    assert_int_equal(first_byte(&mem, 11), 102);
    assert_int_equal(bitmap_count(&mem.dirty), 1);
    gmem_fini(&mem);
    (void)close(fd);
}

static void test_discarded_pages_do_not_come_back(void **state)
{
    struct gmem mem;
    int fd = make_image();
    uint8_t byte = 1;

    (void)state;
    assert_int_equal(gmem_init_private(&mem, SIZE, NULL), 0);
    map_image(&mem, 0, PAGES, fd, 0);
    assert_int_equal(
        gmem_write(&mem, gpa(20 << NUM_PAGE_SHIFT), &byte, sizeof(byte)), 0);
    assert_int_equal(
        gmem_discard(&mem, gpa(20 << NUM_PAGE_SHIFT), 2 * NUM_PAGE_SIZE), 0);
    assert_int_equal(first_byte(&mem, 19), 19);
    assert_int_equal(first_byte(&mem, 20), 0);
    assert_int_equal(first_byte(&mem, 21), 0);
    assert_int_equal(first_byte(&mem, 22), 22);
    assert_int_equal(bitmap_count(&mem.dirty), 2);
    gmem_prefault(&mem, 18, 6, false);
    gmem_prefault(&mem, 18, 6, true);
    assert_int_equal(first_byte(&mem, 20), 0);
    assert_int_equal(first_byte(&mem, 22), 22);
    gmem_fini(&mem);
    (void)close(fd);
}

static void test_a_file_is_read_into_private_memory(void **state)
{
    struct gmem mem;
    int fd = make_image();

    (void)state;
    assert_int_equal(gmem_init_private(&mem, SIZE, NULL), 0);
    assert_int_equal(gmem_read_file(&mem, gpa(0), fd, 0, SIZE), 0);
    assert_int_equal(first_byte(&mem, 200), 200);
    assert_int_equal(bitmap_count(&mem.dirty), PAGES);
    gmem_fini(&mem);
    (void)close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mapped_pages_are_the_images),
        cmocka_unit_test(test_discarded_pages_do_not_come_back),
        cmocka_unit_test(test_a_file_is_read_into_private_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
