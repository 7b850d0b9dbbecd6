/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/jail_options.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "jail/cgroup_text.h"
#include "vmm/config_text.h"

static int set_level(struct jail_options *o, const char *name,
    const char *value, struct err *err)
{
    static const char *const levels[] = {[JAIL_DEFAULT] = "default",
        [JAIL_STRICT] = "strict",
        [JAIL_OFF] = "off"};

    for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
        if (strcmp(value, levels[i]) == 0) {
            o->jail.level = (enum jail_level)i;
            return 0;
        }
    }
    return err_set(err, EINVAL, "%s=%.64s: it must be default, strict or off",
        name, value);
}

static int set_id(uint32_t *id, const char *value, struct err *err)
{
    uint64_t n;
    int rc = config_parse_number(value, 0, JAIL_ID_OWN - 1, &n, err);

    if (rc == 0)
        *id = (uint32_t)n;
    return rc;
}

int jail_options_init(struct jail_options *options, struct err *err)
{
    const char *level = getenv(JAIL_OPTIONS_ENV);

    *options =
        (struct jail_options){.jail = {.uid = JAIL_ID_OWN, .gid = JAIL_ID_OWN}};
    return level == NULL || level[0] == '\0'
               ? 0
               : set_level(options, JAIL_OPTIONS_ENV, level, err);
}

static int set(struct jail_options *o, enum jail_option option,
    const char *value, struct err *err)
{
    struct cgroup_config *cgroup = &o->cgroup;

    switch (option) {
    case JAIL_OPTION_JAIL:
        return set_level(o, "--jail", value, err);
    case JAIL_OPTION_UID:
        return set_id(&o->jail.uid, value, err);
    case JAIL_OPTION_GID:
        return set_id(&o->jail.gid, value, err);
    case JAIL_OPTION_NETNS:
        o->netns = value;
        return 0;
    case JAIL_OPTION_CGROUP:
        return cgroup_parse_parent(value, cgroup, err);
    case JAIL_OPTION_MEMORY_MAX:
        return config_parse_size(value, &cgroup->memory_max, err);
    case JAIL_OPTION_PIDS_MAX:
        return config_parse_number(value, 1, INT32_MAX, &cgroup->pids_max, err);
    case JAIL_OPTION_CPU_MAX:
        return cgroup_parse_cpu_max(value, cgroup, err);
    case JAIL_OPTION_CPU_WEIGHT:
        return cgroup_parse_cpu_weight(value, cgroup, err);
    case JAIL_OPTION_IO_MAX:
        return cgroup_parse_io_max(value, cgroup, err);
    case JAIL_OPTION_RLIMIT:
        return rlimits_parse(value, &o->jail.limits, err);
    case JAIL_OPTIONS:
    default:
        assert(false);
        return -EINVAL;
    }
}

int jail_options_set(struct jail_options *options, enum jail_option option,
    const char *value, struct err *err)
{
    static const struct option rows[] = {JAIL_OPTIONS_ROWS(0)};
    int rc;

    /* There is a cgroup as soon as anything is said of it. */
    if (option >= JAIL_OPTION_CGROUP && option <= JAIL_OPTION_IO_MAX)
        options->has_cgroup = true;
    rc = set(options, option, value, err);
    return rc < 0 && option != JAIL_OPTION_JAIL
               ? err_wrap(err, rc, "--%s %.64s", rows[option].name, value)
               : rc;
}

int jail_options_check(const struct jail_options *options, struct err *err)
{
    const struct jail_config *jail = &options->jail;
    bool has_id = jail->uid != JAIL_ID_OWN || jail->gid != JAIL_ID_OWN;

    if (has_id && geteuid() != 0)
        return err_set(err, EPERM,
            "--uid, --gid: only root can become another user; without them "
            "the monitor is alone in a user namespace");
    if (has_id && jail->level == JAIL_OFF)
        return err_set(err, EINVAL, "--uid, --gid: not with --jail=off");
    if ((options->has_cgroup || options->netns != NULL) &&
        jail->level == JAIL_OFF)
        return err_set(err, EINVAL,
            "limits of a cgroup and --netns are the jail's: not with "
            "--jail=off");
    return 0;
}
