/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/cc.h"
#include "vmm/base/fd.h"
#include "vmm/core/gmem.h"

#define HIGH_SIZE (2 * NUM_MIB)
#define BIG_SIZE  (GMEM_GAP_START + HIGH_SIZE)

static void test_sizes(void **state)
{
    static const uint64_t bad[] = {0, 1, 4096, GMEM_SIZE_MIN - 4096,
        GMEM_SIZE_MIN + 1, GMEM_SIZE_MIN + 4095, GMEM_SIZE_MAX + 4096,
        UINT64_MAX, UINT64_MAX - 4095};
    struct gmem mem;
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(gmem_init(&mem, bad[i], &err), -EINVAL);
        assert_int_equal(mem.fd, -1);
        gmem_fini(&mem);
    }
    assert_int_equal(gmem_init(&mem, GMEM_SIZE_MIN, &err), 0);
    gmem_fini(&mem);
    assert_int_equal(mem.fd, -1);
    assert_null(mem.host);
    gmem_fini(&mem);
}

static void expect_one_region(uint64_t size)
{
    struct gmem mem;

    assert_int_equal(gmem_init(&mem, size, NULL), 0);
    assert_int_equal(mem.region_count, 1);
    assert_int_equal(mem.regions[0].start.v, 0);
    assert_int_equal(mem.regions[0].size, size);
    assert_int_equal(mem.regions[0].offset, 0);
    assert_int_equal(mem.dirty.bits, size / NUM_PAGE_SIZE);
    gmem_fini(&mem);
}

