/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drives in snapshots: what the guest could read when it was saved is what it
 * reads after the restore, all of it through the device, whatever was written,
 * zeroed and discarded in between and however long the chain.
 */
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
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot/assembly.h"
#include "snapshot/flatten.h"
#include "snapshot/verify.h"
#include "tests/unit/support/disk_rig.h"
#include "tests/unit/support/snapshot_rig.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/machine_drive_restore.h"
#include "vmm/machine_drive_save.h"

#define OVERLAY "overlay.drive_save"
#define NEW     "new.drive_save"
#define CHAIN   10u
#define NUMBER  3u /* of the drive in its machine */

struct fixture {
    struct disk_rig *rig;
    char path[64];
    struct store store;
};

/* The other parts of a snapshot: a page of RAM that is zero, and state. */
struct saving {
    struct assembly assembly;
    struct machine_drive_save drive;
    struct capture_image memory;
};

static enum blk_overlay_kind kinds[] = {
    BLK_OVERLAY_MEMORY, BLK_OVERLAY_TEMPORARY, BLK_OVERLAY_FILE};

static int set_up(void **state)
{
    const enum blk_overlay_kind *kind = *state;
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err;

    assert_non_null(f);
    (void)snprintf(f->path, sizeof(f->path), "/tmp/spore-test-XXXXXX");
    assert_non_null(mkdtemp(f->path));
    if (store_open(&f->store, f->path, true, &err) < 0)
        fail_msg("%s", err.text);
    (void)unlink(OVERLAY);
    (void)unlink(NEW);
    f->rig = disk_rig_new(*kind != BLK_OVERLAY_MEMORY);
    f->rig->options = (struct machine_drive_options){.has_overlay = true,
        .overlay = *kind,
        .overlay_path = *kind == BLK_OVERLAY_FILE ? OVERLAY : "."};
    disk_rig_open(f->rig);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    disk_rig_free(f->rig);
    store_close(&f->store);
    snapshot_rig_remove_tree(f->path);
    (void)unlink(OVERLAY);
    (void)unlink(NEW);
    free(f);
    return 0;
}

static void must(int rc, const struct err *err)
{
    if (rc < 0)
        fail_msg("%s", err->text);
}

static void save_begins(struct fixture *f, struct saving *s,
    struct machine_drive *drive, const struct snapshot_id *parent, bool share)
{
    struct machine_drive_save_options options = {.sync = false};
    const struct assembly_options assembly = {
        .diff = parent != NULL, .share = share};
    struct capture_plan plan = {.image_count = 1, .images = {{.pages = 1}}};
    uint64_t pages = machine_drive_save_pages(drive);
    struct err err;

    if (parent != NULL) {
        plan.base = *parent;
        options.parent = *parent;
    }
    if (pages > 0)
        plan.images[plan.image_count++] =
            (struct capture_plan_image){.drive = NUMBER, .pages = pages};
    must(assembly_begin(&s->assembly, &f->store, &plan, &assembly, &err), &err);
    must(capture_image_init(&s->memory, s->assembly.image_fds[0], 1, &err),
        &err);
    s->memory.is_diff = parent != NULL;
    must(machine_drive_save_begin(
             &s->drive, drive, s->assembly.image_fds[1], &options, &err),
        &err);
}

static void save_stops(struct saving *s)
{
    struct device *dev = &s->drive.drive->blk.virtio.base;
    struct err err;

    device_lock(dev);
    must(dev->ops->quiesce(dev, &err), &err);
    device_unlock(dev);
    must(machine_drive_save_stop(&s->drive, &err), &err);
    device_lock(dev);
    dev->ops->resume(dev);
    device_unlock(dev);
}

static void save_ends(struct saving *s, const struct snapshot_id *id)
{
    machine_drive_save_end(&s->drive, id);
    capture_image_fini(&s->memory);
    assembly_fini(&s->assembly);
}

static void write_capture(struct saving *s)
{
    const struct capture_part parts[] = {
        {.image = &s->memory}, {.drive = NUMBER, .image = &s->drive.image}};
    const struct capture_about about = {.vcpus = 1};
    struct disks disks = {.count = NUMBER + 1};
    struct state_writer state;
    struct err err;

    /* The drives before it are not there; theirs is the same record. */
    for (uint32_t i = 0; i < disks.count; i++)
        disks.records[i] = s->drive.record;
    state_writer_init(&state, &s->assembly.save.id);
    must(disks_store(&disks, &state, &err), &err);
    must(capture_add_about(&state, &about, &err), &err);
    must(capture_write(s->assembly.capture_fd, parts,
             s->assembly.plan.image_count, &state, &err),
        &err);
    state_writer_fini(&state);
}

