/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "tests/unit/support/drive_queue.h"
#include "virtio/blk.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define RAM     (16 * NUM_MIB)
#define RINGS   UINT64_C(0x10000)
#define HEADER  UINT64_C(0x40000)
#define STATUS  UINT64_C(0x41000)
#define TABLES  UINT64_C(0x50000)
#define DATA    UINT64_C(0x100000)
#define SIZE    ((uint16_t)16)
#define SECTORS 256u
#define F_ALL                                                                  \
    (VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX |        \
        BLK_F_FLUSH | BLK_F_DISCARD | BLK_F_WRITE_ZEROES)

/* A disk in memory that can hold operations back and fail them. */
struct disk {
    struct blk_backend backend;
    uint8_t data[SECTORS * BLK_SECTOR];
    struct blk_io *held[SIZE];
    unsigned int held_count;
    bool holds;
    int fails_with;
    struct blk_io last; /* a copy of what came last */
    unsigned int submits;
    unsigned int commits;
};

struct fixture {
    struct gmem mem;
    int irq;
    struct disk disk;
    struct blk blk;
    struct device *dev;
    struct drive_queue d;
};

static void move(struct disk *d, const struct blk_io *io)
{
    uint64_t at = io->offset;

    for (unsigned int i = 0; i < io->iov_count; i++) {
        if (io->kind == BLK_READ)
            memcpy(io->iov[i].iov_base, d->data + at, io->iov[i].iov_len);
        else
            memcpy(d->data + at, io->iov[i].iov_base, io->iov[i].iov_len);
        at += io->iov[i].iov_len;
    }
    assert_int_equal(at, io->offset + io->len);
}

static void finish(struct disk *d, struct blk_io *io)
{
    int rc = d->fails_with;

    if (rc == 0 && (io->kind == BLK_READ || io->kind == BLK_WRITE))
        move(d, io);
    io->done(io, rc);
}

static void disk_submit(struct blk_backend *b, struct blk_io *io)
{
    struct disk *d = container_of(b, struct disk, backend);

    assert_true(num_range_within(io->offset, io->len, sizeof(d->data)));
    d->submits++;
    d->last = *io;
    if (d->holds)
        d->held[d->held_count++] = io;
    else
        finish(d, io);
}

static void disk_commit(struct blk_backend *b)
{
    container_of(b, struct disk, backend)->commits++;
}

static void disk_drain(struct blk_backend *b)
{
    struct disk *d = container_of(b, struct disk, backend);
    unsigned int n = d->held_count;

    d->held_count = 0;
    /* Last in, first out: order is not promised to the guest. */
    while (n-- > 0)
        finish(d, d->held[n]);
    b->batch_done(b->opaque);
}

static const struct blk_backend_ops disk_ops = {
    .submit = disk_submit, .commit = disk_commit, .drain = disk_drain};

static void make_blk(struct fixture *f, struct blk *blk)
{
    const struct blk_config config = {.id = "vda",
        .serial = "serial-0123456789-too-long",
        .backend = &f->disk.backend,
        .queue_size = SIZE,
        .queue_count = 1};
    const struct virtio_host host = {.mem = &f->mem, .irq = {.fd = f->irq}};

    assert_int_equal(blk_init(blk, &config, &host, NULL), 0);
}

static int set_up(void **state)
{
    static struct fixture fixture;
    struct fixture *f = &fixture;

    *f = (struct fixture){0};
    f->disk.backend = (struct blk_backend){.ops = &disk_ops,
        .capacity = SECTORS,
        .block_size = 512,
        .physical_size = 4096,
        .can_discard = true,
        .can_zero = true};
    for (size_t i = 0; i < sizeof(f->disk.data); i++)
        f->disk.data[i] = (uint8_t)(i / BLK_SECTOR + i);
    assert_int_equal(gmem_init(&f->mem, RAM, NULL), 0);
    f->irq = fd_eventfd();
    make_blk(f, &f->blk);
    f->dev = &f->blk.virtio.base;
    drive_queue_init(&f->d, &f->mem, RINGS, SIZE);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    f->dev->ops->reset(f->dev);
    blk_fini(&f->blk);
    fd_closep(&f->irq);
    gmem_fini(&f->mem);
    return 0;
}

static void start(struct fixture *f, uint64_t features)
{
    drive_start(f->dev, features, &f->d, 1);
}

static void put_header(struct fixture *f, uint32_t type, uint64_t sector)
{
    const struct blk_header h = {
        .type = le32_put(type), .sector = le64_put(sector)};
    const uint8_t none = 0xff;

    assert_int_equal(gmem_write(&f->mem, gpa(HEADER), &h, sizeof(h)), 0);
    assert_int_equal(gmem_write(&f->mem, gpa(STATUS), &none, 1), 0);
}

