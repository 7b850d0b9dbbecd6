/* SPDX-License-Identifier: Apache-2.0 */
#include "jail/rlimits.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "vmm/base/num.h"

_Static_assert(RLIM_NLIMITS == RLIMITS_COUNT, "one for each of the kernel's");

static const struct {
    const char *name;
    bool is_bytes;
} kinds[RLIMITS_COUNT] = {
    [RLIMIT_CPU] = {"cpu", false},
    [RLIMIT_FSIZE] = {"fsize", true},
    [RLIMIT_DATA] = {"data", true},
    [RLIMIT_STACK] = {"stack", true},
    [RLIMIT_CORE] = {"core", true},
    [RLIMIT_RSS] = {"rss", true},
    [RLIMIT_NPROC] = {"nproc", false},
    [RLIMIT_NOFILE] = {"nofile", false},
    [RLIMIT_MEMLOCK] = {"memlock", true},
    [RLIMIT_AS] = {"as", true},
    [RLIMIT_LOCKS] = {"locks", false},
    [RLIMIT_SIGPENDING] = {"sigpending", false},
    [RLIMIT_MSGQUEUE] = {"msgqueue", true},
    [RLIMIT_NICE] = {"nice", false},
    [RLIMIT_RTPRIO] = {"rtprio", false},
    [RLIMIT_RTTIME] = {"rttime", false},
};

const char *rlimits_name(int resource)
{
    return resource >= 0 && resource < RLIMITS_COUNT ? kinds[resource].name
                                                     : NULL;
}

static void set_default(struct rlimits *limits, int resource, uint64_t value)
{
    limits->list[resource].is_set = true;
    limits->list[resource].may_be_less = true;
    limits->list[resource].soft = value;
    limits->list[resource].hard = value;
}

void rlimits_set_defaults(struct rlimits *limits, bool own_user)
{
    set_default(limits, RLIMIT_CORE, 0);
    set_default(limits, RLIMIT_NOFILE, 2048);
    set_default(limits, RLIMIT_MSGQUEUE, 0);
    set_default(limits, RLIMIT_MEMLOCK, 8 * NUM_MIB);
    set_default(limits, RLIMIT_NICE, 0);
    set_default(limits, RLIMIT_RTPRIO, 0);
    if (!own_user)
        return;
    set_default(limits, RLIMIT_NPROC, 256);
    set_default(limits, RLIMIT_SIGPENDING, 1024);
}

/* Firecracker's names differ in one. */
static int find(const char *name, size_t len)
{
    if (len == 7 && memcmp(name, "no-file", 7) == 0)
        return RLIMIT_NOFILE;
    for (int i = 0; i < RLIMITS_COUNT; i++) {
        if (strlen(kinds[i].name) == len &&
            memcmp(kinds[i].name, name, len) == 0)
            return i;
    }
    return -1;
}

/* What is behind the value, or NULL. */
static const char *take_value(const char *p, bool is_bytes, uint64_t *ret_value)
{
    static const char none[] = "unlimited";
    uint64_t value = 0;
    uint64_t scale = 1;

    if (strncmp(p, none, sizeof(none) - 1) == 0) {
        *ret_value = RLIM_INFINITY;
        return p + sizeof(none) - 1;
    }
    p = num_take_digits(p, &value);
    if (p == NULL)
        return NULL;
    if (is_bytes && (*p == 'K' || *p == 'k'))
        scale = NUM_KIB;
    else if (is_bytes && (*p == 'M' || *p == 'm'))
        scale = NUM_MIB;
    else if (is_bytes && (*p == 'G' || *p == 'g'))
        scale = NUM_GIB;
    if (scale != 1)
        p++;
    return num_mul(value, scale, ret_value) ? p : NULL;
}

int rlimits_parse(const char *text, struct rlimits *limits, struct err *err)
{
    size_t len = strcspn(text, "=");
    int resource = find(text, len);
    uint64_t soft = 0;
    uint64_t hard = 0;
    const char *p = NULL;

    if (text[len] == '\0')
        return err_set(err, EINVAL,
            "'%.64s' sets no limit: write NAME=VALUE, as in nofile=2048", text);
    if (resource < 0)
        return err_set(err, ENOENT,
            "'%.*s' is no resource limit: there are cpu fsize data stack core "
            "rss nproc nofile memlock as locks sigpending msgqueue nice rtprio "
            "rttime",
            (int)num_min(len, 64), text);
    p = take_value(text + len + 1, kinds[resource].is_bytes, &soft);
    hard = soft;
    if (p != NULL && *p == ':')
        p = take_value(p + 1, kinds[resource].is_bytes, &hard);
    if (p == NULL || *p != '\0' || soft > hard)
        return err_set(err, EINVAL,
            "'%.64s' is no limit: write a number, 'unlimited' or SOFT:HARD%s",
            text + len + 1,
            kinds[resource].is_bytes ? ", of bytes or with K, M, G" : "");
    limits->list[resource].is_set = true;
    limits->list[resource].may_be_less = false;
    limits->list[resource].soft = soft;
    limits->list[resource].hard = hard;
    return 0;
}

static int apply_one(
    const struct rlimits *limits, int resource, pid_t pid, struct err *err)
{
    struct rlimit limit = {.rlim_cur = limits->list[resource].soft,
        .rlim_max = limits->list[resource].hard};
    struct rlimit now = {0};

    if (prlimit(pid, (enum __rlimit_resource)resource, NULL, &now) < 0)
        return err_sys(
            err, errno, "cannot read limit %s", kinds[resource].name);
    if (limits->list[resource].may_be_less && limit.rlim_max > now.rlim_max) {
        limit.rlim_max = now.rlim_max;
        limit.rlim_cur = num_min(limit.rlim_cur, limit.rlim_max);
    }
    if (prlimit(pid, (enum __rlimit_resource)resource, &limit, NULL) == 0)
        return 0;
    if (errno == EPERM && limit.rlim_max > now.rlim_max)
        return err_set(err, EPERM,
            "cannot raise limit %s to %llu: the hard limit is %llu here, see "
            "ulimit -H and limits.conf",
            kinds[resource].name, (unsigned long long)limit.rlim_max,
            (unsigned long long)now.rlim_max);
    return err_sys(err, errno, "cannot set limit %s to %llu",
        kinds[resource].name, (unsigned long long)limit.rlim_max);
}

int rlimits_apply(const struct rlimits *limits, pid_t pid, struct err *err)
{
    int rc = 0;

    for (int i = 0; rc == 0 && i < RLIMITS_COUNT; i++) {
        if (limits->list[i].is_set)
            rc = apply_one(limits, i, pid, err);
    }
    return rc;
}
