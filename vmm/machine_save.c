/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine_save.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "snapshot/frozen_file.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/config_paths.h"
#include "vmm/hw/cpuid_check.h"
#include "vmm/machine_restore.h"

/* Copied at a time while the guest runs. */
#define STAGING_PAGES 256u

/* So few pages left, and it is time to stop the guest; or so many rounds. */
#define LEFT_PAGES 1024u
#define ROUNDS_MAX 4u

/* Room for pages at the stop whose memory is there beforehand. */
#define LEFT_ROOM     (4u * LEFT_PAGES)
#define LEFT_ROOM_MAX (64u * LEFT_PAGES)

static uint64_t page_count(const struct machine_save *s)
{
    return gmem_page_count(&s->machine->mem);
}

/* ---- what changed -------------------------------------------------------- */

/* Moves what was written since the last time to what is to be copied. */
static int harvest(struct machine_save *s, struct err *err)
{
    struct dirty_pages dirty;
    int rc = dirty_harvest(&s->machine->dirty, &dirty, err);

    for (size_t i = 0; rc == 0 && i < dirty.count; i++) {
        bitmap_set(&s->todo, dirty.pages[i], 1);
        bitmap_set(&s->taken, dirty.pages[i], 1);
    }
    return rc;
}

/* Changes since the base that an earlier save or harvest knew of. */
static void take_changed(struct machine_save *s)
{
    size_t first = 0;
    size_t count;

    while (bitmap_next_run(&s->machine->changed, first, &first, &count)) {
        bitmap_set(&s->todo, first, count);
        bitmap_set(&s->taken, first, count);
        first += count;
    }
    bitmap_clear_all(&s->machine->changed);
}

/* A save that failed: what it took is changed still. */
static void give_back(struct machine_save *s)
{
    size_t first = 0;
    size_t count;

    while (bitmap_next_run(&s->taken, first, &first, &count)) {
        bitmap_set(&s->machine->changed, first, count);
        first += count;
    }
}

/* ---- begin --------------------------------------------------------------- */

static int begin_index(struct machine_save *s, struct err *err)
{
    const struct snap *parent = s->options.parent;
    int rc;

    s->own = (struct page_image){
        .type = PAGE_IMAGE_MEM, .id = s->save.id, .pages = page_count(s)};
    rc = page_index_builder_init(&s->index, page_count(s), &s->own, err);
    if (rc < 0)
        return rc;
    if (parent != NULL) {
        rc = page_index_builder_add_index(&s->index, &parent->index, err);
        return rc < 0 ? rc : snap_read_hashes(parent, &s->hashes, err);
    }
    rc = page_hashes_init(&s->hashes, page_count(s));
    return rc < 0 ? err_sys(err, rc, "page hashes") : 0;
}

static int begin_memory(struct machine_save *s, struct err *err)
{
    uint64_t pages = page_count(s);
    void *room;

    if (bitmap_init(&s->todo, pages) < 0 || bitmap_init(&s->taken, pages) < 0)
        return err_sys(err, ENOMEM, "a save");
    if (s->machine->changed.words == NULL &&
        bitmap_init(&s->machine->changed, pages) < 0)
        return err_sys(err, ENOMEM, "a save");
    s->staging = malloc(STAGING_PAGES * NUM_PAGE_SIZE);
    /* Addresses for all of RAM; memory comes in large pages, if it has to. */
    room = mmap(NULL, pages * NUM_PAGE_SIZE, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (s->staging == NULL || room == MAP_FAILED)
        return err_sys(err, ENOMEM, "a save");
    (void)madvise(room, pages * NUM_PAGE_SIZE, MADV_HUGEPAGE);
    (void)madvise(room, pages * NUM_PAGE_SIZE, MADV_DONTDUMP);
    s->left_copies = room;
    s->left = malloc((LEFT_ROOM + 1) * sizeof(s->left[0]));
    s->left_room = LEFT_ROOM;
    return s->left == NULL ? err_sys(err, ENOMEM, "a save") : 0;
}

/* From here on every write is in a harvest of ours. */
static int begin_tracking(struct machine_save *s, struct err *err)
{
    struct machine *m = s->machine;
    int rc;

    if (s->options.parent != NULL &&
        (!m->dirty.is_on ||
            !snapshot_id_equal(&m->base, &s->options.parent->id)))
        return err_set(err, EINVAL,
            "the machine was not last saved to that snapshot, nor restored "
            "from it with its writes followed: make a full snapshot");
    if (m->dirty.is_on) {
        take_changed(s);
        return harvest(s, err);
    }
    rc = dirty_start(&m->dirty, err);
    s->has_started = rc == 0;
    return rc;
}

/* Without a diff to come the guest need not pay for its first writes. */
static int end_tracking(struct machine_save *s, struct err *err)
{
    struct machine *m = s->machine;

    m->base = s->save.id;
    if (!s->has_started || s->options.track)
        return 0;
    m->base = (struct snapshot_id){0};
    return dirty_stop(&m->dirty, err);
}

static int begin_image(struct machine_save *s, struct err *err)
{
    int rc = save_create_image(&s->save, &s->own, &s->image_fd, err);

    if (rc == 0 && s->options.share) {
        rc = dedupe_init(&s->dedupe, s->save.store, DEDUPE_BYTES_DEFAULT,
            DEDUPE_RUN_MIN_DEFAULT, err);
        s->has_dedupe = rc == 0;
    }
    if (rc < 0)
        return rc;
    page_writer_init(&s->image, s->image_fd, &s->save, &s->index, &s->hashes,
        s->has_dedupe ? &s->dedupe : NULL);
    s->image.progress = s->options.progress;
    return 0;
}

static int begin_drives(struct machine_save *s, struct err *err)
{
    const struct machine *m = s->machine;
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < m->config->drive_count; i++)
        rc = machine_drive_save_begin(&s->drives[i], m->drives[i], i, &s->save,
            s->options.parent, s->has_dedupe ? &s->dedupe : NULL, err);
    return rc;
}

