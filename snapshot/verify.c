/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/verify.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot/dirfile.h"
#include "snapshot/page_writer.h"
#include "vmm/base/bytes.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/num.h"

#define CHUNK_PAGES UINT64_C(256) /* read at once */

/* ---- pages ---- */

struct walk {
    const struct page_index *index;
    const struct page_hashes *hashes;
    const int *image_fds;
    const struct verify_progress *progress;
    uint8_t *buffer; /* CHUNK_PAGES of them */
    struct err *err;
};

static int bad_page(const struct walk *w, uint64_t page, uint32_t file,
    uint64_t file_page, const char *what)
{
    char name[SNAPSHOT_FILE_MAX + 1];

    page_image_name(&w->index->files[file], name);
    return err_set(w->err, EBADMSG,
        "%s: page %llu of the %s, at offset %#llx, %s", name,
        (unsigned long long)page,
        w->index->files[0].type == PAGE_IMAGE_DISK ? "disk" : "memory",
        (unsigned long long)(file_page * NUM_PAGE_SIZE), what);
}

static int read_chunk(
    const struct walk *w, uint32_t file, uint64_t file_page, uint64_t count)
{
    char name[SNAPSHOT_FILE_MAX + 1];
    ssize_t n = fd_pread_full(w->image_fds[file], w->buffer,
        count * NUM_PAGE_SIZE, file_page * NUM_PAGE_SIZE);

    if (n == (ssize_t)(count * NUM_PAGE_SIZE))
        return 0;
    page_image_name(&w->index->files[file], name);
    return n < 0 ? err_sys(w->err, (int)n, "%s", name)
                 : err_set(w->err, EBADMSG, "%s: damaged: cut short", name);
}

static int check_data(const struct walk *w, const struct page_extent *extent)
{
    for (uint64_t done = 0; done < extent->count;) {
        uint64_t count = num_min(extent->count - done, CHUNK_PAGES);
        uint64_t file_page = extent->file_page + done;
        uint64_t page = extent->page + done;
        int rc = read_chunk(w, extent->file, file_page, count);

        if (rc < 0)
            return rc;
        for (uint64_t i = 0; i < count; i++) {
            struct hash128 hash =
                hash_bytes(w->buffer + i * NUM_PAGE_SIZE, NUM_PAGE_SIZE);

            if (!hash_equal(&hash, &w->hashes->by_page[page + i]))
                return bad_page(w, page + i, extent->file, file_page + i,
                    "is not what was saved");
        }
        done += count;
    }
    return 0;
}

/* That the snapshot's own image is zero from `page` on. */
static int check_hole(const struct walk *w, uint64_t page, uint64_t count)
{
    uint64_t end = page + count;

    while (page < end) {
        off_t data =
            lseek(w->image_fds[0], (off_t)(page * NUM_PAGE_SIZE), SEEK_DATA);
        uint64_t n;
        int rc;

        if (data < 0 && errno == ENXIO)
            return 0;
        if (data < 0)
            return err_sys(w->err, errno, "image file");
        page = num_max(page, (uint64_t)data / NUM_PAGE_SIZE);
        if (page >= end)
            return 0;
        n = num_min(end - page, CHUNK_PAGES);
        rc = read_chunk(w, 0, page, n);
        if (rc < 0)
            return rc;
        for (uint64_t i = 0; i < n; i++) {
            if (!page_writer_page_is_zero(w->buffer + i * NUM_PAGE_SIZE))
                return bad_page(
                    w, page + i, 0, page + i, "is not zero, as it was");
        }
        page += n;
    }
    return 0;
}

static int check_extent(const struct walk *w, const struct page_extent *extent)
{
    int rc = 0;

    if (extent->kind == PAGE_DATA)
        rc = check_data(w, extent);
    if (rc == 0 && (extent->kind != PAGE_DATA || extent->file != 0))
        rc = check_hole(w, extent->page, extent->count);
    return rc;
}

int verify_pages(const struct page_index *index, const int *image_fds,
    const struct page_hashes *hashes, const struct verify_progress *progress,
    struct err *err)
{
    struct walk w = {.index = index,
        .hashes = hashes,
        .image_fds = image_fds,
        .progress = progress,
        .buffer = malloc(CHUNK_PAGES * NUM_PAGE_SIZE),
        .err = err};
    int rc = w.buffer == NULL ? err_sys(err, ENOMEM, "verify") : 0;

