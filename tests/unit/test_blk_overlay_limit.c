/* SPDX-License-Identifier: Apache-2.0 */
/* What an overlay may take of its host, and what it must give back first. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/support/mem_disk.h"
#include "virtio/blk_overlay_clusters.h"
#include "virtio/blk_overlay_file.h"
#include "vmm/base/cc.h"

#define CLUSTERS 64u
#define BYTES    (CLUSTERS * BLK_CLUSTER)
#define LIMIT    10u
#define IMAGE    "image.blk_overlay_limit"
#define OVERLAY  "overlay.blk_overlay_limit"

struct rig {
    uint8_t base_data[BYTES];
    uint8_t upper_data[BYTES];
    struct mem_disk base;
    struct mem_disk upper;
    struct blk_overlay o;
};

/* A request that is waited for. */
struct request {
    struct blk_io io;
    struct iovec iov;
    int rc;
};

static void on_done(struct blk_io *io, int rc)
{
    container_of(io, struct request, io)->rc = rc;
}

static void ignore_batch(void *opaque)
{
    (void)opaque;
}

static int ask(struct blk_backend *b, enum blk_io_kind kind, uint64_t at,
    uint64_t len, uint8_t *data)
{
    struct request r = {.io = {.kind = kind,
                            .offset = at,
                            .len = len,
                            .may_unmap = kind == BLK_DISCARD,
                            .iov_count = data != NULL,
                            .done = on_done},
        .iov = {.iov_base = data, .iov_len = len},
        .rc = 1};

    r.io.iov = &r.iov;
    b->ops->submit(b, &r.io);
    b->ops->commit(b);
    b->ops->drain(b);
    assert_true(r.rc <= 0);
    return r.rc;
}

/* Writes `count` clusters from `first` on. */
static int put(struct blk_backend *b, uint64_t first, uint64_t count)
{
    uint8_t *data = malloc(count * BLK_CLUSTER);
    int rc;

    assert_non_null(data);
    memset(data, 0x77, count * BLK_CLUSTER);
    rc = ask(b, BLK_WRITE, first * BLK_CLUSTER, count * BLK_CLUSTER, data);
    free(data);
    return rc;
}

static uint8_t first_byte(struct blk_backend *b, uint64_t cluster)
{
    uint8_t sector[BLK_SECTOR];

    assert_int_equal(
        ask(b, BLK_READ, cluster * BLK_CLUSTER, sizeof(sector), sector), 0);
    return sector[0];
}

static int set_up(void **state)
{
    struct rig *g = calloc(1, sizeof(*g));
    struct blk_overlay_config config;

    assert_non_null(g);
    memset(g->base_data, 0x11, BYTES);
    mem_disk_init(&g->base, g->base_data, BYTES / BLK_SECTOR);
    mem_disk_init(&g->upper, g->upper_data, BYTES / BLK_SECTOR);
    g->base.backend.read_only = true;
    config = (struct blk_overlay_config){
        .base = &g->base.backend, .upper = &g->upper.backend};
    assert_int_equal(blk_overlay_init(&g->o, &config, NULL), 0);
    assert_int_equal(blk_overlay_limit_set(&g->o, LIMIT), 0);
    g->o.backend.batch_done = ignore_batch;
    *state = g;
    return 0;
}

static int tear_down(void **state)
{
    struct rig *g = *state;

    blk_overlay_fini(&g->o);
    free(g);
    return 0;
}

static void test_no_more_than_the_limit(void **state)
{
    struct rig *g = *state;
    struct blk_backend *b = &g->o.backend;
    unsigned int writes;

    assert_int_equal(put(b, 0, LIMIT - 1), 0);
    assert_int_equal(put(b, 20, 2), -EDQUOT);
    assert_int_equal(put(b, 20, 1), 0);
    writes = g->upper.writes;
    for (unsigned int i = 30; i < CLUSTERS; i++)
        assert_int_equal(put(b, i, 1), -EDQUOT);
    /* Part of one is one, and nothing of what is refused was done. */
    assert_int_equal(put(b, LIMIT - 2, 2), -EDQUOT);
    assert_int_equal(g->upper.writes, writes);
    assert_int_equal(first_byte(b, 30), 0x11);
    assert_int_equal(first_byte(b, 20), 0x77);
    /* What is there can be written to for ever. */
    for (unsigned int i = 0; i < 100; i++)
        assert_int_equal(put(b, i % (LIMIT - 1), 1), 0);
    assert_int_equal(g->o.limit.held, LIMIT);
}

static void test_discards_make_room(void **state)
{
    struct rig *g = *state;
    struct blk_backend *b = &g->o.backend;

    assert_int_equal(put(b, 0, LIMIT), 0);
    /* Zeroes that leave the blocks where they are leave no room. */
    assert_int_equal(ask(b, BLK_ZERO, 0, 2 * BLK_CLUSTER, NULL), 0);
    assert_int_equal(put(b, 40, 1), -EDQUOT);
    assert_int_equal(put(b, 0, 2), 0);
    assert_int_equal(ask(b, BLK_DISCARD, 0, 4 * BLK_CLUSTER, NULL), 0);
    assert_int_equal(put(b, 40, 4), 0);
    assert_int_equal(put(b, 50, 1), -EDQUOT);
    /* Neither does a discard that the host's file has refused. */
    g->upper.fails_with = -EOPNOTSUPP;
    assert_int_equal(ask(b, BLK_DISCARD, 40 * BLK_CLUSTER, 4096, NULL), 0);
    g->upper.fails_with = 0;
    assert_int_equal(put(b, 50, 1), -EDQUOT);
    assert_int_equal(ask(b, BLK_DISCARD, 40 * BLK_CLUSTER, 4096, NULL), 0);
    assert_int_equal(put(b, 50, 1), 0);
}

