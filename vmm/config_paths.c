/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config_paths.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/fd.h"

bool config_paths_is_descriptor(const char *path)
{
    /* All of /proc: there are many ways there to what this process has. */
    static const char *const folders[] = {"/proc/", "/dev/fd/", "/dev/std"};

    for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
        if (strncmp(path, folders[i], strlen(folders[i])) == 0)
            return true;
    }
    return false;
}

/* The path by which the file of a descriptor is found, if it is by one. */
static int find_path(const char *path, char ret_path[PATH_MAX])
{
    CC_CLEANUP(fd_closep) int fd = -1;
    struct stat here;
    struct stat there;

    if (fd_from_path(path, false, &fd, NULL) < 0 ||
        fd_link(fd, ret_path, PATH_MAX) < 0)
        return -ENOENT;
    if (ret_path[0] != '/' || fstat(fd, &here) < 0 ||
        stat(ret_path, &there) < 0 || here.st_dev != there.st_dev ||
        here.st_ino != there.st_ino)
        return -ENOENT;
    return 0;
}

static int settle(char **path, struct err *err)
{
    char found[PATH_MAX];
    char *cwd;
    char *full;
    int n;

    if (*path == NULL)
        return 0;
    if (config_paths_is_descriptor(*path))
        return find_path(*path, found) < 0
                   ? 0
                   : config_set_string(path, found, err);
    if ((*path)[0] == '/')
        return 0;
    cwd = getcwd(NULL, 0);
    if (cwd == NULL)
        return err_sys(err, errno, "%s: the folder it is in", *path);
    n = asprintf(&full, "%s/%s", strcmp(cwd, "/") == 0 ? "" : cwd, *path);
    free(cwd);
    if (n < 0)
        return err_sys(err, ENOMEM, "description");
    free(*path);
    *path = full;
    return 0;
}

static int settle_net(struct config_net *net, struct err *err)
{
    /* A switch has a name, unless it has a path. */
    if (net->backend == CONFIG_NET_STREAM ||
        (net->backend == CONFIG_NET_SWITCH && net->target != NULL &&
            strchr(net->target, '/') != NULL))
        return settle(&net->target, err);
    return 0;
}

int config_paths_settle(struct config *config, struct err *err)
{
    int rc = settle(&config->vsock_path, err);

    for (uint32_t i = 0; rc == 0 && i < config->drive_count; i++) {
        rc = settle(&config->drives[i].path, err);
        if (rc == 0)
            rc = settle(&config->drives[i].overlay_path, err);
    }
    for (uint32_t i = 0; rc == 0 && i < config->pmem_count; i++)
        rc = settle(&config->pmems[i].path, err);
    for (uint32_t i = 0; rc == 0 && i < config->net_count; i++)
        rc = settle_net(&config->nets[i], err);
    return rc;
}

int config_paths_fd(const char *path)
{
    static const char *const folders[] = {FD_PATH, "/dev/fd/"};

    for (size_t i = 0; path != NULL && i < ARRAY_SIZE(folders); i++) {
        size_t len = strlen(folders[i]);
        char *end;
        unsigned long fd;

        if (strncmp(path, folders[i], len) != 0)
            continue;
        fd = strtoul(path + len, &end, 10);
        if (end != path + len && *end == '\0' && fd <= INT_MAX)
            return (int)fd;
    }
    return -1;
}

size_t config_paths_fds(const struct config *config, int *ret_fds)
{
    size_t n = 0;

    ret_fds[n++] = config_paths_fd(config->kernel);
    ret_fds[n++] = config_paths_fd(config->initrd);
    for (uint32_t i = 0; i < config->drive_count; i++) {
        ret_fds[n++] = config_paths_fd(config->drives[i].path);
        ret_fds[n++] = config_paths_fd(config->drives[i].overlay_path);
    }
    for (uint32_t i = 0; i < config->pmem_count; i++)
        ret_fds[n++] = config_paths_fd(config->pmems[i].path);
    for (uint32_t i = 0; i < config->net_count; i++)
        ret_fds[n++] = config->nets[i].fd;
    return n;
}