    for (size_t i = 0; rc == 0 && i < index->extent_count; i++) {
        struct page_extent part = index->extents[i];
        uint64_t end = part.page + part.count;

        /* In parts, so that a long extent shows progress too. */
        while (rc == 0 && part.page < end) {
            part.count = num_min(end - part.page, 16 * CHUNK_PAGES);
            rc = check_extent(&w, &part);
            part.page += part.count;
            part.file_page += part.kind == PAGE_DATA ? part.count : 0;
            if (rc == 0 && progress != NULL && progress->step != NULL)
                progress->step(progress->arg, part.page, index->pages);
        }
    }
    free(w.buffer);
    return rc;
}

bool verify_page(const struct page_index *index,
    const struct page_hashes *hashes, uint64_t page, const void *data)
{
    struct hash128 hash;

    if (page_index_find(index, page)->kind == PAGE_ZERO)
        return page_writer_page_is_zero(data);
    hash = hash_bytes(data, NUM_PAGE_SIZE);
    return hash_equal(&hash, &hashes->by_page[page]);
}

static int verify_disk(const struct snap *snap, const struct snap_disk *disk,
    const struct verify_progress *progress, struct err *err)
{
    struct page_hashes hashes;
    int rc = snap_read_disk_hashes(snap, disk, &hashes, err);

    if (rc < 0)
        return rc;
    rc = verify_pages(&disk->map, disk->image_fds, &hashes, progress, err);
    page_hashes_fini(&hashes);
    return rc;
}

int verify_disks(const struct snap *snap,
    const struct verify_progress *progress, struct err *err)
{
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < snap->disk_count; i++)
        rc = verify_disk(snap, &snap->disks[i], progress, err);
    return rc;
}

int verify_snap(const struct snap *snap, const struct verify_progress *progress,
    struct err *err)
{
    struct page_hashes hashes;
    struct err record_err;
    int rc = snap_read_hashes(snap, &hashes, err);

    if (rc < 0)
        return rc;
    rc = verify_pages(&snap->index, snap->image_fds, &hashes, progress, err);
    page_hashes_fini(&hashes);
    if (rc == 0)
        rc = verify_disks(snap, progress, err);
    /* A store that cannot be written to is verified every time. */
    if (rc == 0 && verify_record(snap, &record_err) < 0)
        log_info("snapshot", "not recorded as verified: %s", record_err.text);
    return rc;
}

/* ---- the record ---- */

#define MAGIC       "SPOREVRF"
#define MAGIC_SIZE  8u
#define VERSION     1u
#define HEADER_SIZE 16u
#define ENTRY_SIZE  64u
#define RECORD_MAX                                                             \
    (HEADER_SIZE +                                                             \
        ENTRY_SIZE * ((size_t)PAGE_INDEX_FILES_MAX * (1 + DISKS_MAX)) +        \
        sizeof(struct hash128))

static void put_entry(struct bytes_writer *w, const struct page_image *image,
    const struct stat *st)
{
    bytes_put(w, image->id.b, sizeof(image->id.b));
    bytes_put_u32(w, image->type);
    bytes_put_u32(w, 0);
    bytes_put_u64(w, st->st_dev);
    bytes_put_u64(w, st->st_ino);
    bytes_put_u64(w, (uint64_t)st->st_size);
    bytes_put_u64(w, (uint64_t)st->st_mtim.tv_sec);
    bytes_put_u64(w, (uint64_t)st->st_mtim.tv_nsec);
}

/* The image files of a snapshot in the order of the record. */
struct file_list {
    struct page_image *images;
    int *fds;
    uint32_t count;
};

static void free_list(struct file_list *list)
{
    free(list->images);
    free(list->fds);
}

static int make_list(struct file_list *list, uint32_t room, struct err *err)
{
    *list = (struct file_list){
        .images = reallocarray(NULL, room, sizeof(*list->images)),
        .fds = reallocarray(NULL, room, sizeof(*list->fds))};
    if (list->images != NULL && list->fds != NULL)
        return 0;
    free_list(list);
    return err_sys(err, ENOMEM, "%s", VERIFIED_FILE_NAME);
}

static void list_index(
    struct file_list *list, const struct page_index *index, const int *fds)
{
    for (uint32_t i = 0; i < index->file_count; i++) {
        list->images[list->count] = index->files[i];
        list->fds[list->count++] = fds[i];
    }
}

