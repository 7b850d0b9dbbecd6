/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/dedupe.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot/snap.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/num.h"

#define COMPARE_PAGES UINT64_C(64) /* read at once */
#define PROBES_MAX    16u          /* slots looked at for one hash */

/*
 * Half of the hash is enough to find a place, since the bytes decide. A free
 * slot has file 0; file n is files[n - 1].
 */
struct dedupe_slot {
    uint64_t hash;
    uint32_t file;
    uint32_t page; /* below PAGE_INDEX_PAGES_MAX */
};

static uint64_t half(const struct hash128 *hash)
{
    uint64_t v;

    memcpy(&v, hash->b, sizeof(v));
    return v;
}

static void insert(
    struct dedupe *d, const struct hash128 *hash, uint32_t file, uint64_t page)
{
    uint64_t key = half(hash);
    size_t at = key & (d->slot_count - 1);

    for (unsigned int i = 0; i < PROBES_MAX; i++) {
        struct dedupe_slot *slot = &d->slots[(at + i) & (d->slot_count - 1)];

        if (slot->file != 0 && slot->hash == key)
            return;
        if (slot->file == 0) {
            *slot = (struct dedupe_slot){
                .hash = key, .file = file + 1, .page = (uint32_t)page};
            d->used++;
            return;
        }
    }
}

static const struct dedupe_slot *find(
    const struct dedupe *d, const struct hash128 *hash)
{
    uint64_t key = half(hash);
    size_t at = key & (d->slot_count - 1);

    for (unsigned int i = 0; i < PROBES_MAX; i++) {
        const struct dedupe_slot *slot =
            &d->slots[(at + i) & (d->slot_count - 1)];

        if (slot->file == 0)
            return NULL;
        if (slot->hash == key)
            return slot;
    }
    return NULL;
}

/* ---- filling ---- */

static bool is_full(const struct dedupe *d)
{
    return d->used >= d->slot_count / 2;
}

/* The number of an image, entered if it is new; false when there is no room. */
static bool enter_file(struct dedupe *d, int snap_dir_fd,
    const struct page_image *image, int image_fd, uint32_t *ret_i)
{
    int fd;
    int dir_fd;

    for (uint32_t i = 0; i < d->file_count; i++) {
        if (page_image_same(&d->files[i].image, image)) {
            *ret_i = i;
            return true;
        }
    }
    if (d->file_count == DEDUPE_FILES_MAX)
        return false;
    fd = fcntl(image_fd, F_DUPFD_CLOEXEC, 3);
    dir_fd = fcntl(snap_dir_fd, F_DUPFD_CLOEXEC, 3);
    if (fd < 0 || dir_fd < 0) {
        fd_closep(&fd);
        fd_closep(&dir_fd);
        return false;
    }
    d->files[d->file_count] =
        (struct dedupe_file){.image = *image, .fd = fd, .dir_fd = dir_fd};
    *ret_i = d->file_count++;
    return true;
}

static void enter_pages(struct dedupe *d, int snap_dir_fd,
    const struct page_index *index, const int *image_fds,
    const struct page_hashes *hashes)
{
    for (size_t i = 0; i < index->extent_count; i++) {
        const struct page_extent *extent = &index->extents[i];
        uint32_t file;

        if (extent->kind != PAGE_DATA ||
            !enter_file(d, snap_dir_fd, &index->files[extent->file],
                image_fds[extent->file], &file))
            continue;
        for (uint64_t k = 0; k < extent->count && !is_full(d); k++)
            insert(d, &hashes->by_page[extent->page + k], file,
                extent->file_page + k);
    }
}

static int enter_snap(
    struct dedupe *d, const struct snap *snap, struct err *err)
{
    struct page_hashes hashes;
    int rc = snap_read_hashes(snap, &hashes, err);

    if (rc < 0)
        return rc;
    enter_pages(d, snap->dir_fd, &snap->index, snap->image_fds, &hashes);
    page_hashes_fini(&hashes);
    for (uint32_t i = 0; i < snap->disk_count && !is_full(d); i++) {
        const struct snap_disk *disk = &snap->disks[i];

        rc = snap_read_disk_hashes(snap, disk, &hashes, err);
        if (rc < 0)
            return rc;
        enter_pages(d, snap->dir_fd, &disk->map, disk->image_fds, &hashes);
        page_hashes_fini(&hashes);
    }
    return 0;
}