/* Header, `len` bytes at DATA, status; kicks. */
static void request(struct fixture *f, uint32_t type, uint64_t sector,
    uint32_t len, bool fetches)
{
    struct drive_buffer bufs[3] = {{HEADER, 16, false}};
    uint16_t n = 1;

    put_header(f, type, sector);
    if (len > 0)
        bufs[n++] = (struct drive_buffer){DATA, len, fetches};
    bufs[n++] = (struct drive_buffer){STATUS, 1, true};
    (void)drive_add(&f->d, bufs, n);
    drive_kick(f->dev, 0);
}

static void expect(struct fixture *f, uint8_t status, uint32_t used_len)
{
    uint8_t got = 0xff;
    uint32_t id;
    uint32_t len = 0;

    assert_true(drive_get_used(&f->d, &id, &len));
    assert_int_equal(gmem_read(&f->mem, gpa(STATUS), &got, 1), 0);
    assert_int_equal(got, status);
    assert_int_equal(len, used_len);
}

static bool stopped(struct fixture *f)
{
    return (drive_read(f->dev, VIRTIO_MMIO_STATUS) &
               VIRTIO_STATUS_NEEDS_RESET) != 0;
}

static void test_read(void **state)
{
    struct fixture *f = *state;
    uint8_t got[1024];

    start(f, F_ALL);
    bitmap_clear_all(&f->mem.dirty);
    request(f, BLK_T_IN, 3, 1024, true);
    expect(f, BLK_S_OK, 1025);
    assert_int_equal(gmem_read(&f->mem, gpa(DATA), got, sizeof(got)), 0);
    assert_memory_equal(got, f->disk.data + 3 * 512, 1024);
    assert_true(bitmap_test(&f->mem.dirty, DATA >> NUM_PAGE_SHIFT));
    assert_int_equal(f->blk.virtio.stats.bytes, 1024);
    assert_int_equal(fd_eventfd_drain(f->irq), 1);
}

static void test_write(void **state)
{
    struct fixture *f = *state;
    uint8_t data[512];

    memset(data, 0x3c, sizeof(data));
    start(f, F_ALL);
    assert_int_equal(gmem_write(&f->mem, gpa(DATA), data, sizeof(data)), 0);
    request(f, BLK_T_OUT, SECTORS - 1, 512, false);
    expect(f, BLK_S_OK, 1);
    assert_memory_equal(f->disk.data + (SECTORS - 1) * 512, data, 512);
    assert_false(f->disk.last.durable);
    assert_int_equal(f->disk.commits, 1);
}

/* 5.2.6.2: a driver without FLUSH counts on completed writes. */
static void test_write_through_without_flush(void **state)
{
    struct fixture *f = *state;

    start(f, VIRTIO_F_VERSION_1 | BLK_F_WRITE_ZEROES);
    request(f, BLK_T_OUT, 0, 512, false);
    expect(f, BLK_S_OK, 1);
    assert_true(f->disk.last.durable);
    request(f, BLK_T_FLUSH, 0, 0, false);
    expect(f, BLK_S_UNSUPP, 1);
}

static void test_flush(void **state)
{
    struct fixture *f = *state;

    start(f, F_ALL);
    request(f, BLK_T_FLUSH, 0, 0, false);
    expect(f, BLK_S_OK, 1);
    assert_int_equal(f->disk.last.kind, BLK_FLUSH);
    f->disk.fails_with = -EIO;
    request(f, BLK_T_FLUSH, 0, 0, false);
    expect(f, BLK_S_IOERR, 1);
}

static void test_get_id(void **state)
{
    struct fixture *f = *state;
    uint8_t got[21];

    start(f, F_ALL);
    request(f, BLK_T_GET_ID, 0, 20, true);
    expect(f, BLK_S_OK, 21);
    assert_int_equal(gmem_read(&f->mem, gpa(DATA), got, sizeof(got)), 0);
    assert_memory_equal(got, "serial-0123456789-to\0", 21);
    request(f, BLK_T_GET_ID, 0, 64, true);
    expect(f, BLK_S_OK, 20);
}

