/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/flatten.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/page_writer.h"
#include "snapshot/save.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define CHUNK_PAGES UINT64_C(256)

/* Pages that are copied: RAM, or a disk. */
struct part {
    const struct page_index *from;
    const int *fds;
    const char *what; /* for people */
    struct page_hashes old_hashes;
    struct page_index_builder builder;
    struct page_hashes hashes;
    struct page_index index;
    struct page_writer image;
    int image_fd;
};

struct copy {
    const struct snap *snap;
    struct save save;
    struct state_writer state;
    struct part memory;
    uint8_t *buffer;
    const struct verify_progress *progress;
};

static void free_part(struct part *p)
{
    page_index_builder_fini(&p->builder);
    page_index_fini(&p->index);
    page_hashes_fini(&p->hashes);
    page_hashes_fini(&p->old_hashes);
    fd_closep(&p->image_fd);
}

static int copy_chunk(struct copy *c, struct part *p,
    const struct page_extent *extent, uint64_t skip, uint64_t count,
    struct err *err)
{
    uint64_t page = extent->page + skip;
    ssize_t n = fd_pread_full(p->fds[extent->file], c->buffer,
        count * NUM_PAGE_SIZE, (extent->file_page + skip) * NUM_PAGE_SIZE);

    if (n < 0)
        return err_sys(err, (int)n, "page image");
    if (n != (ssize_t)(count * NUM_PAGE_SIZE))
        return err_set(err, EBADMSG, "page image: damaged: cut short");
    for (uint64_t i = 0; i < count; i++) {
        struct hash128 hash =
            hash_bytes(c->buffer + i * NUM_PAGE_SIZE, NUM_PAGE_SIZE);

        if (!hash_equal(&hash, &p->old_hashes.by_page[page + i]))
            return err_set(err, EBADMSG,
                "page %llu of the %s is not what was saved: see spore "
                "snapshot verify",
                (unsigned long long)(page + i), p->what);
    }
    return page_writer_put(&p->image, page, c->buffer, count, err);
}

static int copy_extent(struct copy *c, struct part *p,
    const struct page_extent *extent, struct err *err)
{
    uint64_t done = 0;

    if (extent->kind == PAGE_ZERO)
        page_writer_put_zero(&p->image, extent->page, extent->count);
    if (extent->kind != PAGE_DATA)
        return 0;
    while (done < extent->count) {
        uint64_t n = num_min(extent->count - done, CHUNK_PAGES);
        int rc = copy_chunk(c, p, extent, done, n, err);

        if (rc < 0)
            return rc;
        done += n;
        if (c->progress != NULL && c->progress->step != NULL)
            c->progress->step(
                c->progress->arg, extent->page + done, p->from->pages);
    }
    return 0;
}

/* Into an image of its own, `own`; the old hashes are there. */
static int copy_part(struct copy *c, struct part *p,
    const struct page_image *own, struct err *err)
{
    int rc = page_index_builder_init(&p->builder, own->pages, own, err);

    if (rc == 0 && page_hashes_init(&p->hashes, own->pages) < 0)
        rc = err_sys(err, ENOMEM, "flatten");
    if (rc == 0)
        rc = save_create_image(&c->save, own, &p->image_fd, err);
    if (rc < 0)
        return rc;
    page_writer_init(
        &p->image, p->image_fd, &c->save, &p->builder, &p->hashes, NULL);
    for (size_t i = 0; rc == 0 && i < p->from->extent_count; i++)
        rc = copy_extent(c, p, &p->from->extents[i], err);
    return rc == 0 ? page_index_builder_finish(&p->builder, &p->index, err)
                   : rc;
}

static int copy_disk(
    struct copy *c, const struct snap_disk *disk, struct err *err)
{
    struct page_image own = {.type = PAGE_IMAGE_DISK, .pages = disk->map.pages};
    struct part part = {.from = &disk->map,
        .fds = disk->image_fds,
        .what = "disk",
        .image_fd = -1};
    int rc = snapshot_id_random(&own.id, err);

    if (rc == 0)
        rc = snap_read_disk_hashes(c->snap, disk, &part.old_hashes, err);
    if (rc == 0)
        rc = copy_part(c, &part, &own, err);
    if (rc == 0)
        rc = save_write_disk(
            &c->save, disk->drive, &part.index, &part.hashes, err);
    free_part(&part);
    return rc;
}

