/* SPDX-License-Identifier: Apache-2.0 */
#include "jail/jail.h"

#include <assert.h>
#include <errno.h>
#include <unistd.h>

#include "jail/fds.h"
#include "jail/landlock.h"
#include "jail/privs.h"
#include "jail/seccomp.h"
#include "vmm/base/log.h"

/* An error where everything must be had, a warning where it need not. */
static int weigh(const struct jail *jail, int rc, struct err *err)
{
    if (rc >= 0 || jail->config.level == JAIL_STRICT)
        return rc;
    log_warn("jail", "%s: less is held back (see spore jail show)", err->text);
    return 0;
}

int jail_begin(struct jail *jail, const struct jail_config *config,
    const struct cell *cell, const int *keep, size_t keep_count,
    struct err *err)
{
    int root_fd = config->spaces != NULL ? config->spaces->root_fd : -1;
    int rc;

    assert(config->level != JAIL_OFF);
    *jail = (struct jail)JAIL_NONE;
    jail->config = *config;
    jail->has_user_space = cell->has_user_space;
    rc = fds_close_others(keep, keep_count, root_fd, err);
    if (rc < 0)
        return rc;
    if (geteuid() != 0 && !cell->has_user_space)
        return 0;
    if (config->spaces == NULL)
        return spaces_begin(&jail->spaces, err);
    spaces_share(&jail->spaces, config->spaces);
    return 0;
}

void jail_abandon(struct jail *jail)
{
    spaces_abandon(&jail->spaces);
}

static int become_other(
    const struct jail *jail, pid_t host_pid, struct err *err)
{
    const struct jail_config *c = &jail->config;
    uint32_t own = PRIVS_ID_FIRST + (uint32_t)host_pid;

    if (geteuid() != 0)
        return 0;
    return privs_set_ids(c->uid == JAIL_ID_OWN ? own : c->uid,
        c->gid == JAIL_ID_OWN ? own : c->gid, err);
}

/* What the caller said over what a monitor has anyway. */
static int apply_limits(const struct jail *jail, struct err *err)
{
    const struct rlimits *given = &jail->config.limits;
    struct rlimits limits = {0};

    rlimits_set_defaults(
        &limits, jail->has_user_space || jail->config.uid == JAIL_ID_OWN);
    for (unsigned int i = 0; i < RLIMITS_COUNT; i++) {
        if (given->list[i].is_set)
            limits.list[i] = given->list[i];
    }
    return rlimits_apply(&limits, 0, err);
}

int jail_enter(struct jail *jail, pid_t host_pid, struct err *err)
{
    int rc = 0;

    if (jail->config.level == JAIL_OFF)
        return 0;
    spaces_wait(&jail->spaces);
    (void)fds_close_folders(jail->spaces.root_fd);
    if (jail->spaces.is_wanted)
        rc = weigh(jail, spaces_enter(&jail->spaces, err), err);
    if (rc >= 0)
        rc = apply_limits(jail, err);
    if (rc >= 0)
        rc = privs_lock(err);
    if (rc >= 0)
        rc = become_other(jail, host_pid, err);
    if (rc >= 0)
        rc = privs_drop(err);
    /* Lost with the old identity. */
    if (rc >= 0)
        rc = cell_tie(err);
    if (rc >= 0)
        rc = weigh(jail, landlock_confine(err), err);
    if (rc < 0)
        return rc;
    seccomp_name_calls();
    jail->is_entered = true;
    return 0;
}

int jail_confine(const struct jail *jail, enum jail_role role, struct err *err)
{
    if (!jail->is_entered)
        return 0;
    return weigh(jail, seccomp_confine(role, err), err);
}
