/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/run_origin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "snapshot/verify.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/run_override.h"

static int open_snapshot(
    struct run_origin *o, const struct run_options *options, struct err *err)
{
    struct snapshot_id id;
    int rc = store_open(&o->store, options->store, false, err);

    if (rc < 0)
        return rc;
    rc = store_find(&o->store, options->from, &id, err);
    if (rc == 0)
        rc = snap_open(&o->store, &id, &o->snap, err);
    if (rc < 0) {
        store_close(&o->store);
        return rc;
    }
    o->is_open = true;
    return 0;
}

static int check_pages(const struct run_origin *o,
    const struct run_options *options, struct err *err)
{
    switch (options->verify) {
    case RUN_VERIFY_TRUST:
        return 0;
    case RUN_VERIFY_LAZY:
        /* Nobody stands between the guest and its disks later. */
        return verify_disks(&o->snap, NULL, err);
    case RUN_VERIFY_AUTO:
        if (verify_is_trusted(&o->snap))
            return 0;
        if (options->page_server != NULL)
            return verify_disks(&o->snap, NULL, err);
        break;
    case RUN_VERIFY_ALL:
    default:
        break;
    }
    return verify_snap(&o->snap, NULL, err);
}

static int find_memory(struct run_origin *o, const struct run_options *options,
    const struct page_client_host *lost, struct err *err)
{
    static const enum restore_memory_set set_of[] = {
        [RUN_PREFETCH_AUTO] = RESTORE_MEMORY_SET_RECORDED,
        [RUN_PREFETCH_ON] = RESTORE_MEMORY_SET_SENT,
        [RUN_PREFETCH_OFF] = RESTORE_MEMORY_SET_LEFT,
        [RUN_PREFETCH_RECORD] = RESTORE_MEMORY_SET_ADDED_TO};
    int rc;

    if (options->page_server != NULL)
        rc =
            restore_memory_connect(&o->memory, lost, options->page_server, err);
    else if (options->verify == RUN_VERIFY_LAZY)
        rc = restore_memory_verify(
            &o->memory, lost, &o->snap, set_of[options->prefetch], err);
    else
        return 0;
    if (rc == 0)
        o->origin.pages = &o->memory.client;
    return rc;
}

/*
 * What is to be brought in ahead, or recorded. Where a page server gives the
 * memory it does both.
 */
static void plan_prefetch(struct run_origin *o, enum run_prefetch prefetch)
{
    struct working_set set;
    bool has_set;

    if (o->origin.pages != NULL || prefetch == RUN_PREFETCH_OFF)
        return;
    has_set = snap_read_working_set(&o->snap, &set) == 0;
    if (has_set &&
        (prefetch == RUN_PREFETCH_ON ||
            !prefetch_is_cached(&o->snap.index, o->snap.image_fds, &set)))
        o->ahead = set;
    else if (has_set)
        working_set_fini(&set);
    o->record_adds = prefetch == RUN_PREFETCH_RECORD;
    if (o->record_adds || (prefetch == RUN_PREFETCH_AUTO && !has_set))
        o->record_fd = fcntl(o->snap.dir_fd, F_DUPFD_CLOEXEC, 0);
}

static int take_config(
    struct run_origin *o, struct run_options *options, struct err *err)
{
    struct config config;
    int rc;

    config_init(&config);
    rc = machine_restore_config(&o->snap, &config, err);
    if (rc == 0)
        rc = run_override(&config, options, err);
    if (rc < 0) {
        config_fini(&config);
        return rc;
    }
    config_fini(&options->config);
    options->config = config;
    if (options->command.argv != NULL && !config.has_agent)
        return err_set(err, EINVAL,
            "the machine in that snapshot has no agent to run a command");
    return 0;
}

