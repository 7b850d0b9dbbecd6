/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine_snapshot.h"

int machine_snapshot_begin(struct machine_snapshot *s, struct machine *m,
    struct store *store, const struct machine_snapshot_options *options,
    struct err *err)
{
    const struct assembly_options assembly = {.name = options->name,
        .diff = options->diff,
        .sync = options->sync,
        .share = options->share,
        .monitor = "spore " SPORE_VERSION};
    struct machine_save_options save = {.sync = options->sync,
        .track = options->track,
        .is_cancelled = options->is_cancelled};
    struct capture_plan plan;
    int rc;

    machine_save_plan(m, &plan);
    if (options->diff)
        save.parent = plan.base;
    rc = assembly_begin(&s->assembly, store, &plan, &assembly, err);
    if (rc < 0)
        return rc;
    rc = machine_save_begin(
        &s->save, m, s->assembly.image_fds, plan.image_count, &save, err);
    if (rc < 0)
        assembly_fini(&s->assembly);
    return rc;
}

int machine_snapshot_finish(
    struct machine_snapshot *s, struct snapshot_id *ret_id, struct err *err)
{
    struct snapshot_id id = {0};
    int rc = machine_save_finish(&s->save, s->assembly.capture_fd, err);

    if (rc == 0)
        rc = assembly_finish(&s->assembly, &id, err);
    if (rc < 0)
        return rc;
    *ret_id = id;
    return machine_save_commit(&s->save, &id, err);
}

void machine_snapshot_fini(struct machine_snapshot *s)
{
    machine_save_fini(&s->save);
    assembly_fini(&s->assembly);
}

int machine_snapshot_paused(struct machine *m, struct store *store,
    const struct machine_snapshot_options *options, struct snapshot_id *ret_id,
    struct err *err)
{
    struct machine_snapshot s;
    int rc = machine_snapshot_begin(&s, m, store, options, err);

    if (rc < 0)
        return rc;
    rc = machine_save_copy(&s.save, false, err);
    if (rc == 0)
        rc = machine_save_stop(&s.save, false, err);
    if (rc == 0)
        rc = machine_snapshot_finish(&s, ret_id, err);
    machine_snapshot_fini(&s);
    return rc;
}