static struct snapshot_id save_finishes(struct saving *s)
{
    struct snapshot_id id;
    struct err err;

    must(machine_drive_save_finish(&s->drive, &err), &err);
    write_capture(s);
    must(assembly_finish(&s->assembly, &id, &err), &err);
    save_ends(s, &id);
    return id;
}

static struct snapshot_id save(struct fixture *f, struct disk_rig *rig,
    const struct snapshot_id *parent, bool share)
{
    struct saving s;
    struct err err;

    save_begins(f, &s, rig->drive, parent, share);
    must(machine_drive_save_copy(&s.drive, false, &err), &err);
    save_stops(&s);
    return save_finishes(&s);
}

static struct disk_record record_of(const struct snap *snap)
{
    struct disks disks;
    struct disk_record record;
    struct err err;

    must(disks_decode(
             state_file_find(&snap->state, DISKS_SECTION), &disks, &err),
        &err);
    record = disks.records[NUMBER];
    disks.records[NUMBER].path = NULL;
    disks_fini(&disks);
    return record;
}

/* Another rig with the image of `of`; of the model it knows nothing yet. */
static struct disk_rig *like(const struct disk_rig *of)
{
    struct disk_rig *rig = disk_rig_new(of->config.engine == CONFIG_IO_ASYNC);

    (void)unlink(rig->path);
    assert_int_equal(symlink(of->path, rig->path), 0);
    rig->options = (struct machine_drive_options){
        .has_overlay = true, .overlay = BLK_OVERLAY_MEMORY};
    return rig;
}

static int try_restore(struct fixture *f, struct disk_rig *rig,
    const struct snapshot_id *id, bool allow_changed, struct err *err)
{
    struct disk_record record;
    struct snap snap;
    int rc = snap_open(&f->store, id, &snap, err);

    if (rc < 0)
        return rc;
    record = record_of(&snap);
    rc = machine_drive_restore(rig->drive, &record,
        snap_find_disk(&snap, NUMBER), id, allow_changed, err);
    free(record.path);
    snap_close(&snap);
    return rc;
}

static struct disk_rig *restore(struct fixture *f, const struct disk_rig *of,
    const struct snapshot_id *id, const uint8_t *model)
{
    struct disk_rig *rig = like(of);
    struct err err;

    disk_rig_open(rig);
    must(try_restore(f, rig, id, false, &err), &err);
    memcpy(rig->model, model, DISK_RIG_BYTES);
    return rig;
}

static void check_snapshot(
    struct fixture *f, const struct snapshot_id *id, const uint8_t *model)
{
    struct disk_rig *rig = restore(f, f->rig, id, model);
    struct snap snap;
    struct err err;

    disk_rig_check(rig);
    /* What is written now is this machine's only. */
    disk_rig_round(rig);
    disk_rig_check(rig);
    disk_rig_free(rig);
    must(snap_open(&f->store, id, &snap, &err), &err);
    assert_true(verify_is_trusted(&snap));
    must(verify_snap(&snap, NULL, &err), &err);
    assert_true(verify_is_trusted(&snap));
    snap_close(&snap);
}

/* ---- tests --------------------------------------------------------------- */

