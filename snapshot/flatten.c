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

struct copy {
    const struct snap *snap;
    struct page_hashes old_hashes;
    struct save save;
    struct page_index_builder builder;
    struct page_hashes hashes;
    struct page_index index;
    struct state_writer state;
    struct page_writer image;
    int image_fd;
    uint8_t *buffer;
    const struct verify_progress *progress;
};

static int copy_chunk(struct copy *c, const struct page_extent *extent,
    uint64_t skip, uint64_t count, struct err *err)
{
    uint64_t page = extent->page + skip;
    ssize_t n = fd_pread_full(c->snap->image_fds[extent->file], c->buffer,
        count * NUM_PAGE_SIZE, (extent->file_page + skip) * NUM_PAGE_SIZE);

    if (n < 0)
        return err_sys(err, (int)n, "page image");
    if (n != (ssize_t)(count * NUM_PAGE_SIZE))
        return err_set(err, EBADMSG, "page image: damaged: cut short");
    for (uint64_t i = 0; i < count; i++) {
        struct hash128 hash =
            hash_bytes(c->buffer + i * NUM_PAGE_SIZE, NUM_PAGE_SIZE);

        if (!hash_equal(&hash, &c->old_hashes.by_page[page + i]))
            return err_set(err, EBADMSG,
                "page %llu of the memory is not what was saved: see spore "
                "snapshot verify",
                (unsigned long long)(page + i));
    }
    return page_writer_put(&c->image, page, c->buffer, count, err);
}

static int copy_pages(struct copy *c, struct err *err)
{
    const struct page_index *index = &c->snap->index;

    for (size_t i = 0; i < index->extent_count; i++) {
        const struct page_extent *extent = &index->extents[i];
        uint64_t done = extent->kind == PAGE_ZERO ? extent->count : 0;

        while (done < extent->count) {
            uint64_t n = num_min(extent->count - done, CHUNK_PAGES);
            int rc = copy_chunk(c, extent, done, n, err);

            if (rc < 0)
                return rc;
            done += n;
            if (c->progress != NULL && c->progress->step != NULL)
                c->progress->step(
                    c->progress->arg, extent->page + done, index->pages);
        }
    }
    return 0;
}

static int copy_memory(struct copy *c, struct err *err)
{
    const struct page_image own = {.type = PAGE_IMAGE_MEM,
        .id = c->save.id,
        .pages = c->snap->index.pages};
    int rc = snap_read_hashes(c->snap, &c->old_hashes, err);

    if (rc == 0)
        rc = page_index_builder_init(&c->builder, own.pages, &own, err);
    if (rc == 0 && page_hashes_init(&c->hashes, own.pages) < 0)
        rc = err_sys(err, ENOMEM, "flatten");
    if (rc == 0)
        rc = save_create_image(&c->save, &own, &c->image_fd, err);
    if (rc < 0)
        return rc;
    page_writer_init(
        &c->image, c->image_fd, &c->save, &c->builder, &c->hashes, NULL);
    rc = copy_pages(c, err);
    if (rc == 0)
        rc = page_index_builder_finish(&c->builder, &c->index, err);
    if (rc == 0)
        rc = save_write_memory(&c->save, &c->index, &c->hashes, err);
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
    manifest.data_pages = page_index_data_pages(&c->index);
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
static int check_files(const struct snap *snap, struct err *err)
{
    static const char *const known[] = {
        PAGE_INDEX_FILE_NAME, PAGE_HASHES_FILE_NAME, MANIFEST_FILE_NAME};

    for (size_t i = 0; i < snap->state.record_count; i++) {
        const char *name = snap->state.records[i].name;
        bool is_known = false;

        for (size_t k = 0; k < ARRAY_SIZE(known); k++)
            is_known = is_known || strcmp(name, known[k]) == 0;
        if (!is_known)
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
    struct copy c = {.snap = snap, .image_fd = -1, .progress = progress};
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
    page_index_builder_fini(&c.builder);
    page_index_fini(&c.index);
    page_hashes_fini(&c.hashes);
    page_hashes_fini(&c.old_hashes);
    fd_closep(&c.image_fd);
    free(c.buffer);
    return rc;
}
