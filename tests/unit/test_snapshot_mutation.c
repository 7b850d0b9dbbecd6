/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Damage to every kind of file of a snapshot: single bits, truncation, bytes
 * at the end, files of another snapshot. None may be accepted by what has to
 * find it: snap_open, or verification for the hashes and the pages.
 *
 *     test_snapshot_mutation [COUNT]     at least so many mutations
 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot/dirfile.h"
#include "snapshot/snap.h"
#include "snapshot/verify.h"
#include "tests/unit/support/snapshot_rig.h"
#include "vmm/base/cc.h"
#include "vmm/base/log.h"
#include "vmm/base/num.h"

#define PAGES         UINT64_C(40)
#define CLUSTERS      UINT64_C(24)
#define COUNT_DEFAULT 30000u
#define FILES_MAX     16u
#define SMALL_MAX     16384u /* bytes of a file whose every bit is tried */

/* What has to find damage in a file. */
enum finder { BY_OPEN, BY_VERIFY, BY_READ };

struct file {
    int dir_fd;
    struct snapshot_id id; /* of the snapshot that it is looked at through */
    char name[SNAPSHOT_FILE_MAX + 1];
    enum finder finder;
    uint8_t *data;
    size_t size;
};

struct run {
    struct snapshot_rig rig;
    struct snapshot_id ids[3]; /* a full one, its child, an unrelated one */
    struct file files[3 * FILES_MAX];
    size_t file_count;
    uint64_t tried;
    uint64_t accepted;
    bool is_stale; /* a verification passed, and recorded damaged files */
};

/* Whether everything that restores from the snapshot takes it for whole. */
static bool passes(const struct run *run, const struct snapshot_id *id,
    enum finder finder, struct err *err)
{
    struct working_set set;
    struct manifest manifest;
    struct snap snap;
    bool is_good;

    if (snap_open(&run->rig.store, id, &snap, err) < 0)
        return false;
    if (finder == BY_OPEN) {
        is_good = true;
    } else if (finder == BY_VERIFY) {
        is_good = verify_snap(&snap, NULL, err) == 0;
    } else {
        /* The hints: each must be told from what was written. */
        is_good =
            verify_is_trusted(&snap) && snap_read_working_set(&snap, &set) == 0;
        if (is_good)
            working_set_fini(&set);
    }
    is_good = is_good && snap_read_manifest(&snap, &manifest, err) == 0;
    snap_close(&snap);
    return is_good;
}

/* Whether it matters to this snapshot or to another one. */
static bool is_found(struct run *run, const struct file *file)
{
    struct err err = {.text = ""};

    if (!passes(run, &file->id, file->finder, &err))
        return true;
    if (file->finder != BY_VERIFY)
        return false;
    run->is_stale = true;
    /* A page of a parent that this one does not use. */
    for (size_t i = 0; i < ARRAY_SIZE(run->ids); i++) {
        if (!passes(run, &run->ids[i], BY_VERIFY, &err))
            return true;
    }
    return false;
}

static void count(
    struct run *run, const struct file *file, const char *what, uint64_t where)
{
    run->tried++;
    if (is_found(run, file))
        return;
    run->accepted++;
    (void)printf(
        "ACCEPTED: %s: %s %llu\n", file->name, what, (unsigned long long)where);
}

/* The damage is gone: so that the records say so again. */
static void settle(struct run *run)
{
    struct err err;

    for (size_t i = 0; run->is_stale && i < ARRAY_SIZE(run->ids); i++)
        assert(passes(run, &run->ids[i], BY_VERIFY, &err));
    run->is_stale = false;
}

static int open_file(const struct file *file)
{
    int fd = openat(file->dir_fd, file->name, O_RDWR | O_CLOEXEC);

    assert(fd >= 0);
    return fd;
}

static void put_back(struct run *run, int fd, const struct file *file)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000}};

    assert(ftruncate(fd, (off_t)file->size) == 0);
    assert(pwrite(fd, file->data, file->size, 0) == (ssize_t)file->size);
    assert(futimens(fd, times) == 0);
    settle(run);
}