int machine_save_begin(struct machine_save *s, struct machine *m,
    struct store *store, const struct machine_save_options *options,
    struct err *err)
{
    int rc;

    *s = (struct machine_save){
        .machine = m, .options = *options, .image_fd = -1};
    rc = save_begin(&s->save, store, options->name, options->sync, err);
    if (rc < 0)
        return rc;
    state_writer_init(&s->state, &s->save.id);
    rc = begin_index(s, err);
    if (rc == 0)
        rc = begin_memory(s, err);
    if (rc == 0)
        rc = begin_tracking(s, err);
    if (rc == 0)
        rc = begin_image(s, err);
    if (rc == 0)
        rc = begin_drives(s, err);
    if (rc < 0)
        machine_save_fini(s);
    return rc;
}

void machine_save_fini(struct machine_save *s)
{
    if (s->machine == NULL)
        return;
    for (uint32_t i = 0; i < CONFIG_DRIVES_MAX; i++)
        machine_drive_save_end(&s->drives[i], s->is_committed);
    if (!s->is_committed) {
        save_abort(&s->save);
        if (s->taken.words != NULL && s->machine->changed.words != NULL)
            give_back(s);
    }
    fd_closep(&s->image_fd);
    if (s->has_dedupe)
        dedupe_fini(&s->dedupe);
    page_index_builder_fini(&s->index);
    page_hashes_fini(&s->hashes);
    bitmap_fini(&s->todo);
    bitmap_fini(&s->taken);
    free(s->staging);
    free(s->left);
    if (s->left_copies != NULL)
        (void)munmap(s->left_copies, page_count(s) * NUM_PAGE_SIZE);
    frozen_fini(&s->frozen);
    state_writer_fini(&s->state);
    *s = (struct machine_save){.image_fd = -1};
}

/* ---- copying ------------------------------------------------------------- */

/*
 * Through private memory if the guest may change the pages while we look.
 * A device that still writes to those of a paused guest marks them, and they
 * are put once more at the stop.
 */
static int put_pages(
    struct machine_save *s, uint64_t page, uint64_t count, struct err *err)
{
    struct gmem *mem = &s->machine->mem;
    int rc = 0;

    while (count > 0 && rc == 0) {
        uint64_t n = num_min(count, STAGING_PAGES);
        const void *bytes = s->staging;

        if (s->is_running)
            gmem_copy_pages(mem, page, n, s->staging);
        else
            bytes = gmem_pages_iovec(mem, page, n).iov_base;
        rc = page_writer_put(&s->image, page, bytes, n, err);
        page += n;
        count -= n;
    }
    return rc;
}

static int put_all(struct machine_save *s, struct err *err)
{
    uint64_t first = 0;
    uint64_t count;
    int rc = 0;

    while (rc == 0 && gmem_next_data(&s->machine->mem, first, &first, &count)) {
        rc = put_pages(s, first, count, err);
        first += count;
    }
    return rc;
}

static int put_todo(struct machine_save *s, struct err *err)
{
    size_t first = 0;
    size_t count;
    int rc = 0;

    while (rc == 0 && bitmap_next_run(&s->todo, first, &first, &count)) {
        rc = put_pages(s, first, count, err);
        first += count;
    }
    bitmap_clear_all(&s->todo);
    return rc;
}

