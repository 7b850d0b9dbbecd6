/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory of huge pages. The host's pool is made larger for it, which is
 * for root to do, and nobody else may do meanwhile (a lock on its file).
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "tests/unit/support/skip.h"
#include "vmm/core/gmem.h"

#define POOL       "/proc/sys/vm/nr_hugepages"
#define HUGE_PAGES 4u
#define SMALL_EACH (GMEM_HUGE_SIZE / NUM_PAGE_SIZE)

struct pool {
    int fd;
    unsigned long before;
};

static unsigned long pool_size(const struct pool *p)
{
    char text[32] = "";

    assert_true(pread(p->fd, text, sizeof(text) - 1, 0) > 0);
    return strtoul(text, NULL, 10);
}

static bool pool_set(const struct pool *p, unsigned long pages)
{
    char text[32];
    int n = snprintf(text, sizeof(text), "%lu\n", pages);

    return pwrite(p->fd, text, (size_t)n, 0) == n && pool_size(p) == pages;
}

/* Makes it larger by HUGE_PAGES; false where that cannot be. */
static bool pool_grow(struct pool *p)
{
    p->fd = open(POOL, O_RDWR | O_CLOEXEC);
    if (p->fd < 0 || flock(p->fd, LOCK_EX) < 0)
        return false;
    p->before = pool_size(p);
    if (pool_set(p, p->before + HUGE_PAGES))
        return true;
    (void)pool_set(p, p->before);
    return false;
}

static void begin(struct gmem *mem)
{
    struct err err;

    assert_int_equal(gmem_init_huge(mem, HUGE_PAGES * GMEM_HUGE_SIZE, &err), 0);
}

static void only_what_was_touched_is_data(void **state)
{
    struct gmem mem;
    uint64_t first = 9;
    uint64_t count = 9;

    (void)state;
    begin(&mem);
    assert_false(gmem_next_data(&mem, 0, &first, &count));
    assert_int_equal(gmem_write(&mem, gpa(GMEM_HUGE_SIZE + 5), "x", 1), 0);
    assert_int_equal(gmem_write(&mem, gpa(3 * GMEM_HUGE_SIZE), "y", 1), 0);
    assert_true(gmem_next_data(&mem, 0, &first, &count));
    assert_int_equal(first, SMALL_EACH);
    assert_int_equal(count, SMALL_EACH);
    /* From within it, and past it. */
    assert_true(gmem_next_data(&mem, SMALL_EACH + 7, &first, &count));
    assert_int_equal(first, SMALL_EACH + 7);
    assert_int_equal(count, SMALL_EACH - 7);
    assert_true(gmem_next_data(&mem, 2 * SMALL_EACH, &first, &count));
    assert_int_equal(first, 3 * SMALL_EACH);
    assert_int_equal(count, SMALL_EACH);
    assert_false(gmem_next_data(&mem, 4 * SMALL_EACH, &first, &count));
    /* Neighbours are one run. */
    assert_int_equal(gmem_write(&mem, gpa(2 * GMEM_HUGE_SIZE), "z", 1), 0);
    assert_true(gmem_next_data(&mem, 0, &first, &count));
    assert_int_equal(first, SMALL_EACH);
    assert_int_equal(count, 3 * SMALL_EACH);
    gmem_fini(&mem);
}

static void writes_are_counted_by_small_pages(void **state)
{
    struct gmem mem;
    uint64_t bits = 0;
    size_t word = 0;

    (void)state;
    begin(&mem);
    assert_int_equal(gmem_write(&mem, gpa(3 * NUM_PAGE_SIZE), "x", 1), 0);
    assert_true(gmem_take_dirty(&mem, &word, &bits));
    assert_int_equal(bits, 8);
    gmem_fini(&mem);
}

static void a_discard_zeroes_and_keeps_neighbours(void **state)
{
    struct gmem mem;
    char got[2] = "??";

    (void)state;
    begin(&mem);
    assert_int_equal(gmem_write(&mem, gpa(NUM_PAGE_SIZE - 1), "ab", 2), 0);
    assert_int_equal(gmem_discard(&mem, gpa(NUM_PAGE_SIZE), NUM_PAGE_SIZE), 0);
    assert_int_equal(gmem_read(&mem, gpa(NUM_PAGE_SIZE - 1), got, 2), 0);
    assert_int_equal(got[0], 'a');
    assert_int_equal(got[1], 0);
    /* A whole one is zero too, and nobody else gets it. */
    assert_int_equal(gmem_discard(&mem, gpa(0), GMEM_HUGE_SIZE), 0);
    assert_int_equal(gmem_read(&mem, gpa(NUM_PAGE_SIZE - 1), got, 2), 0);
    assert_int_equal(got[0], 0);
    gmem_fini(&mem);
}

static void files_are_read_into_it(void **state)
{
    enum { BYTES = 256 * 1024 };
    struct gmem mem;
    char *bytes = malloc(BYTES);
    char *got = malloc(BYTES);
    FILE *file = tmpfile();

    assert_non_null(bytes);
    assert_non_null(got);
    assert_non_null(file);
    for (int i = 0; i < BYTES; i++)
        bytes[i] = (char)(i * 7 + i / 4096);
    assert_int_equal(fwrite(bytes, 1, BYTES, file), BYTES);
    assert_int_equal(fflush(file), 0);
    (void)state;
    begin(&mem);
    assert_int_equal(gmem_read_file(&mem, gpa(GMEM_HUGE_SIZE - 4096),
                         fileno(file), 0, BYTES),
        0);
    assert_int_equal(
        gmem_read(&mem, gpa(GMEM_HUGE_SIZE - 4096), got, BYTES), 0);
    assert_memory_equal(got, bytes, BYTES);
    gmem_fini(&mem);
    (void)fclose(file);
    free(got);
    free(bytes);
}

/* Promised at once: a second guest is told at its start, not by SIGBUS. */
static void what_is_not_free_is_refused(void **state)
{
    struct gmem mem;
    struct gmem other;
    struct err err = {0};
    const struct pool *pool = *state;

    begin(&mem);
    /* The pool may have been larger than what is taken of it. */
    assert_int_equal(gmem_init_huge(&other, UINT64_C(1) << 40, &err), -ENOMEM);
    assert_non_null(
        strstr(err.text, "524288 huge pages of 2 MiB are not free"));
    assert_non_null(strstr(err.text, "/proc/sys/vm/nr_hugepages"));
    assert_int_equal(other.fd, -1);
    /* Nobody has touched any of it, and it is taken all the same. */
    if (pool->before == 0) {
        assert_int_equal(gmem_init_huge(&other, GMEM_HUGE_SIZE, &err), -ENOMEM);
        gmem_fini(&mem);
        assert_int_equal(gmem_init_huge(&other, GMEM_HUGE_SIZE, &err), 0);
        gmem_fini(&other);
    }
    gmem_fini(&mem);
}

int main(void)
{
    static struct pool pool;
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_was_touched_is_data),
        cmocka_unit_test(writes_are_counted_by_small_pages),
        cmocka_unit_test(a_discard_zeroes_and_keeps_neighbours),
        cmocka_unit_test(files_are_read_into_it),
        cmocka_unit_test_prestate(what_is_not_free_is_refused, &pool),
    };
    int status;

    if (!pool_grow(&pool))
        return skip_all("the pool of huge pages cannot be made larger");
    status = cmocka_run_group_tests(tests, NULL, NULL);
    (void)pool_set(&pool, pool.before);
    return status;
}
