/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine_drive_save.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "virtio/blk_overlay_clusters.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

/* Copied at a time. */
#define STAGING_CLUSTERS 256u

/* So few clusters left, and it is time for the stop; or so many rounds. */
#define LEFT_CLUSTERS 256u
#define ROUNDS_MAX    4u

/* A run of clusters that was set aside. */
struct machine_drive_left {
    uint64_t first;
    uint64_t count;
    enum blk_cluster_state state;
    size_t copy; /* DATA: number of the first one in left_copies */
};

static struct device *device_of(const struct machine_drive_save *s)
{
    return &s->drive->blk.virtio.base;
}

static const struct blk_overlay_file *disk_of(
    const struct machine_drive_save *s)
{
    return &s->drive->disk->overlay;
}

/* ---- begin --------------------------------------------------------------- */

static int begin_overlay(
    struct machine_drive_save *s, int image_fd, struct err *err)
{
    const struct machine_drive_save_options *o = &s->options;
    uint64_t clusters = machine_drive_save_pages(s->drive);
    int rc;

    s->has_image = true;
    if (clusters > PAGE_INDEX_PAGES_MAX)
        return err_set(err, EFBIG,
            "it has %llu GiB: a snapshot holds overlays of disks of up to "
            "1 TiB",
            (unsigned long long)(clusters / (NUM_GIB / BLK_CLUSTER)));
    rc = capture_image_init(&s->image, image_fd, clusters, err);
    if (rc < 0)
        return rc;
    /* Another disk than the parent's is saved whole. */
    s->image.is_diff = !snapshot_id_is_zero(&o->parent) &&
                       snapshot_id_equal(&s->drive->saved, &o->parent);
    s->staging = malloc(STAGING_CLUSTERS * BLK_CLUSTER);
    if (s->staging == NULL || bitmap_init(&s->todo, clusters) < 0 ||
        bitmap_init(&s->taken, clusters) < 0)
        return err_sys(err, ENOMEM, "a save");
    return 0;
}

uint64_t machine_drive_save_pages(struct machine_drive *drive)
{
    struct device *dev = &drive->blk.virtio.base;
    uint64_t clusters = 0;

    device_lock(dev);
    if (drive->disk->has_overlay)
        clusters = drive->disk->overlay.overlay.map.clusters;
    device_unlock(dev);
    return clusters;
}

int machine_drive_save_begin(struct machine_drive_save *s,
    struct machine_drive *drive, int image_fd,
    const struct machine_drive_save_options *options, struct err *err)
{
    int rc = 0;

    *s = (struct machine_drive_save){.drive = drive, .options = *options};
    device_lock(device_of(s));
    drive->is_pinned = true;
    device_unlock(device_of(s));
    if (drive->disk->has_overlay)
        rc = begin_overlay(s, image_fd, err);
    if (rc < 0) {
        machine_drive_save_end(s, NULL);
        return err_wrap(err, rc, "drive %s", drive->config->id);
    }
    return 0;
}

/* ---- what is to be copied ------------------------------------------------ */

/* With the lock held and nothing in flight; todo has nothing in it. */
static void take_marks(struct machine_drive_save *s)
{
    size_t first = 0;
    size_t count;

    blk_overlay_take_dirty(&s->drive->disk->overlay.overlay, &s->todo);
    while (bitmap_next_run(&s->todo, first, &first, &count)) {
        bitmap_set(&s->taken, first, count);
        first += count;
    }
}

static int harvest(struct machine_drive_save *s, struct err *err)
{
    struct device *dev = device_of(s);
    int rc;

    device_lock(dev);
    rc = dev->ops->quiesce(dev, err);
    if (rc == 0)
        take_marks(s);
    dev->ops->resume(dev);
    device_unlock(dev);
    return rc;
}

/* Everything that is not as the base has it. */
static void want_all(struct machine_drive_save *s)
{
    const struct blk_overlay *o = &disk_of(s)->overlay;
    enum blk_cluster_state state;
    uint64_t first = 0;
    uint64_t count;

    device_lock(device_of(s));
    while (blk_map_next_used(&o->map, first, &first, &count, &state)) {
        bitmap_set(&s->todo, first, count);
        first += count;
    }
    for (size_t i = 0; o->below != NULL && i < o->below->run_count; i++) {
        const struct blk_below_run *run = &o->below->runs[i];

        if (run->state != BLK_CLUSTER_BASE)
            bitmap_set(&s->todo, run->first, run->count);
    }
    device_unlock(device_of(s));
}

/* ---- copying ------------------------------------------------------------- */

