/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/artifacts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#ifndef SPORE_DATADIR
#define SPORE_DATADIR "/usr/local/share/spore"
#endif

static const struct {
    const char *text;
    const char *variable;
    const char *cached; /* below the cache's spore/ */
    const char *file;   /* in the data directory */
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

int artifacts_find(enum artifact which, char **ret_path, struct err *err)
{
    const char *given = getenv(artifacts[which].variable);
    char *path = NULL;

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
    if (cache_path(artifacts[which].cached, &path) < 0)
        return err_sys(err, ENOMEM, "%s", artifacts[which].text);
    if (take_if_readable(&path, ret_path) == 0)
        return 0;
    if (asprintf(&path, "%s/%s", SPORE_DATADIR, artifacts[which].file) < 0)
        return err_sys(err, ENOMEM, "%s", artifacts[which].text);
    if (take_if_readable(&path, ret_path) == 0)
        return 0;
    return err_set(err, ENOENT,
        "no %s in the cache or in " SPORE_DATADIR
        ": run ./quickstart.sh, or give %s",
        artifacts[which].text, artifacts[which].option);
}
