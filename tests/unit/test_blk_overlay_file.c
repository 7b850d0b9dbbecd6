/* SPDX-License-Identifier: Apache-2.0 */
/* Overlays in memory and in files, behind a device, by both kinds of I/O. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/support/drive_queue.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/config.h"
#include "virtio/blk_overlay_clusters.h"
#include "virtio/blk_overlay_format.h"
#include "vmm/machine_drive.h"

#define RAM      (16 * NUM_MIB)
#define RINGS    UINT64_C(0x10000)
#define HEADERS  UINT64_C(0x40000)
#define STATUSES UINT64_C(0x80000)
#define DATA     UINT64_C(0x100000)
#define PLACE    UINT64_C(0x8000)
#define SIZE     ((uint16_t)64)
#define SECTORS  2045u
#define BYTES    (SECTORS * BLK_SECTOR)
#define OVERLAY  "overlay.blk_overlay_file"
#define FEATURES                                                               \
    (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | BLK_F_FLUSH | BLK_F_DISCARD |   \
        BLK_F_WRITE_ZEROES)

/* How a test runs. */
struct mode {
    enum blk_overlay_kind kind;
    bool ring;
    bool direct;
};

static struct mode modes[] = {
    {BLK_OVERLAY_MEMORY, false, false},
    {BLK_OVERLAY_MEMORY, true, false},
    {BLK_OVERLAY_TEMPORARY, true, false},
    {BLK_OVERLAY_FILE, false, false},
    {BLK_OVERLAY_FILE, true, false},
    {BLK_OVERLAY_FILE, true, true},
};

struct fixture {
    struct mode mode;
    struct gmem mem;
    struct loop loop;
    struct uring uring;
    int irq;
    char path[48];
    struct config_drive config;
    struct machine_drive_options options;
    struct machine_drive *drive;
    struct device *dev;
    struct drive_queue d;
    uint8_t model[BYTES];
    uint64_t seed;
};

static uint64_t next(struct fixture *f, uint64_t below)
{
    f->seed ^= f->seed << 13;
    f->seed ^= f->seed >> 7;
    f->seed ^= f->seed << 17;
    return f->seed % below;
}

static void make_image(struct fixture *f)
{
    int fd;

    for (uint64_t i = 0; i < BYTES; i++)
        f->model[i] = (uint8_t)next(f, 256);
    (void)snprintf(f->path, sizeof(f->path), "image.blk_overlay.XXXXXX");
    fd = mkostemp(f->path, O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_full(fd, f->model, BYTES), 0);
    fd_closep(&fd);
}

static int open_drive(struct fixture *f, struct err *err)
{
    const struct virtio_host host = {
        .mem = &f->mem, .loop = &f->loop, .irq = {.fd = f->irq}};
    int rc = machine_drive_open(
        &f->config, &f->options, &f->uring, &host, &f->drive, err);

    if (rc < 0) {
        f->drive = NULL;
        return rc;
    }
    f->dev = &f->drive->blk.virtio.base;
    drive_queue_init(&f->d, &f->mem, RINGS, SIZE);
    drive_start(f->dev, FEATURES, &f->d, 1);
    return 0;
}

static void close_drive(struct fixture *f)
{
    machine_drive_free(f->drive);
    f->drive = NULL;
}

static void must_open(struct fixture *f)
{
    struct err err;

    if (open_drive(f, &err) < 0)
        fail_msg("%s", err.text);
}

