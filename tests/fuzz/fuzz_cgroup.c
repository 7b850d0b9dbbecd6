/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is read of cgroups: /proc/self/cgroup and /proc/self/mountinfo, with a
 * NUL between them, and behind a second one any file or option, resource limits
 * too.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "jail/cgroup_files.h"
#include "jail/cgroup_places.h"
#include "jail/cgroup_text.h"
#include "jail/rlimits.h"

#define PIDS 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_hierarchy(const struct cgroup_hierarchy *h)
{
    const char *below = NULL;

    if (h->controllers == NULL || h->own == NULL || h->own[0] != '/')
        abort();
    if ((h->mount == NULL) != (h->mount_root == NULL))
        abort();
    if (cgroup_places_locate(h, NULL, &below, NULL) == 0 &&
        (below < h->own || below > h->own + strlen(h->own) || below[0] == '/' ||
            cgroup_list_has(below, '/', "..")))
        abort();
}

static void fuzz_places(const char *own, const char *mounts)
{
    struct cgroup_places places;

    if (cgroup_places_parse(own, mounts, &places, NULL) < 0)
        return;
    if (places.count > CGROUP_HIERARCHY_MAX)
        abort();
    for (size_t i = 0; i < places.count; i++)
        check_hierarchy(&places.list[i]);
    (void)cgroup_places_find_v1(&places, "memory");
    cgroup_places_fini(&places);
}

static void fuzz_text(const char *text)
{
    struct cgroup_config config = {0};
    struct rlimits limits = {0};
    pid_t pids[PIDS];
    uint64_t value = 0;
    ssize_t n = cgroup_text_pids(text, pids, PIDS);

    for (ssize_t i = 0; i < n; i++) {
        if (pids[i] < 0)
            abort();
    }
    if (cgroup_text_number(text, &value) < 0 && value != 0)
        abort();
    value = 0;
    if (cgroup_text_key(text, "oom_kill", &value) < 0 && value != 0)
        abort();
    if (cgroup_parse_pair(text, &config, NULL) == 0 &&
        strchr(config.pairs[0].file, '/') != NULL)
        abort();
    if (cgroup_parse_io_max(text, &config, NULL) == 0 && config.io_count != 1)
        abort();
    if (cgroup_parse_cpu_max(text, &config, NULL) == 0 &&
        (config.cpu_quota_us < 1000 || config.cpu_period_us < 1000 ||
            config.cpu_period_us > 1000000))
        abort();
    if (cgroup_parse_cpu_weight(text, &config, NULL) == 0 &&
        (config.cpu_weight == 0 || config.cpu_weight > 10000))
        abort();
    if (rlimits_parse(text, &limits, NULL) == 0) {
        for (size_t i = 0; i < RLIMITS_COUNT; i++) {
            if (limits.list[i].is_set &&
                limits.list[i].soft > limits.list[i].hard)
                abort();
        }
    }
    if (cgroup_parse_parent(text, &config, NULL) == 0 &&
        cgroup_list_has(config.parent, '/', ".."))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 3);
    const char *mounts;
    const char *rest;

    if (text == NULL)
        return 0;
    if (size > 0)
        memcpy(text, data, size);
    memset(text + size, 0, 3);
    mounts = text + strlen(text) + 1;
    rest = mounts > text + size ? text + size : mounts + strlen(mounts) + 1;
    if (mounts > text + size)
        mounts = text + size;
    if (rest > text + size)
        rest = text;
    fuzz_places(text, mounts);
    fuzz_text(rest);
    free(text);
    return 0;
}