static void test_regions_lie_around_the_gap(void **state)
{
    struct gmem mem;
    struct stat st;

    (void)state;
    expect_one_region(GMEM_SIZE_MIN);
    expect_one_region(GMEM_GAP_START);
    assert_int_equal(gmem_init(&mem, GMEM_GAP_START + 4096, NULL), 0);
    assert_int_equal(mem.region_count, 2);
    assert_true(mem.regions[0].size == GMEM_GAP_START);
    assert_true(mem.regions[1].start.v == GMEM_GAP_END);
    assert_int_equal(mem.regions[1].size, 4096);
    assert_true(mem.regions[1].offset == GMEM_GAP_START);
    assert_true(gmem_region_host(&mem, 1) - gmem_region_host(&mem, 0) ==
                GMEM_GAP_START);
    assert_int_equal(fstat(mem.fd, &st), 0);
    assert_true((uint64_t)st.st_size == GMEM_GAP_START + 4096);
    assert_int_equal(fcntl(mem.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    gmem_fini(&mem);
}

/* Whether the range is RAM of one region, by the map alone. */
static bool is_ram(uint64_t size, uint64_t at, uint64_t len)
{
    uint64_t low = size < GMEM_GAP_START ? size : GMEM_GAP_START;
    uint64_t high_end = GMEM_GAP_END + (size - low);

    if (at <= low && len <= low - at)
        return true;
    return size > low && at >= GMEM_GAP_END && at <= high_end &&
           len <= high_end - at;
}

static void check_range(struct gmem *mem, uint64_t at, uint64_t len)
{
    static uint8_t buffer[8192];
    bool want = is_ram(mem->size, at, len);
    struct gslice s = {.len = 0x5a5a};

    assert_int_equal(gmem_slice(mem, gpa(at), len, &s), want ? 0 : -EFAULT);
    if (want) {
        assert_non_null(s.host);
        assert_int_equal(s.len, len);
    } else {
        assert_int_equal(s.len, 0x5a5a);
        assert_int_equal(gmem_zero(mem, gpa(at), len), -EFAULT);
        assert_int_equal(gmem_read_file(mem, gpa(at), -1, 0, len), -EFAULT);
    }
    if (len > sizeof(buffer))
        return;
    assert_int_equal(gmem_read(mem, gpa(at), buffer, len), want ? 0 : -EFAULT);
    assert_int_equal(gmem_write(mem, gpa(at), buffer, len), want ? 0 : -EFAULT);
}

static void check_all_edges(uint64_t size)
{
    const uint64_t high_end = GMEM_GAP_END + size - GMEM_GAP_START;
    const uint64_t edges[] = {0, size < GMEM_GAP_START ? size : 4096,
        GMEM_GAP_START, GMEM_GAP_END,
        size > GMEM_GAP_START ? high_end : GMEM_GAP_END + 4096,
        UINT64_C(1) << 63, UINT64_MAX};
    static const uint64_t lengths[] = {0, 1, 2, 4095, 4096, 4097, 8192,
        GMEM_GAP_START, GMEM_GAP_END, UINT64_MAX - 1, UINT64_MAX};
    struct gmem mem;

    assert_int_equal(gmem_init(&mem, size, NULL), 0);
    for (size_t i = 0; i < ARRAY_SIZE(edges); i++) {
        for (uint64_t back = 0; back < 8; back++) {
            for (size_t j = 0; j < ARRAY_SIZE(lengths); j++) {
                check_range(&mem, edges[i] - back, lengths[j]);
                check_range(&mem, edges[i] + back, lengths[j]);
                check_range(&mem, edges[i] - 4096 + back, lengths[j]);
                /* Up to the edge exactly, one less, one more. */
                check_range(&mem, edges[i] - lengths[j], lengths[j]);
                check_range(&mem, edges[i] - lengths[j], lengths[j] + 1);
                check_range(&mem, edges[i] - lengths[j], lengths[j] - 1);
            }
        }
    }
    gmem_fini(&mem);
}

static void test_boundary_lengths(void **state)
{
    (void)state;
    check_all_edges(GMEM_SIZE_MIN);
    check_all_edges(GMEM_GAP_START);
    check_all_edges(BIG_SIZE);
}

static void test_high_region_is_its_own_memory(void **state)
{
    uint8_t got[4];
    struct gmem mem;

    (void)state;
    assert_int_equal(gmem_init(&mem, BIG_SIZE, NULL), 0);
    assert_int_equal(gmem_write(&mem, gpa(GMEM_GAP_START - 4), "low", 4), 0);
    assert_int_equal(gmem_write(&mem, gpa(GMEM_GAP_END), "top", 4), 0);
    assert_int_equal(gmem_read(&mem, gpa(GMEM_GAP_START - 4), got, 4), 0);
    assert_string_equal((const char *)got, "low");
    assert_int_equal(gmem_read(&mem, gpa(GMEM_GAP_END), got, 4), 0);
    assert_string_equal((const char *)got, "top");
    assert_int_equal(fd_pread_full(mem.fd, got, 4, GMEM_GAP_START - 4), 4);
    assert_string_equal((const char *)got, "low");
    assert_int_equal(fd_pread_full(mem.fd, got, 4, GMEM_GAP_START), 4);
    assert_string_equal((const char *)got, "top");
    /* Neighbours in the file, but not for the guest. */
    assert_int_equal(gmem_read(&mem, gpa(GMEM_GAP_START - 2), got, 4), -EFAULT);
    gmem_fini(&mem);
}

static void test_memory_starts_zero_and_clean(void **state)
{
    uint8_t got[4096];
    struct gmem mem;

    (void)state;
    assert_int_equal(gmem_init(&mem, GMEM_SIZE_MIN, NULL), 0);
    for (uint64_t at = 0; at < GMEM_SIZE_MIN; at += sizeof(got)) {
        assert_int_equal(gmem_read(&mem, gpa(at), got, sizeof(got)), 0);
        for (size_t i = 0; i < sizeof(got); i++)
            assert_int_equal(got[i], 0);
    }
    assert_int_equal(bitmap_count(&mem.dirty), 0);
    gmem_fini(&mem);
}

static void test_refused_access_changes_nothing(void **state)
{
    uint8_t data[16];
    uint8_t got[16];
    struct gmem mem;

    (void)state;
    memset(data, 0x5a, sizeof(data));
    memset(got, 0x77, sizeof(got));
    assert_int_equal(gmem_init(&mem, GMEM_SIZE_MIN, NULL), 0);
    assert_int_equal(
        gmem_write(&mem, gpa(GMEM_SIZE_MIN - 8), data, 16), -EFAULT);
    assert_int_equal(gmem_read(&mem, gpa(GMEM_SIZE_MIN - 8), got, 16), -EFAULT);
    for (size_t i = 0; i < sizeof(got); i++)
        assert_int_equal(got[i], 0x77);
    assert_int_equal(gmem_read(&mem, gpa(GMEM_SIZE_MIN - 8), got, 8), 0);
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(got[i], 0);
    assert_int_equal(bitmap_count(&mem.dirty), 0);
    gmem_fini(&mem);
}

/*
 * The model: guest bytes and dirty flags of two windows, the last pages below
 * the gap and the first above it, kept byte by byte.
 */
#define WINDOW_PAGES 16u
#define WINDOW       (WINDOW_PAGES * 4096u)

struct model {
    uint8_t bytes[2][WINDOW];
    bool dirty[2][WINDOW_PAGES];
};

static const uint64_t window_start[2] = {GMEM_GAP_START - WINDOW, GMEM_GAP_END};

static uint32_t next_random(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (uint32_t)(*seed >> 33);
}

static void model_put(
    struct model *m, unsigned int w, uint32_t at, uint32_t len, uint8_t seed)
{
    for (uint32_t i = 0; i < len; i++) {
        m->bytes[w][at + i] = (uint8_t)(seed + i);
        m->dirty[w][(at + i) / 4096] = true;
    }
}

static void model_zero(
    struct model *m, unsigned int w, uint32_t at, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++) {
        m->bytes[w][at + i] = 0;
        m->dirty[w][(at + i) / 4096] = true;
    }
}

static void compare(const struct gmem *mem, const struct model *m)
{
    static uint8_t got[WINDOW];
    size_t pages = 0;

    for (unsigned int w = 0; w < 2; w++) {
        uint64_t first = mem->regions[w].offset +
                         (window_start[w] - mem->regions[w].start.v);

        assert_int_equal(gmem_read(mem, gpa(window_start[w]), got, WINDOW), 0);
        assert_memory_equal(got, m->bytes[w], WINDOW);
        for (uint32_t page = 0; page < WINDOW_PAGES; page++) {
            assert_int_equal(bitmap_test(&mem->dirty, first / 4096 + page),
                m->dirty[w][page]);
            pages += m->dirty[w][page];
        }
    }
    /* And no page elsewhere. */
    assert_int_equal(bitmap_count(&mem->dirty), pages);
}

/* One random write by one of the ways there are, in both worlds. */
static void random_write(
    struct gmem *mem, struct model *m, int file, uint64_t *seed)
{
    static uint8_t data[WINDOW];
    unsigned int w = next_random(seed) % 2;
    uint32_t at = next_random(seed) % WINDOW;
    uint32_t room = WINDOW - at;
    uint32_t len = next_random(seed) % 4 == 0
                       ? next_random(seed) % (room + 1)
                       : next_random(seed) % (room < 20 ? room + 1 : 20);
    gpa_t where = gpa(window_start[w] + at);
    uint8_t start = (uint8_t)next_random(seed);
    struct gslice s;

    for (uint32_t i = 0; i < len; i++)
        data[i] = (uint8_t)(start + i);
    switch (next_random(seed) % 6) {
    case 0:
        assert_int_equal(gmem_zero(mem, where, len), 0);
        model_zero(m, w, at, len);
        return;
    case 1:
        assert_int_equal(gmem_slice(mem, where, room, &s), 0);
        gslice_write(&s, room - len, data, len);
        model_put(m, w, at + room - len, len, start);
        return;
    case 2:
        /* As a system call would, through the iovec. */
        assert_int_equal(gmem_slice(mem, where, len, &s), 0);
        memcpy(gslice_iovec(&s).iov_base, data, len);
        gslice_mark_dirty(&s, 0, len);
        break;
    case 3:
        /* The file holds the bytes from 0 to 255, over and over. */
        assert_int_equal(gmem_read_file(mem, where, file, start, len), 0);
        break;
    case 4:
        if (len < 2 || at % 2 != 0)
            return;
        assert_int_equal(gmem_slice(mem, where, len, &s), 0);
        gslice_store_u16_release(
            &s, 0, (uint16_t)(start | (uint8_t)(start + 1) << 8));
        assert_int_equal(gslice_load_u16_acquire(&s, 0),
            (uint16_t)(start | (uint8_t)(start + 1) << 8));
        model_put(m, w, at, 2, start);
        return;
    default:
        assert_int_equal(gmem_write(mem, where, data, len), 0);
        break;
    }
    model_put(m, w, at, len, start);
}

static int counting_file(void)
{
    int fd = memfd_create("count", MFD_CLOEXEC);
    uint8_t row[256];

    assert_true(fd >= 0);
    for (size_t i = 0; i < sizeof(row); i++)
        row[i] = (uint8_t)i;
    for (size_t i = 0; i < WINDOW / sizeof(row) + 1; i++)
        assert_int_equal(fd_write_full(fd, row, sizeof(row)), 0);
    return fd;
}

static void test_dirty_set_is_exact(void **state)
{
    static struct model m;
    int file = counting_file();
    uint64_t seed = 4711;

    (void)state;
    for (int round = 0; round < 10; round++) {
        struct gmem mem;

        memset(&m, 0, sizeof(m));
        assert_int_equal(gmem_init(&mem, BIG_SIZE, NULL), 0);
        for (int i = 0; i < 40; i++) {
            random_write(&mem, &m, file, &seed);
            if (i % 4 == 0)
                compare(&mem, &m);
        }
        compare(&mem, &m);
        gmem_fini(&mem);
    }
    fd_closep(&file);
}

static void test_reads_and_empty_writes_leave_no_trace(void **state)
{
    uint8_t data[100] = {0};
    struct gslice s;
    struct gmem mem;
    int file = counting_file();

    (void)state;
    assert_int_equal(gmem_init(&mem, GMEM_SIZE_MIN, NULL), 0);
    assert_int_equal(gmem_read(&mem, gpa(0), data, sizeof(data)), 0);
    assert_int_equal(gmem_write(&mem, gpa(4096), data, 0), 0);
    assert_int_equal(gmem_zero(&mem, gpa(4096), 0), 0);
    assert_int_equal(gmem_read_file(&mem, gpa(4096), file, 0, 0), 0);
    assert_int_equal(gmem_slice(&mem, gpa(0), 8192, &s), 0);
    gslice_read(&s, 4090, data, sizeof(data));
    (void)gslice_load_u16_acquire(&s, 4096);
    gslice_mark_dirty(&s, 8192, 0);
    gslice_write(&s, 8192, data, 0);
    assert_int_equal(bitmap_count(&mem.dirty), 0);
    /* An empty write at the very end of RAM is one, too. */
    assert_int_equal(gmem_write(&mem, gpa(GMEM_SIZE_MIN), data, 0), 0);
    assert_int_equal(bitmap_count(&mem.dirty), 0);
    gmem_fini(&mem);
    fd_closep(&file);
}

static void test_slice_offsets(void **state)
{
    uint8_t data[4] = {1, 2, 3, 4};
    uint8_t got[4];
    struct gslice s;
    struct gmem mem;

    (void)state;
    assert_int_equal(gmem_init(&mem, BIG_SIZE, NULL), 0);
    assert_int_equal(gmem_slice(&mem, gpa(GMEM_GAP_END + 4094), 100, &s), 0);
    assert_true(s.offset == GMEM_GAP_START + 4094);
    assert_ptr_equal(s.owner, &mem);
    assert_int_equal(gslice_iovec(&s).iov_len, 100);
    gslice_write(&s, 1, data, 4);
    assert_int_equal(bitmap_count(&mem.dirty), 2);
    gslice_read(&s, 1, got, 4);
    assert_memory_equal(got, data, 4);
    assert_int_equal(
        gmem_read(&mem, gpa_add(gpa(GMEM_GAP_END), 4095), got, 4), 0);
    assert_memory_equal(got, data, 4);
    gmem_fini(&mem);
}

static void test_short_and_unreadable_files(void **state)
{
    uint8_t got[8];
    struct gmem mem;
    int file = memfd_create("short", MFD_CLOEXEC);

    (void)state;
    assert_int_equal(fd_write_full(file, "abcdef", 6), 0);
    assert_int_equal(gmem_init(&mem, GMEM_SIZE_MIN, NULL), 0);
    assert_int_equal(gmem_read_file(&mem, gpa(8192), file, 2, 4), 0);
    assert_int_equal(gmem_read(&mem, gpa(8192), got, 5), 0);
    assert_memory_equal(got, "cdef", 5);
    assert_int_equal(gmem_read_file(&mem, gpa(0), file, 2, 5), -ENODATA);
    /* What did arrive is there and therefore dirty. */
    assert_true(bitmap_test(&mem.dirty, 0));
    assert_int_equal(gmem_read_file(&mem, gpa(0), file, 100, 5), -ENODATA);
    assert_int_equal(gmem_read_file(&mem, gpa(0), -1, 0, 5), -EBADF);
    gmem_fini(&mem);
    fd_closep(&file);
}

static uint64_t blocks(const struct gmem *mem)
{
    struct stat st;

    assert_int_equal(fstat(mem->fd, &st), 0);
    return (uint64_t)st.st_blocks * 512 / NUM_PAGE_SIZE;
}

static void test_discarded_pages_are_zero_and_free(void **state)
{
    static const uint8_t data[3 * 4096] = {[0] = 1, [4096] = 2, [8192] = 3};
    uint8_t got[sizeof(data)];
    struct gslice s;
    struct gmem mem;

    (void)state;
    assert_int_equal(gmem_init(&mem, BIG_SIZE, NULL), 0);
    for (int i = 0; i < 2; i++) {
        gpa_t at = gpa(i == 0 ? 0x10000 : GMEM_GAP_END + 0x1000);

        assert_int_equal(gmem_write(&mem, at, data, sizeof(data)), 0);
        assert_int_equal(blocks(&mem), 3);
        bitmap_clear_all(&mem.dirty);
        assert_int_equal(gmem_discard(&mem, gpa_add(at, 4096), 4096), 0);
        assert_int_equal(blocks(&mem), 2);
        assert_int_equal(bitmap_count(&mem.dirty), 1);
        assert_int_equal(gmem_read(&mem, at, got, sizeof(got)), 0);
        assert_int_equal(got[0], 1);
        assert_int_equal(got[4096], 0);
        assert_int_equal(got[8192], 3);
        assert_int_equal(gmem_discard(&mem, gpa_add(at, 4096), 4096), 0);
        /* Of a slice: only the pages that are wholly in it. */
        assert_int_equal(gmem_slice(&mem, at, sizeof(data), &s), 0);
        assert_int_equal(gslice_discard(&s, 1, 4095), 0);
        assert_int_equal(gslice_discard(&s, 4096, 4095), 0);
        assert_int_equal(blocks(&mem), 2);
        assert_int_equal(gslice_discard(&s, 1, sizeof(data) - 1), 0);
        assert_int_equal(blocks(&mem), 1);
        assert_int_equal(gmem_read(&mem, at, got, 1), 0);
        assert_int_equal(got[0], 1);
        assert_int_equal(gmem_discard(&mem, at, sizeof(data)), 0);
        assert_int_equal(blocks(&mem), 0);
    }
    gmem_fini(&mem);
}

static void test_discard_of_bad_ranges(void **state)
{
    struct gmem mem;

    (void)state;
    assert_int_equal(gmem_init(&mem, BIG_SIZE, NULL), 0);
    assert_int_equal(gmem_discard(&mem, gpa(1), 4096), -EINVAL);
    assert_int_equal(gmem_discard(&mem, gpa(0), 4095), -EINVAL);
    assert_int_equal(
        gmem_discard(&mem, gpa(GMEM_GAP_START - 4096), 8192), -EFAULT);
    assert_int_equal(gmem_discard(&mem, gpa(GMEM_GAP_START), 4096), -EFAULT);
    assert_int_equal(gmem_discard(&mem, gpa(UINT64_MAX - 4095), 4096), -EFAULT);
    assert_int_equal(gmem_discard(&mem, gpa(4096), UINT64_MAX - 4095), -EFAULT);
    assert_int_equal(gmem_discard(&mem, gpa(4096), 0), 0);
    assert_int_equal(bitmap_count(&mem.dirty), 0);
    gmem_fini(&mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_regions_lie_around_the_gap),
        cmocka_unit_test(test_boundary_lengths),
        cmocka_unit_test(test_high_region_is_its_own_memory),
        cmocka_unit_test(test_memory_starts_zero_and_clean),
        cmocka_unit_test(test_refused_access_changes_nothing),
        cmocka_unit_test(test_dirty_set_is_exact),
        cmocka_unit_test(test_reads_and_empty_writes_leave_no_trace),
        cmocka_unit_test(test_slice_offsets),
        cmocka_unit_test(test_short_and_unreadable_files),
        cmocka_unit_test(test_discarded_pages_are_zero_and_free),
        cmocka_unit_test(test_discard_of_bad_ranges),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