static int set_up(void **state)
{
    const struct mode *mode = *state;
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->mode = *mode;
    f->seed = 88172645463325252u;
    assert_int_equal(gmem_init(&f->mem, RAM, NULL), 0);
    assert_int_equal(loop_init(&f->loop, NULL), 0);
    uring_init(&f->uring, &f->loop);
    f->irq = fd_eventfd();
    make_image(f);
    (void)unlink(OVERLAY);
    f->config = (struct config_drive){.id = (char *)(uintptr_t) "vda",
        .path = f->path,
        .is_writeback = true,
        .engine = mode->ring ? CONFIG_IO_ASYNC : CONFIG_IO_SYNC};
    f->options = (struct machine_drive_options){.has_overlay = true,
        .overlay = mode->kind,
        .overlay_path = mode->kind == BLK_OVERLAY_FILE ? OVERLAY : ".",
        .direct = mode->direct};
    must_open(f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    close_drive(f);
    uring_fini(&f->uring);
    loop_fini(&f->loop);
    fd_closep(&f->irq);
    gmem_fini(&f->mem);
    (void)unlink(f->path);
    (void)unlink(OVERLAY);
    free(f);
    return 0;
}

/* Request `i` with a place of its own. */
static void add(struct fixture *f, unsigned int i, uint32_t type,
    uint64_t sector, uint32_t len)
{
    const struct blk_header h = {
        .type = le32_put(type), .sector = le64_put(sector)};
    const uint8_t none = 0xff;
    struct drive_buffer bufs[3] = {{HEADERS + i * 16u, 16, false}};
    uint16_t n = 1;

    assert_int_equal(gmem_write(&f->mem, gpa(HEADERS + i * 16u), &h, 16), 0);
    assert_int_equal(gmem_write(&f->mem, gpa(STATUSES + i), &none, 1), 0);
    if (len > 0)
        bufs[n++] =
            (struct drive_buffer){DATA + i * PLACE, len, type == BLK_T_IN};
    bufs[n++] = (struct drive_buffer){STATUSES + i, 1, true};
    (void)drive_add(&f->d, bufs, n);
}

static void run(struct fixture *f, unsigned int n)
{
    uint32_t id;
    uint32_t len;
    uint8_t status;

    drive_kick(f->dev, 0);
    for (unsigned int left = n; left > 0;) {
        while (drive_get_used(&f->d, &id, &len))
            left--;
        if (left > 0)
            assert_int_equal(loop_run_once(&f->loop, 1000), 0);
    }
    for (unsigned int i = 0; i < n; i++) {
        assert_int_equal(gmem_read(&f->mem, gpa(STATUSES + i), &status, 1), 0);
        assert_int_equal(status, BLK_S_OK);
    }
}

static void flush(struct fixture *f)
{
    add(f, 0, BLK_T_FLUSH, 0, 0);
    run(f, 1);
}

/* One request in the `i`th sixteenth of the disk, where no other one is. */
static void random_request(struct fixture *f, unsigned int i)
{
    uint64_t first = i * (SECTORS / 16);
    uint64_t sector = first + next(f, SECTORS / 16);
    uint64_t sectors = num_min(1 + next(f, 40), first + SECTORS / 16 - sector);
    uint8_t *at = f->model + sector * BLK_SECTOR;
    const struct blk_range range = {
        .sector = le64_put(sector), .sectors = le32_put((uint32_t)sectors)};

    if (next(f, 3) == 0) {
        memset(at, 0, sectors * BLK_SECTOR);
        assert_int_equal(
            gmem_write(&f->mem, gpa(DATA + i * PLACE), &range, sizeof(range)),
            0);
        add(f, i, BLK_T_WRITE_ZEROES, 0, sizeof(range));
        return;
    }
    for (uint64_t k = 0; k < sectors * BLK_SECTOR; k++)
        at[k] = (uint8_t)next(f, 256);
    assert_int_equal(
        gmem_write(&f->mem, gpa(DATA + i * PLACE), at, sectors * BLK_SECTOR),
        0);
    add(f, i, BLK_T_OUT, sector, (uint32_t)(sectors * BLK_SECTOR));
}

static void random_round(struct fixture *f)
{
    for (unsigned int i = 0; i < 16; i++)
        random_request(f, i);
    run(f, 16);
}

static void check_disk(struct fixture *f)
{
    uint8_t got[32 * BLK_SECTOR];

    for (uint64_t at = 0; at < SECTORS; at += 32) {
        uint32_t len = (uint32_t)num_min(32, SECTORS - at) * BLK_SECTOR;

        add(f, 0, BLK_T_IN, at, len);
        run(f, 1);
        assert_int_equal(gmem_read(&f->mem, gpa(DATA), got, len), 0);
        assert_memory_equal(got, f->model + at * BLK_SECTOR, len);
    }
}

static void check_image(struct fixture *f, const uint8_t *want)
{
    uint8_t *got = malloc(BYTES);
    int fd = open(f->path, O_RDONLY | O_CLOEXEC);

    assert_non_null(got);
    assert_int_equal(fd_read_full(fd, got, BYTES), BYTES);
    assert_memory_equal(got, want, BYTES);
    fd_closep(&fd);
    free(got);
}

static void test_requests_match_the_model(void **state)
{
    struct fixture *f = *state;
    uint8_t *image = malloc(BYTES);

    assert_non_null(image);
    memcpy(image, f->model, BYTES);
    for (unsigned int i = 0; i < 40; i++) {
        random_round(f);
        if (i % 10 == 9)
            flush(f);
    }
    check_disk(f);
    check_image(f, image);
    free(image);
}

static void test_file_is_there_the_next_time(void **state)
{
    struct fixture *f = *state;

    for (unsigned int i = 0; i < 3; i++) {
        random_round(f);
        if (i != 1)
            flush(f);
        /* An orderly end keeps it, flushed or not. */
        close_drive(f);
        must_open(f);
        if (f->mode.kind == BLK_OVERLAY_FILE)
            check_disk(f);
    }
}

/* A monitor that is killed: what was flushed is intact. */
static void test_file_survives_a_kill(void **state)
{
    struct fixture *f = *state;
    pid_t child;
    int status;

    random_round(f);
    flush(f);
    close_drive(f);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        /* A ring of the parent's would not be the child's. */
        f->config.engine = CONFIG_IO_SYNC;
        must_open(f);
        random_round(f);
        flush(f);
        add(f, 0, BLK_T_OUT, SECTORS - 1, 512);
        run(f, 1);
        (void)kill(getpid(), SIGKILL);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    /* The same dice: the model has what the child wrote and flushed. */
    must_open(f);
    for (unsigned int i = 0; i < 16; i++)
        random_request(f, i);
    drive_queue_init(&f->d, &f->mem, RINGS, SIZE);
    drive_write(f->dev, VIRTIO_MMIO_STATUS, 0);
    drive_queue_init(&f->d, &f->mem, RINGS, SIZE);
    drive_start(f->dev, FEATURES, &f->d, 1);
    add(f, 0, BLK_T_IN, SECTORS - 1, 512);
    run(f, 1);
    assert_int_equal(gmem_read(&f->mem, gpa(DATA),
                         f->model + BYTES - BLK_SECTOR, BLK_SECTOR),
        0);
    check_disk(f);
}

static void expect_refused(struct fixture *f, int code, const char *word)
{
    struct err err;

    assert_int_equal(open_drive(f, &err), code);
    assert_non_null(strstr(err.text, OVERLAY));
    if (strstr(err.text, word) == NULL)
        fail_msg("\"%s\" is not in: %s", word, err.text);
}

static void poke(const char *path, uint64_t at, uint8_t value)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);

    assert_int_equal(pwrite(fd, &value, 1, (off_t)at), 1);
    fd_closep(&fd);
}