/* The ends of a range of zeroes are copied, and take space as writes do. */
static void test_zeroes_in_part_of_clusters(void **state)
{
    struct rig *g = *state;
    struct blk_backend *b = &g->o.backend;
    const uint64_t len = 3 * BLK_CLUSTER;

    assert_int_equal(ask(b, BLK_ZERO, BLK_SECTOR, len, NULL), 0);
    assert_int_equal(g->o.limit.held, 2);
    assert_int_equal(put(b, 10, LIMIT - 2), 0);
    assert_int_equal(
        ask(b, BLK_ZERO, 30 * BLK_CLUSTER + 512, len, NULL), -EDQUOT);
    /* Whole clusters of them need none. */
    assert_int_equal(ask(b, BLK_ZERO, 30 * BLK_CLUSTER, len, NULL), 0);
    assert_int_equal(first_byte(b, 31), 0);
}

/* What is put back does not use up what there is for the guest. */
static void test_resets_give_back(void **state)
{
    struct rig *g = *state;
    struct blk_backend *b = &g->o.backend;

    for (unsigned int i = 0; i < 5; i++) {
        assert_int_equal(put(b, i * LIMIT, LIMIT), 0);
        assert_int_equal(put(b, 60, 1), -EDQUOT);
        assert_int_equal(
            blk_overlay_put(&g->o, i * LIMIT, LIMIT, BLK_CLUSTER_BASE, NULL),
            0);
        assert_int_equal(g->o.limit.held, 0);
    }
    /* And what a level had is there again, limit or not. */
    assert_int_equal(put(b, 0, LIMIT), 0);
    assert_int_equal(
        blk_overlay_put(&g->o, 20, 2, BLK_CLUSTER_DATA, g->base_data), 0);
    assert_int_equal(g->o.limit.held, LIMIT + 2);
    assert_int_equal(put(b, 22, 1), -EDQUOT);
    assert_int_equal(put(b, 0, 1), 0);
}

static void make_image(void)
{
    int fd = open(IMAGE, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)(256 * BLK_CLUSTER)), 0);
    assert_int_equal(close(fd), 0);
}

static void open_file(struct blk_overlay_file *f, enum blk_overlay_kind kind)
{
    const struct blk_overlay_file_config config = {.base_path = IMAGE,
        .base_fd = open(IMAGE, O_RDONLY | O_CLOEXEC),
        .kind = kind,
        .path = kind == BLK_OVERLAY_FILE ? OVERLAY : ".",
        .limit = LIMIT * BLK_CLUSTER};
    const char *warning;

    assert_int_equal(blk_overlay_file_open(f, &config, &warning, NULL), 0);
    f->overlay.backend.batch_done = ignore_batch;
}

/* A guest that writes wherever it can: what its host's file has of it. */
static void test_file_does_not_outgrow_the_limit(void **state)
{
    static const enum blk_overlay_kind kinds[] = {
        BLK_OVERLAY_MEMORY, BLK_OVERLAY_TEMPORARY, BLK_OVERLAY_FILE};

    (void)state;
    make_image();
    for (unsigned int k = 0; k < ARRAY_SIZE(kinds); k++) {
        struct blk_overlay_file f;
        unsigned int refused = 0;
        struct stat before;
        struct stat st;

        (void)unlink(OVERLAY);
        open_file(&f, kinds[k]);
        assert_int_equal(fstat(f.upper.fd, &before), 0);
        for (unsigned int i = 0; i < 2000; i++)
            refused +=
                put(&f.overlay.backend, i * 37 % 255, 1 + i % 2) == -EDQUOT;
        assert_true(refused > 1000);
        assert_int_equal(f.overlay.limit.held, LIMIT);
        assert_int_equal(blk_overlay_sync(&f.overlay), 0);
        assert_int_equal(fstat(f.upper.fd, &st), 0);
        /* Besides there are the map of a file that stays, and tmpfs' own. */
        assert_true((uint64_t)(st.st_blocks - before.st_blocks) * 512 <=
                    (LIMIT + 8) * BLK_CLUSTER);
        blk_overlay_file_close(&f);
    }
    assert_int_equal(unlink(IMAGE), 0);
    (void)unlink(OVERLAY);
}

/* What is in a file that stays counts when it is opened again. */
static void test_file_is_limited_the_next_time(void **state)
{
    struct blk_overlay_file f;

    (void)state;
    make_image();
    (void)unlink(OVERLAY);
    open_file(&f, BLK_OVERLAY_FILE);
    assert_int_equal(put(&f.overlay.backend, 0, LIMIT - 1), 0);
    assert_int_equal(blk_overlay_sync(&f.overlay), 0);
    blk_overlay_file_close(&f);
    open_file(&f, BLK_OVERLAY_FILE);
    assert_int_equal(f.overlay.limit.held, LIMIT - 1);
    assert_int_equal(put(&f.overlay.backend, 100, 2), -EDQUOT);
    assert_int_equal(put(&f.overlay.backend, 100, 1), 0);
    blk_overlay_file_close(&f);
    assert_int_equal(unlink(IMAGE), 0);
    assert_int_equal(unlink(OVERLAY), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_no_more_than_the_limit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_discards_make_room, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_zeroes_in_part_of_clusters, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_resets_give_back, set_up, tear_down),
        cmocka_unit_test(test_file_does_not_outgrow_the_limit),
        cmocka_unit_test(test_file_is_limited_the_next_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
