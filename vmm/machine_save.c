/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine_save.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/base/clock.h"
#include "vmm/base/num.h"

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

void machine_save_plan(const struct machine *m, struct capture_plan *ret_plan)
{
    struct capture_plan plan = {.base = m->base, .image_count = 1};

    _Static_assert(CONFIG_DRIVES_MAX <= DISKS_MAX, "room for all of them");
    plan.images[0].pages = gmem_page_count(&m->mem);
    for (uint32_t i = 0; i < m->config->drive_count; i++) {
        uint64_t pages = machine_drive_save_pages(m->drives[i]);

        if (pages > 0)
            plan.images[plan.image_count++] =
                (struct capture_plan_image){.drive = i, .pages = pages};
    }
    *ret_plan = plan;
}

static int begin_memory(struct machine_save *s, int image_fd, struct err *err)
{
    uint64_t pages = page_count(s);
    void *room;
    int rc = capture_image_init(&s->image, image_fd, pages, err);

    if (rc < 0)
        return rc;
    s->image.is_diff = !snapshot_id_is_zero(&s->options.parent);
    if (bitmap_init(&s->todo, pages) < 0 || bitmap_init(&s->taken, pages) < 0)
        return err_sys(err, ENOMEM, "a save");
    if (s->machine->changed.words == NULL &&
        bitmap_init(&s->machine->changed, pages) < 0)
        return err_sys(err, ENOMEM, "a save");
    s->staging = malloc(STAGING_PAGES * NUM_PAGE_SIZE);
    /* Addresses for all of RAM; memory comes in large pages, if it has to. */
    room = mmap(NULL, pages * NUM_PAGE_SIZE, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room != MAP_FAILED)
        s->left_copies = room;
    if (s->staging == NULL || room == MAP_FAILED)
        return err_sys(err, ENOMEM, "a save");
    (void)madvise(room, pages * NUM_PAGE_SIZE, MADV_HUGEPAGE);
    (void)madvise(room, pages * NUM_PAGE_SIZE, MADV_DONTDUMP);
    s->left = malloc((LEFT_ROOM + 1) * sizeof(s->left[0]));
    s->left_room = LEFT_ROOM;
    return s->left == NULL ? err_sys(err, ENOMEM, "a save") : 0;
}

/* From here on every write is in a harvest of ours. */
static int begin_tracking(struct machine_save *s, struct err *err)
{
    struct machine *m = s->machine;
    int rc;

    if (s->image.is_diff &&
        (!m->dirty.is_on || !snapshot_id_equal(&m->base, &s->options.parent)))
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

static int begin_drives(struct machine_save *s, const int *image_fds,
    uint32_t count, struct err *err)
{
    const struct machine_drive_save_options options = {
        .parent = s->options.parent, .sync = s->options.sync};
    const struct machine *m = s->machine;
    uint32_t used = 1;
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < m->config->drive_count; i++) {
        bool has_image = m->drives[i]->options.has_overlay;

        if (has_image && used == count)
            break;
        rc = machine_drive_save_begin(&s->drives[i], m->drives[i],
            has_image ? image_fds[used++] : -1, &options, err);
    }
    return rc;
}

static int check_count(const struct machine *m, uint32_t count, struct err *err)
{
    uint32_t wanted = 1;

    for (uint32_t i = 0; i < m->config->drive_count; i++)
        wanted += m->drives[i]->options.has_overlay ? 1 : 0;
    return count == wanted
               ? 0
               : err_set(err, EINVAL,
                     "%u image files, where memory and the disks with an "
                     "overlay need %u",
                     count, wanted);
}

int machine_save_begin(struct machine_save *s, struct machine *m,
    const int *image_fds, uint32_t count,
    const struct machine_save_options *options, struct err *err)
{
    int rc = check_count(m, count, err);

    if (rc < 0)
        return rc;
    *s = (struct machine_save){.machine = m, .options = *options};
    rc = begin_memory(s, image_fds[0], err);
    if (rc == 0)
        rc = begin_tracking(s, err);
    if (rc == 0)
        rc = begin_drives(s, image_fds, count, err);
    if (rc < 0)
        machine_save_fini(s);
    return rc;
}