/* What is missing of a file reads as zeroes. */
static int read_place(
    const struct blk_overlay_place *place, uint64_t count, uint8_t *ret_data)
{
    size_t len = count * BLK_CLUSTER;
    ssize_t n = fd_pread_full(place->fd, ret_data, len, place->offset);

    if (n < 0)
        return (int)n;
    memset(ret_data + n, 0, len - (size_t)n);
    return 0;
}

static int put(struct machine_drive_save *s, uint64_t first, uint64_t count,
    enum blk_cluster_state state, const uint8_t *data, struct err *err)
{
    switch (state) {
    case BLK_CLUSTER_DATA:
        return capture_image_put(&s->image, first, data, count, err);
    case BLK_CLUSTER_ZERO:
        capture_image_put_zero(&s->image, first, count);
        return 0;
    case BLK_CLUSTER_BASE:
    default:
        capture_image_put_below(&s->image, first, count);
        return 0;
    }
}

/*
 * The place is found under the lock, and read without: what moves away from it
 * meanwhile is marked.
 */
static int put_run(struct machine_drive_save *s, uint64_t first, uint64_t count,
    struct err *err)
{
    int rc = 0;

    while (rc == 0 && count > 0) {
        struct blk_overlay_place place;
        uint64_t n;

        device_lock(device_of(s));
        n = blk_overlay_file_locate(
            disk_of(s), first, num_min(count, STAGING_CLUSTERS), &place);
        device_unlock(device_of(s));
        if (place.state == BLK_CLUSTER_DATA) {
            rc = read_place(&place, n, s->staging);
            if (rc < 0)
                return err_sys(err, rc, "its overlay cannot be read");
        }
        rc = put(s, first, n, place.state, s->staging, err);
        first += n;
        count -= n;
    }
    return rc;
}

static int put_todo(struct machine_drive_save *s, struct err *err)
{
    size_t first = 0;
    size_t count;
    int rc = 0;

    while (rc == 0 && bitmap_next_run(&s->todo, first, &first, &count)) {
        rc = put_run(s, first, count, err);
        first += count;
    }
    bitmap_clear_all(&s->todo);
    return rc;
}

static int copy_overlay(
    struct machine_drive_save *s, bool is_running, struct err *err)
{
    int rc = harvest(s, err);

    if (rc < 0)
        return rc;
    if (!s->image.is_diff)
        want_all(s);
    rc = put_todo(s, err);
    for (uint32_t i = 0; rc == 0 && is_running && i < ROUNDS_MAX; i++) {
        rc = harvest(s, err);
        /* What is in todo at the stop is set aside there. */
        if (rc < 0 || bitmap_count(&s->todo) <= LEFT_CLUSTERS)
            break;
        rc = put_todo(s, err);
    }
    return rc;
}

int machine_drive_save_copy(
    struct machine_drive_save *s, bool is_running, struct err *err)
{
    int rc = s->has_image ? copy_overlay(s, is_running, err) : 0;

    return rc < 0 ? err_wrap(err, rc, "drive %s", s->drive->config->id) : 0;
}

/* ---- the stop ------------------------------------------------------------ */

int machine_drive_note_file(const struct machine_drive *drive,
    struct disk_record *ret_record, struct err *err)
{
    const struct machine_drive_disk *disk = drive->disk;
    struct disk_record record = {
        .kind = disk->has_overlay ? DISK_OVERLAY : DISK_FILE};
    struct stat st;

    if (fstat(machine_drive_fd(drive), &st) < 0)
        return err_sys(err, errno, "%s", drive->config->path);
    if (!disks_path_is_valid(disk->path))
        return err_set(err, EINVAL,
            "the path of its file is not absolute or has control characters: "
            "a snapshot could not name it");
    if (S_ISREG(st.st_mode)) {
        record.bytes = (uint64_t)st.st_size;
        record.mtime_s = (uint64_t)st.st_mtim.tv_sec;
        record.mtime_ns = (uint32_t)st.st_mtim.tv_nsec;
    } else {
        record.bytes = BLK_SECTOR *
                       (disk->has_overlay ? disk->overlay.base.backend.capacity
                                          : disk->file.backend.capacity);
    }
    record.path = strdup(disk->path);
    if (record.path == NULL)
        return err_sys(err, ENOMEM, "%s", drive->config->path);
    *ret_record = record;
    return 0;
}

/*
 * Writes of one tick of the kernel's clock leave one time: one that no tick
 * has, so that a write right after the stop shows. Where the file is
 * another's, it has to do without.
 */
static void mark_time(int fd)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}};
    struct stat st;

    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return;
    times[1] = st.st_mtim;
    times[1].tv_nsec ^= 1;
    (void)futimens(fd, times);
}

