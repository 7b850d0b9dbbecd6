/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/support/drive_queue.h"
#include "tests/unit/support/skip.h"
#include "virtio/blk.h"
#include "virtio/blk_file.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define RAM       (16 * NUM_MIB)
#define RINGS     UINT64_C(0x10000)
#define HEADERS   UINT64_C(0x40000)
#define STATUSES  UINT64_C(0x80000)
#define DATA      UINT64_C(0x100000)
#define SIZE      ((uint16_t)64)
#define SECTORS   2048u
#define FILE_SIZE (SECTORS * BLK_SECTOR)
#define F_ALL                                                                  \
    (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | BLK_F_FLUSH | BLK_F_DISCARD |   \
        BLK_F_WRITE_ZEROES)

/* How a test runs: each one runs in all of them. */
struct mode {
    bool ring;
    bool direct;
};

static struct mode modes[] = {
    {false, false}, {true, false}, {false, true}, {true, true}};

struct fixture {
    struct gmem mem;
    struct loop loop;
    struct uring uring;
    int irq;
    struct mode mode;
    char path[32];
    struct blk_file file;
    struct blk blk;
    struct device *dev;
    struct drive_queue d;
};

static uint8_t pattern(uint64_t at)
{
    return (uint8_t)(at / BLK_SECTOR * 7 + at);
}

/* In the working directory: a tmpfs would know no direct I/O. */
static void make_file(struct fixture *f)
{
    uint8_t *data = malloc(FILE_SIZE);
    int fd;

    assert_non_null(data);
    for (uint64_t i = 0; i < FILE_SIZE; i++)
        data[i] = pattern(i);
    (void)snprintf(f->path, sizeof(f->path), "blk_file.XXXXXX");
    fd = mkostemp(f->path, O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_full(fd, data, FILE_SIZE), 0);
    fd_closep(&fd);
    free(data);
}

static int open_disk(struct fixture *f, bool read_only, struct err *err)
{
    const struct blk_file_config config = {.path = f->path,
        .fd = -1,
        .uring = f->mode.ring ? &f->uring : NULL,
        .read_only = read_only,
        .direct = f->mode.direct};
    const char *warning = NULL;

    return blk_file_open(&f->file, &config, &warning, err);
}

static void make_blk(struct fixture *f, struct loop *loop)
{
    const struct blk_config config = {.id = "vda",
        .serial = "",
        .backend = &f->file.backend,
        .queue_size = SIZE,
        .queue_count = 1};
    const struct virtio_host host = {
        .mem = &f->mem, .loop = loop, .irq = {.fd = f->irq}};

    assert_int_equal(blk_init(&f->blk, &config, &host, NULL), 0);
    f->dev = &f->blk.virtio.base;
}

static int set_up(void **state)
{
    const struct mode *mode = *state;
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err;
    int rc;

    assert_non_null(f);
    f->mode = *mode;
    assert_int_equal(gmem_init(&f->mem, RAM, NULL), 0);
    assert_int_equal(loop_init(&f->loop, NULL), 0);
    uring_init(&f->uring, &f->loop);
    f->irq = fd_eventfd();
    make_file(f);
    rc = open_disk(f, false, &err);
    if (rc < 0)
        fail_msg("%s", err.text);
    make_blk(f, &f->loop);
    drive_queue_init(&f->d, &f->mem, RINGS, SIZE);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    device_lock(f->dev);
    f->dev->ops->reset(f->dev);
    device_unlock(f->dev);
    blk_fini(&f->blk);
    blk_file_close(&f->file);
    uring_fini(&f->uring);
    loop_fini(&f->loop);
    fd_closep(&f->irq);
    gmem_fini(&f->mem);
    (void)unlink(f->path);
    free(f);
    return 0;
}

/* Request `i`: its own header, data page and status. */
static void add(struct fixture *f, unsigned int i, uint32_t type,
    uint64_t sector, uint32_t len, uint64_t skew)
{
    const struct blk_header h = {
        .type = le32_put(type), .sector = le64_put(sector)};
    const uint8_t none = 0xff;
    const uint64_t header = HEADERS + i * 16u;
    const uint64_t status = STATUSES + i;
    struct drive_buffer bufs[3] = {{header, 16, false}};
    uint16_t n = 1;

    assert_int_equal(gmem_write(&f->mem, gpa(header), &h, sizeof(h)), 0);
    assert_int_equal(gmem_write(&f->mem, gpa(status), &none, 1), 0);
    if (len > 0)
        bufs[n++] = (struct drive_buffer){
            DATA + i * UINT64_C(0x8000) + skew, len, type == BLK_T_IN};
    bufs[n++] = (struct drive_buffer){status, 1, true};
    (void)drive_add(&f->d, bufs, n);
}

