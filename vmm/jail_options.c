/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/jail_options.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int set_level(struct jail_options *o, const char *name,
    const char *value, struct err *err)
{
    static const char *const levels[] = {[JAIL_DEFAULT] = "default",
        [JAIL_STRICT] = "strict",
        [JAIL_OFF] = "off"};

    for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
        if (strcmp(value, levels[i]) == 0) {
            o->level = (enum jail_level)i;
            return 0;
        }
    }
    return err_set(err, EINVAL, "%s=%.64s: it must be default, strict or off",
        name, value);
}

static int set_id(
    uint32_t *id, const char *name, const char *value, struct err *err)
{
    char *end;
    unsigned long n;

    errno = 0;
    n = strtoul(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end != '\0' || errno != 0 ||
        n >= JAIL_ID_OWN)
        return err_set(
            err, EINVAL, "%s %.64s: it must be a number", name, value);
    *id = (uint32_t)n;
    return 0;
}

int jail_options_init(struct jail_options *options, struct err *err)
{
    const char *level = getenv(JAIL_OPTIONS_ENV);

    *options = (struct jail_options){.uid = JAIL_ID_OWN, .gid = JAIL_ID_OWN};
    return level == NULL || level[0] == '\0'
               ? 0
               : set_level(options, JAIL_OPTIONS_ENV, level, err);
}

int jail_options_set(struct jail_options *options, enum jail_option option,
    const char *value, struct err *err)
{
    switch (option) {
    case JAIL_OPTION_LEVEL:
        return set_level(options, "--jail", value, err);
    case JAIL_OPTION_UID:
        return set_id(&options->uid, "--uid", value, err);
    case JAIL_OPTION_GID:
        return set_id(&options->gid, "--gid", value, err);
    default:
        assert(false);
        return -EINVAL;
    }
}

int jail_options_check(const struct jail_options *options, struct err *err)
{
    bool has_id = options->uid != JAIL_ID_OWN || options->gid != JAIL_ID_OWN;

    if (has_id && geteuid() != 0)
        return err_set(err, EPERM,
            "--uid, --gid: only root can become another user; without them "
            "the monitor is alone in a user namespace");
    if (has_id && options->level == JAIL_OFF)
        return err_set(err, EINVAL, "--uid, --gid: not with --jail=off");
    return 0;
}
