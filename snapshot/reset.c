/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/reset.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/hw/vcpu_sync.h"

/* So often in harvests, and a page is hot. */
#define HEAT_HOT 4u

/* The tracker is told of new hot pages after so many resets or pages. */
#define HOT_ROUND_RESETS 16u
#define HOT_ROUND_PAGES  64u

/* After so many resets all pages are cold again: the guest may have changed
 * its ways, and a page that is copied for nothing costs every reset. */
#define COLD_AFTER 65536u

static struct parts *parts_of(struct reset *r)
{
    return &r->config.parts;
}

static bool shadows_page_tables(const struct reset *r)
{
    return r->config.parts.vm->kvm->features.ring0_emulated;
}

/* ---- levels -------------------------------------------------------------- */

static int mark_tables(struct reset *r, const struct frozen *f)
{
    int rc = 0;

    bitmap_clear_all(&r->tables);
    for (uint32_t i = 0; i < r->config.space_count && rc == 0; i++)
        rc = page_tables_mark(r->config.parts.mem, &r->spaces[i], &r->tables);
    for (uint32_t i = 0; i < f->vcpu_count && rc == 0; i++) {
        const struct kvm_sregs2 *sregs = &f->vcpus[i].sregs;
        const struct page_tables_regs regs = {.cr0 = sregs->cr0,
            .cr3 = sregs->cr3,
            .cr4 = sregs->cr4,
            .efer = sregs->efer};

        rc = page_tables_mark(r->config.parts.mem, &regs, &r->tables);
    }
    return rc;
}

static int push_disks(struct reset *r, struct err *err)
{
    for (uint32_t i = 0; i < r->config.disk_count; i++) {
        struct reset_disk *disk = &r->disks[i];
        int rc = disk->ops->push(disk->opaque, err);

        if (rc == 0)
            continue;
        while (i-- > 0)
            r->disks[i].ops->pop(r->disks[i].opaque);
        return rc;
    }
    return 0;
}

static void pop_disks(struct reset *r)
{
    for (uint32_t i = 0; i < r->config.disk_count; i++)
        r->disks[i].ops->pop(r->disks[i].opaque);
}

/* State of quiesced parts and disks, as level `level`. */
static int take_level(struct reset *r, uint32_t level, struct err *err)
{
    struct frozen *f = &r->levels[level];
    int rc = frozen_take(f, parts_of(r), err);

    if (rc < 0)
        return rc;
    rc = mark_tables(r, f);
    if (rc < 0)
        rc = err_sys(err, rc, "the guest's page tables");
    else
        rc = push_disks(r, err);
    if (rc < 0)
        frozen_fini(f);
    return rc;
}

/* ---- the hot set --------------------------------------------------------- */

/* Cold again are all but the kept ones. */
static int forget_hot(struct reset *r, struct err *err)
{
    int rc = 0;

    if (r->hot_known > r->hot_kept)
        rc = dirty_set_hot(r->config.parts.dirty, r->hot, r->hot_kept, err);
    /* Those that nobody was told of are in harvests as before. */
    r->hot_count = r->hot_kept;
    r->hot_known = r->hot_kept;
    r->since_hot = 0;
    r->since_cold = 0;
    memset(r->heat, 0, r->pages.pages);
    return rc;
}

static void warm_up(struct reset *r, uint32_t page)
{
    if (r->heat[page] >= HEAT_HOT ||
        r->hot_count - r->hot_kept >= r->config.hot_max ||
        bitmap_test(&r->tables, page) || bitmap_test(&r->entry, page))
        return;
    if (++r->heat[page] == HEAT_HOT)
        r->hot[r->hot_count++] = page;
}

static int settle_hot(struct reset *r, struct err *err)
{
    if (r->config.hot_max == 0)
        return 0;
    r->since_cold++;
    r->since_hot++;
    if (r->since_cold >= COLD_AFTER)
        return forget_hot(r, err);
    if (r->hot_count == r->hot_known ||
        (r->since_hot < HOT_ROUND_RESETS &&
            r->hot_count - r->hot_known < HOT_ROUND_PAGES))
        return 0;
    r->since_hot = 0;
    r->hot_known = r->hot_count;
    return dirty_set_hot(r->config.parts.dirty, r->hot, r->hot_count, err);
}

/* ---- memory -------------------------------------------------------------- */

static void put_back(struct reset *r, uint32_t page)
{
    gmem_restore_pages(
        r->config.parts.mem, page, 1, page_stack_get(&r->pages, page));
}

static bool differs_from_top(const struct reset *r, uint32_t page)
{
    return !gmem_page_equals(
        r->config.parts.mem, page, page_stack_get(&r->pages, page));
}