/* Those of RAM, then of each disk; one that two of them use is there twice. */
static int list_snap(
    const struct snap *snap, struct file_list *ret_list, struct err *err)
{
    uint32_t room = snap->index.file_count;
    int rc;

    for (uint32_t i = 0; i < snap->disk_count; i++)
        room += snap->disks[i].map.file_count;
    rc = make_list(ret_list, room, err);
    if (rc < 0)
        return rc;
    list_index(ret_list, &snap->index, snap->image_fds);
    for (uint32_t i = 0; i < snap->disk_count; i++)
        list_index(ret_list, &snap->disks[i].map, snap->disks[i].image_fds);
    return 0;
}

/* The record for image files as they are now. */
static int encode_record(const struct file_list *list, uint8_t **ret_data,
    size_t *ret_size, struct err *err)
{
    size_t size =
        HEADER_SIZE + list->count * ENTRY_SIZE + sizeof(struct hash128);
    uint8_t *data = malloc(size);
    struct bytes_writer w;
    struct hash128 hash;

    if (data == NULL)
        return err_sys(err, ENOMEM, "%s", VERIFIED_FILE_NAME);
    bytes_writer_init(&w, data, size);
    bytes_put(&w, MAGIC, MAGIC_SIZE);
    bytes_put_u32(&w, VERSION);
    bytes_put_u32(&w, list->count);
    for (uint32_t i = 0; i < list->count; i++) {
        struct stat st;

        if (fstat(list->fds[i], &st) < 0) {
            int code = errno;

            free(data);
            return err_sys(err, code, "%s", VERIFIED_FILE_NAME);
        }
        put_entry(&w, &list->images[i], &st);
    }
    hash = hash_bytes(data, w.pos);
    bytes_put(&w, hash.b, sizeof(hash.b));
    assert(!w.failed && w.pos == size);
    *ret_data = data;
    *ret_size = size;
    return 0;
}

/* What the record of a snapshot would be now. */
static int encode_snap(const struct snap *snap, uint8_t **ret_data,
    size_t *ret_size, struct err *err)
{
    struct file_list list;
    int rc = list_snap(snap, &list, err);

    if (rc < 0)
        return rc;
    rc = encode_record(&list, ret_data, ret_size, err);
    free_list(&list);
    return rc;
}

bool verify_is_trusted(const struct snap *snap)
{
    uint8_t *record;
    uint8_t *now;
    size_t record_size;
    size_t now_size;
    bool is_same;

    if (dirfile_read(snap->dir_fd, VERIFIED_FILE_NAME, RECORD_MAX, &record,
            &record_size, NULL) < 0)
        return false;
    if (encode_snap(snap, &now, &now_size, NULL) < 0) {
        free(record);
        return false;
    }
    /* What the record would be now: then nothing of it has to be parsed. */
    is_same = record_size == now_size && memcmp(record, now, now_size) == 0;
    free(record);
    free(now);
    return is_same;
}

int verify_record(const struct snap *snap, struct err *err)
{
    uint8_t *data;
    size_t size;
    int rc = encode_snap(snap, &data, &size, err);

    if (rc < 0)
        return rc;
    rc = dirfile_replace(snap->dir_fd, VERIFIED_FILE_NAME, data, size, err);
    free(data);
    return rc;
}

int verify_record_in(int dir_fd, const struct page_image *images,
    uint32_t count, struct err *err)
{
    struct file_list list;
    uint8_t *data = NULL;
    size_t size = 0;
    int rc = make_list(&list, count, err);

    if (rc < 0)
        return rc;
    while (rc == 0 && list.count < count) {
        char name[SNAPSHOT_FILE_MAX + 1];
        uint64_t ignored;

        list.images[list.count] = images[list.count];
        page_image_name(&images[list.count], name);
        rc = dirfile_open(dir_fd, name, &ignored, &list.fds[list.count]);
        if (rc < 0)
            rc = err_sys(err, rc, "%s", name);
        else
            list.count++;
    }
    if (rc == 0)
        rc = encode_record(&list, &data, &size, err);
    if (rc == 0) {
        rc = dirfile_replace(dir_fd, VERIFIED_FILE_NAME, data, size, err);
        free(data);
    }
    while (list.count > 0)
        fd_closep(&list.fds[--list.count]);
    free_list(&list);
    return rc;
}