static uint8_t status_of(struct fixture *f, unsigned int i)
{
    uint8_t status;

    assert_int_equal(gmem_read(&f->mem, gpa(STATUSES + i), &status, 1), 0);
    return status;
}

/* Kicks, and turns the loop until `n` answers are there. */
static void run(struct fixture *f, unsigned int n)
{
    uint32_t id;
    uint32_t len;

    drive_kick(f->dev, 0);
    while (n > 0) {
        assert_int_equal(loop_run_once(&f->loop, 1000), 0);
        while (drive_get_used(&f->d, &id, &len))
            n--;
    }
}

static void one(struct fixture *f, uint32_t type, uint64_t sector, uint32_t len,
    uint64_t skew)
{
    add(f, 0, type, sector, len, skew);
    run(f, 1);
    assert_int_equal(status_of(f, 0), BLK_S_OK);
}

static void start(struct fixture *f)
{
    drive_start(f->dev, F_ALL & f->blk.virtio.features, &f->d, 1);
}

static void test_reads(void **state)
{
    struct fixture *f = *state;
    uint8_t got[4096];

    start(f);
    for (unsigned int i = 0; i < 20; i++)
        add(f, i, BLK_T_IN, i * 64, sizeof(got), 0);
    run(f, 20);
    for (unsigned int i = 0; i < 20; i++) {
        assert_int_equal(status_of(f, i), BLK_S_OK);
        assert_int_equal(gmem_read(&f->mem, gpa(DATA + i * UINT64_C(0x8000)),
                             got, sizeof(got)),
            0);
        for (uint64_t k = 0; k < sizeof(got); k++)
            assert_int_equal(got[k], pattern(i * UINT64_C(32768) + k));
        assert_true(bitmap_test(
            &f->mem.dirty, (DATA + i * UINT64_C(0x8000)) >> NUM_PAGE_SHIFT));
    }
    if (f->mode.ring && skip_is_forbidden())
        assert_true(blk_file_uses_uring(&f->file));
    if (!f->mode.ring)
        assert_false(blk_file_uses_uring(&f->file));
}

/* Neither address nor length fits direct I/O; nor does the place. */
static void test_unaligned_reads_and_writes(void **state)
{
    struct fixture *f = *state;
    uint8_t data[1024];
    uint8_t got[1024];

    start(f);
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(255 - i);
    assert_int_equal(gmem_write(&f->mem, gpa(DATA + 3), data, sizeof(data)), 0);
    one(f, BLK_T_OUT, 33, sizeof(data), 3);
    one(f, BLK_T_FLUSH, 0, 0, 0);
    one(f, BLK_T_IN, 32, 4096, 0);
    assert_int_equal(gmem_read(&f->mem, gpa(DATA + 512), got, sizeof(got)), 0);
    assert_memory_equal(got, data, sizeof(data));
    one(f, BLK_T_IN, 33, sizeof(data), 4097);
    assert_int_equal(gmem_read(&f->mem, gpa(DATA + 4097), got, sizeof(got)), 0);
    assert_memory_equal(got, data, sizeof(data));
}