static void test_clones_are_apart(void **state)
{
    struct fixture *f = *state;
    struct disk_rig *clones[3];
    struct snapshot_id id;

    for (unsigned int i = 0; i < 5; i++)
        disk_rig_round(f->rig);
    id = save(f, f->rig, NULL, false);
    for (size_t i = 0; i < ARRAY_SIZE(clones); i++) {
        clones[i] = restore(f, f->rig, &id, f->rig->model);
        clones[i]->seed += i;
    }
    for (unsigned int round = 0; round < 20; round++) {
        disk_rig_round(f->rig);
        for (size_t i = 0; i < ARRAY_SIZE(clones); i++)
            disk_rig_round(clones[i]);
        disk_rig_check(f->rig);
        for (size_t i = 0; i < ARRAY_SIZE(clones); i++)
            disk_rig_check(clones[i]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(clones); i++)
        disk_rig_free(clones[i]);
}

/* How many clusters the diff wrote itself. */
static uint64_t own_clusters(struct fixture *f, const struct snapshot_id *id)
{
    struct snap snap;
    struct err err;
    uint64_t own;

    must(snap_open(&f->store, id, &snap, &err), &err);
    own = page_index_file_pages(&snap.disks[0].map, 0);
    snap_close(&snap);
    return own;
}

static void check_flat(
    struct fixture *f, const struct snapshot_id *id, const uint8_t *model)
{
    struct snapshot_id flat;
    struct snap snap;
    struct err err;

    must(snap_open(&f->store, id, &snap, &err), &err);
    must(flatten_snap(&snap, &f->store, NULL, false, NULL, &flat, &err), &err);
    snap_close(&snap);
    must(store_remove(&f->store, id, &err), &err);
    must(snap_open(&f->store, &flat, &snap, &err), &err);
    assert_int_equal(snap.disk_count, 1);
    assert_int_equal(snap.disks[0].map.file_count, 1);
    snap_close(&snap);
    check_snapshot(f, &flat, model);
}

static void check_chain(void **state, bool share)
{
    struct fixture *f = *state;
    struct snapshot_id ids[CHAIN];
    uint8_t *models[CHAIN];
    struct err err;

    for (unsigned int i = 0; i < CHAIN; i++) {
        unsigned int rounds =
            i == 0 ? 6 : (unsigned int)disk_rig_next(f->rig, 3);

        for (unsigned int k = 0; k < rounds; k++)
            disk_rig_round(f->rig);
        ids[i] = save(f, f->rig, i == 0 ? NULL : &ids[i - 1], share);
        models[i] = malloc(DISK_RIG_BYTES);
        assert_non_null(models[i]);
        memcpy(models[i], f->rig->model, DISK_RIG_BYTES);
        if (rounds == 0)
            assert_int_equal(own_clusters(f, &ids[i]), 0);
    }
    for (unsigned int i = 0; i < CHAIN; i++)
        check_snapshot(f, &ids[i], models[i]);
    /* The last one needs no other. */
    for (unsigned int i = 0; i + 1 < CHAIN; i++)
        must(store_remove(&f->store, &ids[i], &err), &err);
    check_snapshot(f, &ids[CHAIN - 1], models[CHAIN - 1]);
    check_flat(f, &ids[CHAIN - 1], models[CHAIN - 1]);
    for (unsigned int i = 0; i < CHAIN; i++)
        free(models[i]);
}

static void test_chain(void **state)
{
    check_chain(state, false);
}

static void test_chain_that_shares_pages(void **state)
{
    check_chain(state, true);
}

/* A machine that was restored is saved, and that one restored, and so on. */
static void test_generations(void **state)
{
    struct fixture *f = *state;
    struct disk_rig *rig = f->rig;
    struct snapshot_id before = {0};

    for (unsigned int i = 0; i < CHAIN; i++) {
        bool is_full = i % 4 == 0;
        struct snapshot_id id;
        struct disk_rig *next;

        disk_rig_round(rig);
        id = save(f, rig, is_full ? NULL : &before, false);
        disk_rig_check(rig);
        next = restore(f, f->rig, &id, rig->model);
        next->seed = rig->seed + i;
        if (rig != f->rig)
            disk_rig_free(rig);
        disk_rig_check(next);
        rig = next;
        before = id;
    }
    disk_rig_free(rig);
}

static void *copy_thread(void *opaque)
{
    struct saving *s = opaque;
    static struct err err;

    return machine_drive_save_copy(&s->drive, true, &err) < 0 ? &err : NULL;
}

/* The guest's requests go on while clusters are copied. */
static void test_saved_while_it_is_written_to(void **state)
{
    struct fixture *f = *state;
    struct snapshot_id id = {0};

    for (unsigned int i = 0; i < 30; i++) {
        struct saving s;
        pthread_t thread;
        void *failed;

        disk_rig_round(f->rig);
        save_begins(f, &s, f->rig->drive, i == 0 ? NULL : &id, false);
        assert_int_equal(pthread_create(&thread, NULL, copy_thread, &s), 0);
        for (unsigned int k = 0; k < 5; k++)
            disk_rig_round(f->rig);
        assert_int_equal(pthread_join(thread, &failed), 0);
        if (failed != NULL)
            fail_msg("%s", ((struct err *)failed)->text);
        /* In flight at the stop, and there behind it. */
        for (unsigned int k = 0; k < DISK_RIG_BATCH; k++)
            disk_rig_add_random(f->rig, k);
        drive_kick(f->rig->dev, 0);
        assert_int_equal(loop_run_once(&f->rig->loop, 1000), 0);
        save_stops(&s);
        disk_rig_run(f->rig, DISK_RIG_BATCH);
        id = save_finishes(&s);
        check_snapshot(f, &id, f->rig->model);
    }
}

static void test_a_save_that_failed_loses_nothing(void **state)
{
    struct fixture *f = *state;
    struct snapshot_id id = save(f, f->rig, NULL, false);

    for (unsigned int i = 0; i < 4; i++) {
        struct saving s;
        struct err err;

        disk_rig_round(f->rig);
        save_begins(f, &s, f->rig->drive, &id, false);
        if (i > 0)
            must(machine_drive_save_copy(&s.drive, true, &err), &err);
        disk_rig_round(f->rig);
        if (i > 1)
            save_stops(&s);
        disk_rig_round(f->rig);
        if (i > 2)
            must(machine_drive_save_finish(&s.drive, &err), &err);
        save_ends(&s, NULL);
    }
    id = save(f, f->rig, &id, false);
    check_snapshot(f, &id, f->rig->model);
}

/* Another disk behind the drive: not while it is saved, and whole then. */
static void test_another_disk_is_saved_whole(void **state)
{
    struct fixture *f = *state;
    struct snapshot_id id;
    struct saving s;
    struct err err;

    disk_rig_round(f->rig);
    save_begins(f, &s, f->rig->drive, NULL, false);
    assert_int_equal(
        machine_drive_replace(f->rig->drive, f->rig->path, -1, &err), -EBUSY);
    must(machine_drive_save_copy(&s.drive, false, &err), &err);
    save_stops(&s);
    id = save_finishes(&s);
    must(machine_drive_replace(f->rig->drive, f->rig->path, -1, &err), &err);
    {
        int fd = open(f->rig->path, O_RDONLY | O_CLOEXEC);

        assert_int_equal(
            fd_read_full(fd, f->rig->model, DISK_RIG_BYTES), DISK_RIG_BYTES);
        fd_closep(&fd);
    }
    disk_rig_round(f->rig);
    id = save(f, f->rig, &id, false);
    check_snapshot(f, &id, f->rig->model);
}

static void set_mtime(const char *path, time_t seconds)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = seconds}};

    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void expect_refused(struct fixture *f, struct disk_rig *rig,
    const struct snapshot_id *id, int code, const char *word)
{
    struct err err;

    disk_rig_open(rig);
    assert_int_equal(try_restore(f, rig, id, false, &err), code);
    if (strstr(err.text, word) == NULL || strchr(err.text, '\n') != NULL)
        fail_msg("\"%s\" is not in: %s", word, err.text);
    disk_rig_close(rig);
}