/* Has KVM drop what it derived from the page tables that were just changed. */
static int flush(struct reset *r, struct err *err)
{
    r->stats.flushes++;
    return kvm_vm_forget_tables(r->config.parts.vm, err);
}

/* One that was harvested; the facts that it tells are added to. */
static void put_back_harvested(
    struct reset *r, uint32_t page, bool *tables, bool *entered)
{
    if (bitmap_test(&r->kept, page))
        return;
    *tables |= bitmap_test(&r->tables, page);
    *entered |= bitmap_test(&r->entry, page);
    put_back(r, page);
    warm_up(r, page);
}

/*
 * *ret_entered: ring 0 may have run. Ring 3 changes no table, but that the
 * processor marks entries in them as used.
 */
static int put_back_memory(struct reset *r, const uint32_t *more,
    uint32_t more_count, bool *ret_entered, struct err *err)
{
    uint32_t hot = r->hot_known - r->hot_kept;
    bool entered = r->config.entry_page_count == 0 || more_count > 0;
    bool tables = false;
    struct dirty_pages dirty;
    int rc = dirty_harvest(r->config.parts.dirty, &dirty, err);

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < dirty.count; i++)
        put_back_harvested(r, dirty.pages[i], &tables, &entered);
    for (uint32_t i = r->hot_kept; i < r->hot_known; i++)
        put_back(r, r->hot[i]);
    for (uint32_t i = 0; i < more_count; i++) {
        tables |= bitmap_test(&r->tables, more[i]);
        put_back(r, more[i]);
    }
    /*
     * Where nothing is put back, no table can be either; and what was written
     * to tables without ring 0 is that entries were used, which makes what KVM
     * derived from them no less true.
     */
    if (!r->config.static_page_tables)
        tables = dirty.count + hot + more_count > 0;
    tables = tables && entered;
    r->stats.hot += hot;
    r->stats.pages += dirty.count + hot + more_count;
    r->stats.entered += entered ? 1 : 0;
    *ret_entered = entered;
    /*
     * With nested paging the harvest has protected pages, for which KVM drops
     * what the processor has cached; page tables are never left out of it.
     */
    if (tables && shadows_page_tables(r))
        rc = flush(r, err);
    return rc < 0 ? rc : settle_hot(r, err);
}

/* ---- devices and vCPUs --------------------------------------------------- */

static bool device_changed(
    const struct reset *r, const struct frozen *f, uint32_t i)
{
    const struct device *dev = r->config.parts.devices[i];

    return dev->ops->state != NULL &&
           memcmp(dev->state, frozen_device(f, &r->config.parts, i),
               dev->ops->state->size) != 0;
}

/*
 * Stops the devices that the guest has used since: what they have in flight
 * would land in memory that is put back. One in the state of the level has
 * nothing in flight, since a level is taken of quiesced devices.
 */
static int stop_changed(
    struct reset *r, const struct frozen *f, struct err *err)
{
    const struct parts *p = &r->config.parts;