static void test_other_images_are_refused(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    struct timespec times[2];

    random_round(f);
    close_drive(f);
    assert_int_equal(stat(f->path, &st), 0);
    times[0] = st.st_atim;
    times[1] = st.st_mtim;
    assert_int_equal(truncate(f->path, BYTES + 512), 0);
    expect_refused(f, -ESTALE, "bytes");
    assert_int_equal(truncate(f->path, BYTES), 0);
    expect_refused(f, -ESTALE, "touch -d @");
    assert_int_equal(utimensat(AT_FDCWD, f->path, times, 0), 0);
    must_open(f);
    check_disk(f);
    close_drive(f);
    poke(f->path, 100, 1);
    poke(f->path, 101, 2);
    assert_int_equal(utimensat(AT_FDCWD, f->path, times, 0), 0);
    expect_refused(f, -ESTALE, "contents");
}

static void test_damage_is_refused(void **state)
{
    struct fixture *f = *state;

    random_round(f);
    flush(f);
    close_drive(f);
    /* One slot of the map: the other one is there. */
    poke(OVERLAY, BLK_OVERLAY_BLOCK + 100, 0xff);
    poke(OVERLAY, BLK_OVERLAY_BLOCK + 101, 0xff);
    must_open(f);
    close_drive(f);
    poke(OVERLAY, 2 * BLK_OVERLAY_BLOCK + 101, 0xff);
    poke(OVERLAY, 2 * BLK_OVERLAY_BLOCK + 102, 0xff);
    poke(OVERLAY, BLK_OVERLAY_BLOCK + 101, 0xfe);
    expect_refused(f, -EINVAL, "damaged");
    poke(OVERLAY, 50, 0xff);
    expect_refused(f, -EINVAL, "damaged");
    poke(OVERLAY, 0, 0xff);
    expect_refused(f, -EINVAL, "not an overlay");
    assert_int_equal(truncate(OVERLAY, 100), 0);
    expect_refused(f, -EINVAL, "not an overlay");
    /* An empty one is as good as none. */
    assert_int_equal(truncate(OVERLAY, 0), 0);
    must_open(f);
}