static void test_a_file_that_changed_is_refused(void **state)
{
    struct fixture *f = *state;
    struct disk_rig *rig = like(f->rig);
    struct snapshot_id id;
    struct err err;

    disk_rig_round(f->rig);
    set_mtime(f->rig->path, 1000);
    id = save(f, f->rig, NULL, false);
    set_mtime(f->rig->path, 1001);
    expect_refused(f, rig, &id, -ESTALE, "touch -d @1000.000000000");
    disk_rig_open(rig);
    must(try_restore(f, rig, &id, true, &err), &err);
    memcpy(rig->model, f->rig->model, DISK_RIG_BYTES);
    disk_rig_check(rig);
    disk_rig_close(rig);
    assert_int_equal(truncate(f->rig->path, DISK_RIG_BYTES + 4096), 0);
    expect_refused(f, rig, &id, -ESTALE, "bytes");
    disk_rig_open(rig);
    /* The guest would find another disk there. */
    assert_int_equal(try_restore(f, rig, &id, true, &err), -EINVAL);
    disk_rig_close(rig);
    assert_int_equal(truncate(f->rig->path, DISK_RIG_BYTES), 0);
    set_mtime(f->rig->path, 1000);
    /* Without an overlay there is no place for what was written. */
    rig->options.has_overlay = false;
    disk_rig_close(f->rig);
    expect_refused(f, rig, &id, -EINVAL, "overlay");
    disk_rig_free(rig);
}