static void test_written_data_is_in_the_file(void **state)
{
    struct fixture *f = *state;
    uint8_t page[4096];
    uint8_t got[4096];
    int fd;

    start(f);
    memset(page, 0xd1, sizeof(page));
    assert_int_equal(gmem_write(&f->mem, gpa(DATA), page, sizeof(page)), 0);
    one(f, BLK_T_OUT, SECTORS - 8, sizeof(page), 0);
    one(f, BLK_T_FLUSH, 0, 0, 0);
    fd = open(f->path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(
        pread(fd, got, sizeof(got), FILE_SIZE - 4096), sizeof(got));
    assert_memory_equal(got, page, sizeof(got));
    fd_closep(&fd);
}

/* The file is cut short behind our back: the rest reads as zeroes. */
static void test_short_file_reads_as_zeroes(void **state)
{
    struct fixture *f = *state;
    uint8_t got[8192];

    start(f);
    assert_int_equal(truncate(f->path, FILE_SIZE - 5000), 0);
    one(f, BLK_T_IN, SECTORS - 16, sizeof(got), 0);
    assert_int_equal(gmem_read(&f->mem, gpa(DATA), got, sizeof(got)), 0);
    for (uint64_t i = 0; i < sizeof(got); i++)
        assert_int_equal(got[i], i < 3192 ? pattern(FILE_SIZE - 8192 + i) : 0);
    one(f, BLK_T_IN, SECTORS - 1, 512, 0);
    assert_int_equal(gmem_read(&f->mem, gpa(DATA), got, 1), 0);
    assert_int_equal(got[0], 0);
}

static void put_range(struct fixture *f, uint64_t sector, uint32_t sectors)
{
    const struct blk_range r = {
        .sector = le64_put(sector), .sectors = le32_put(sectors)};

    assert_int_equal(gmem_write(&f->mem, gpa(DATA), &r, sizeof(r)), 0);
}

static void test_discard_and_write_zeroes(void **state)
{
    struct fixture *f = *state;
    uint8_t got[4096];
    struct stat before;
    struct stat after;

    if (!f->file.backend.can_discard)
        skip();
    start(f);
    assert_int_equal(stat(f->path, &before), 0);
    put_range(f, 64, 1024);
    one(f, BLK_T_DISCARD, 0, 16, 0);
    assert_int_equal(stat(f->path, &after), 0);
    assert_true(after.st_blocks < before.st_blocks);
    assert_int_equal(after.st_size, before.st_size);
    put_range(f, 0, 1);
    add(f, 0, BLK_T_WRITE_ZEROES, 0, 16, 0);
    run(f, 1);
    if (status_of(f, 0) == BLK_S_UNSUPP)
        skip();
    assert_int_equal(status_of(f, 0), BLK_S_OK);
    one(f, BLK_T_IN, 0, 4096, 0);
    assert_int_equal(gmem_read(&f->mem, gpa(DATA), got, sizeof(got)), 0);
    for (uint64_t i = 0; i < sizeof(got); i++)
        assert_int_equal(got[i], i < 512 ? 0 : pattern(i));
}

static void test_second_user_is_refused_by_name(void **state)
{
    struct fixture *f = *state;
    struct blk_file_config config = {.path = f->path, .fd = -1};
    struct blk_file other;
    struct blk_file third;
    const char *warning;
    struct err err;

    assert_int_equal(blk_file_open(&other, &config, &warning, &err), -EBUSY);
    assert_non_null(strstr(err.text, f->path));
    config.read_only = true;
    assert_int_equal(blk_file_open(&other, &config, &warning, &err), -EBUSY);
    assert_non_null(strstr(err.text, f->path));

    /* With the ring holding on to the file as well. */
    start(f);
    one(f, BLK_T_IN, 0, 512, 0);
    drive_write(f->dev, VIRTIO_MMIO_STATUS, 0);
    blk_fini(&f->blk);
    blk_file_close(&f->file);
    assert_int_equal(blk_file_open(&other, &config, &warning, &err), 0);
    assert_int_equal(blk_file_open(&third, &config, &warning, &err), 0);
    assert_int_equal(open_disk(f, false, &err), -EBUSY);
    blk_file_close(&third);
    blk_file_close(&other);
    assert_int_equal(open_disk(f, false, &err), 0);
    make_blk(f, &f->loop);
}

static void test_what_is_no_disk_is_refused(void **state)
{
    struct fixture *f = *state;
    struct blk_file_config config = {.fd = -1};
    static const char *const paths[] = {
        "/dev/null", "/", "does-not-exist", "fifo.blk_file"};
    struct blk_file other;
    const char *warning;
    struct err err;

    (void)f;
    assert_int_equal(mkfifo(paths[3], 0600), 0);
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        config.path = paths[i];
        config.read_only = i != 1;
        assert_true(blk_file_open(&other, &config, &warning, &err) < 0);
        assert_non_null(strstr(err.text, paths[i]));
        assert_int_equal(other.fd, -1);
    }
    assert_int_equal(unlink(paths[3]), 0);
}

