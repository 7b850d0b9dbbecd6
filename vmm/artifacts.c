/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/artifacts.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef SPORE_DATADIR
#define SPORE_DATADIR "/usr/local/share/spore"
#endif

static const struct {
    const char *text;
    const char *variable;
    const char *cached; /* below the cache's spore/ */
    const char *file;   /* in a data directory */
    const char *option;
} artifacts[] = {
    [ARTIFACT_KERNEL] = {"guest kernel", "SPORE_KERNEL", "kernel/vmlinux",
        "vmlinux", "--kernel"},
    [ARTIFACT_ROOTFS] = {"root file system", "SPORE_ROOTFS",
        "rootfs/rootfs.ext4", "rootfs.ext4", "--rootfs"},
};

/* *ret_path: in the cache of this user, or NULL without a home. */
static int cache_path(const char *file, char **ret_path)
{
    const char *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    int n = 0;

    *ret_path = NULL;
    if (cache != NULL && cache[0] == '/')
        n = asprintf(ret_path, "%s/spore/%s", cache, file);
    else if (home != NULL)
        n = asprintf(ret_path, "%s/.cache/spore/%s", home, file);
    return n < 0 ? -ENOMEM : 0;
}

/* Gives *path to the caller if the file can be read. */
static int take_if_readable(char **path, char **ret_path)
{
    if (*path == NULL || access(*path, R_OK) < 0) {
        free(*path);
        *path = NULL;
        return -ENOENT;
    }
    *ret_path = *path;
    *path = NULL;
    return 0;
}

/* *ret_path: in the data directory that belongs to the folder of this program,
 * wherever both were put; NULL where that cannot be told. */
static int own_data_path(const char *file, char **ret_path)
{
    char self[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self));

    *ret_path = NULL;
    if (len <= 0 || (size_t)len >= sizeof(self))
        return 0;
    for (int i = 0; i < 2; i++) {
        char *slash = memrchr(self, '/', (size_t)len);

        if (slash == NULL)
            return 0;
        len = slash - self;
    }
    if (asprintf(ret_path, "%.*s/share/spore/%s", (int)len, self, file) < 0)
        return -ENOMEM;
    return 0;
}

/* The first of cache, own data directory and that of the installation. */
static int find_file(
    const char *cached, const char *file, char **ret_path, struct err *err)
{
    char *path = NULL;

    if (cached != NULL) {
        if (cache_path(cached, &path) < 0)
            return err_sys(err, ENOMEM, "%s", file);
        if (take_if_readable(&path, ret_path) == 0)
            return 0;
    }
    if (own_data_path(file, &path) < 0)
        return err_sys(err, ENOMEM, "%s", file);
    if (take_if_readable(&path, ret_path) == 0)
        return 0;
    if (asprintf(&path, "%s/%s", SPORE_DATADIR, file) < 0)
        return err_sys(err, ENOMEM, "%s", file);
    return take_if_readable(&path, ret_path);
}

static int say_missing(enum artifact which, struct err *err)
{
    char *recipe = NULL;

    if (find_file(NULL, "guest/build.sh", &recipe, NULL) < 0)
        return err_set(err, ENOENT,
            "no %s in the cache or in " SPORE_DATADIR
            ": run ./quickstart.sh, or give %s",
            artifacts[which].text, artifacts[which].option);
    (void)err_set(err, ENOENT,
        "no %s in the cache or in " SPORE_DATADIR
        ": run %s (in a source tree, ./quickstart.sh), or give %s",
        artifacts[which].text, recipe, artifacts[which].option);
    free(recipe);
    return -ENOENT;
}

int artifacts_find(enum artifact which, char **ret_path, struct err *err)
{
    const char *given = getenv(artifacts[which].variable);
    char *path = NULL;
    int rc;

    if (given != NULL && given[0] != '\0') {
        if (access(given, R_OK) < 0)
            return err_sys(
                err, errno, "%s: %s", artifacts[which].variable, given);
        path = realpath(given, NULL);
        if (path == NULL)
            return err_sys(err, errno, "%s", given);
        *ret_path = path;
        return 0;
    }
    rc = find_file(
        artifacts[which].cached, artifacts[which].file, ret_path, err);
    return rc == -ENOENT ? say_missing(which, err) : rc;
}