static int copy_memory(struct copy *c, struct err *err)
{
    const struct page_image own = {.type = PAGE_IMAGE_MEM,
        .id = c->save.id,
        .pages = c->snap->index.pages};
    int rc = snap_read_hashes(c->snap, &c->memory.old_hashes, err);

    if (rc == 0)
        rc = copy_part(c, &c->memory, &own, err);
    for (uint32_t i = 0; rc == 0 && i < c->snap->disk_count; i++)
        rc = copy_disk(c, &c->snap->disks[i], err);
    if (rc == 0)
        rc = save_write_memory(
            &c->save, &c->memory.index, &c->memory.hashes, err);
    return rc;
}

static int copy_manifest(struct copy *c, const char *name, struct err *err)
{
    struct manifest manifest;
    int rc = snap_read_manifest(c->snap, &manifest, err);

    if (rc < 0)
        return rc;
    manifest.id = c->save.id;
    manifest.parent = (struct snapshot_id){0};
    manifest.created = clock_realtime_ns() / CLOCK_NS_PER_S;
    manifest.data_pages = page_index_data_pages(&c->memory.index);
    manifest.own_pages = manifest.data_pages;
    (void)snprintf(
        manifest.name, sizeof(manifest.name), "%s", name == NULL ? "" : name);
    return save_write_manifest(&c->save, &manifest, err);
}

static int copy_state(struct copy *c, struct err *err)
{
    const struct state_file *state = &c->snap->state;

    state_writer_init(&c->state, &c->save.id);
    for (size_t i = 0; i < state->section_count; i++) {
        const struct state_section *section = &state->sections[i];
        int rc = state_writer_add(&c->state, section->name, section->version,
            section->flags, section->data, section->size, err);

        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Files that this module would not know how to take along. */
static bool is_known(const struct snap *snap, const char *name)
{
    static const char *const known[] = {
        PAGE_INDEX_FILE_NAME, PAGE_HASHES_FILE_NAME, MANIFEST_FILE_NAME};

    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        if (strcmp(name, known[i]) == 0)
            return true;
    }
    for (uint32_t i = 0; i < snap->disk_count; i++) {
        char map[SNAPSHOT_FILE_MAX + 1];
        char hashes[SNAPSHOT_FILE_MAX + 1];

        disks_map_name(snap->disks[i].drive, map);
        disks_hashes_name(snap->disks[i].drive, hashes);
        if (strcmp(name, map) == 0 || strcmp(name, hashes) == 0)
            return true;
    }
    return false;
}

static int check_files(const struct snap *snap, struct err *err)
{
    for (size_t i = 0; i < snap->state.record_count; i++) {
        const char *name = snap->state.records[i].name;

        if (!is_known(snap, name))
            return err_set(err, ENOTSUP,
                "it has a file %s, which this version of spore cannot copy",
                name);
    }
    return 0;
}

static int copy_all(struct copy *c, const char *name, struct err *err)
{
    int rc = copy_memory(c, err);

    if (rc == 0)
        rc = copy_manifest(c, name, err);
    if (rc == 0)
        rc = copy_state(c, err);
    if (rc == 0)
        rc = save_commit(&c->save, &c->state, err);
    return rc;
}

int flatten_snap(const struct snap *snap, struct store *store, const char *name,
    bool sync, const struct verify_progress *progress,
    struct snapshot_id *ret_id, struct err *err)
{
    struct copy c = {.snap = snap,
        .memory = {.from = &snap->index,
            .fds = snap->image_fds,
            .what = "memory",
            .image_fd = -1},
        .progress = progress};
    int rc = check_files(snap, err);

    if (rc < 0)
        return rc;
    c.buffer = malloc(CHUNK_PAGES * NUM_PAGE_SIZE);
    if (c.buffer == NULL)
        return err_sys(err, ENOMEM, "flatten");
    rc = save_begin(&c.save, store, name, sync, err);
    if (rc == 0) {
        rc = copy_all(&c, name, err);
        if (rc == 0)
            *ret_id = c.save.id;
        save_abort(&c.save);
    }
    state_writer_fini(&c.state);
    free_part(&c.memory);
    free(c.buffer);
    return rc;
}