static void flip(struct run *run, const struct file *file, int fd, uint64_t bit)
{
    uint64_t at = bit / 8;
    uint8_t byte = (uint8_t)(file->data[at] ^ 1u << (bit % 8));
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000}};

    assert(pwrite(fd, &byte, 1, (off_t)at) == 1);
    count(run, file, "bit", bit);
    assert(pwrite(fd, &file->data[at], 1, (off_t)at) == 1);
    assert(futimens(fd, times) == 0);
    settle(run);
}

static void cut(struct run *run, const struct file *file, int fd, size_t size)
{
    assert(ftruncate(fd, (off_t)size) == 0);
    count(run, file, size > file->size ? "grown to" : "cut to", size);
    put_back(run, fd, file);
}

/* In the place of `file` the same-named file of another snapshot. */
static void swap(
    struct run *run, const struct file *file, const struct file *other)
{
    int fd = open_file(file);

    if (file->size == other->size &&
        memcmp(file->data, other->data, file->size) == 0) {
        (void)close(fd);
        return;
    }
    assert(ftruncate(fd, (off_t)other->size) == 0);
    assert(pwrite(fd, other->data, other->size, 0) == (ssize_t)other->size);
    count(run, file, "swapped with file", (uint64_t)(other - run->files));
    put_back(run, fd, file);
    (void)close(fd);
}

static enum finder finder_of(const char *name)
{
    if (strcmp(name, PAGE_HASHES_FILE_NAME) == 0 ||
        strncmp(name, "mem-", 4) == 0 ||
        (strncmp(name, "disk-", 5) == 0 &&
            strncmp(name, DISKS_MAP_PREFIX, strlen(DISKS_MAP_PREFIX)) != 0))
        return BY_VERIFY;
    if (strcmp(name, WORKING_SET_FILE_NAME) == 0 ||
        strcmp(name, VERIFIED_FILE_NAME) == 0)
        return BY_READ;
    return BY_OPEN;
}

static void read_files(struct run *run, const struct snapshot_id *id)
{
    struct dirent **entries;
    char path[128];
    char text[SNAPSHOT_ID_TEXT_SIZE];
    int n;

    snapshot_id_to_text(id, text);
    (void)snprintf(path, sizeof(path), "%s/%s", run->rig.path, text);
    n = scandir(path, &entries, NULL, alphasort);
    assert(n > 2 && n <= (int)FILES_MAX);
    for (int i = 0; i < n; i++) {
        struct file *file = &run->files[run->file_count];
        int dir_fd;
        struct err err;

        if (entries[i]->d_name[0] != '.') {
            assert(
                store_open_dir(&run->rig.store, id, false, &dir_fd, &err) == 0);
            *file = (struct file){.id = *id,
                .dir_fd = dir_fd,
                .finder = finder_of(entries[i]->d_name)};
            assert(strlen(entries[i]->d_name) < sizeof(file->name));
            memcpy(
                file->name, entries[i]->d_name, strlen(entries[i]->d_name) + 1);
            assert(dirfile_read(dir_fd, file->name, 64 * NUM_MIB, &file->data,
                       &file->size, &err) == 0);
            run->file_count++;
        }
        free(entries[i]);
    }
    free(entries);
}

static void fill_disk(struct run *run, uint64_t seed, uint64_t step)
{
    for (uint64_t i = 0; i < CLUSTERS; i += step)
        run->rig.disk[i] = i % 3 == 0 ? 0 : seed + i;
}