/* Touched while the guest runs, so that it does not wait for it later. */
static void make_room(const struct machine_save *s, uint64_t pages)
{
    (void)madvise(s->left_copies, num_min(pages, page_count(s)) * NUM_PAGE_SIZE,
        MADV_POPULATE_WRITE);
}

int machine_save_copy(struct machine_save *s, bool is_running, struct err *err)
{
    int rc = 0;

    s->is_running = is_running;
    if (is_running)
        make_room(s, LEFT_ROOM);
    if (s->options.parent == NULL) {
        /* What was harvested at the beginning is in it. */
        bitmap_clear_all(&s->todo);
        rc = put_all(s, err);
    } else if (!is_running) {
        rc = put_todo(s, err);
    }
    for (uint32_t i = 0; rc == 0 && i < s->machine->config->drive_count; i++)
        rc = machine_drive_save_copy(&s->drives[i], is_running, err);
    for (uint32_t i = 0; rc == 0 && is_running && i < ROUNDS_MAX; i++) {
        rc = harvest(s, err);
        if (rc < 0 || bitmap_count(&s->todo) <= LEFT_PAGES)
            break;
        /* As many again may be there at the stop, and then some. */
        if (i + 1 == ROUNDS_MAX)
            make_room(s, num_min(2 * bitmap_count(&s->todo), LEFT_ROOM_MAX));
        rc = put_todo(s, err);
    }
    return rc;
}

/* ---- the stop ------------------------------------------------------------ */

static int set_aside(struct machine_save *s, struct err *err)
{
    size_t left = bitmap_count(&s->todo);
    size_t first = 0;
    size_t count;

    if (left > s->left_room) {
        free(s->left);
        s->left = malloc((left + 1) * sizeof(s->left[0]));
        if (s->left == NULL)
            return err_sys(err, ENOMEM, "%zu pages of a save", left);
        s->left_room = left;
    }
    while (bitmap_next_run(&s->todo, first, &first, &count)) {
        gmem_copy_pages(&s->machine->mem, first, count,
            s->left_copies + s->left_count * NUM_PAGE_SIZE);
        for (size_t i = 0; i < count; i++)
            s->left[s->left_count++] = (uint32_t)(first + i);
        first += count;
    }
    return 0;
}

static int take_state(struct machine_save *s, struct err *err)
{
    struct machine *m = s->machine;
    struct parts parts;
    int rc = machine_prepare_parts(m, err);

    if (rc < 0)
        return rc;
    parts = machine_parts(m);
    rc = parts_quiesce(&parts, err);
    if (rc < 0)
        return rc;
    rc = harvest(s, err);
    if (rc == 0)
        rc = set_aside(s, err);
    if (rc == 0)
        rc = frozen_take(&s->frozen, &parts, err);
    for (uint32_t i = 0; rc == 0 && i < m->config->drive_count; i++)
        rc = machine_drive_save_stop(&s->drives[i], err);
    parts_resume(&parts);
    return rc;
}

int machine_save_stop(struct machine_save *s, bool is_running, struct err *err)
{
    uint64_t from = clock_now_ns();
    int rc;

    if (is_running)
        machine_pause(s->machine);
    rc = take_state(s, err);
    if (is_running)
        machine_resume(s->machine);
    s->stopped_ns = clock_now_ns() - from;
    return rc;
}

/* ---- the rest ------------------------------------------------------------ */

static int put_left(struct machine_save *s, struct err *err)
{
    size_t i = 0;
    int rc = 0;

    while (i < s->left_count && rc == 0) {
        size_t n = 1;

        while (i + n < s->left_count && s->left[i + n] == s->left[i] + n)
            n++;
        rc = page_writer_put(
            &s->image, s->left[i], s->left_copies + i * NUM_PAGE_SIZE, n, err);
        i += n;
    }
    return rc;
}

static int write_memory(
    struct machine_save *s, struct page_index *index, struct err *err)
{
    int rc = put_left(s, err);

    for (uint32_t i = 0; rc == 0 && i < s->machine->config->drive_count; i++)
        rc = machine_drive_save_finish(&s->drives[i], err);
    if (rc == 0)
        rc = page_index_builder_finish(&s->index, index, err);
    if (rc < 0)
        return rc;
    rc = page_writer_trim(&s->image, index, err);
    if (rc == 0 && s->options.parent != NULL)
        rc = save_link_images(&s->save, s->options.parent, index, err);
    if (rc == 0)
        rc = save_write_memory(&s->save, index, &s->hashes, err);
    return rc;
}

