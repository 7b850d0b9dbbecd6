/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/run_auto.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "snapshot/hash.h"
#include "vmm/artifacts.h"
#include "vmm/base/log.h"
#include "vmm/base/num.h"
#include "vmm/serve/template_build.h"
#include "vmm/serve/template_place.h"

#define PREFIX "auto-"

/* What is hashed. */
#define KEY_MAX 512u

/* Options of `spore run`: "--mem", "128M" and so on. */
#define WORDS_MAX 8u

struct combination {
    char *kernel; /* absolute */
    char *rootfs;
    char name[sizeof(PREFIX) + HASH_TEXT_SIZE];
};

bool run_auto_fits(const struct run_options *o)
{
    const uint32_t allowed =
        RUN_GIVEN_KERNEL | RUN_GIVEN_ROOTFS | RUN_GIVEN_MEM | RUN_GIVEN_CPUS;
    const struct config *c = &o->config;
    const char *cold = getenv(RUN_AUTO_ENV);

    if (o->cold || (cold != NULL && strcmp(cold, "1") == 0))
        return false;
    if ((o->given & ~allowed) != 0 || o->no_root || !c->has_agent)
        return false;
    if ((o->given & RUN_GIVEN_ROOTFS) != 0 &&
        (c->drive_count != 1 || !c->drives[0].is_read_only ||
            c->drives[0].overlay != CONFIG_OVERLAY_NONE ||
            c->drives[0].partuuid != NULL))
        return false;
    return o->console == RUN_CONSOLE_TAIL && o->timings == RUN_TIMINGS_OFF &&
           o->from == NULL && o->store == NULL && o->id == NULL &&
           o->api_sock == NULL && !o->no_boot && !o->detach && !o->stay &&
           o->log_file == NULL && o->tracking == MACHINE_TRACK_LATER;
}

/* ---- which --------------------------------------------------------------- */

static int find_file(const char *given, enum artifact otherwise,
    char **ret_path, struct err *err)
{
    if (given == NULL)
        return artifacts_find(otherwise, ret_path, err);
    *ret_path = realpath(given, NULL);
    return *ret_path == NULL ? err_sys(err, errno, "%s", given) : 0;
}

/* A file that was replaced or changed is another. */
static int add_file(char *key, size_t *len, const char *path, struct err *err)
{
    struct stat st;
    int n;

    if (stat(path, &st) < 0)
        return err_sys(err, errno, "%s", path);
    n = snprintf(key + *len, KEY_MAX - *len, "%llu:%llu:%llu:%lld.%09ld ",
        (unsigned long long)st.st_dev, (unsigned long long)st.st_ino,
        (unsigned long long)st.st_size, (long long)st.st_mtim.tv_sec,
        st.st_mtim.tv_nsec);
    if (n < 0 || (size_t)n >= KEY_MAX - *len)
        return err_set(err, E2BIG, "%s", path);
    *len += (size_t)n;
    return 0;
}

static void combination_fini(struct combination *c)
{
    free(c->kernel);
    free(c->rootfs);
}

static int find_combination(const struct run_options *o,
    struct combination *ret_combination, struct err *err)
{
    const struct config *c = &o->config;
    struct combination found = {0};
    char key[KEY_MAX];
    char text[HASH_TEXT_SIZE];
    struct hash128 hash;
    size_t len;
    int rc = find_file(c->kernel, ARTIFACT_KERNEL, &found.kernel, err);

    if (rc == 0)
        rc = find_file(c->drive_count > 0 ? c->drives[0].path : NULL,
            ARTIFACT_ROOTFS, &found.rootfs, err);
    len = (size_t)snprintf(key, sizeof(key), "%s %llu %u ", SPORE_VERSION,
        (unsigned long long)c->mem_bytes, c->vcpus);
    if (rc == 0)
        rc = add_file(key, &len, found.kernel, err);
    if (rc == 0)
        rc = add_file(key, &len, found.rootfs, err);
    if (rc < 0) {
        combination_fini(&found);
        return rc;
    }
    hash = hash_bytes(key, len);
    hash_to_text(&hash, text);
    (void)snprintf(found.name, sizeof(found.name), PREFIX "%.16s", text);
    *ret_combination = found;
    return 0;
}

/* ---- making it ----------------------------------------------------------- */

struct kept {
    char *name;
    uint64_t made_s;
};

static int newest_first(const void *a, const void *b)
{
    const struct kept *x = a;
    const struct kept *y = b;

    return x->made_s < y->made_s ? 1 : x->made_s > y->made_s ? -1 : 0;
}

static size_t list_kept(char **names, struct kept *kept)
{
    size_t count = 0;

    for (size_t i = 0; names[i] != NULL; i++) {
        struct template t;

        if (strncmp(names[i], PREFIX, strlen(PREFIX)) != 0 ||
            template_open(names[i], &t, NULL) < 0)
            continue;
        kept[count++] = (struct kept){.name = names[i], .made_s = t.made_s};
        template_fini(&t);
    }
    return count;
}

static void free_names(char **names)
{
    for (size_t i = 0; names[i] != NULL; i++)
        free(names[i]);
    free(names);
}

/* Machines that run from one that is removed go on. */
static void remove_old(void)
{
    struct kept *kept;
    char **names;
    size_t count = 0;
    struct err err;

    if (template_place_list(&names, &err) < 0) {
        log_info("run", "%s", err.text);
        return;
    }
    while (names[count] != NULL)
        count++;
    kept = calloc(count + 1, sizeof(*kept));
    if (kept != NULL) {
        count = list_kept(names, kept);
        qsort(kept, count, sizeof(*kept), newest_first);
        for (size_t i = RUN_AUTO_MAX; i < count; i++) {
            if (template_place_remove(kept[i].name, &err) < 0)
                log_info("run", "%s", err.text);
        }
    }
    free(kept);
    free_names(names);
}

static int build(
    const struct run_options *o, const struct combination *c, struct err *err)
{
    char *words[WORDS_MAX + 1] = {NULL};
    struct template_build template = {.name = c->name,
        .rootfs = c->rootfs,
        .is_read_only = true,
        .machine = words,
        .timeout_s = TEMPLATE_BUILD_TIMEOUT_S};
    char kernel[] = "--kernel";
    char mem[32];
    char cpus[32];
    int rc;

    (void)snprintf(mem, sizeof(mem), "--mem=%lluK",
        (unsigned long long)(o->config.mem_bytes / NUM_KIB));
    (void)snprintf(cpus, sizeof(cpus), "--cpus=%u", o->config.vcpus);
    words[0] = kernel;
    words[1] = c->kernel;
    words[2] = mem;
    words[3] = cpus;
    rc = template_build_run(&template, err);
    /* Another run of the same was quicker. */
    if (rc == -EEXIST)
        return 0;
    if (rc == 0)
        remove_old();
    return rc;
}

int run_auto_open(const struct run_options *options,
    struct template *ret_template, struct err *err)
{
    struct combination c;
    int rc = find_combination(options, &c, err);

    if (rc < 0)
        return rc;
    rc = template_open(c.name, ret_template, err);
    if (rc == -ENOENT && options->timeout_ns == 0) {
        rc = build(options, &c, err);
        if (rc == 0)
            rc = template_open(c.name, ret_template, err);
    }
    combination_fini(&c);
    return rc;
}
