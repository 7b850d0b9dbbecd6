/* SPDX-License-Identifier: Apache-2.0 */
/* Another file behind a drive, and other limits, while its driver is up. */
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
#include <unistd.h>

#include "tests/unit/support/drive_queue.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/config.h"
#include "vmm/machine_drive.h"

#define RAM      (4 * NUM_MIB)
#define RINGS    UINT64_C(0x10000)
#define HEADER   UINT64_C(0x20000)
#define STATUS   UINT64_C(0x21000)
#define DATA     UINT64_C(0x22000)
#define SIZE     ((uint16_t)16)
#define FEATURES VIRTIO_F_VERSION_1

struct fixture {
    char id[4];
    char folder[64];
    char first[96];  /* 8 sectors of 1 */
    char second[96]; /* 16 sectors of 2 */
    char other[96];  /* an overlay, or what is not there */
    struct gmem mem;
    struct loop loop;
    int irq;
    struct config_drive config;
    struct machine_drive *drive;
    struct device *dev;
    struct drive_queue d;
};

static void write_file(const char *path, uint8_t byte, size_t sectors)
{
    uint8_t sector[BLK_SECTOR];
    CC_CLEANUP(fd_closep) int fd = open(path, O_WRONLY | O_CREAT, 0600);

    assert_true(fd >= 0);
    memset(sector, byte, sizeof(sector));
    for (size_t i = 0; i < sectors; i++)
        assert_int_equal(
            write(fd, sector, sizeof(sector)), (ssize_t)sizeof(sector));
}

static int set_up(void **state)
{
    static struct fixture fixture;
    struct fixture *f = &fixture;

    *f = (struct fixture){
        .id = "vda", .folder = "/tmp/test_drive_replace.XXXXXX"};
    assert_non_null(mkdtemp(f->folder));
    (void)snprintf(f->first, sizeof(f->first), "%.60s/first", f->folder);
    (void)snprintf(f->second, sizeof(f->second), "%.60s/second", f->folder);
    (void)snprintf(f->other, sizeof(f->other), "%.60s/other", f->folder);
    write_file(f->first, 1, 8);
    write_file(f->second, 2, 16);
    assert_int_equal(gmem_init(&f->mem, RAM, NULL), 0);
    assert_int_equal(loop_init(&f->loop, NULL), 0);
    f->irq = fd_eventfd();
    f->config =
        (struct config_drive){.id = f->id, .path = f->first, .queues = 1};
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    machine_drive_free(f->drive);
    loop_fini(&f->loop);
    fd_closep(&f->irq);
    gmem_fini(&f->mem);
    (void)unlink(f->first);
    (void)unlink(f->second);
    (void)unlink(f->other);
    assert_int_equal(rmdir(f->folder), 0);
    return 0;
}

/* The drive that `config` describes, with its driver up. */
static void start(struct fixture *f)
{
    const struct virtio_host host = {
        .mem = &f->mem, .loop = &f->loop, .irq = {.fd = f->irq}};
    struct err err = {.text = ""};

    if (machine_drive_new(&f->config, NULL, &host, &f->drive, &err) < 0)
        fail_msg("%s", err.text);
    f->dev = &f->drive->blk.virtio.base;
    drive_queue_init(&f->d, &f->mem, RINGS, SIZE);
    drive_start(f->dev, FEATURES, &f->d, 1);
}

/* Has the driver ask for the first sector, or write it. */
static void ask(struct fixture *f, uint32_t type)
{
    const struct blk_header header = {.type = le32_put(type)};
    const struct drive_buffer bufs[] = {{HEADER, sizeof(header), false},
        {DATA, BLK_SECTOR, type == BLK_T_IN}, {STATUS, 1, true}};

    assert_int_equal(
        gmem_write(&f->mem, gpa(HEADER), &header, sizeof(header)), 0);
    (void)drive_add(&f->d, bufs, 3);
    drive_kick(f->dev, 0);
    assert_int_equal(loop_run_once(&f->loop, 1000), 0);
}

static bool is_answered(struct fixture *f)
{
    uint32_t id;
    uint32_t len;

    return drive_get_used(&f->d, &id, &len);
}

static uint8_t first_byte(struct fixture *f)
{
    uint8_t status = 0xff;
    uint8_t byte = 0xff;

    ask(f, BLK_T_IN);
    assert_true(is_answered(f));
    assert_int_equal(gmem_read(&f->mem, gpa(STATUS), &status, 1), 0);
    assert_int_equal(status, BLK_S_OK);
    assert_int_equal(gmem_read(&f->mem, gpa(DATA), &byte, 1), 0);
    return byte;
}

static void write_byte(struct fixture *f, uint8_t byte)
{
    assert_int_equal(gmem_write(&f->mem, gpa(DATA), &byte, 1), 0);
    ask(f, BLK_T_OUT);
    assert_true(is_answered(f));
}

static uint32_t capacity(const struct fixture *f)
{
    return drive_read(f->dev, VIRTIO_MMIO_CONFIG);
}

/* Whether somebody else may write to the file. */
static bool is_free(const char *path)
{
    CC_CLEANUP(fd_closep) int fd = open(path, O_RDWR | O_CLOEXEC);

    assert_true(fd >= 0);
    return fd_lock(fd, true) == 0;
}

static void expect_refused(
    struct fixture *f, const char *path, int code, const char *text)
{
    struct err err = {.text = ""};
    uint32_t generation = f->drive->blk.state.virtio.config_generation;

