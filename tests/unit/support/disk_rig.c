/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/support/disk_rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define RAM      (16 * NUM_MIB)
#define RINGS    UINT64_C(0x10000)
#define HEADERS  UINT64_C(0x40000)
#define STATUSES UINT64_C(0x80000)
#define PLACE    UINT64_C(0x8000)
#define SIZE     ((uint16_t)64)
#define PART     (DISK_RIG_SECTORS / DISK_RIG_BATCH)
#define FEATURES                                                               \
    (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | BLK_F_FLUSH | BLK_F_DISCARD |   \
        BLK_F_WRITE_ZEROES)

uint64_t disk_rig_next(struct disk_rig *f, uint64_t below)
{
    f->seed ^= f->seed << 13;
    f->seed ^= f->seed >> 7;
    f->seed ^= f->seed << 17;
    return f->seed % below;
}

static void make_image(struct disk_rig *f)
{
    int fd;

    for (uint64_t i = 0; i < DISK_RIG_BYTES; i++)
        f->model[i] = (uint8_t)disk_rig_next(f, 256);
    (void)snprintf(f->path, sizeof(f->path), "image.disk_rig.XXXXXX");
    fd = mkostemp(f->path, O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_full(fd, f->model, DISK_RIG_BYTES), 0);
    fd_closep(&fd);
}

struct disk_rig *disk_rig_new(bool has_ring)
{
    struct disk_rig *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->seed = 88172645463325252u;
    assert_int_equal(gmem_init(&f->mem, RAM, NULL), 0);
    assert_int_equal(loop_init(&f->loop, NULL), 0);
    uring_init(&f->uring, &f->loop);
    f->irq = fd_eventfd();
    make_image(f);
    f->config = (struct config_drive){.id = (char *)(uintptr_t) "vda",
        .path = f->path,
        .is_writeback = true,
        .queues = 1,
        .engine = has_ring ? CONFIG_IO_ASYNC : CONFIG_IO_SYNC};
    return f;
}

void disk_rig_free(struct disk_rig *f)
{
    disk_rig_close(f);
    uring_fini(&f->uring);
    loop_fini(&f->loop);
    fd_closep(&f->irq);
    gmem_fini(&f->mem);
    (void)unlink(f->path);
    free(f);
}

int disk_rig_try_open(struct disk_rig *f, struct err *err)
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

void disk_rig_open(struct disk_rig *f)
{
    struct err err;

    if (disk_rig_try_open(f, &err) < 0)
        fail_msg("%s", err.text);
}

void disk_rig_close(struct disk_rig *f)
{
    machine_drive_free(f->drive);
    f->drive = NULL;
}

void disk_rig_restart(struct disk_rig *f)
{
    drive_write(f->dev, VIRTIO_MMIO_STATUS, 0);
    drive_queue_init(&f->d, &f->mem, RINGS, SIZE);
    drive_start(f->dev, FEATURES, &f->d, 1);
}

void disk_rig_add(struct disk_rig *f, unsigned int i, uint32_t type,
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
        bufs[n++] = (struct drive_buffer){
            DISK_RIG_DATA + i * PLACE, len, type == BLK_T_IN};
    bufs[n++] = (struct drive_buffer){STATUSES + i, 1, true};
    (void)drive_add(&f->d, bufs, n);
}

void disk_rig_run(struct disk_rig *f, unsigned int n)
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

void disk_rig_flush(struct disk_rig *f)
{
    disk_rig_add(f, 0, BLK_T_FLUSH, 0, 0);
    disk_rig_run(f, 1);
}

static void add_range(struct disk_rig *f, unsigned int i, uint32_t type,
    uint64_t sector, uint64_t sectors)
{
    const struct blk_range range = {.sector = le64_put(sector),
        .sectors = le32_put((uint32_t)sectors),
        .flags = le32_put(type == BLK_T_WRITE_ZEROES && disk_rig_next(f, 2) == 0
                              ? BLK_RANGE_UNMAP
                              : 0)};

    assert_int_equal(gmem_write(&f->mem, gpa(DISK_RIG_DATA + i * PLACE), &range,
                         sizeof(range)),
        0);
    disk_rig_add(f, i, type, 0, sizeof(range));
}

void disk_rig_add_random(struct disk_rig *f, unsigned int i)
{
    uint64_t first = i * PART;
    uint64_t sector = first + disk_rig_next(f, PART);
    uint64_t sectors = num_min(1 + disk_rig_next(f, 40), first + PART - sector);
    uint64_t kind = disk_rig_next(f, 6);
    uint8_t *at;

    if (kind == 0) {
        /* Whole clusters, which an overlay makes zeroes. */
        sector = num_align_down(sector, 8);
        sectors = num_align_down(sectors + 8, 8);
    }
    at = f->model + sector * BLK_SECTOR;
    if (kind < 2) {
        memset(at, 0, sectors * BLK_SECTOR);
        add_range(f, i, kind == 0 ? BLK_T_DISCARD : BLK_T_WRITE_ZEROES, sector,
            sectors);
        return;
    }
    for (uint64_t k = 0; k < sectors * BLK_SECTOR; k++)
        at[k] = (uint8_t)disk_rig_next(f, 256);
    assert_int_equal(gmem_write(&f->mem, gpa(DISK_RIG_DATA + i * PLACE), at,
                         sectors * BLK_SECTOR),
        0);
    disk_rig_add(f, i, BLK_T_OUT, sector, (uint32_t)(sectors * BLK_SECTOR));
}

void disk_rig_round(struct disk_rig *f)
{
    for (unsigned int i = 0; i < DISK_RIG_BATCH; i++)
        disk_rig_add_random(f, i);
    disk_rig_run(f, DISK_RIG_BATCH);
}

void disk_rig_check(struct disk_rig *f)
{
    uint8_t got[32 * BLK_SECTOR];

    for (uint64_t at = 0; at < DISK_RIG_SECTORS; at += 32) {
        uint32_t len =
            (uint32_t)num_min(32, DISK_RIG_SECTORS - at) * BLK_SECTOR;

        disk_rig_add(f, 0, BLK_T_IN, at, len);
        disk_rig_run(f, 1);
        assert_int_equal(gmem_read(&f->mem, gpa(DISK_RIG_DATA), got, len), 0);
        assert_memory_equal(got, f->model + at * BLK_SECTOR, len);
    }
}