static void test_any_cut_of_a_request(void **state)
{
    struct fixture *f = *state;
    /* Header in three, data in odd pieces, the last with the status. */
    const struct drive_buffer bufs[] = {{HEADER, 1, false},
        {HEADER + 1, 14, false}, {HEADER + 15, 1, false}, {DATA, 1, true},
        {DATA + 1, 510, true}, {DATA + 0x2000, 514, true}};
    uint8_t got[513];
    uint32_t id;
    uint32_t len = 0;

    start(f, F_ALL);
    put_header(f, BLK_T_IN, 7);
    (void)drive_add(&f->d, bufs, 6);
    drive_kick(f->dev, 0);
    assert_true(drive_get_used(&f->d, &id, &len));
    assert_int_equal(len, 1025);
    assert_int_equal(gmem_read(&f->mem, gpa(DATA), got, 511), 0);
    assert_memory_equal(got, f->disk.data + 7 * 512, 511);
    assert_int_equal(gmem_read(&f->mem, gpa(DATA + 0x2000), got, 513), 0);
    assert_memory_equal(got, f->disk.data + 7 * 512 + 511, 513);
    assert_int_equal(gmem_read(&f->mem, gpa(DATA + 0x2000 + 513), got, 1), 0);
    assert_int_equal(got[0], BLK_S_OK);
}

/* Header and data to be written in one descriptor. */
static void test_write_behind_the_header(void **state)
{
    struct fixture *f = *state;
    const struct drive_buffer bufs[] = {
        {HEADER, 16 + 512, false}, {STATUS, 1, true}};
    uint8_t data[512];

    memset(data, 0x91, sizeof(data));
    start(f, F_ALL);
    put_header(f, BLK_T_OUT, 9);
    assert_int_equal(gmem_write(&f->mem, gpa(HEADER + 16), data, 512), 0);
    (void)drive_add(&f->d, bufs, 2);
    drive_kick(f->dev, 0);
    expect(f, BLK_S_OK, 1);
    assert_memory_equal(f->disk.data + 9 * 512, data, 512);
}

static void test_ranges_are_checked(void **state)
{
    struct fixture *f = *state;
    static const struct {
        uint64_t sector;
        uint32_t len;
    } bad[] = {{SECTORS, 512}, {SECTORS - 1, 1024}, {UINT64_MAX, 512},
        {UINT64_MAX / 512, 512}, {UINT64_C(1) << 55, 512}, {0, 511}, {0, 513},
        {0, 512 * (SECTORS + 1)}};

    start(f, F_ALL);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        request(f, BLK_T_IN, bad[i].sector, bad[i].len, true);
        expect(f, BLK_S_IOERR, 0);
        request(f, BLK_T_OUT, bad[i].sector, bad[i].len, false);
        expect(f, BLK_S_IOERR, 1);
    }
    assert_int_equal(f->disk.submits, 0);
    assert_int_equal(f->blk.virtio.stats.errors, 2 * ARRAY_SIZE(bad));
    request(f, BLK_T_IN, SECTORS, 0, true);
    expect(f, BLK_S_OK, 1);
    assert_false(stopped(f));
}

/* It may have written before it failed. */
static void test_failed_read_is_marked_dirty(void **state)
{
    struct fixture *f = *state;

    start(f, F_ALL);
    bitmap_clear_all(&f->mem.dirty);
    f->disk.fails_with = -EIO;
    request(f, BLK_T_IN, 0, 512, true);
    expect(f, BLK_S_IOERR, 0);
    assert_true(bitmap_test(&f->mem.dirty, DATA >> NUM_PAGE_SHIFT));
}

/* Many requests at once do not keep the thread: the rest comes later. */
static void test_large_batches_are_cut(void **state)
{
    struct fixture *f = *state;
    const struct drive_buffer bufs[] = {
        {HEADER, 16, false}, {0, 15u << 20, false}, {STATUS, 1, true}};

    start(f, F_ALL);
    put_header(f, BLK_T_OUT, 0);
    for (uint16_t i = 0; i < 4; i++)
        (void)drive_add_indirect(&f->d, TABLES + i * 0x1000u, bufs, 3);
    drive_kick(f->dev, 0);
    assert_int_equal(f->disk.commits, 1);
    for (uint16_t i = 4; i < 9; i++)
        (void)drive_add_indirect(&f->d, TABLES + i * 0x1000u, bufs, 3);
    drive_kick(f->dev, 0);
    assert_int_equal(f->disk.commits, 3);
    /* Each is beyond seg_max times size_max. */
    for (int i = 0; i < 9; i++)
        expect(f, BLK_S_IOERR, 1);
}

static void put_range(
    struct fixture *f, uint64_t sector, uint32_t sectors, uint32_t flags)
{
    const struct blk_range r = {.sector = le64_put(sector),
        .sectors = le32_put(sectors),
        .flags = le32_put(flags)};