static void test_second_user_is_refused(void **state)
{
    struct fixture *f = *state;
    struct machine_drive *first = f->drive;

    expect_refused(f, -EBUSY, "use");
    assert_int_equal(unlink(OVERLAY), 0);
    assert_int_equal(mkdir(OVERLAY, 0700), 0);
    expect_refused(f, -EISDIR, "directory");
    assert_int_equal(rmdir(OVERLAY), 0);
    f->drive = first;
}

/* An image is shared by as many as like. */
static void test_image_is_shared(void **state)
{
    struct fixture *f = *state;
    struct machine_drive *first = f->drive;

    must_open(f);
    random_round(f);
    check_disk(f);
    close_drive(f);
    f->drive = first;
    f->dev = &first->blk.virtio.base;
}

static void test_quiesced_while_at_work(void **state)
{
    struct fixture *f = *state;

    for (unsigned int round = 0; round < 20; round++) {
        for (unsigned int i = 0; i < 16; i++)
            random_request(f, i);
        drive_kick(f->dev, 0);
        assert_int_equal(loop_run_once(&f->loop, 0), 0);
        device_lock(f->dev);
        assert_int_equal(f->dev->ops->quiesce(f->dev, NULL), 0);
        assert_int_equal(f->drive->blk.virtio.queues[0].q.inflight, 0);
        f->dev->ops->resume(f->dev);
        device_unlock(f->dev);
        run(f, 16);
    }
    check_disk(f);
}

#define T(name, m)                                                             \
    cmocka_unit_test_prestate_setup_teardown(name, set_up, tear_down, &modes[m])
#define ALL(name)                                                              \
    T(name, 0), T(name, 1), T(name, 2), T(name, 3), T(name, 4), T(name, 5)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALL(test_requests_match_the_model),
        T(test_file_is_there_the_next_time, 3),
        T(test_file_is_there_the_next_time, 4),
        T(test_file_is_there_the_next_time, 5),
        T(test_file_survives_a_kill, 3),
        T(test_file_survives_a_kill, 4),
        T(test_other_images_are_refused, 3),
        T(test_damage_is_refused, 3),
        T(test_damage_is_refused, 4),
        T(test_second_user_is_refused, 3),
        T(test_image_is_shared, 1),
        ALL(test_quiesced_while_at_work),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