    assert_int_equal(machine_drive_replace(f->drive, path, -1, &err), code);
    if (strstr(err.text, text) == NULL)
        fail_msg("'%s' is not in '%s'", text, err.text);
    assert_int_equal(f->drive->blk.state.virtio.config_generation, generation);
}

static void test_another_file(void **state)
{
    struct fixture *f = *state;
    uint32_t generation;

    start(f);
    generation = f->drive->blk.state.virtio.config_generation;
    assert_int_equal(first_byte(f), 1);
    assert_int_equal(capacity(f), 8);
    assert_false(is_free(f->first));
    assert_int_equal(machine_drive_replace(f->drive, f->second, -1, NULL), 0);
    assert_int_not_equal(
        f->drive->blk.state.virtio.config_generation, generation);
    assert_int_equal(capacity(f), 16);
    assert_int_equal(first_byte(f), 2);
    assert_true(is_free(f->first));
    assert_false(is_free(f->second));
}

/* The path is only what it is called then. */
static void test_a_descriptor(void **state)
{
    struct fixture *f = *state;
    struct err err;
    int fd = open(f->second, O_RDONLY | O_CLOEXEC);

    start(f);
    assert_true(fd >= 0);
    assert_int_equal(
        machine_drive_replace(f->drive, "/no/such/file", fd, &err), -EACCES);
    (void)close(fd);
    fd = open(f->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_true(machine_drive_replace(f->drive, "/no/such/file", fd, &err) < 0);
    (void)close(fd);
    assert_int_equal(first_byte(f), 1);
    fd = open(f->second, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(
        machine_drive_replace(f->drive, "/no/such/file", fd, &err), 0);
    (void)close(fd);
    assert_int_equal(capacity(f), 16);
    assert_int_equal(first_byte(f), 2);
    assert_string_equal(f->drive->disk->path, "/no/such/file");
    assert_true(is_free(f->first));
    assert_false(is_free(f->second));
}

static void test_same_file_with_another_size(void **state)
{
    struct fixture *f = *state;

    start(f);
    write_file(f->first, 3, 32);
    assert_int_equal(machine_drive_replace(f->drive, f->first, -1, NULL), 0);
    assert_int_equal(capacity(f), 32);
    assert_int_equal(first_byte(f), 3);
    assert_false(is_free(f->first));
}

static void test_what_cannot_be_used(void **state)
{
    struct fixture *f = *state;
    CC_CLEANUP(fd_closep) int fd = -1;

    start(f);
    expect_refused(f, f->other, -ENOENT, "other");
    expect_refused(f, f->folder, -EISDIR, f->folder);
    fd = open(f->second, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fd_lock(fd, true), 0);
    expect_refused(f, f->second, -EBUSY, "in use by another process");
    /* The drive has what it had, and for itself. */
    assert_int_equal(capacity(f), 8);
    assert_int_equal(first_byte(f), 1);
    assert_false(is_free(f->first));
}

static void test_overlays(void **state)
{
    struct fixture *f = *state;

    f->config.overlay = CONFIG_OVERLAY_MEMORY;
    start(f);
    write_byte(f, 9);
    assert_int_equal(first_byte(f), 9);
    /* What was written over the old image has no meaning over another. */
    assert_int_equal(machine_drive_replace(f->drive, f->second, -1, NULL), 0);
    assert_int_equal(first_byte(f), 2);
    write_byte(f, 9);
    assert_int_equal(machine_drive_replace(f->drive, f->first, -1, NULL), 0);
    assert_int_equal(first_byte(f), 1);
}

static void test_overlay_in_a_file_stays(void **state)
{
    struct fixture *f = *state;

    f->config.overlay = CONFIG_OVERLAY_FILE;
    f->config.overlay_path = f->other;
    start(f);
    write_byte(f, 9);
    expect_refused(f, f->second, -EINVAL, "belongs to the image");
    assert_int_equal(first_byte(f), 9);
}

static void test_limits(void **state)
{
    struct fixture *f = *state;
    struct rate_change change = {
        .has_ops = true, .limits.ops = {.size = 1, .refill_ms = 3600000}};

    start(f);
    assert_int_equal(machine_drive_set_rate(f->drive, &change, NULL), 0);
    assert_int_equal(first_byte(f), 1);
    ask(f, BLK_T_IN);
    assert_false(is_answered(f));
    /* One that is refused leaves the old one in place. */
    change.limits.ops = (struct rate_bucket_config){
        .size = 1, .refill_ms = RATE_REFILL_MS_MAX + 1};
    assert_int_equal(machine_drive_set_rate(f->drive, &change, NULL), -EINVAL);
    assert_false(is_answered(f));
    /* The limit is the drive's, not the file's. */
    assert_int_equal(machine_drive_replace(f->drive, f->second, -1, NULL), 0);
    assert_false(is_answered(f));
    change.limits.ops = (struct rate_bucket_config){0};
    assert_int_equal(machine_drive_set_rate(f->drive, &change, NULL), 0);
    assert_true(is_answered(f));
    assert_int_equal(first_byte(f), 2);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_another_file),
        T(test_a_descriptor),
        T(test_same_file_with_another_size),
        T(test_what_cannot_be_used),
        T(test_overlays),
        T(test_overlay_in_a_file_stays),
        T(test_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
