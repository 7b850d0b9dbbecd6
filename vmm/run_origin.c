/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/run_origin.h"

#include <errno.h>
#include <stdlib.h>

#include "snapshot/verify.h"
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
    case RUN_VERIFY_LAZY:
        return 0;
    case RUN_VERIFY_AUTO:
        if (options->page_server != NULL || verify_is_trusted(&o->snap))
            return 0;
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
    int rc;

    if (options->page_server != NULL)
        rc =
            restore_memory_connect(&o->memory, lost, options->page_server, err);
    else if (options->verify == RUN_VERIFY_LAZY)
        rc = restore_memory_verify(&o->memory, lost, &o->snap, true, err);
    else
        return 0;
    if (rc == 0)
        o->origin.pages = &o->memory.client;
    return rc;
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

void run_origin_release(struct run_origin *o)
{
    restore_memory_close(&o->memory);
}