/* A full snapshot, a child that shares with it, one of another guest. */
static void make_snapshots(struct run *run)
{
    struct working_set_run hot = {.page = 3, .count = 2};
    struct working_set set = {.runs = &hot, .run_count = 1, .pages = PAGES};
    uint8_t *before = malloc(PAGES * NUM_PAGE_SIZE);
    struct snapshot_rig *rig = &run->rig;
    struct err err;

    assert(before != NULL);
    for (uint64_t i = 0; i < 20; i++)
        snapshot_rig_fill(rig, i, i % 5 == 0 ? 0 : i);
    snapshot_rig_add_disk(rig, CLUSTERS);
    fill_disk(run, 5000, 2);
    assert(snapshot_rig_save(rig, "full", NULL, NULL, &run->ids[0], &err) == 0);
    memcpy(before, rig->ram, PAGES * NUM_PAGE_SIZE);
    for (uint64_t i = 0; i < PAGES; i += 3)
        snapshot_rig_fill(rig, i, i % 9 == 0 ? 0 : 100 + i);
    fill_disk(run, 6000, 5);
    assert(snapshot_rig_save(
               rig, "child", &run->ids[0], before, &run->ids[1], &err) == 0);
    for (uint64_t i = 0; i < PAGES; i++)
        snapshot_rig_fill(rig, i, i % 4 == 0 ? 0 : 300 + i);
    fill_disk(run, 7000, 1);
    assert(snapshot_rig_save(rig, NULL, NULL, NULL, &run->ids[2], &err) == 0);
    for (size_t i = 0; i < ARRAY_SIZE(run->ids); i++) {
        struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
        struct snap snap;

        assert(snap_open(&rig->store, &run->ids[i], &snap, &err) == 0);
        for (uint32_t k = 0; k < snap.index.file_count; k++)
            assert(futimens(snap.image_fds[k], times) == 0);
        for (uint32_t k = 0; k < snap.disks[0].map.file_count; k++)
            assert(futimens(snap.disks[0].image_fds[k], times) == 0);
        assert(working_set_store(snap.dir_fd, &set, &err) == 0);
        snap_close(&snap);
    }
    /* With the times that put_back restores. */
    for (size_t i = 0; i < ARRAY_SIZE(run->ids); i++) {
        assert(passes(run, &run->ids[i], BY_VERIFY, &err));
        assert(passes(run, &run->ids[i], BY_READ, &err));
    }
    free(before);
}

static void try_file(struct run *run, const struct file *file)
{
    int fd = open_file(file);

    if (file->size <= SMALL_MAX) {
        for (uint64_t bit = 0; bit < 8 * file->size; bit++)
            flip(run, file, fd, bit);
    }
    for (size_t size = 0; size < file->size; size += 1 + file->size / 100)
        cut(run, file, fd, size);
    cut(run, file, fd, file->size - 1);
    cut(run, file, fd, file->size + 1);
    cut(run, file, fd, file->size + NUM_PAGE_SIZE);
    (void)close(fd);
}

static uint64_t next(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

int main(int argc, char **argv)
{
    uint64_t target = argc > 1 ? strtoull(argv[1], NULL, 10) : COUNT_DEFAULT;
    uint64_t seed = 88172645463325252u;
    struct run *run = calloc(1, sizeof(*run));
    struct err err;

    assert(run != NULL);
    /* A damaged hint is logged each time. */
    log_set_level(LOG_ERR);
    snapshot_rig_init(&run->rig, NULL, PAGES);
    make_snapshots(run);
    for (size_t i = 0; i < ARRAY_SIZE(run->ids); i++)
        read_files(run, &run->ids[i]);
    /* The child's files and those of its parent. */
    for (size_t i = 0; i < run->file_count; i++) {
        if (snapshot_id_equal(&run->files[i].id, &run->ids[1]))
            try_file(run, &run->files[i]);
        for (size_t k = 0; k < run->file_count; k++) {
            if (k != i)
                swap(run, &run->files[i], &run->files[k]);
        }
    }
    /* The rest at random, most of it in pages. */
    while (run->tried < target) {
        const struct file *file = &run->files[next(&seed) % run->file_count];
        int fd = open_file(file);

        for (int i = 0; i < 20; i++)
            flip(run, file, fd, next(&seed) % (8 * file->size));
        (void)close(fd);
    }
    /* All is put back: otherwise nothing of this meant anything. */
    for (size_t i = 0; i < ARRAY_SIZE(run->ids); i++) {
        assert(passes(run, &run->ids[i], BY_VERIFY, &err));
        assert(passes(run, &run->ids[i], BY_READ, &err));
    }
    (void)printf("%llu mutations of %zu files, %llu accepted\n",
        (unsigned long long)run->tried, run->file_count,
        (unsigned long long)run->accepted);
    for (size_t i = 0; i < run->file_count; i++) {
        (void)close(run->files[i].dir_fd);
        free(run->files[i].data);
    }
    argc = run->accepted == 0 && run->tried >= target ? 0 : 1;
    snapshot_rig_fini(&run->rig);
    free(run);
    return argc;
}