static void enter_snapshot(
    struct dedupe *d, const struct store *store, const struct snapshot_id *id)
{
    struct snap snap;
    struct err err;
    int rc = snap_open(store, id, &snap, &err);

    if (rc == 0) {
        rc = enter_snap(d, &snap, &err);
        snap_close(&snap);
    }
    /* Removed in between: nothing to speak of. */
    if (rc < 0 && rc != -ENOENT)
        log_warn("snapshot", "not searched for equal pages: %s", err.text);
}

struct candidate {
    struct snapshot_id id;
    struct timespec time; /* of the directory's last change */
    uint64_t pages;       /* that it has hashes of, by the size of the file */
};

static int compare_newest_first(const void *a, const void *b)
{
    const struct candidate *x = a;
    const struct candidate *y = b;

    if (x->time.tv_sec != y->time.tv_sec)
        return x->time.tv_sec > y->time.tv_sec ? -1 : 1;
    if (x->time.tv_nsec != y->time.tv_nsec)
        return x->time.tv_nsec > y->time.tv_nsec ? -1 : 1;
    return memcmp(x->id.b, y->id.b, sizeof(x->id.b));
}

static struct candidate look_at(
    const struct store *store, const struct snapshot_id *id)
{
    char name[STORE_DIR_NAME_SIZE];
    char hashes[sizeof(name) + sizeof(PAGE_HASHES_FILE_NAME)];
    struct stat dir = {0};
    struct stat file = {0};

    store_dir_name(id, false, name);
    (void)snprintf(
        hashes, sizeof(hashes), "%s/%s", name, PAGE_HASHES_FILE_NAME);
    (void)fstatat(store->dir_fd, name, &dir, AT_SYMLINK_NOFOLLOW);
    (void)fstatat(store->dir_fd, hashes, &file, AT_SYMLINK_NOFOLLOW);
    return (struct candidate){.id = *id,
        .time = dir.st_mtim,
        .pages = (uint64_t)file.st_size / sizeof(struct hash128)};
}

static int list_candidates(const struct store *store,
    struct candidate **ret_candidates, size_t *ret_count, struct err *err)
{
    struct store_entry *entries;
    struct candidate *candidates;
    size_t count;
    int rc = store_list(store, &entries, &count, err);

    if (rc < 0)
        return rc;
    candidates = reallocarray(NULL, count + 1, sizeof(*candidates));
    for (size_t i = 0; candidates != NULL && i < count; i++) {
        candidates[i] = look_at(store, &entries[i].id);
    }
    free(entries);
    if (candidates == NULL)
        return err_sys(err, ENOMEM, "dedupe");
    qsort(candidates, count, sizeof(*candidates), compare_newest_first);
    *ret_candidates = candidates;
    *ret_count = count;
    return 0;
}

int dedupe_init(struct dedupe *dedupe, const struct store *store, size_t bytes,
    uint32_t run_min, struct err *err)
{
    struct candidate *candidates;
    uint64_t pages = 0;
    size_t slots = 1024;
    size_t count;
    void *table;
    int rc = list_candidates(store, &candidates, &count, err);

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < count; i++)
        pages += num_min(candidates[i].pages, PAGE_INDEX_PAGES_MAX);
    /* No larger than there is use for: its pages are touched at random. */
    while (slots / 2 < pages && 2 * slots * sizeof(struct dedupe_slot) <= bytes)
        slots *= 2;
    table =
        mmap(NULL, slots * sizeof(struct dedupe_slot), PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    *dedupe = (struct dedupe){.slots = table,
        .slot_count = slots,
        .run_min = run_min == 0 ? 1 : run_min,
        .buffer = malloc(COMPARE_PAGES * NUM_PAGE_SIZE)};
    if (table == MAP_FAILED || dedupe->buffer == NULL) {
        dedupe->slots = table == MAP_FAILED ? NULL : table;
        free(candidates);
        dedupe_fini(dedupe);
        return err_sys(err, ENOMEM, "dedupe");
    }
    for (size_t i = 0; i < count && !is_full(dedupe); i++)
        enter_snapshot(dedupe, store, &candidates[i].id);
    free(candidates);
    return 0;
}

