/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/assembly.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "snapshot/page_writer.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

/* Read and compared at a time; runs of equal pages are found within. */
#define BUFFER_PAGES 256u

/* ---- begin --------------------------------------------------------------- */

static int open_parent(struct assembly *a, struct err *err)
{
    int rc;

    if (snapshot_id_is_zero(&a->plan.base))
        return err_set(err, EINVAL,
            "there is no snapshot that a diff could stand on: save once with "
            "--track first");
    rc = snap_open(a->save.store, &a->plan.base, &a->parent, err);
    if (rc < 0)
        return rc;
    a->has_parent = true;
    return a->parent.index.pages == a->plan.images[0].pages
               ? 0
               : err_set(err, EINVAL,
                     "the snapshot that a diff would stand on is of a machine "
                     "with other memory");
}

static int make_images(struct assembly *a, struct err *err)
{
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < a->plan.image_count; i++) {
        struct page_image *image = &a->images[i];

        *image = (struct page_image){
            .type = i == 0 ? PAGE_IMAGE_MEM : PAGE_IMAGE_DISK,
            .id = a->save.id,
            .pages = a->plan.images[i].pages};
        if (i > 0)
            rc = snapshot_id_random(&image->id, err);
        if (rc == 0)
            rc = save_create_image(&a->save, image, &a->image_fds[i], err);
    }
    return rc;
}

int assembly_begin(struct assembly *a, struct store *store,
    const struct capture_plan *plan, const struct assembly_options *options,
    struct err *err)
{
    int rc = capture_plan_check(plan, err);

    if (rc < 0)
        return rc;
    *a =
        (struct assembly){.options = *options, .plan = *plan, .capture_fd = -1};
    for (uint32_t i = 0; i < CAPTURE_IMAGES_MAX; i++)
        a->image_fds[i] = -1;
    rc = save_begin(&a->save, store, options->name, options->sync, err);
    if (rc < 0)
        return rc;
    a->has_begun = true;
    if (options->diff)
        rc = open_parent(a, err);
    if (rc == 0)
        rc = make_images(a, err);
    if (rc == 0) {
        a->capture_fd =
            memfd_create("capture", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (a->capture_fd < 0)
            rc = err_sys(err, errno, "a save");
    }
    if (rc < 0)
        assembly_fini(a);
    return rc;
}

int assembly_reclaim(struct assembly *a, struct err *err)
{
    int rc = 0;

    if (fcntl(a->capture_fd, F_ADD_SEALS,
            F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW) < 0)
        return err_sys(err, errno, "what the machine says of itself");
    for (uint32_t i = 0; rc == 0 && i < a->plan.image_count; i++)
        rc = save_reclaim_image(&a->save, &a->images[i], &a->image_fds[i], err);
    return rc;
}

void assembly_fini(struct assembly *a)
{
    if (!a->has_begun)
        return;
    save_abort(&a->save);
    for (uint32_t i = 0; i < CAPTURE_IMAGES_MAX; i++)
        fd_closep(&a->image_fds[i]);
    fd_closep(&a->capture_fd);
    if (a->has_parent)
        snap_close(&a->parent);
    if (a->has_dedupe)
        dedupe_fini(&a->dedupe);
    free(a->buffer);
    a->has_begun = false;
}

/* ---- one image ----------------------------------------------------------- */

/* An image that is gone through. */
struct reading {
    struct assembly *a;
    int fd;
    struct page_index_builder builder;
    struct page_hashes hashes;
    struct page_writer writer;
};

/* Which of the pages the store has: that takes their bytes. */
static int share_data(
    struct reading *r, uint64_t page, uint64_t count, struct err *err)
{
    int rc = 0;

