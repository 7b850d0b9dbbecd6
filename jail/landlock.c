/* SPDX-License-Identifier: Apache-2.0 */
#include "jail/landlock.h"

#include <errno.h>
#include <linux/landlock.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/fd.h"

/* As far as the kernel's documentation goes; older headers have less. */
struct ruleset {
    uint64_t handled_access_fs;
    uint64_t handled_access_net;
    uint64_t scoped;
};

#define NET_ALL             UINT64_C(3) /* BIND_TCP, CONNECT_TCP */
#define SCOPE_ABSTRACT_UNIX UINT64_C(1)
#define FS_BITS(count)      ((UINT64_C(1) << (count)) - 1)

/* What each version of the ABI knows, and how much of the struct. */
static const struct {
    uint64_t fs;
    uint64_t net;
    uint64_t scoped;
    size_t size;
} versions[] = {
    {FS_BITS(13), 0, 0, 8}, {FS_BITS(14), 0, 0, 8},  /* REFER */
    {FS_BITS(15), 0, 0, 8},                          /* TRUNCATE */
    {FS_BITS(15), NET_ALL, 0, 16},                   /* TCP */
    {FS_BITS(16), NET_ALL, 0, 16},                   /* IOCTL_DEV */
    {FS_BITS(16), NET_ALL, SCOPE_ABSTRACT_UNIX, 24}, /* scopes */
};

int landlock_abi(void)
{
    long abi = syscall(
        SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

    return abi < 0 ? 0 : (int)abi;
}

/*
 * Signals are left out: helpers that were started before are told to end by
 * their pidfd, and no other process is in the namespace.
 */
int landlock_confine(struct err *err)
{
    const size_t known = ARRAY_SIZE(versions);
    int abi = landlock_abi();
    CC_CLEANUP(fd_closep) int fd = -1;
    struct ruleset set;
    size_t at;

    if (abi == 0)
        return err_set(err, EOPNOTSUPP,
            "the kernel has no Landlock (CONFIG_SECURITY_LANDLOCK, lsm=)");
    at = (size_t)abi < known ? (size_t)abi - 1 : known - 1;
    set = (struct ruleset){.handled_access_fs = versions[at].fs,
        .handled_access_net = versions[at].net,
        .scoped = versions[at].scoped};
    fd = (int)syscall(SYS_landlock_create_ruleset, &set, versions[at].size, 0);
    if (fd < 0 || syscall(SYS_landlock_restrict_self, fd, 0) < 0)
        return err_sys(err, errno, "Landlock");
    return 0;
}
