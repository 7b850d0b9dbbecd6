/* SPDX-License-Identifier: Apache-2.0 */
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
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "snapshot/dirfile.h"
#include "snapshot/save.h"
#include "snapshot/snap.h"
#include "snapshot/store.h"
#include "snapshot/verify.h"
#include "tests/unit/support/snapshot_rig.h"
#include "vmm/base/num.h"

#define PAGES UINT64_C(600)
#define BYTES (PAGES * NUM_PAGE_SIZE)

static uint8_t *copy_ram(const struct snapshot_rig *rig)
{
    uint8_t *copy = malloc(rig->pages * NUM_PAGE_SIZE);

    assert_non_null(copy);
    memcpy(copy, rig->ram, rig->pages * NUM_PAGE_SIZE);
    return copy;
}

static struct snapshot_id must_save(struct snapshot_rig *rig, const char *name,
    const struct snapshot_id *parent, const uint8_t *before)
{
    struct snapshot_id id;
    struct err err;

    if (snapshot_rig_save(rig, name, parent, before, &id, &err) < 0)
        fail_msg("%s", err.text);
    return id;
}

static struct snap must_open(
    const struct snapshot_rig *rig, const struct snapshot_id *id)
{
    struct snap snap;
    struct err err;

    if (snap_open(&rig->store, id, &snap, &err) < 0)
        fail_msg("%s", err.text);
    return snap;
}

static void assert_holds(const struct snapshot_rig *rig,
    const struct snapshot_id *id, const uint8_t *ram)
{
    struct snap snap = must_open(rig, id);
    uint8_t *loaded = snapshot_rig_load(&snap);
    struct err err;

    assert_int_equal(snap.index.pages, rig->pages);
    assert_memory_equal(loaded, ram, rig->pages * NUM_PAGE_SIZE);
    free(loaded);
    if (verify_snap(&snap, NULL, &err) < 0)
        fail_msg("%s", err.text);
    assert_true(verify_is_trusted(&snap));
    snap_close(&snap);
}

static size_t count_entries(const struct snapshot_rig *rig)
{
    struct store_entry *entries;
    size_t count;

    assert_int_equal(store_list(&rig->store, &entries, &count, NULL), 0);
    free(entries);
    return count;
}

static void test_full_then_diffs(void **state)
{
    struct snapshot_rig rig;
    struct snapshot_id ids[12];
    uint8_t *rams[12];

    (void)state;
    snapshot_rig_init(&rig, NULL, PAGES);
    for (uint64_t i = 10; i < 300; i++)
        snapshot_rig_fill(&rig, i, i % 7 == 0 ? 0 : i);
    ids[0] = must_save(&rig, "base", NULL, NULL);
    rams[0] = copy_ram(&rig);
    for (uint64_t k = 1; k < 12; k++) {
        for (uint64_t i = k; i < PAGES; i += 41)
            snapshot_rig_fill(&rig, i, i % 3 == 0 ? 0 : 1000 * k + i);
        ids[k] = must_save(&rig, NULL, &ids[k - 1], rams[k - 1]);
        rams[k] = copy_ram(&rig);
    }
    for (size_t k = 0; k < 12; k++)
        assert_holds(&rig, &ids[k], rams[k]);
    /* A parent may go: its image stays with those that point into it. */
    for (size_t k = 0; k < 11; k++)
        assert_int_equal(store_remove(&rig.store, &ids[k], NULL), 0);
    assert_int_equal(count_entries(&rig), 1);
    assert_holds(&rig, &ids[11], rams[11]);
    for (size_t k = 0; k < 12; k++)
        free(rams[k]);
    snapshot_rig_fini(&rig);
}

static void test_zero_pages_are_holes(void **state)
{
    struct snapshot_rig rig;
    struct snapshot_id id;
    struct snap snap;
    struct stat st;

    (void)state;
    snapshot_rig_init(&rig, NULL, PAGES);
    snapshot_rig_fill(&rig, 5, 1);
    for (uint64_t i = 100; i < 400; i++)
        snapshot_rig_fill(&rig, i, 0);
    snapshot_rig_fill(&rig, PAGES - 1, 2);
    id = must_save(&rig, NULL, NULL, NULL);
    snap = must_open(&rig, &id);
    assert_int_equal(snap.index.extent_count, 4);
    assert_int_equal(page_index_data_pages(&snap.index), 2);
    assert_int_equal(fstat(snap.image_fds[0], &st), 0);
    assert_int_equal(st.st_size, BYTES);
    assert_true(st.st_blocks * 512 <= (off_t)(4 * NUM_PAGE_SIZE));
    snap_close(&snap);
    assert_holds(&rig, &id, rig.ram);
    snapshot_rig_fini(&rig);
}