int run_origin_open(struct run_origin *o, struct run_options *options,
    const struct page_client_host *lost, struct err *err)
{
    int rc = open_snapshot(o, options, err);

    if (rc == 0)
        rc = check_pages(o, options, err);
    if (rc == 0)
        rc = take_config(o, options, err);
    o->origin = (struct machine_origin){.snap = &o->snap,
        .clock = options->freeze ? VM_CLOCK_FREEZE : VM_CLOCK_FOLLOW,
        .allow_changed_disks = options->allow_changed_disks,
        .sets_balloon = (options->given & RUN_GIVEN_BALLOON) != 0};
    if (rc == 0)
        rc = find_memory(o, options, lost, err);
    if (rc == 0)
        plan_prefetch(o, options->prefetch);
    if (rc < 0)
        run_origin_close(o);
    return rc;
}

int run_origin_use(
    struct run_origin *o, const struct run_options *options, struct err *err)
{
    int rc;

    if (config_has_generation(&options->config))
        return 0;
    rc = snap_mark_used(&o->snap, err);
    if (rc == 0 || options->allow_duplicate)
        return 0;
    if (rc == -EEXIST)
        return err_set(err, EEXIST,
            "snapshot '%.64s' was restored before, and its guest has no "
            "generation device: it would draw the same random numbers again: "
            "give --allow-duplicate if that is no harm",
            options->from);
    return err_wrap(err, rc,
        "snapshot '%.64s': cannot note that it is used (--allow-duplicate goes "
        "on without)",
        options->from);
}

void run_origin_close(struct run_origin *o)
{
    if (!o->is_open)
        return;
    snap_close(&o->snap);
    store_close(&o->store);
    o->is_open = false;
}

void run_origin_prefetch(struct run_origin *o, struct gmem *mem)
{
    struct err err;

    if (o->ahead.run_count > 0 &&
        prefetch_start(&o->prefetch, mem, &o->ahead, &err) < 0)
        log_info("run", "%s", err.text);
}

int run_origin_hand_over(struct run_origin *o, run_origin_record_fn *recorder,
    void *opaque, struct err *err)
{
    if (o->record_fd < 0)
        return 0;
    o->pagemap_fd = prefetch_open_pagemap(err);
    if (o->pagemap_fd < 0)
        return o->pagemap_fd;
    o->recorder = recorder;
    o->recorder_opaque = opaque;
    fd_closep(&o->record_fd);
    return 0;
}

bool run_origin_wants_record(const struct run_origin *o)
{
    return o->record_fd >= 0 || o->recorder != NULL;
}

static int record(
    const struct run_origin *o, const struct bitmap *touched, struct err *err)
{
    if (o->recorder != NULL)
        return o->recorder(o->recorder_opaque, touched, err);
    return prefetch_record(o->record_fd, touched, o->record_adds, err);
}

void run_origin_record(struct run_origin *o, const struct gmem *mem)
{
    struct bitmap touched;
    struct err err;
    int rc = 0;

    if (!run_origin_wants_record(o) || gmem_page_count(mem) == 0)
        return;
    if (o->pagemap_fd < 0)
        rc = o->pagemap_fd = prefetch_open_pagemap(&err);
    if (rc >= 0)
        rc = prefetch_touched(mem, o->pagemap_fd, &touched, &err);
    if (rc == 0) {
        rc = record(o, &touched, &err);
        bitmap_fini(&touched);
    }
    if (rc < 0 && rc != -EEXIST)
        log_info("run", "no working set recorded: %s", err.text);
    fd_closep(&o->record_fd);
    o->recorder = NULL;
}

void run_origin_settle(struct run_origin *o, const struct gmem *mem)
{
    run_origin_record(o, mem);
    prefetch_stop(&o->prefetch);
    working_set_fini(&o->ahead);
}

void run_origin_release(struct run_origin *o)
{
    restore_memory_close(&o->memory);
    working_set_fini(&o->ahead);
    fd_closep(&o->record_fd);
    fd_closep(&o->pagemap_fd);
}