    assert_int_equal(gmem_write(&f->mem, gpa(DATA), &r, sizeof(r)), 0);
}

static void test_discard_and_write_zeroes(void **state)
{
    struct fixture *f = *state;

    start(f, F_ALL);
    put_range(f, 4, 8, 0);
    request(f, BLK_T_DISCARD, 0, 16, false);
    expect(f, BLK_S_OK, 1);
    assert_int_equal(f->disk.last.kind, BLK_DISCARD);
    assert_int_equal(f->disk.last.offset, 4 * 512);
    assert_int_equal(f->disk.last.len, 8 * 512);
    request(f, BLK_T_WRITE_ZEROES, 0, 16, false);
    expect(f, BLK_S_OK, 1);
    assert_int_equal(f->disk.last.kind, BLK_ZERO);
    assert_false(f->disk.last.may_unmap);
    put_range(f, 4, 8, BLK_RANGE_UNMAP);
    request(f, BLK_T_WRITE_ZEROES, 0, 16, false);
    expect(f, BLK_S_OK, 1);
    assert_true(f->disk.last.may_unmap);
    f->disk.fails_with = -EOPNOTSUPP;
    request(f, BLK_T_WRITE_ZEROES, 0, 16, false);
    expect(f, BLK_S_UNSUPP, 1);
}

static void test_bad_discards(void **state)
{
    struct fixture *f = *state;

    start(f, F_ALL);
    put_range(f, 4, 8, BLK_RANGE_UNMAP);
    request(f, BLK_T_DISCARD, 0, 16, false);
    expect(f, BLK_S_UNSUPP, 1);
    put_range(f, 4, 8, 2);
    request(f, BLK_T_WRITE_ZEROES, 0, 16, false);
    expect(f, BLK_S_UNSUPP, 1);
    put_range(f, SECTORS - 1, 2, 0);
    request(f, BLK_T_DISCARD, 0, 16, false);
    expect(f, BLK_S_IOERR, 1);
    put_range(f, UINT64_MAX, 1, 0);
    request(f, BLK_T_DISCARD, 0, 16, false);
    expect(f, BLK_S_IOERR, 1);
    put_range(f, 0, 1, 0);
    request(f, BLK_T_DISCARD, 0, 32, false);
    expect(f, BLK_S_IOERR, 1);
    request(f, BLK_T_DISCARD, 0, 15, false);
    expect(f, BLK_S_IOERR, 1);
    request(f, BLK_T_DISCARD, 0, 0, false);
    expect(f, BLK_S_UNSUPP, 1);
    assert_int_equal(f->disk.submits, 0);
    put_range(f, 0, 0, 0);
    request(f, BLK_T_DISCARD, 0, 16, false);
    expect(f, BLK_S_OK, 1);
    assert_int_equal(f->disk.submits, 0);
}

static void test_unknown_types(void **state)
{
    struct fixture *f = *state;
    static const uint32_t types[] = {2, 3, 5, 10, 14, 16, UINT32_MAX};

    start(f, F_ALL);
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        request(f, types[i], 0, 512, (i & 1) != 0);
        expect(f, BLK_S_UNSUPP, (i & 1) != 0 ? 0 : 1);
    }
    /* Data that goes the wrong way. */
    request(f, BLK_T_IN, 0, 512, false);
    expect(f, BLK_S_UNSUPP, 1);
    request(f, BLK_T_GET_ID, 0, 20, false);
    expect(f, BLK_S_UNSUPP, 1);
    request(f, BLK_T_DISCARD, 0, 16, true);
    expect(f, BLK_S_UNSUPP, 0);
    assert_false(stopped(f));
}

static void test_request_without_header_or_status_is_a_violation(void **state)
{
    struct fixture *f = *state;
    const struct drive_buffer no_status = {HEADER, 16, false};
    const struct drive_buffer short_header[] = {
        {HEADER, 15, false}, {STATUS, 1, true}};
    const struct drive_buffer no_header = {STATUS, 1, true};

    for (int i = 0; i < 3; i++) {
        drive_queue_init(&f->d, &f->mem, RINGS, SIZE);
        start(f, F_ALL);
        put_header(f, BLK_T_OUT, 0);
        if (i == 0)
            (void)drive_add(&f->d, &no_status, 1);
        else if (i == 1)
            (void)drive_add(&f->d, short_header, 2);
        else
            (void)drive_add(&f->d, &no_header, 1);
        assert_false(stopped(f));
        drive_kick(f->dev, 0);
        assert_true(stopped(f));
        assert_int_equal(f->blk.virtio.queues[0].q.inflight, 0);
    }
    assert_int_equal(f->blk.virtio.stats.violations, 3);
}