/* A file that somebody names in the place of the one that was. */
static void test_another_file_is_taken_at_its_word(void **state)
{
    struct fixture *f = *state;
    struct disk_rig *rig = like(f->rig);
    struct snapshot_id id;
    struct err err;
    int fd;

    disk_rig_round(f->rig);
    id = save(f, f->rig, NULL, false);
    /* The same bytes in a file of its own, written now. */
    fd = open(rig->path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(
        fd_read_full(fd, rig->model, DISK_RIG_BYTES), DISK_RIG_BYTES);
    fd_closep(&fd);
    assert_int_equal(unlink(rig->path), 0);
    fd = open(rig->path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    assert_int_equal(fd_write_full(fd, rig->model, DISK_RIG_BYTES), 0);
    fd_closep(&fd);
    rig->config.is_other = true;
    disk_rig_open(rig);
    must(try_restore(f, rig, &id, false, &err), &err);
    memcpy(rig->model, f->rig->model, DISK_RIG_BYTES);
    disk_rig_check(rig);
    disk_rig_close(rig);
    assert_int_equal(truncate(rig->path, DISK_RIG_BYTES + 4096), 0);
    expect_refused(f, rig, &id, -ESTALE, "bytes");
    disk_rig_free(rig);
}

static void test_plain_file(void **state)
{
    struct fixture *f = *state;
    struct disk_rig *rig = disk_rig_new(false);
    struct disk_rig *again;
    struct snapshot_id id;

    disk_rig_open(rig);
    disk_rig_round(rig);
    id = save(f, rig, NULL, false);
    memcpy(f->rig->model, rig->model, DISK_RIG_BYTES);
    disk_rig_close(rig);
    again = like(rig);
    again->options.has_overlay = false;
    disk_rig_open(again);
    {
        struct err err;

        must(try_restore(f, again, &id, false, &err), &err);
    }
    memcpy(again->model, f->rig->model, DISK_RIG_BYTES);
    disk_rig_check(again);
    /* One write, and there is no way back, at whatever time it was. */
    disk_rig_add(again, 0, BLK_T_OUT, 8, 512);
    disk_rig_run(again, 1);
    disk_rig_close(again);
    expect_refused(f, again, &id, -ESTALE, "overlay");
    disk_rig_free(again);
    disk_rig_free(rig);
}

/* The write comes in the same tick of the kernel's clock as the stop. */
static void test_a_write_right_after_the_stop_shows(void **state)
{
    struct fixture *f = *state;
    struct disk_rig *rig = disk_rig_new(false);

    disk_rig_open(rig);
    for (unsigned int i = 0; i < 20; i++) {
        struct saving s;
        struct snapshot_id id;
        struct err err;

        disk_rig_round(rig);
        save_begins(f, &s, rig->drive, NULL, false);
        must(machine_drive_save_copy(&s.drive, true, &err), &err);
        save_stops(&s);
        disk_rig_round(rig);
        id = save_finishes(&s);
        assert_int_equal(try_restore(f, rig, &id, false, &err), -ESTALE);
    }
    disk_rig_free(rig);
}

/* An overlay in a file has all of it, and is nobody else's. */
static void test_into_a_file(void **state)
{
    struct fixture *f = *state;
    struct disk_rig *rig = like(f->rig);
    struct snapshot_id id;
    struct err err;

    for (unsigned int i = 0; i < 3; i++)
        disk_rig_round(f->rig);
    id = save(f, f->rig, NULL, false);
    rig->options.overlay = BLK_OVERLAY_FILE;
    rig->options.overlay_path = NEW;
    disk_rig_open(rig);
    must(try_restore(f, rig, &id, false, &err), &err);
    memcpy(rig->model, f->rig->model, DISK_RIG_BYTES);
    disk_rig_check(rig);
    disk_rig_round(rig);
    disk_rig_close(rig);
    expect_refused(f, rig, &id, -EEXIST, NEW);
    must(store_remove(&f->store, &id, &err), &err);
    disk_rig_open(rig);
    disk_rig_check(rig);
    disk_rig_free(rig);
}

#define T(name, k)                                                             \
    cmocka_unit_test_prestate_setup_teardown(name, set_up, tear_down, &kinds[k])
#define ALL(name) T(name, 0), T(name, 1), T(name, 2)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALL(test_clones_are_apart),
        ALL(test_chain),
        ALL(test_chain_that_shares_pages),
        ALL(test_generations),
        ALL(test_saved_while_it_is_written_to),
        ALL(test_a_save_that_failed_loses_nothing),
        T(test_another_disk_is_saved_whole, 0),
        T(test_a_file_that_changed_is_refused, 0),
        T(test_another_file_is_taken_at_its_word, 0),
        T(test_plain_file, 0),
        T(test_a_write_right_after_the_stop_shows, 0),
        ALL(test_into_a_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
