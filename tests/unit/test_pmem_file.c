/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "virtio/pmem_file.h"
#include "vmm/base/fd.h"

struct fixture {
    char path[32];
    struct pmem_file file;
    const char *warning;
};

static void make_file(struct fixture *f, uint64_t size)
{
    int fd;

    (void)snprintf(f->path, sizeof(f->path), "pmem_file.XXXXXX");
    fd = mkostemp(f->path, O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    if (size > 0 && size < NUM_GIB)
        assert_int_equal(pwrite(fd, "x", 1, (off_t)size - 1), 1);
    fd_closep(&fd);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    pmem_file_close(&f->file);
    if (f->path[0] != '\0')
        (void)unlink(f->path);
    free(f);
    return 0;
}

static int open_it(
    struct fixture *f, struct pmem_file *file, bool read_only, struct err *err)
{
    const struct pmem_file_config config = {
        .path = f->path, .fd = -1, .read_only = read_only};

    return pmem_file_open(file, &config, &f->warning, err);
}

static uint8_t *bytes_of(const struct pmem_file *file)
{
    return (uint8_t *)(uintptr_t)file->host;
}

static void test_whole_granules(void **state)
{
    struct fixture *f = *state;

    make_file(f, 4 * NUM_MIB);
    assert_int_equal(open_it(f, &f->file, false, NULL), 0);
    assert_null(f->warning);
    assert_int_equal(f->file.size, 4 * NUM_MIB);
    assert_int_equal(f->file.host % PMEM_FILE_ALIGN, 0);
    assert_int_equal(bytes_of(&f->file)[4 * NUM_MIB - 1], 'x');
    assert_false(pmem_file_is_cut(&f->file));
}

/* The padding belongs to this process, the end of the last page to nobody. */
static void test_odd_sizes_are_padded_with_zeroes(void **state)
{
    struct fixture *f = *state;
    const uint64_t size = 2 * NUM_MIB + 5000;
    struct stat st;
    uint8_t *p;

    make_file(f, size);
    assert_int_equal(open_it(f, &f->file, false, NULL), 0);
    assert_non_null(f->warning);
    assert_int_equal(f->file.size, 4 * NUM_MIB);
    p = bytes_of(&f->file);
    assert_int_equal(p[size - 1], 'x');
    for (uint64_t i = size; i < f->file.size; i++)
        assert_int_equal(p[i], 0);
    p[f->file.size - 1] = 1;
    p[0] = 'y';
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_size, size);
    pmem_file_close(&f->file);
    assert_int_equal(open_it(f, &f->file, true, NULL), 0);
    assert_null(f->warning);
    p = bytes_of(&f->file);
    assert_int_equal(p[0], 'y');
    assert_int_equal(p[f->file.size - 1], 0);
}

static void test_locks(void **state)
{
    struct fixture *f = *state;
    struct pmem_file other;
    struct err err;

    make_file(f, 4096);
    assert_int_equal(open_it(f, &f->file, true, NULL), 0);
    assert_int_equal(open_it(f, &other, true, NULL), 0);
    pmem_file_close(&other);
    assert_int_equal(open_it(f, &other, false, &err), -EBUSY);
    assert_non_null(strstr(err.text, f->path));
    pmem_file_close(&f->file);
    assert_int_equal(open_it(f, &f->file, false, NULL), 0);
    assert_int_equal(open_it(f, &other, true, &err), -EBUSY);
    assert_non_null(strstr(err.text, "that writes to it"));
}

static void test_what_cannot_be_mapped(void **state)
{
    struct fixture *f = *state;
    struct err err;

    (void)snprintf(f->path, sizeof(f->path), "pmem_file.none");
    assert_int_equal(open_it(f, &f->file, true, &err), -ENOENT);
    assert_non_null(strstr(err.text, "pmem_file.none"));
    assert_int_equal(mkfifo(f->path, 0600), 0);
    assert_int_equal(open_it(f, &f->file, true, &err), -EINVAL);
    assert_int_equal(unlink(f->path), 0);
    make_file(f, 0);
    assert_int_equal(open_it(f, &f->file, true, &err), -EINVAL);
    assert_non_null(strstr(err.text, "empty"));
    /* Not every file system has files of this size. */
    if (truncate(f->path, (off_t)PMEM_FILE_SIZE_MAX + 1) == 0)
        assert_int_equal(open_it(f, &f->file, true, &err), -EINVAL);
    (void)unlink(f->path);
    (void)snprintf(f->path, sizeof(f->path), "/dev/null");
    assert_int_equal(open_it(f, &f->file, true, &err), -EINVAL);
    f->path[0] = '\0';
}

static void test_a_file_that_is_cut_is_named(void **state)
{
    struct fixture *f = *state;
    struct err err;

    make_file(f, 4 * NUM_MIB);
    assert_int_equal(open_it(f, &f->file, true, NULL), 0);
    assert_int_equal(pmem_file_explain(&f->file, &err), -EIO);
    assert_non_null(strstr(err.text, "kernel log"));
    assert_int_equal(truncate(f->path, 100), 0);
    assert_true(pmem_file_is_cut(&f->file));
    assert_int_equal(pmem_file_explain(&f->file, &err), -EIO);
    assert_non_null(strstr(err.text, f->path));
    assert_non_null(strstr(err.text, "to 100 bytes"));
    /* Growing it again gives the pages back, as zeroes. */
    assert_int_equal(truncate(f->path, 4 * NUM_MIB), 0);
    assert_false(pmem_file_is_cut(&f->file));
    assert_int_equal(bytes_of(&f->file)[4 * NUM_MIB - 1], 0);
}

static void test_a_descriptor_is_taken_over(void **state)
{
    struct fixture *f = *state;
    struct pmem_file_config config;
    int fd;

    make_file(f, 4096);
    fd = open(f->path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    config =
        (struct pmem_file_config){.path = f->path, .fd = fd, .read_only = true};
    assert_int_equal(pmem_file_open(&f->file, &config, &f->warning, NULL), 0);
    assert_int_equal(f->file.fd, fd);
    pmem_file_close(&f->file);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    pmem_file_close(&f->file);
}

/* The mapping changes, at the same place; the file does not. */
static void test_poke_leaves_the_file(void **state)
{
    struct fixture *f = *state;
    struct pmem_file *file = &f->file;
    uint64_t host;
    uint8_t old = 0;
    uint8_t now;

    make_file(f, 2 * NUM_MIB);
    assert_int_equal(open_it(f, file, true, NULL), 0);
    host = file->host;
    assert_int_equal(pmem_file_poke(file, 2 * NUM_MIB - 1, 0xcc, &old), 0);
    assert_int_equal(old, 'x');
    assert_int_equal(pmem_file_poke(file, 0, 1, &old), 0);
    assert_int_equal(old, 0);
    assert_int_equal(file->host, host);
    assert_int_equal(
        *(const uint8_t *)(uintptr_t)(host + 2 * NUM_MIB - 1), 0xcc);
    assert_int_equal(pread(file->fd, &now, 1, 2 * NUM_MIB - 1), 1);
    assert_int_equal(now, 'x');
    /* Cut short meanwhile: an error, no signal. */
    assert_int_equal(truncate(f->path, 4096), 0);
    assert_int_equal(pmem_file_poke(file, NUM_MIB, 1, &old), -EFAULT);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_poke_leaves_the_file),
        T(test_whole_granules),
        T(test_odd_sizes_are_padded_with_zeroes),
        T(test_locks),
        T(test_what_cannot_be_mapped),
        T(test_a_file_that_is_cut_is_named),
        T(test_a_descriptor_is_taken_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