/* Pages that the store has are not written again, and are never wrong. */
static void test_dedupe(void **state)
{
    struct snapshot_rig rig;
    struct snapshot_id first;
    struct snapshot_id second;
    struct snap snap;
    uint8_t *ram;

    (void)state;
    snapshot_rig_init(&rig, NULL, PAGES);
    for (uint64_t i = 0; i < PAGES; i++)
        snapshot_rig_fill(&rig, i, i % 50 == 0 ? 0 : i + 1);
    ram = copy_ram(&rig);
    first = must_save(&rig, NULL, NULL, NULL);
    rig.dedupe = 16;
    /* Moved by 7 pages, with a few that are new. */
    memmove(rig.ram + 7 * NUM_PAGE_SIZE, rig.ram, BYTES - 7 * NUM_PAGE_SIZE);
    for (uint64_t i = 3; i < PAGES; i += 97)
        snapshot_rig_fill(&rig, i, 5000 + i);
    second = must_save(&rig, NULL, NULL, NULL);
    snap = must_open(&rig, &second);
    assert_int_equal(snap.index.file_count, 2);
    assert_true(page_index_file_pages(&snap.index, 0) < 200);
    assert_true(page_index_file_pages(&snap.index, 1) > 400);
    snap_close(&snap);
    assert_holds(&rig, &first, ram);
    assert_holds(&rig, &second, rig.ram);
    assert_int_equal(store_remove(&rig.store, &first, NULL), 0);
    assert_holds(&rig, &second, rig.ram);
    free(ram);
    snapshot_rig_fini(&rig);
}

/* Damage in the image where an equal page was: it is written again. */
static void test_dedupe_compares(void **state)
{
    struct snapshot_rig rig;
    struct snapshot_id first;
    struct snapshot_id second;
    char path[160];
    char text[SNAPSHOT_ID_TEXT_SIZE];
    int fd;

    (void)state;
    snapshot_rig_init(&rig, NULL, PAGES);
    for (uint64_t i = 0; i < PAGES; i++)
        snapshot_rig_fill(&rig, i, i + 1);
    first = must_save(&rig, NULL, NULL, NULL);
    snapshot_id_to_text(&first, text);
    (void)snprintf(
        path, sizeof(path), "%s/%s/mem-%s.img", rig.path, text, text);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "x", 1, 33 * 4096 + 77), 1);
    (void)close(fd);
    rig.dedupe = 1;
    second = must_save(&rig, NULL, NULL, NULL);
    assert_holds(&rig, &second, rig.ram);
    snapshot_rig_fini(&rig);
}

static void test_find(void **state)
{
    struct snapshot_rig rig;
    struct snapshot_id id;
    struct snapshot_id found;
    char text[SNAPSHOT_ID_TEXT_SIZE];
    struct err err;

    (void)state;
    snapshot_rig_init(&rig, NULL, 8);
    id = must_save(&rig, "one", NULL, NULL);
    snapshot_id_to_text(&id, text);
    assert_int_equal(store_find(&rig.store, text, &found, &err), 0);
    assert_true(snapshot_id_equal(&id, &found));
    assert_int_equal(store_find(&rig.store, "one", &found, &err), 0);
    text[4] = '\0';
    assert_int_equal(store_find(&rig.store, text, &found, &err), 0);
    text[3] = '\0';
    assert_int_equal(store_find(&rig.store, text, &found, &err), -ENOENT);
    assert_int_equal(store_find(&rig.store, "two", &found, &err), -ENOENT);
    assert_int_equal(store_find(&rig.store, "../one", &found, &err), -ENOENT);
    assert_int_equal(store_find(&rig.store, "", &found, &err), -ENOENT);
    assert_int_equal(
        snapshot_rig_save(&rig, "one", NULL, NULL, &found, &err), -EEXIST);
    assert_non_null(strstr(err.text, "'one'"));
    assert_int_equal(
        snapshot_rig_save(&rig, "a/b", NULL, NULL, &found, &err), -EINVAL);
    assert_int_equal(store_remove(&rig.store, &id, NULL), 0);
    assert_int_equal(store_find(&rig.store, "one", &found, &err), -ENOENT);
    (void)must_save(&rig, "one", NULL, NULL);
    snapshot_rig_fini(&rig);
}