/* All that is not needed to say what was taken. */
static void release(struct machine_save *s)
{
    capture_image_fini(&s->image);
    bitmap_fini(&s->todo);
    free(s->staging);
    free(s->left);
    if (s->left_copies != NULL)
        (void)munmap(s->left_copies, page_count(s) * NUM_PAGE_SIZE);
    frozen_fini(&s->frozen);
    s->staging = NULL;
    s->left = NULL;
    s->left_copies = NULL;
}

static void end_drives(struct machine_save *s, const struct snapshot_id *id)
{
    for (uint32_t i = 0; i < CONFIG_DRIVES_MAX; i++)
        machine_drive_save_end(&s->drives[i], id);
}

void machine_save_fini(struct machine_save *s)
{
    if (s->machine == NULL)
        return;
    end_drives(s, NULL);
    if (!s->is_committed && s->taken.words != NULL &&
        s->machine->changed.words != NULL)
        give_back(s);
    release(s);
    bitmap_fini(&s->taken);
    s->machine = NULL;
}

static int check_cancelled(const struct machine_save *s, struct err *err)
{
    const bool *flag = s->options.is_cancelled;

    return flag != NULL && __atomic_load_n(flag, __ATOMIC_RELAXED)
               ? err_set(err, ECANCELED, "the save was given up")
               : 0;
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
        rc = capture_image_put(&s->image, page, bytes, n, err);
        if (rc == 0)
            rc = check_cancelled(s, err);
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
    if (!s->image.is_diff) {
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
        rc = capture_image_put(
            &s->image, s->left[i], s->left_copies + i * NUM_PAGE_SIZE, n, err);
        i += n;
    }
    return rc;
}

static int write_capture(
    struct machine_save *s, int fd, const struct disks *disks, struct err *err)
{
    struct capture_part parts[CAPTURE_IMAGES_MAX] = {{.image = &s->image}};
    /* Who makes the snapshot gives it its id. */
    const struct snapshot_id id = {.b = {1}};
    struct state_writer state;
    uint32_t count = 1;
    int rc;

    for (uint32_t i = 0; i < disks->count; i++) {
        if (s->drives[i].has_image)
            parts[count++] =
                (struct capture_part){.drive = i, .image = &s->drives[i].image};
    }
    state_writer_init(&state, &id);
    rc = machine_describe_store(s->machine, &s->frozen, disks, &state, err);
    if (rc == 0)
        rc = capture_write(fd, parts, count, &state, err);
    state_writer_fini(&state);
    return rc;
}

int machine_save_finish(struct machine_save *s, int capture_fd, struct err *err)
{
    struct disks disks = {.count = s->machine->config->drive_count};
    int rc = put_left(s, err);

    for (uint32_t i = 0; rc == 0 && i < disks.count; i++) {
        disks.records[i] = s->drives[i].record;
        rc = machine_drive_save_finish(&s->drives[i], err);
    }
    if (rc == 0)
        rc = write_capture(s, capture_fd, &disks, err);
    if (rc < 0)
        return rc;
    release(s);
    for (uint32_t i = 0; i < disks.count; i++)
        machine_drive_save_release(&s->drives[i]);
    return 0;
}

/* Without a diff to come the guest need not pay for its first writes. */
int machine_save_commit(
    struct machine_save *s, const struct snapshot_id *id, struct err *err)
{
    struct machine *m = s->machine;

    s->is_committed = true;
    end_drives(s, id);
    m->base = *id;
    if (!s->has_started || s->options.track)
        return 0;
    m->base = (struct snapshot_id){0};
    return dirty_stop(&m->dirty, err);
}