static int write_disks(struct machine_save *s, struct err *err)
{
    struct disks disks = {.count = s->machine->config->drive_count};

    _Static_assert(CONFIG_DRIVES_MAX <= DISKS_MAX, "room for all of them");
    if (disks.count == 0)
        return 0;
    for (uint32_t i = 0; i < disks.count; i++)
        disks.records[i] = s->drives[i].record;
    return disks_store(&disks, &s->state, err);
}

/* Who restores it has another working folder and other descriptors. */
static int describe(
    const struct config *config, char **ret_json, struct err *err)
{
    struct config copy;
    int rc = config_copy(config, &copy, err);

    if (rc < 0)
        return rc;
    rc = config_paths_settle(&copy, err);
    if (rc == 0)
        rc = config_to_json(&copy, ret_json, err);
    config_fini(&copy);
    return rc;
}

static int write_description(struct machine_save *s, struct err *err)
{
    struct machine *m = s->machine;
    const struct parts parts = machine_parts(m);
    uint8_t host_id[HOST_ID_BYTES];
    struct bytes_writer out;
    struct cpuid seen = {0};
    uint8_t *cpuid;
    char *json = NULL;
    int rc = frozen_store(&s->frozen, &parts, &s->state, err);

    if (rc == 0)
        rc = write_disks(s, err);
    if (rc == 0)
        rc = describe(m->config, &json, err);
    if (rc < 0)
        return rc;
    rc = state_writer_add(&s->state, MACHINE_SECTION, MACHINE_SECTION_VERSION,
        STATE_SECTION_REQUIRED, json, strlen(json), err);
    free(json);
    machine_host_id(host_id);
    if (rc == 0)
        rc = state_writer_add(&s->state, HOST_SECTION, HOST_SECTION_VERSION, 0,
            host_id, sizeof(host_id), err);
    if (rc < 0)
        return rc;
    cpuid = malloc(CPUID_WIRE_MAX);
    if (cpuid == NULL)
        return err_sys(err, ENOMEM, "CPUID table");
    bytes_writer_init(&out, cpuid, CPUID_WIRE_MAX);
    rc = cpuid_copy(&m->cpuid, &seen, err);
    if (rc == 0) {
        cpuid_see(&seen, &m->host.kvm->features);
        cpuid_encode(&seen, &out);
        rc = state_writer_add(&s->state, CPUID_SECTION, CPUID_WIRE_VERSION,
            STATE_SECTION_REQUIRED, cpuid, out.pos, err);
    }
    cpuid_fini(&seen);
    free(cpuid);
    return rc;
}

static int write_manifest(
    struct machine_save *s, const struct page_index *index, struct err *err)
{
    const struct machine *m = s->machine;
    struct manifest manifest = {.id = s->save.id,
        .created = (uint64_t)time(NULL),
        .vcpus = m->config->vcpus,
        .pages = index->pages,
        .data_pages = page_index_data_pages(index),
        .own_pages = page_index_file_pages(index, 0)};

    if (s->options.parent != NULL)
        manifest.parent = s->options.parent->id;
    if (s->options.name != NULL)
        (void)snprintf(
            manifest.name, sizeof(manifest.name), "%s", s->options.name);
    (void)snprintf(
        manifest.monitor, sizeof(manifest.monitor), "spore %s", SPORE_VERSION);
    (void)snprintf(manifest.kernel, sizeof(manifest.kernel), "%s",
        m->config->kernel != NULL ? m->config->kernel : "");
    return save_write_manifest(&s->save, &manifest, err);
}

int machine_save_finish(
    struct machine_save *s, struct snapshot_id *ret_id, struct err *err)
{
    struct page_index index = {0};
    int rc = write_memory(s, &index, err);

    if (rc == 0)
        rc = write_description(s, err);
    if (rc == 0)
        rc = write_manifest(s, &index, err);
    page_index_fini(&index);
    if (rc == 0)
        rc = save_commit(&s->save, &s->state, err);
    if (rc < 0)
        return rc;
    s->is_committed = true;
    *ret_id = s->save.id;
    return end_tracking(s, err);
}

int machine_save_paused(struct machine *m, struct store *store,
    const struct machine_save_options *options, struct snapshot_id *ret_id,
    struct err *err)
{
    struct machine_save s;
    int rc = machine_save_begin(&s, m, store, options, err);

    if (rc < 0)
        return rc;
    rc = machine_save_copy(&s, false, err);
    if (rc == 0)
        rc = machine_save_stop(&s, false, err);
    if (rc == 0)
        rc = machine_save_finish(&s, ret_id, err);
    machine_save_fini(&s);
    return rc;
}