static void test_links_are_not_followed(void **state)
{
    struct snapshot_rig rig;
    struct snapshot_id id;
    struct snapshot_id bad;
    struct snap snap;
    char text[SNAPSHOT_ID_TEXT_SIZE];
    char path[160];
    char other[180];
    struct err err;

    (void)state;
    snapshot_rig_init(&rig, NULL, 8);
    id = must_save(&rig, NULL, NULL, NULL);
    snapshot_id_to_text(&id, text);
    /* A link for a directory. */
    (void)snprintf(path, sizeof(path), "%s/%032d", rig.path, 1);
    assert_int_equal(symlink(text, path), 0);
    assert_true(snapshot_id_from_text(path + strlen(rig.path) + 1, &bad));
    assert_true(snap_open(&rig.store, &bad, &snap, &err) < 0);
    assert_int_equal(count_entries(&rig), 1);
    /* A link, a FIFO, a directory for a file. */
    (void)snprintf(path, sizeof(path), "%s/%s/index", rig.path, text);
    (void)snprintf(other, sizeof(other), "%s.moved", path);
    assert_int_equal(rename(path, other), 0);
    assert_int_equal(symlink("index.moved", path), 0);
    assert_true(snap_open(&rig.store, &id, &snap, &err) < 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_true(snap_open(&rig.store, &id, &snap, &err) < 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_true(snap_open(&rig.store, &id, &snap, &err) < 0);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rename(other, path), 0);
    snap = must_open(&rig, &id);
    snap_close(&snap);
    snapshot_rig_fini(&rig);
}

/* What a dead saver leaves goes; what a live one is writing stays. */
static void test_clean(void **state)
{
    struct snapshot_rig rig;
    struct save alive;
    char path[160];
    char file[180];
    char name[STORE_DIR_NAME_SIZE];
    struct err err;
    int fd;

    (void)state;
    snapshot_rig_init(&rig, NULL, 8);
    assert_int_equal(save_begin(&alive, &rig.store, "name", false, &err), 0);
    assert_int_equal(save_write(&alive, "file", "x", 1, &err), 0);
    (void)snprintf(path, sizeof(path), "%s/.tmp-%032d", rig.path, 7);
    (void)snprintf(file, sizeof(file), "%s/state", path);
    assert_int_equal(mkdir(path, 0700), 0);
    fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
    (void)snprintf(file, sizeof(file), "%s/dangling", rig.path);
    assert_int_equal(symlink("00000000000000000000000000000009", file), 0);
    assert_int_equal(store_clean(&rig.store, &err), 1);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(faccessat(AT_FDCWD, file, F_OK, AT_SYMLINK_NOFOLLOW), -1);
    store_dir_name(&alive.id, true, name);
    assert_int_equal(faccessat(rig.store.dir_fd, name, F_OK, 0), 0);
    save_abort(&alive);
    assert_int_equal(faccessat(rig.store.dir_fd, name, F_OK, 0), -1);
    assert_int_equal(count_entries(&rig), 0);
    snapshot_rig_fini(&rig);
}

static void test_working_set_file(void **state)
{
    struct snapshot_rig rig;
    struct working_set set;
    struct snapshot_id id;
    struct bitmap touched;
    struct snap snap;
    struct err err;

    (void)state;
    snapshot_rig_init(&rig, NULL, PAGES);
    id = must_save(&rig, NULL, NULL, NULL);
    snap = must_open(&rig, &id);
    assert_int_equal(snap_read_working_set(&snap, &set), -ENOENT);
    assert_int_equal(bitmap_init(&touched, PAGES), 0);
    bitmap_set(&touched, 3, 5);
    bitmap_set(&touched, 10, 1);
    bitmap_set(&touched, 500, 100);
    assert_int_equal(working_set_from_bitmap(&touched, 3, &set, &err), 0);
    assert_int_equal(set.run_count, 2);
    assert_int_equal(set.runs[0].page, 3);
    assert_int_equal(set.runs[0].count, 8);
    for (int i = 0; i < 2; i++)
        assert_int_equal(working_set_store(snap.dir_fd, &set, &err), 0);
    working_set_fini(&set);
    assert_int_equal(snap_read_working_set(&snap, &set), 0);
    assert_int_equal(set.run_count, 2);
    assert_int_equal(set.runs[1].page, 500);
    working_set_fini(&set);
    assert_int_equal(
        dirfile_replace(snap.dir_fd, WORKING_SET_FILE_NAME, "junk", 4, &err),
        0);
    assert_int_equal(snap_read_working_set(&snap, &set), -ENOENT);
    bitmap_fini(&touched);
    snap_close(&snap);
    snapshot_rig_fini(&rig);
}

/* An image that was touched since is verified again, not trusted. */
static void test_trust(void **state)
{
    struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    struct snapshot_rig rig;
    struct snapshot_id id;
    struct snapshot_id child;
    struct snap snap;
    uint8_t *before;
    struct err err;

    (void)state;
    snapshot_rig_init(&rig, NULL, 32);
    snapshot_rig_fill(&rig, 3, 1);
    before = copy_ram(&rig);
    id = must_save(&rig, NULL, NULL, NULL);
    snap = must_open(&rig, &id);
    assert_true(verify_is_trusted(&snap));
    assert_int_equal(futimens(snap.image_fds[0], times), 0);
    assert_false(verify_is_trusted(&snap));
    /* A child of what nobody has verified is not trusted either. */
    snapshot_rig_fill(&rig, 4, 1);
    child = must_save(&rig, NULL, &id, before);
    snap_close(&snap);
    snap = must_open(&rig, &child);
    assert_false(verify_is_trusted(&snap));
    assert_int_equal(verify_snap(&snap, NULL, &err), 0);
    assert_true(verify_is_trusted(&snap));
    snap_close(&snap);
    free(before);
    snapshot_rig_fini(&rig);
}

/*
 * Processes that save under one name, remove and clean at the same time: one
 * has the name, every save that reported success loads, nothing is left over.
 */
static void test_many_processes(void **state)
{
    enum { SAVERS = 4, ROUNDS = 10 };
    struct snapshot_rig rig;
    struct store_entry *entries;
    struct snapshot_id id;
    unsigned int named = 0;
    pid_t pids[SAVERS];
    size_t count;
    struct err err;

    (void)state;
    snapshot_rig_init(&rig, NULL, 32);
    for (uint64_t i = 0; i < 32; i++)
        snapshot_rig_fill(&rig, i, i);
    rig.dedupe = 1;
    for (int k = 0; k < SAVERS; k++) {
        pids[k] = fork();
        assert_true(pids[k] >= 0);
        if (pids[k] != 0)
            continue;
        for (int i = 0; i < ROUNDS; i++) {
            if (snapshot_rig_save(&rig, NULL, NULL, NULL, &id, &err) < 0 ||
                store_clean(&rig.store, &err) < 0 ||
                (i % 2 == 0 && store_remove(&rig.store, &id, &err) < 0))
                _exit(2);
        }
        _exit(
            snapshot_rig_save(&rig, "one", NULL, NULL, &id, &err) == 0 ? 0 : 1);
    }
    for (int k = 0; k < SAVERS; k++) {
        int status;

        assert_int_equal(waitpid(pids[k], &status, 0), pids[k]);
        assert_true(WIFEXITED(status));
        assert_true(WEXITSTATUS(status) <= 1);
        named += WEXITSTATUS(status) == 0;
    }
    assert_int_equal(named, 1);
    assert_int_equal(store_find(&rig.store, "one", &id, &err), 0);
    assert_int_equal(store_clean(&rig.store, &err), 0);
    assert_int_equal(store_list(&rig.store, &entries, &count, &err), 0);
    assert_int_equal(count, SAVERS * ROUNDS / 2 + 1);
    for (size_t i = 0; i < count; i++)
        assert_holds(&rig, &entries[i].id, rig.ram);
    free(entries);
    snapshot_rig_fini(&rig);
}

static void test_no_link_across_file_systems(void **state)
{
    char path[] = "/dev/shm/spore-store.XXXXXX";
    struct snapshot_rig here;
    struct snapshot_rig there;
    struct snapshot_id id;
    struct save save;
    struct snap snap;
    struct stat a;
    struct stat b;
    struct err err;
    int rc;

    (void)state;
    if (mkdtemp(path) == NULL)
        skip();
    snapshot_rig_init(&here, NULL, 8);
    snapshot_rig_init(&there, path, 8);
    snapshot_rig_fill(&here, 0, 1);
    id = must_save(&here, NULL, NULL, NULL);
    snap = must_open(&here, &id);
    assert_int_equal(save_begin(&save, &there.store, NULL, false, &err), 0);
    rc = save_link_image(&save, snap.dir_fd, &snap.index.files[0], &err);
    assert_int_equal(fstat(here.store.dir_fd, &a), 0);
    assert_int_equal(fstat(there.store.dir_fd, &b), 0);
    assert_int_equal(rc, a.st_dev == b.st_dev ? 0 : -EXDEV);
    if (rc < 0)
        assert_non_null(strstr(err.text, "save without a parent"));
    save_abort(&save);
    snap_close(&snap);
    snapshot_rig_fini(&here);
    snapshot_rig_fini(&there);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_then_diffs),
        cmocka_unit_test(test_zero_pages_are_holes),
        cmocka_unit_test(test_dedupe),
        cmocka_unit_test(test_dedupe_compares),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_links_are_not_followed),
        cmocka_unit_test(test_clean),
        cmocka_unit_test(test_working_set_file),
        cmocka_unit_test(test_trust),
        cmocka_unit_test(test_many_processes),
        cmocka_unit_test(test_no_link_across_file_systems),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