void dedupe_fini(struct dedupe *dedupe)
{
    for (uint32_t i = 0; i < dedupe->file_count; i++) {
        fd_closep(&dedupe->files[i].fd);
        fd_closep(&dedupe->files[i].dir_fd);
    }
    if (dedupe->slots != NULL)
        (void)munmap(
            dedupe->slots, dedupe->slot_count * sizeof(struct dedupe_slot));
    free(dedupe->buffer);
    *dedupe = (struct dedupe){0};
}

/* ---- looking up ---- */

/*
 * How many pages at `page` of the file have these bytes. Read in pieces that
 * grow, so that a find which turns out short cost little.
 */
static uint64_t compare(struct dedupe *d, const struct dedupe_file *file,
    uint64_t page, const uint8_t *data, uint64_t count)
{
    uint64_t piece = 4;
    uint64_t same = 0;

    while (same < count) {
        uint64_t n = num_min(count - same, piece);
        ssize_t got = fd_pread_full(file->fd, d->buffer, n * NUM_PAGE_SIZE,
            (page + same) * NUM_PAGE_SIZE);

        if (got < (ssize_t)NUM_PAGE_SIZE)
            break;
        n = (uint64_t)got / NUM_PAGE_SIZE;
        for (uint64_t i = 0; i < n; i++, same++) {
            if (memcmp(d->buffer + i * NUM_PAGE_SIZE,
                    data + same * NUM_PAGE_SIZE, NUM_PAGE_SIZE) != 0)
                return same;
        }
        piece = num_min(4 * piece, COMPARE_PAGES);
    }
    return same;
}

/* Links the file into the snapshot and enters it in the index. */
static bool use_file(struct dedupe_file *file, struct save *save,
    struct page_index_builder *index, uint32_t *ret_number)
{
    if (file->is_unusable)
        return false;
    /*
     * Once the link is there, the file stays, whatever happens to the
     * snapshot where it was found.
     */
    file->is_linked = file->is_linked || save_link_image(save, file->dir_fd,
                                             &file->image, NULL) == 0;
    file->is_unusable = !file->is_linked || page_index_builder_add_file(index,
                                                &file->image, ret_number) < 0;
    return !file->is_unusable;
}

/* How many of the pages have a hash that is known, which at least one has. */
static uint64_t known_pages(
    const struct dedupe *d, const struct hash128 *hashes, uint64_t count)
{
    uint64_t run = 1;

    while (run < count && find(d, &hashes[run]) != NULL)
        run++;
    return run;
}

struct dedupe_find dedupe_lookup(struct dedupe *dedupe, struct save *save,
    struct page_index_builder *index, const void *data,
    const struct hash128 *hashes, uint64_t count)
{
    const struct dedupe_slot *slot = find(dedupe, &hashes[0]);
    /* What goes on where the last find ended is no new run. */
    bool goes_on = data == dedupe->next_data;
    uint64_t run_min = goes_on ? 1 : dedupe->run_min;
    struct dedupe_find result = {0};
    struct dedupe_file *file;
    uint64_t page;
    uint64_t run;

    if (slot == NULL)
        return result;
    file = &dedupe->files[goes_on ? dedupe->next_file : slot->file - 1];
    page = goes_on ? dedupe->next_page : slot->page;
    if (file->is_unusable || page >= file->image.pages)
        return result;
    run = known_pages(dedupe, hashes, num_min(count, file->image.pages - page));
    if (run < run_min)
        return result;
    run = compare(dedupe, file, page, data, run);
    if (run < run_min || !use_file(file, save, index, &result.file))
        return result;
    dedupe->next_data = (const uint8_t *)data + run * NUM_PAGE_SIZE;
    dedupe->next_file = (uint32_t)(file - dedupe->files);
    dedupe->next_page = page + run;
    result.count = run;
    result.file_page = page;
    return result;
}