static void test_odd_sizes(void **state)
{
    struct fixture *f = *state;
    struct blk_file_config config = {.path = "memfd", .read_only = true};
    struct blk_file other;
    const char *warning = "unset";
    struct err err;

    (void)f;
    config.fd = memfd_create("disk", MFD_CLOEXEC);
    assert_int_equal(ftruncate(config.fd, 1024 + 511), 0);
    assert_int_equal(blk_file_open(&other, &config, &warning, &err), 0);
    assert_int_equal(other.backend.capacity, 2);
    assert_non_null(strstr(warning, "512"));
    blk_file_close(&other);

    config.fd = memfd_create("disk", MFD_CLOEXEC);
    assert_int_equal(ftruncate(config.fd, 1024), 0);
    assert_int_equal(blk_file_open(&other, &config, &warning, &err), 0);
    assert_null(warning);
    blk_file_close(&other);

    config.fd = memfd_create("disk", MFD_CLOEXEC);
    assert_int_equal(ftruncate(config.fd, 511), 0);
    assert_int_equal(blk_file_open(&other, &config, &warning, &err), -EINVAL);
    assert_int_equal(other.fd, -1);
}

/* Without a loop a kick returns when the request is answered. */
static void test_inline_requests_are_answered_at_once(void **state)
{
    struct fixture *f = *state;
    uint32_t id;
    uint32_t len;

    blk_fini(&f->blk);
    blk_file_close(&f->file);
    uring_fini(&f->uring);
    uring_init(&f->uring, NULL);
    assert_int_equal(open_disk(f, false, NULL), 0);
    make_blk(f, NULL);
    start(f);
    for (unsigned int i = 0; i < 16; i++)
        add(f, i, BLK_T_IN, i, 4096, 0);
    drive_kick(f->dev, 0);
    for (unsigned int i = 0; i < 16; i++) {
        assert_true(drive_get_used(&f->d, &id, &len));
        assert_int_equal(status_of(f, i), BLK_S_OK);
    }
}

static void *run_loop(void *opaque)
{
    struct fixture *f = opaque;

    return loop_run(&f->loop) == 0 ? NULL : f;
}

/* The driver resets, and the owner quiesces, while the disk is at work. */
static void test_resets_race_with_requests(void **state)
{
    struct fixture *f = *state;
    pthread_t io_thread;
    void *failed;
    uint32_t id;
    uint32_t len;

    assert_int_equal(pthread_create(&io_thread, NULL, run_loop, f), 0);
    for (unsigned int round = 0; round < 300; round++) {
        drive_write(f->dev, VIRTIO_MMIO_STATUS, 0);
        drive_queue_init(&f->d, &f->mem, RINGS, SIZE);
        start(f);
        for (unsigned int i = 0; i < 16; i++)
            add(f, i, i % 4 == 3 ? BLK_T_OUT : BLK_T_IN, i * 64, 16384, 0);
        drive_kick(f->dev, 0);
        /* Some of the rounds have requests in flight by now. */
        for (unsigned int spin = 0; spin < round * 50; spin++)
            __builtin_ia32_pause();
        if (round % 2 == 0) {
            drive_write(f->dev, VIRTIO_MMIO_STATUS, 0);
            assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_STATUS), 0);
            continue;
        }
        device_lock(f->dev);
        assert_int_equal(f->dev->ops->quiesce(f->dev, NULL), 0);
        assert_int_equal(f->blk.virtio.queues[0].q.inflight, 0);
        f->dev->ops->resume(f->dev);
        device_unlock(f->dev);
        for (unsigned int n = 0; n < 16;)
            n += drive_get_used(&f->d, &id, &len);
        for (unsigned int i = 0; i < 16; i++)
            assert_int_equal(status_of(f, i), BLK_S_OK);
    }
    loop_stop(&f->loop);
    assert_int_equal(pthread_join(io_thread, &failed), 0);
    assert_null(failed);
}

#define T(name, m)                                                             \
    cmocka_unit_test_prestate_setup_teardown(name, set_up, tear_down, &modes[m])
#define ALL_MODES(name) T(name, 0), T(name, 1), T(name, 2), T(name, 3)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALL_MODES(test_reads),
        ALL_MODES(test_unaligned_reads_and_writes),
        ALL_MODES(test_written_data_is_in_the_file),
        ALL_MODES(test_short_file_reads_as_zeroes),
        ALL_MODES(test_discard_and_write_zeroes),
        ALL_MODES(test_second_user_is_refused_by_name),
        T(test_what_is_no_disk_is_refused, 0),
        T(test_odd_sizes, 0),
        ALL_MODES(test_inline_requests_are_answered_at_once),
        ALL_MODES(test_resets_race_with_requests),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