/* By what there is to keep: a guest can discard all of a disk at once. */
static int make_room(struct machine_drive_save *s, struct err *err)
{
    size_t first = 0;
    size_t runs = 0;
    size_t copies = 0;
    size_t count;

    while (bitmap_next_run(&s->todo, first, &first, &count)) {
        while (count > 0) {
            struct blk_overlay_place place;
            size_t n =
                blk_overlay_file_locate(disk_of(s), first, count, &place);

            runs++;
            copies += place.state == BLK_CLUSTER_DATA ? n : 0;
            first += n;
            count -= n;
        }
    }
    s->left = reallocarray(NULL, runs + 1, sizeof(*s->left));
    s->left_copies = reallocarray(NULL, copies + 1, BLK_CLUSTER);
    return s->left == NULL || s->left_copies == NULL
               ? err_sys(err, ENOMEM, "%zu clusters of a save", copies)
               : 0;
}

static int set_aside(struct machine_drive_save *s, struct err *err)
{
    size_t copies = 0;
    size_t first = 0;
    size_t count;
    int made = make_room(s, err);

    if (made < 0)
        return made;
    while (bitmap_next_run(&s->todo, first, &first, &count)) {
        while (count > 0) {
            struct machine_drive_left *l = &s->left[s->left_count++];
            struct blk_overlay_place place;
            int rc;

            *l = (struct machine_drive_left){.first = first, .copy = copies};
            l->count =
                blk_overlay_file_locate(disk_of(s), first, count, &place);
            l->state = place.state;
            first += l->count;
            count -= l->count;
            if (place.state != BLK_CLUSTER_DATA)
                continue;
            rc = read_place(
                &place, l->count, s->left_copies + copies * BLK_CLUSTER);
            if (rc < 0)
                return err_sys(err, rc, "its overlay cannot be read");
            copies += l->count;
        }
    }
    return 0;
}

int machine_drive_save_stop(struct machine_drive_save *s, struct err *err)
{
    int rc = 0;

    device_lock(device_of(s));
    if (s->has_image) {
        take_marks(s);
        rc = set_aside(s, err);
    } else if (!s->drive->config->is_read_only)
        mark_time(machine_drive_fd(s->drive));
    if (rc == 0)
        rc = machine_drive_note_file(s->drive, &s->record, err);
    device_unlock(device_of(s));
    return rc < 0 ? err_wrap(err, rc, "drive %s", s->drive->config->id) : 0;
}

/* ---- the rest ------------------------------------------------------------ */

static int put_left(struct machine_drive_save *s, struct err *err)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < s->left_count; i++) {
        const struct machine_drive_left *l = &s->left[i];

        rc = put(s, l->first, l->count, l->state,
            s->left_copies + l->copy * BLK_CLUSTER, err);
    }
    return rc;
}

int machine_drive_save_finish(struct machine_drive_save *s, struct err *err)
{
    bool is_written = !s->has_image && !s->drive->config->is_read_only;
    int rc = 0;

    if (s->has_image)
        rc = put_left(s, err);
    /* The snapshot says of the file what must be on the disk then. */
    else if (is_written && s->options.sync &&
             fsync(machine_drive_fd(s->drive)) < 0)
        rc = err_sys(err, errno, "%s", s->drive->config->path);
    return rc < 0 ? err_wrap(err, rc, "drive %s", s->drive->config->id) : 0;
}

void machine_drive_save_release(struct machine_drive_save *s)
{
    capture_image_fini(&s->image);
    bitmap_fini(&s->todo);
    free(s->staging);
    free(s->left);
    free(s->left_copies);
    free(s->record.path);
    s->staging = NULL;
    s->left = NULL;
    s->left_copies = NULL;
    s->record.path = NULL;
}

/* A save that failed: what it took is changed still. */
static void give_back(struct machine_drive_save *s)
{
    size_t first = 0;
    size_t count;

    while (bitmap_next_run(&s->taken, first, &first, &count)) {
        blk_map_mark_dirty(&s->drive->disk->overlay.overlay.map, first, count);
        first += count;
    }
}

void machine_drive_save_end(
    struct machine_drive_save *s, const struct snapshot_id *id)
{
    if (s->drive == NULL)
        return;
    device_lock(device_of(s));
    if (id != NULL)
        s->drive->saved = *id;
    else if (s->taken.words != NULL)
        give_back(s);
    s->drive->is_pinned = false;
    device_unlock(device_of(s));
    machine_drive_save_release(s);
    bitmap_fini(&s->taken);
    *s = (struct machine_drive_save){0};
}