    while (rc == 0 && count > 0) {
        uint64_t n = num_min(count, BUFFER_PAGES);
        size_t size = n * NUM_PAGE_SIZE;
        ssize_t got =
            fd_pread_full(r->fd, r->a->buffer, size, page * NUM_PAGE_SIZE);

        if (got < 0)
            return err_sys(err, (int)got, "page image");
        if ((size_t)got < size)
            return err_set(err, EBADMSG, "page image: cut short");
        rc = page_writer_put(&r->writer, page, r->a->buffer, n, err);
        page += n;
        count -= n;
    }
    return rc;
}

static int take_data(struct reading *r, uint64_t page, uint64_t count,
    const struct hash128 *hashes, struct err *err)
{
    const struct assembly_options *o = &r->a->options;
    int rc = o->check == NULL ? 0 : o->check(o->arg, err);

    if (rc < 0 || r->a->has_dedupe)
        return rc < 0 ? rc : share_data(r, page, count, err);
    page_index_builder_set_data(&r->builder, page, count, 0, page);
    memcpy(&r->hashes.by_page[page], hashes, count * sizeof(*hashes));
    return 0;
}

static int take_run(void *arg, enum page_kind kind, uint64_t page,
    uint64_t count, const struct hash128 *hashes, struct err *err)
{
    struct reading *r = arg;

    switch (kind) {
    case PAGE_DATA:
        return take_data(r, page, count, hashes, err);
    case PAGE_ZERO:
        page_writer_put_zero(&r->writer, page, count);
        return 0;
    case PAGE_BELOW:
    default:
        page_index_builder_set_below(&r->builder, page, count);
        return 0;
    }
}

/* What the parent has of an image, into builder and hashes. */
static int begin_diff(struct reading *r, uint32_t image, struct err *err)
{
    const struct assembly *a = r->a;
    const struct snap_disk *disk = NULL;
    int rc;

    if (!a->has_parent)
        return err_set(
            err, EBADMSG, "the machine saved a diff where all was asked for");
    if (image == 0) {
        rc = page_index_builder_add_index(&r->builder, &a->parent.index, err);
        return rc < 0 ? rc : snap_read_hashes(&a->parent, &r->hashes, err);
    }
    disk = snap_find_disk(&a->parent, a->plan.images[image].drive);
    if (disk == NULL || disk->map.pages != a->plan.images[image].pages)
        return err_set(err, EBADMSG,
            "the snapshot that the diff stands on has no such drive: make a "
            "full snapshot");
    rc = page_index_builder_add_index(&r->builder, &disk->map, err);
    return rc < 0 ? rc
                  : snap_read_disk_hashes(&a->parent, disk, &r->hashes, err);
}

static int read_image(struct reading *r, const struct capture *capture,
    uint32_t image, struct page_index *ret_index, struct err *err)
{
    struct assembly *a = r->a;
    bool is_diff = capture->images[image].is_diff;
    struct page_index index = {0};
    int rc = page_index_builder_init(
        &r->builder, a->images[image].pages, &a->images[image], err);

    if (rc < 0)
        return rc;
    if (image == 0 && is_diff != a->has_parent)
        return err_set(
            err, EBADMSG, "the machine saved not what was asked for");
    if (is_diff)
        rc = begin_diff(r, image, err);
    else if (page_hashes_init(&r->hashes, a->images[image].pages) < 0)
        rc = err_sys(err, ENOMEM, "page hashes");
    if (rc < 0)
        return rc;
    page_writer_init(&r->writer, r->fd, &a->save, &r->builder, &r->hashes,
        a->has_dedupe ? &a->dedupe : NULL);
    r->writer.is_filled = true;
    rc = capture_walk(capture, image, take_run, r, err);
    if (rc == 0)
        rc = page_index_builder_finish(&r->builder, &index, err);
    if (rc < 0)
        return rc;
    rc = page_writer_trim(&r->writer, &index, err);
    if (rc == 0 && is_diff)
        rc = save_link_images(&a->save, &a->parent, &index, err);
    if (rc < 0) {
        page_index_fini(&index);
        return rc;
    }
    *ret_index = index;
    return 0;
}

static void note_memory(struct assembly *a, const struct page_index *index)
{
    a->manifest.pages = index->pages;
    a->manifest.data_pages = page_index_data_pages(index);
    a->manifest.own_pages = page_index_file_pages(index, 0);
    a->pages_written = a->manifest.own_pages;
}

static int assemble_image(struct assembly *a, const struct capture *capture,
    uint32_t image, struct err *err)
{
    struct reading r = {.a = a, .fd = a->image_fds[image]};
    struct page_index index;
    int rc = read_image(&r, capture, image, &index, err);

    if (rc == 0) {
        if (image == 0) {
            note_memory(a, &index);
            rc = save_write_memory(&a->save, &index, &r.hashes, err);
        } else {
            rc = save_write_disk(
                &a->save, a->plan.images[image].drive, &index, &r.hashes, err);
        }
        page_index_fini(&index);
    }
    page_index_builder_fini(&r.builder);
    page_hashes_fini(&r.hashes);
    return rc;
}

/* ---- the whole ----------------------------------------------------------- */

static int assemble_images(
    struct assembly *a, const struct capture *capture, struct err *err)
{
    int rc = 0;

    a->buffer = malloc(BUFFER_PAGES * NUM_PAGE_SIZE);
    if (a->buffer == NULL)
        return err_sys(err, ENOMEM, "a save");
    if (a->options.share) {
        rc = dedupe_init(&a->dedupe, a->save.store, DEDUPE_BYTES_DEFAULT,
            DEDUPE_RUN_MIN_DEFAULT, err);
        a->has_dedupe = rc == 0;
    }
    /* Disks come before memory: see save_write_memory. */
    for (uint32_t i = 1; rc == 0 && i < capture->image_count; i++)
        rc = assemble_image(a, capture, i, err);
    return rc < 0 ? rc : assemble_image(a, capture, 0, err);
}

static int write_manifest(
    struct assembly *a, const struct capture *capture, struct err *err)
{
    struct manifest *m = &a->manifest;

    m->id = a->save.id;
    m->created = (uint64_t)time(NULL);
    m->vcpus = capture->about.vcpus;
    if (a->has_parent)
        m->parent = a->parent.id;
    (void)snprintf(m->name, sizeof(m->name), "%s",
        a->options.name == NULL ? "" : a->options.name);
    (void)snprintf(m->monitor, sizeof(m->monitor), "%s",
        a->options.monitor == NULL ? "" : a->options.monitor);
    (void)snprintf(m->kernel, sizeof(m->kernel), "%s", capture->about.kernel);
    return save_write_manifest(&a->save, m, err);
}

static int write_state(
    struct assembly *a, const struct capture *capture, struct err *err)
{
    struct state_writer state;
    int rc = 0;

    state_writer_init(&state, &a->save.id);
    for (size_t i = 0; rc == 0 && i < capture->state.section_count; i++) {
        const struct state_section *s = &capture->state.sections[i];

        if (strcmp(s->name, CAPTURE_SECTION) != 0)
            rc = state_writer_add(
                &state, s->name, s->version, s->flags, s->data, s->size, err);
    }
    if (rc == 0)
        rc = save_commit(&a->save, &state, err);
    state_writer_fini(&state);
    return rc;
}

int assembly_finish(
    struct assembly *a, struct snapshot_id *ret_id, struct err *err)
{
    struct capture capture;
    int rc = capture_open(&capture, a->capture_fd, &a->plan, err);

    if (rc < 0)
        return rc;
    rc = assemble_images(a, &capture, err);
    if (rc == 0)
        rc = write_manifest(a, &capture, err);
    if (rc == 0)
        rc = write_state(a, &capture, err);
    capture_close(&capture);
    if (rc == 0)
        *ret_id = a->save.id;
    return rc;
}
