/* SPDX-License-Identifier: Apache-2.0 */
#include "jail/cgroup_text.h"

#include <errno.h>
#include <string.h>

#include "jail/cgroup_places.h"
#include "jail/cgroup_tree.h"
#include "vmm/base/num.h"

#define US_PER_PERCENT 1000u /* in a period of a tenth of a second */
#define PERIOD_US      UINT64_C(100000)
#define LEAST_US       UINT64_C(1000)
#define LONGEST_US     UINT64_C(1000000)
#define QUOTA_US_MAX   (UINT64_C(1) << 43) /* the kernel counts it in ns */
#define PERCENT_MAX    UINT64_C(1000000)
#define WEIGHT_MAX     10000u
#define MAJOR_MAX      4095u /* of the kernel's 12 and 20 bits */
#define MINOR_MAX      1048575u
#define VALUE_MAX      255u
#define IO_LIMITS      4u

static int parse_percent(
    const char *text, uint64_t *ret_quota, uint64_t *ret_period)
{
    uint64_t percent = 0;
    const char *p = num_take_digits(text, &percent);

    if (p == NULL || strcmp(p, "%") != 0 || percent == 0 ||
        percent > PERCENT_MAX)
        return -EINVAL;
    *ret_quota = percent * US_PER_PERCENT;
    *ret_period = PERIOD_US;
    return 0;
}

int cgroup_parse_cpu_max(
    const char *text, struct cgroup_config *config, struct err *err)
{
    uint64_t quota = 0;
    uint64_t period = 0;
    const char *p = num_take_digits(text, &quota);

    if (p != NULL && *p == '/') {
        p = num_take_digits(p + 1, &period);
        if (p != NULL && *p != '\0')
            p = NULL;
    } else if (parse_percent(text, &quota, &period) < 0) {
        p = NULL;
    }
    if (p == NULL)
        return err_set(err, EINVAL,
            "'%.32s' is no share of CPU time: write it as 50%% of one CPU, or "
            "as QUOTA/PERIOD in microseconds",
            text);
    if (quota < LEAST_US || quota > QUOTA_US_MAX || period < LEAST_US ||
        period > LONGEST_US)
        return err_set(err, ERANGE,
            "'%.32s': the quota must be 1000 us or more, and the period 1000 "
            "to 1000000 us",
            text);
    config->cpu_quota_us = quota;
    config->cpu_period_us = period;
    return 0;
}

int cgroup_parse_cpu_weight(
    const char *text, struct cgroup_config *config, struct err *err)
{
    uint64_t weight = 0;
    const char *p = num_take_digits(text, &weight);

    if (p == NULL || *p != '\0' || weight == 0 || weight > WEIGHT_MAX)
        return err_set(err, EINVAL,
            "'%.32s' is not a number from 1 to %u: siblings have 100", text,
            WEIGHT_MAX);
    config->cpu_weight = (uint32_t)weight;
    return 0;
}

static bool is_separator(char c)
{
    return c == ',' || c == ' ';
}

/* One "key=N" or "key=max" of a device; what is behind it, or NULL. */
static const char *take_io_limit(
    const char *p, struct cgroup_io *io, bool seen[IO_LIMITS])
{
    static const char *const keys[IO_LIMITS] = {
        "rbps=", "wbps=", "riops=", "wiops="};
    uint64_t *const values[IO_LIMITS] = {
        &io->read_bytes, &io->write_bytes, &io->read_ops, &io->write_ops};

    for (size_t i = 0; i < IO_LIMITS; i++) {
        size_t len = strlen(keys[i]);

        if (strncmp(p, keys[i], len) != 0)
            continue;
        if (seen[i])
            return NULL;
        seen[i] = true;
        p += len;
        if (strncmp(p, "max", 3) == 0)
            return p + 3;
        p = num_take_digits(p, values[i]);
        return p == NULL || *values[i] == 0 ? NULL : p;
    }
    return NULL;
}

int cgroup_parse_io_max(
    const char *text, struct cgroup_config *config, struct err *err)
{
    uint64_t major = 0;
    uint64_t minor = 0;
    struct cgroup_io io = {0};
    bool seen[IO_LIMITS] = {false};
    const char *p = num_take_digits(text, &major);

    if (config->io_count == CGROUP_IO_MAX)
        return err_set(
            err, E2BIG, "more than %u devices with limits", CGROUP_IO_MAX);
    p = p == NULL || *p != ':' ? NULL : num_take_digits(p + 1, &minor);
    if (p != NULL && *p == '\0')
        p = NULL;
    while (p != NULL && *p != '\0')
        p = is_separator(*p) ? take_io_limit(p + 1, &io, seen) : NULL;
    if (p == NULL || major > MAJOR_MAX || minor > MINOR_MAX)
        return err_set(err, EINVAL,
            "'%.64s' limits no device: write MAJ:MIN,rbps=N,wbps=N,riops=N,"
            "wiops=N with the numbers of a whole disk as lsblk shows them, and "
            "leave out what has no limit",
            text);
    io.major = (uint32_t)major;
    io.minor = (uint32_t)minor;
    config->io[config->io_count++] = io;
    return 0;
}

int cgroup_parse_pair(
    const char *text, struct cgroup_config *config, struct err *err)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "abcdefghijklmnopqrstuvwxyz0123456789_.-";
    const char *equals = strchr(text, '=');
    size_t len = equals == NULL ? 0 : (size_t)(equals - text);
    struct cgroup_pair pair = {0};
    const char *dot;

    if (config->pair_count == CGROUP_PAIR_MAX)
        return err_set(
            err, E2BIG, "more than %u files of cgroups", CGROUP_PAIR_MAX);
    if (len == 0 || len >= sizeof(pair.file) || equals[1] == '\0' ||
        strlen(equals + 1) > VALUE_MAX || strchr(equals + 1, '\n') != NULL)
        return err_set(err, EINVAL,
            "'%.64s' sets no file: write FILE=VALUE, as in "
            "cpuset.cpus=0-1",
            text);
    memcpy(pair.file, text, len);
    dot = strchr(pair.file, '.');
    if (strspn(pair.file, allowed) != len || dot == NULL || dot == pair.file ||
        dot[1] == '\0' || strstr(pair.file, "..") != NULL)
        return err_set(err, EINVAL,
            "'%.64s' is no file of a controller: one is called as cpuset.cpus, "
            "without a path",
            pair.file);
    if (strncmp(pair.file, "cgroup.", 7) == 0)
        return err_set(err, EINVAL,
            "'%.64s' is not for limits: it decides what is in the cgroup",
            pair.file);
    pair.value = equals + 1;
    config->pairs[config->pair_count++] = pair;
    return 0;
}

int cgroup_parse_parent(
    const char *text, struct cgroup_config *config, struct err *err)
{
    if (text[0] == '\0' || strlen(text) >= CGROUP_PATH_MAX / 2 ||
        strchr(text, '\n') != NULL || cgroup_list_has(text, '/', "..") ||
        cgroup_list_has(text, '/', "."))
        return err_set(err, EINVAL,
            "'%.64s' is no cgroup: write its path from the root of the "
            "hierarchy, as in /spore",
            text);
    config->parent = text;
    return 0;
}