static void test_read_only_disk(void **state)
{
    struct fixture *f = *state;

    blk_fini(&f->blk);
    f->disk.backend.read_only = true;
    make_blk(f, &f->blk);
    assert_int_equal(f->blk.virtio.features &
                         (BLK_F_RO | BLK_F_DISCARD | BLK_F_WRITE_ZEROES),
        BLK_F_RO);
    start(f, VIRTIO_F_VERSION_1 | BLK_F_RO);
    request(f, BLK_T_OUT, 0, 512, false);
    expect(f, BLK_S_IOERR, 1);
    assert_int_equal(f->disk.submits, 0);
}

static void test_configuration(void **state)
{
    struct fixture *f = *state;
    struct blk_config_space c;

    for (uint32_t i = 0; i < sizeof(c); i += 4) {
        uint32_t word = drive_read(f->dev, VIRTIO_MMIO_CONFIG + i);

        memcpy((uint8_t *)&c + i, &word, sizeof(word));
    }
    assert_int_equal(le64_get(c.capacity), SECTORS);
    assert_int_equal(le32_get(c.seg_max), SIZE - 2);
    assert_int_equal(le32_get(c.blk_size), 512);
    assert_int_equal(c.physical_block_exp, 3);
    assert_int_equal(le16_get(c.num_queues), 1);
    assert_int_equal(le32_get(c.max_discard_seg), 1);
    assert_int_equal(drive_read(f->dev, VIRTIO_MMIO_CONFIG + 60), 0);
}

static void test_reset_drains_what_is_in_flight(void **state)
{
    struct fixture *f = *state;

    start(f, F_ALL);
    f->disk.holds = true;
    request(f, BLK_T_IN, 0, 512, true);
    request(f, BLK_T_OUT, 8, 512, false);
    assert_int_equal(f->disk.held_count, 2);
    drive_write(f->dev, VIRTIO_MMIO_STATUS, 0);
    assert_int_equal(f->disk.held_count, 0);
    assert_int_equal(f->blk.virtio.queues[0].q.inflight, 0);
    assert_int_equal(f->blk.state.capacity, SECTORS);
}

static void test_quiesced_requests_are_answered_once(void **state)
{
    struct fixture *f = *state;
    struct blk other;
    struct blk_state saved;
    struct err err;

    start(f, F_ALL);
    f->disk.holds = true;
    for (int i = 0; i < 4; i++)
        request(f, BLK_T_OUT, 0, 512, false);
    assert_int_equal(f->disk.held_count, 4);
    assert_int_equal(f->dev->ops->quiesce(f->dev, NULL), 0);
    for (int i = 0; i < 4; i++)
        expect(f, BLK_S_OK, 1);
    assert_true(fd_eventfd_drain(f->irq) >= 1);
    saved = f->blk.state;
    f->disk.holds = false;

    make_blk(f, &other);
    other.state = saved;
    assert_int_equal(
        other.virtio.base.ops->post_load(&other.virtio.base, NULL), 0);
    other.virtio.base.ops->resume(&other.virtio.base);
    put_header(f, BLK_T_FLUSH, 0);
    (void)drive_add(&f->d,
        (const struct drive_buffer[]){{HEADER, 16, false}, {STATUS, 1, true}},
        2);
    drive_kick(&other.virtio.base, 0);
    expect(f, BLK_S_OK, 1);

    /* A disk of another size would be another disk. */
    other.state = saved;
    other.state.capacity++;
    assert_int_equal(
        other.virtio.base.ops->post_load(&other.virtio.base, &err), -EINVAL);
    assert_non_null(strstr(err.text, "vda"));
    assert_non_null(strstr(err.text, "257"));
    blk_fini(&other);
    f->disk.backend.opaque = &f->blk;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(test_read),
        T(test_write),
        T(test_write_through_without_flush),
        T(test_flush),
        T(test_get_id),
        T(test_any_cut_of_a_request),
        T(test_write_behind_the_header),
        T(test_ranges_are_checked),
        T(test_failed_read_is_marked_dirty),
        T(test_large_batches_are_cut),
        T(test_discard_and_write_zeroes),
        T(test_bad_discards),
        T(test_unknown_types),
        T(test_request_without_header_or_status_is_a_violation),
        T(test_read_only_disk),
        T(test_configuration),
        T(test_reset_drains_what_is_in_flight),
        T(test_quiesced_requests_are_answered_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
