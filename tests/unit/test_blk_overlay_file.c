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

#include "tests/unit/support/disk_rig.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "virtio/blk_overlay_format.h"

#define OVERLAY "overlay.blk_overlay_file"

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

static int set_up(void **state)
{
    const struct mode *mode = *state;
    struct disk_rig *f = disk_rig_new(mode->ring);

    (void)unlink(OVERLAY);
    f->options = (struct machine_drive_options){.has_overlay = true,
        .overlay = mode->kind,
        .overlay_path = mode->kind == BLK_OVERLAY_FILE ? OVERLAY : ".",
        .direct = mode->direct};
    disk_rig_open(f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    disk_rig_free(*state);
    (void)unlink(OVERLAY);
    return 0;
}

static void check_image(struct disk_rig *f, const uint8_t *want)
{
    uint8_t *got = malloc(DISK_RIG_BYTES);
    int fd = open(f->path, O_RDONLY | O_CLOEXEC);

    assert_non_null(got);
    assert_int_equal(fd_read_full(fd, got, DISK_RIG_BYTES), DISK_RIG_BYTES);
    assert_memory_equal(got, want, DISK_RIG_BYTES);
    fd_closep(&fd);
    free(got);
}

static void test_requests_match_the_model(void **state)
{
    struct disk_rig *f = *state;
    uint8_t *image = malloc(DISK_RIG_BYTES);

    assert_non_null(image);
    memcpy(image, f->model, DISK_RIG_BYTES);
    for (unsigned int i = 0; i < 40; i++) {
        disk_rig_round(f);
        if (i % 10 == 9)
            disk_rig_flush(f);
    }
    disk_rig_check(f);
    check_image(f, image);
    free(image);
}

static void test_file_is_there_the_next_time(void **state)
{
    struct disk_rig *f = *state;

    for (unsigned int i = 0; i < 3; i++) {
        disk_rig_round(f);
        if (i != 1)
            disk_rig_flush(f);
        /* An orderly end keeps it, flushed or not. */
        disk_rig_close(f);
        disk_rig_open(f);
        if (f->options.overlay == BLK_OVERLAY_FILE)
            disk_rig_check(f);
    }
}

/* A monitor that is killed: what was flushed is intact. */
static void test_file_survives_a_kill(void **state)
{
    struct disk_rig *f = *state;
    pid_t child;
    int status;

    disk_rig_round(f);
    disk_rig_flush(f);
    disk_rig_close(f);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        /* A ring of the parent's would not be the child's. */
        f->config.engine = CONFIG_IO_SYNC;
        disk_rig_open(f);
        disk_rig_round(f);
        disk_rig_flush(f);
        disk_rig_add(f, 0, BLK_T_OUT, DISK_RIG_SECTORS - 1, 512);
        disk_rig_run(f, 1);
        (void)kill(getpid(), SIGKILL);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    /* The same dice: the model has what the child wrote and flushed. */
    disk_rig_open(f);
    for (unsigned int i = 0; i < 16; i++)
        disk_rig_add_random(f, i);
    disk_rig_restart(f);
    disk_rig_add(f, 0, BLK_T_IN, DISK_RIG_SECTORS - 1, 512);
    disk_rig_run(f, 1);
    assert_int_equal(gmem_read(&f->mem, gpa(DISK_RIG_DATA),
                         f->model + DISK_RIG_BYTES - BLK_SECTOR, BLK_SECTOR),
        0);
    disk_rig_check(f);
}

static void expect_refused(struct disk_rig *f, int code, const char *word)
{
    struct err err;

    assert_int_equal(disk_rig_try_open(f, &err), code);
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
    struct disk_rig *f = *state;
    struct stat st;
    struct timespec times[2];

    disk_rig_round(f);
    disk_rig_close(f);
    assert_int_equal(stat(f->path, &st), 0);
    times[0] = st.st_atim;
    times[1] = st.st_mtim;
    assert_int_equal(truncate(f->path, DISK_RIG_BYTES + 512), 0);
    expect_refused(f, -ESTALE, "bytes");
    assert_int_equal(truncate(f->path, DISK_RIG_BYTES), 0);
    expect_refused(f, -ESTALE, "touch -d @");
    assert_int_equal(utimensat(AT_FDCWD, f->path, times, 0), 0);
    disk_rig_open(f);
    disk_rig_check(f);
    disk_rig_close(f);
    poke(f->path, 100, 1);
    poke(f->path, 101, 2);
    assert_int_equal(utimensat(AT_FDCWD, f->path, times, 0), 0);
    expect_refused(f, -ESTALE, "contents");
}

static void test_damage_is_refused(void **state)
{
    struct disk_rig *f = *state;

    disk_rig_round(f);
    disk_rig_flush(f);
    disk_rig_close(f);
    /* One slot of the map: the other one is there. */
    poke(OVERLAY, BLK_OVERLAY_BLOCK + 100, 0xff);
    poke(OVERLAY, BLK_OVERLAY_BLOCK + 101, 0xff);
    disk_rig_open(f);
    disk_rig_close(f);
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
    disk_rig_open(f);
}

static void test_second_user_is_refused(void **state)
{
    struct disk_rig *f = *state;
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
    struct disk_rig *f = *state;
    struct machine_drive *first = f->drive;

    disk_rig_open(f);
    disk_rig_round(f);
    disk_rig_check(f);
    disk_rig_close(f);
    f->drive = first;
    f->dev = &first->blk.virtio.base;
}

static void test_quiesced_while_at_work(void **state)
{
    struct disk_rig *f = *state;

    for (unsigned int round = 0; round < 20; round++) {
        for (unsigned int i = 0; i < 16; i++)
            disk_rig_add_random(f, i);
        drive_kick(f->dev, 0);
        assert_int_equal(loop_run_once(&f->loop, 0), 0);
        device_lock(f->dev);
        assert_int_equal(f->dev->ops->quiesce(f->dev, NULL), 0);
        assert_int_equal(f->drive->blk.virtio.queues[0].q.inflight, 0);
        f->dev->ops->resume(f->dev);
        device_unlock(f->dev);
        disk_rig_run(f, 16);
    }
    disk_rig_check(f);
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
