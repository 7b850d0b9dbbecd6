/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/serve/rootfs_copy.h"

void rootfs_command_fini(struct rootfs_command *command)
{
    for (size_t i = 0; command->argv != NULL && command->argv[i] != NULL; i++)
        free(command->argv[i]);
    for (size_t i = 0; command->env != NULL && command->env[i] != NULL; i++)
        free(command->env[i]);
    free(command->argv);
    free(command->env);
    free(command->cwd);
    free(command->user);
    *command = (struct rootfs_command){0};
}

int rootfs_make(const char *source, const char *path,
    const struct interrupt *interrupt, struct rootfs_command *ret_command,
    struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = open(source, O_RDONLY | O_CLOEXEC);
    struct stat st;
    int rc;

    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(err, errno, "--rootfs %s", source);
    *ret_command = (struct rootfs_command){0};
    rc = rootfs_copy(fd, path, interrupt, err);
    return rc < 0 ? err_wrap(err, rc, "--rootfs %s", source) : 0;
}
