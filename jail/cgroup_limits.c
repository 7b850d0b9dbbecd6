/* SPDX-License-Identifier: Apache-2.0 */
#include "jail/cgroup_limits.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "jail/cgroup_files.h"
#include "jail/cgroup_places.h"
#include "vmm/base/num.h"

#define VALUE_SIZE 160u
/* What a cgroup has of either kind if nothing was said. */
#define WEIGHT_V2  100u
#define SHARES_V1  1024u
#define SHARES_MIN 2u

const char *cgroup_limit_controller(enum cgroup_limit limit, bool is_v2)
{
    static const char *const names[CGROUP_LIMITS] = {
        [CGROUP_LIMIT_MEMORY] = "memory",
        [CGROUP_LIMIT_PIDS] = "pids",
        [CGROUP_LIMIT_CPU] = "cpu",
        [CGROUP_LIMIT_IO] = "io",
    };

    return limit == CGROUP_LIMIT_IO && !is_v2 ? "blkio" : names[limit];
}

bool cgroup_limit_is_set(
    enum cgroup_limit limit, const struct cgroup_config *config)
{
    switch (limit) {
    case CGROUP_LIMIT_MEMORY:
        return config->memory_max != 0;
    case CGROUP_LIMIT_PIDS:
        return config->pids_max != 0;
    case CGROUP_LIMIT_CPU:
        return config->cpu_quota_us != 0 || config->cpu_weight != 0;
    case CGROUP_LIMIT_IO:
        return config->io_count != 0;
    case CGROUP_LIMITS:
    default:
        return false;
    }
}

static int write_text(
    int dir, const char *file, const char *value, struct err *err)
{
    int rc = cgroup_file_write(dir, file, value);

    if (rc == -ENOENT)
        return err_set(err, EOPNOTSUPP,
            "this kernel's cgroups have no file '%s': see Documentation/"
            "admin-guide/cgroup-v2.rst and cgroup-v1 for what there is",
            file);
    if (rc < 0)
        return err_sys(err, rc, "cannot set %s to '%.64s'", file, value);
    return 0;
}

CC_PRINTF(4, 5)
static int put(int dir, const char *file, struct err *err, const char *fmt, ...)
{
    char value[VALUE_SIZE];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(value, sizeof(value), fmt, args);
    va_end(args);
    return write_text(dir, file, value, err);
}

/* The same for what not every kernel has. */
static int put_if_there(
    int dir, const char *file, const char *value, struct err *err)
{
    int rc = cgroup_file_write(dir, file, value);

    if (rc < 0 && rc != -ENOENT)
        return err_sys(err, rc, "cannot set %s to '%.64s'", file, value);
    return 0;
}

static int write_memory(
    int dir, bool is_v2, const struct cgroup_config *config, struct err *err)
{
    char value[VALUE_SIZE];
    int rc;

    (void)snprintf(
        value, sizeof(value), "%llu", (unsigned long long)config->memory_max);
    rc = write_text(
        dir, is_v2 ? "memory.max" : "memory.limit_in_bytes", value, err);
    if (rc < 0)
        return rc;
    /* Half of a VM is worth nothing: what is killed, is killed whole. */
    rc = is_v2 ? put_if_there(dir, "memory.oom.group", "1", err) : 0;
    if (rc < 0)
        return rc;
    /* Version 1 counts memory and swap together there. */
    return is_v2 ? put_if_there(dir, "memory.swap.max", "0", err)
                 : put_if_there(dir, "memory.memsw.limit_in_bytes", value, err);
}

static int write_cpu(
    int dir, bool is_v2, const struct cgroup_config *config, struct err *err)
{
    unsigned long long quota = config->cpu_quota_us;
    unsigned long long period = config->cpu_period_us;
    uint64_t weight = config->cpu_weight;
    int rc = 0;

    if (quota != 0 && is_v2) {
        rc = put(dir, "cpu.max", err, "%llu %llu", quota, period);
    } else if (quota != 0) {
        rc = put(dir, "cpu.cfs_period_us", err, "%llu", period);
        if (rc == 0)
            rc = put(dir, "cpu.cfs_quota_us", err, "%llu", quota);
    }
    if (rc < 0 || weight == 0)
        return rc;
    if (is_v2)
        return put(dir, "cpu.weight", err, "%llu", (unsigned long long)weight);
    return put(dir, "cpu.shares", err, "%llu",
        (unsigned long long)num_max(
            weight * SHARES_V1 / WEIGHT_V2, SHARES_MIN));
}

static int write_io_v2(int dir, const struct cgroup_io *io, struct err *err)
{
    static const char *const keys[] = {"rbps", "wbps", "riops", "wiops"};
    const uint64_t values[] = {
        io->read_bytes, io->write_bytes, io->read_ops, io->write_ops};
    char text[VALUE_SIZE];
    size_t len =
        (size_t)snprintf(text, sizeof(text), "%u:%u", io->major, io->minor);

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        if (values[i] != 0)
            len += (size_t)snprintf(text + len, sizeof(text) - len, " %s=%llu",
                keys[i], (unsigned long long)values[i]);
    }
    return write_text(dir, "io.max", text, err);
}