    for (uint32_t i = 0; i < p->device_count; i++) {
        struct device *dev = p->devices[i];
        int rc = 0;

        device_lock(dev);
        if (device_changed(r, f, i)) {
            r->stopped |= UINT64_C(1) << i;
            if (dev->ops->quiesce != NULL)
                rc = dev->ops->quiesce(dev, err);
        }
        device_unlock(dev);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int put_back_devices(
    struct reset *r, const struct frozen *f, struct err *err)
{
    const struct parts *p = &r->config.parts;

    for (uint64_t left = r->stopped; left != 0; left &= left - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(left);
        int rc = frozen_apply_device(f, p, i, err);

        if (rc < 0)
            return rc;
        r->stats.devices++;
    }
    return 0;
}

void reset_resume(struct reset *r)
{
    const struct parts *p = &r->config.parts;

    for (uint64_t left = r->stopped; left != 0; left &= left - 1) {
        struct device *dev = p->devices[__builtin_ctzll(left)];

        if (dev->ops->resume == NULL)
            continue;
        device_lock(dev);
        dev->ops->resume(dev);
        device_unlock(dev);
    }
    r->stopped = 0;
}

/* `parts` besides what is in struct kvm_run, where that can be used. */
static int put_back_vcpu(struct reset *r, uint32_t i,
    const struct vcpu_state *state, uint32_t parts, struct err *err)
{
    struct vcpu *vcpu = &r->config.parts.vcpus[i];

    /* All but the FPU hangs together with what is in there. */
    if (!r->has_sync || (parts & ~VCPU_STATE_XSAVE) != 0)
        return vcpu_state_set(vcpu, state, parts | VCPU_STATE_SYNCED, err);
    vcpu_sync_set(vcpu, state, VCPU_STATE_SYNCED);
    return parts == 0 ? 0 : vcpu_state_set(vcpu, state, parts, err);
}

static int put_back_vcpus(
    struct reset *r, const struct frozen *f, bool entered, struct err *err)
{
    const struct parts *p = &r->config.parts;
    uint32_t parts = entered ? r->config.vcpu_parts : r->config.quiet_parts;
    int rc = 0;

    if (r->config.clock == VM_CLOCK_FREEZE) {
        struct vm_clock now;

        rc = vm_clock_set(p->vm, &f->clock, VM_CLOCK_FREEZE, &now, err);
        parts |= VCPU_STATE_TSC;
    }
    for (uint32_t i = 0; i < p->vcpu_count && rc == 0; i++)
        rc = put_back_vcpu(r, i, &f->vcpus[i], parts, err);
    return rc;
}

static int put_back_disks(struct reset *r, struct err *err)
{
    int rc = 0;

    for (uint32_t i = 0; i < r->config.disk_count && rc == 0; i++)
        rc = r->disks[i].ops->reset(r->disks[i].opaque, err);
    return rc;
}

/* To the top level; `more` pages changed besides those that were written. */
static int put_back_all(
    struct reset *r, const uint32_t *more, uint32_t more_count, struct err *err)
{
    const struct frozen *f = reset_top(r);
    bool entered = true;
    int rc;

    assert(r->stopped == 0);
    rc = stop_changed(r, f, err);

    if (rc == 0)
        rc = put_back_memory(r, more, more_count, &entered, err);
    if (rc == 0)
        rc = put_back_disks(r, err);
    if (rc == 0)
        rc = put_back_devices(r, f, err);
    if (rc == 0)
        rc = put_back_vcpus(r, f, entered, err);
    r->stats.resets++;
    return rc < 0 ? err_wrap(err, rc, "reset") : 0;
}

/* ---- the interface ------------------------------------------------------- */

int reset_to_top(struct reset *r, struct err *err)
{
    return put_back_all(r, NULL, 0, err);
}

static int init_tables(
    struct reset *r, const struct reset_config *config, uint64_t pages)
{
    size_t hot = (size_t)config->hot_max + config->kept_count;

    r->levels = calloc(PAGE_STACK_LEVELS_MAX + 1, sizeof(r->levels[0]));
    r->heat = calloc(pages, 1);
    r->hot = calloc(hot + 1, sizeof(r->hot[0]));
    r->spaces = calloc(config->space_count + (size_t)1, sizeof(r->spaces[0]));
    if (r->levels == NULL || r->heat == NULL || r->hot == NULL ||
        r->spaces == NULL || bitmap_init(&r->tables, pages) < 0 ||
        bitmap_init(&r->entry, pages) < 0 || bitmap_init(&r->kept, pages) < 0)
        return -ENOMEM;
    for (uint32_t i = 0; i < config->space_count; i++)
        r->spaces[i] = config->spaces[i];
    for (uint32_t i = 0; i < config->entry_page_count; i++)
        bitmap_set(&r->entry, config->entry_pages[i], 1);
    for (uint32_t i = 0; i < config->kept_count; i++) {
        bitmap_set(&r->kept, config->kept[i], 1);
        r->hot[i] = config->kept[i];
    }
    return 0;
}

static int init_memory(
    struct reset *r, const struct reset_config *config, struct err *err)
{
    const struct gmem *mem = config->parts.mem;
    uint64_t pages = gmem_page_count(mem);
    struct dirty_pages dirty;
    int rc;

    rc = config->root != NULL
             ? page_stack_init_view(&r->pages, config->root, pages, err)
             : page_stack_init_copy(&r->pages, mem, err);
    if (rc < 0)
        return rc;
    rc = init_tables(r, config, pages);
    if (rc < 0)
        return err_sys(err, rc, "a reset's tables");
    /* What was written so far is part of the root. */
    rc = dirty_harvest(config->parts.dirty, &dirty, err);
    /* A ring cannot leave them writable; they are passed over in harvests. */
    if (rc == 0 && config->kept_count > 0 &&
        config->parts.dirty->method == DIRTY_BITMAP) {
        rc =
            dirty_set_hot(config->parts.dirty, r->hot, config->kept_count, err);
        r->hot_kept = rc == 0 ? config->kept_count : 0;
        r->hot_count = r->hot_kept;
        r->hot_known = r->hot_kept;
    }
    return rc;
}

int reset_init(
    struct reset *r, const struct reset_config *config, struct err *err)
{
    const struct parts *p = &config->parts;
    int rc;

    assert(p->dirty != NULL && p->vcpu_count > 0);
    assert(p->device_count <= 64 && config->disk_count <= RESET_DISKS_MAX);
    *r = (struct reset){.config = *config};
    if (p->dirty->method != DIRTY_BITMAP)
        r->config.hot_max = 0;
    for (uint32_t i = 0; i < config->disk_count; i++)
        r->disks[i] = config->disks[i];
    rc = parts_quiesce(p, err);
    if (rc < 0)
        return rc;
    rc = init_memory(r, config, err);
    if (rc == 0)
        rc = take_level(r, 0, err);
    parts_resume(p);
    r->config.disks = NULL;
    r->config.spaces = NULL;
    r->config.entry_pages = NULL;
    r->config.kept = NULL;
    if (rc < 0) {
        reset_fini(r);
        return err_wrap(err, rc, "the root of resets");
    }
    r->has_sync = true;
    for (uint32_t i = 0; i < p->vcpu_count; i++)
        r->has_sync = r->has_sync && vcpu_sync_supported(&p->vcpus[i]);
    return 0;
}

void reset_fini(struct reset *r)
{
    r->hot_kept = 0;
    if (r->hot_known > 0)
        (void)forget_hot(r, NULL);
    for (uint32_t i = 0; r->levels != NULL && i <= r->pages.top; i++)
        frozen_fini(&r->levels[i]);
    page_stack_fini(&r->pages);
    free(r->levels);
    free(r->heat);
    free(r->hot);
    free(r->spaces);
    bitmap_fini(&r->tables);
    bitmap_fini(&r->entry);
    bitmap_fini(&r->kept);
    *r = (struct reset){0};
}

/* What differs from the top: the harvest, and those hot pages that changed. */
static int list_changed(
    struct reset *r, uint32_t **ret_pages, uint32_t *ret_count, struct err *err)
{
    struct dirty_pages dirty;
    uint32_t *pages;
    uint32_t count = 0;
    int rc = dirty_harvest(r->config.parts.dirty, &dirty, err);

    if (rc < 0)
        return rc;
    pages = malloc((dirty.count + r->hot_known + 1) * sizeof(pages[0]));
    if (pages == NULL)
        return err_sys(err, ENOMEM, "the pages that changed");
    for (size_t i = 0; i < dirty.count; i++) {
        if (!bitmap_test(&r->kept, dirty.pages[i]))
            pages[count++] = dirty.pages[i];
    }
    for (uint32_t i = r->hot_kept; i < r->hot_known; i++) {
        if (differs_from_top(r, r->hot[i]))
            pages[count++] = r->hot[i];
    }
    *ret_pages = pages;
    *ret_count = count;
    return 0;
}

int reset_push(struct reset *r, struct err *err)
{
    const struct parts *p = &r->config.parts;
    uint32_t *pages = NULL;
    uint32_t count = 0;
    int rc = parts_quiesce(p, err);

    if (rc < 0)
        return rc;
    rc = list_changed(r, &pages, &count, err);
    if (rc == 0)
        rc = page_stack_push(&r->pages, p->mem, pages, count, err);
    if (rc == 0) {
        rc = take_level(r, r->pages.top, err);
        if (rc < 0)
            (void)page_stack_pop(&r->pages);
    }
    parts_resume(p);
    free(pages);
    return rc < 0 ? err_wrap(err, rc, "push") : 0;
}

/* The pages that levels above `level` hold, some of them twice perhaps. */
static int list_above(struct reset *r, uint32_t level, uint32_t **ret_pages,
    uint32_t *ret_count, struct err *err)
{
    uint64_t total = 0;
    uint32_t *pages;
    uint32_t at = 0;

    for (uint32_t i = level + 1; i <= r->pages.top; i++)
        total += r->pages.levels[i].count;
    pages = malloc((total + 1) * sizeof(pages[0]));
    if (pages == NULL)
        return err_sys(
            err, ENOMEM, "the pages of %u levels", r->pages.top - level);
    for (uint32_t i = level + 1; i <= r->pages.top; i++) {
        memcpy(pages + at, r->pages.levels[i].held,
            r->pages.levels[i].count * sizeof(pages[0]));
        at += r->pages.levels[i].count;
    }
    *ret_pages = pages;
    *ret_count = at;
    return 0;
}

int reset_to_level(struct reset *r, uint32_t level, struct err *err)
{
    uint32_t *more = NULL;
    uint32_t count = 0;
    int rc;

    assert(level <= r->pages.top);
    if (level == r->pages.top)
        return reset_to_top(r, err);
    rc = list_above(r, level, &more, &count, err);
    if (rc < 0)
        return rc;
    while (r->pages.top > level) {
        frozen_fini(&r->levels[r->pages.top]);
        (void)page_stack_pop(&r->pages);
        pop_disks(r);
    }
    rc = put_back_all(r, more, count, err);
    /* The tables of the level that is the top now. */
    if (rc == 0 && mark_tables(r, reset_top(r)) < 0)
        rc = err_sys(err, ENOMEM, "the guest's page tables");
    free(more);
    return rc;
}