static int write_io_v1(int dir, const struct cgroup_io *io, struct err *err)
{
    static const char *const files[] = {"blkio.throttle.read_bps_device",
        "blkio.throttle.write_bps_device", "blkio.throttle.read_iops_device",
        "blkio.throttle.write_iops_device"};
    const uint64_t values[] = {
        io->read_bytes, io->write_bytes, io->read_ops, io->write_ops};
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(files); i++) {
        if (values[i] != 0)
            rc = put(dir, files[i], err, "%u:%u %llu", io->major, io->minor,
                (unsigned long long)values[i]);
    }
    return rc;
}

int cgroup_limit_write(int dir, bool is_v2, enum cgroup_limit limit,
    const struct cgroup_config *config, struct err *err)
{
    int rc = 0;

    switch (limit) {
    case CGROUP_LIMIT_MEMORY:
        return write_memory(dir, is_v2, config, err);
    case CGROUP_LIMIT_PIDS:
        return put(
            dir, "pids.max", err, "%llu", (unsigned long long)config->pids_max);
    case CGROUP_LIMIT_CPU:
        return write_cpu(dir, is_v2, config, err);
    case CGROUP_LIMIT_IO:
        for (size_t i = 0; rc == 0 && i < config->io_count; i++)
            rc = is_v2 ? write_io_v2(dir, &config->io[i], err)
                       : write_io_v1(dir, &config->io[i], err);
        return rc;
    case CGROUP_LIMITS:
    default:
        return -EINVAL;
    }
}

int cgroup_pair_write(int dir, const struct cgroup_pair *pair, struct err *err)
{
    return write_text(dir, pair->file, pair->value, err);
}

static int read_list(int dir, const char *file, char *buf, size_t size)
{
    ssize_t n = cgroup_file_read(dir, file, buf, size);

    if (n < 0)
        return (int)n;
    if (n > 0 && buf[n - 1] == '\n')
        buf[n - 1] = '\0';
    return 0;
}

static int explain_enable(
    int rc, const char *path, const char *controller, struct err *err)
{
    if (rc == -EBUSY)
        return err_set(err, rc,
            "cgroup '%.128s' cannot limit %s for a VM below it, since there "
            "are processes in it: name a cgroup without with --cgroup, as "
            "/spore, or under systemd a delegated one's child",
            path, controller);
    if (rc == -EACCES || rc == -EPERM || rc == -EROFS)
        return err_set(err, rc,
            "cgroup '%.128s' may not limit %s for a VM below it: it was not "
            "delegated to this user (systemd: Delegate=yes), or is read-only",
            path, controller);
    /* Gone meanwhile: the caller begins again. */
    return rc == -ENODEV ? rc
                         : err_sys(err, rc == -ENOENT ? -EIO : rc,
                               "cgroup '%.128s': cannot limit %s below it",
                               path, controller);
}

static int enable_one(
    int dir, const char *path, const char *controller, struct err *err)
{
    char have[1024];
    char text[CGROUP_FILE_MAX + 2];
    int rc = read_list(dir, "cgroup.controllers", have, sizeof(have));

    if (rc == 0 && !cgroup_list_has(have, ' ', controller))
        return err_set(err, EOPNOTSUPP,
            "cgroup '%.128s' has no %s controller (it has '%.64s'): give it "
            "one in cgroup.subtree_control of those above (systemd: "
            "Delegate=), or leave out the limit",
            path, controller, have);
    (void)snprintf(text, sizeof(text), "+%s", controller);
    if (rc == 0)
        rc = cgroup_file_write(dir, "cgroup.subtree_control", text);
    return rc < 0 ? explain_enable(rc, path, controller, err) : 0;
}

int cgroup_enable(
    int dir, const char *path, const char *controllers, struct err *err)
{
    char given[1024];
    const char *p = controllers + strspn(controllers, " ");
    int rc;

    if (*p == '\0')
        return 0;
    rc = read_list(dir, "cgroup.subtree_control", given, sizeof(given));
    if (rc < 0)
        return explain_enable(rc, path, controllers, err);
    while (rc == 0 && *p != '\0') {
        char name[CGROUP_FILE_MAX];
        size_t len = strcspn(p, " ");

        (void)snprintf(name, sizeof(name), "%.*s", (int)len, p);
        if (!cgroup_list_has(given, ' ', name))
            rc = enable_one(dir, path, name, err);
        p += len;
        p += strspn(p, " ");
    }
    return rc;
}

static int inherit_one(int dir, const char *file, char *value, size_t size)
{
    char own[sizeof(((struct cgroup_cpuset *)NULL)->cpus)];
    int rc = read_list(dir, file, own, sizeof(own));

    if (rc < 0)
        return rc;
    if (own[0] == '\0')
        return value[0] == '\0' ? 0 : cgroup_file_write(dir, file, value);
    (void)snprintf(value, size, "%s", own);
    return 0;
}

int cgroup_cpuset_inherit(
    int dir, const char *path, struct cgroup_cpuset *state, struct err *err)
{
    int rc = inherit_one(dir, "cpuset.cpus", state->cpus, sizeof(state->cpus));

    if (rc == 0)
        rc = inherit_one(dir, "cpuset.mems", state->mems, sizeof(state->mems));
    if (rc < 0 && rc != -ENODEV)
        return err_sys(err, rc == -ENOENT ? -EIO : rc,
            "cgroup '%.128s': cannot give it CPUs", path);
    return rc;
}
