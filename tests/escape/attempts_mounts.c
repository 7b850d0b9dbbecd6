/* SPDX-License-Identifier: Apache-2.0 */
/* File systems, namespaces and roots. */
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/quota.h>
#include <sched.h>

#include "tests/escape/escape.h"
#include "vmm/base/cc.h"

#define NR_LISTMOUNT 458

/* A folder of the host at `path`. */
static int make_folder(struct escape *e)
{
    return syscall(SYS_mkdir, e->path, 0700) < 0 ? -errno : 0;
}

static int try_mount(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_mount, "none", e->path, "tmpfs", 0L, NULL);
}

static int try_bind(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_mount, "/", e->path, NULL, MS_BIND, NULL);
}

static int make_mount(struct escape *e)
{
    int rc = make_folder(e);

    if (rc < 0)
        return rc;
    return syscall(SYS_mount, "none", e->path, "tmpfs", 0L, NULL) < 0 ? -errno
                                                                      : 0;
}

static int try_umount(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_umount2, e->path, 2); /* MNT_DETACH */
}

static int try_fsopen(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
}

/* A file system that is configured and not yet mounted. */
static int prepare_fs(struct escape *e)
{
    e->fds[0] = (int)syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
    if (e->fds[0] < 0)
        return -errno;
    return syscall(
               SYS_fsconfig, e->fds[0], FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0
               ? -errno
               : 0;
}

static int try_fsconfig(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_fsconfig, e->fds[0], FSCONFIG_SET_STRING, "size", "4096", 0);
}

/* As fsopen leaves it. */
static int prepare_new_fs(struct escape *e)
{
    e->fds[0] = (int)syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
    return e->fds[0] < 0 ? -errno : 0;
}

static int try_fsmount(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_fsmount, e->fds[0], FSMOUNT_CLOEXEC, 0);
}

static int try_fspick(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_fspick, AT_FDCWD, "/", FSPICK_CLOEXEC);
}

static int try_open_tree(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_open_tree, AT_FDCWD, "/", OPEN_TREE_CLOEXEC);
}

static int try_clone_tree(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_open_tree, AT_FDCWD, "/", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
}

/* A copy of the host's root, to be put anywhere. */
static int prepare_tree(struct escape *e)
{
    int rc = make_folder(e);

    if (rc < 0)
        return rc;
    e->fds[0] = (int)syscall(
        SYS_open_tree, AT_FDCWD, "/", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    return e->fds[0] < 0 ? -errno : 0;
}

static int try_move_mount(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_move_mount, e->fds[0], "", AT_FDCWD, e->path,
        MOVE_MOUNT_F_EMPTY_PATH);
}

static int try_mount_setattr(struct escape *e)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_NOSUID};

    return ESCAPE_CALL(e, SYS_mount_setattr, e->fds[0], "", AT_EMPTY_PATH,
        &attr, sizeof(attr));
}

static int try_pivot_root(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_pivot_root, e->path, e->path);
}

/* In a namespace of the attempt's own: the driver's root stays. */
static int prepare_pivot(struct escape *e)
{
    if (unshare(CLONE_NEWNS) < 0)
        return -errno;
    if (syscall(SYS_mount, "none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return -errno;
    return make_mount(e);
}

static int try_chroot(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_chroot, "/");
}

/* The kernel's struct mnt_id_req, which is newer than its headers here. */
struct mount_query {
    uint32_t size;
    uint32_t spare;
    uint64_t id;
    uint64_t param;
};

static int try_listmount(struct escape *e)
{
    struct mount_query query = {
        .size = sizeof(query), .id = UINT64_MAX /* the root */};

    return ESCAPE_CALL(e, NR_LISTMOUNT, &query, e->page, 8L, 0);
}

static int try_quotactl(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_quotactl, QCMD(Q_SYNC, USRQUOTA), NULL, 0, NULL);
}

static int try_swapon(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_swapon, e->path, 0);
}

static int try_swapoff(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_swapoff, e->path);
}

static int try_acct(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_acct, e->path);
}

static int try_sync(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_syncfs, e->disk);
}

/* An unshare of each kind. */
#define UNSHARE(name, flag)                                                    \
    static int try_unshare_##name(struct escape *e)                            \
    {                                                                          \
        return ESCAPE_CALL(e, SYS_unshare, (flag));                            \
    }

UNSHARE(user, CLONE_NEWUSER)
UNSHARE(mount, CLONE_NEWNS)
UNSHARE(pid, CLONE_NEWPID)
UNSHARE(net, CLONE_NEWNET)
UNSHARE(ipc, CLONE_NEWIPC)
UNSHARE(uts, CLONE_NEWUTS)
UNSHARE(cgroup, CLONE_NEWCGROUP)
UNSHARE(time, 0x80) /* CLONE_NEWTIME */
UNSHARE(files, CLONE_FILES)

/* A way back into the namespace of those outside. */
static int prepare_namespace(struct escape *e)
{
    e->fds[0] = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    return e->fds[0] < 0 ? -errno : 0;
}

static int try_setns(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_setns, e->fds[0], CLONE_NEWNET);
}

static int try_setns_pidfd(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_setns, e->victim_fd, CLONE_NEWNS);
}

#define UNSHARED(kind)                                                         \
    {                                                                          \
        .name = "unshare of the " #kind " namespace",                          \
        .gain = "parts of the kernel that are for root only",                  \
        .call = SYS_unshare, .go = try_unshare_##kind, .behind = -EPERM,       \
        .lacks = {                                                             \
            ESCAPE_ROOT_ONLY                                                   \
        }                                                                      \
    }

static const struct escape_attempt attempts[] = {
    {.name = "mount of a new file system",
        .gain = "parsers of file systems, and places to write",
        .call = SYS_mount,
        .go = try_mount,
        .behind = -ENOENT,
        .prepare = make_folder,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "mount --bind of the root",
        .gain = "the host's files",
        .call = SYS_mount,
        .go = try_bind,
        .behind = -ENOENT,
        .prepare = make_folder,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "umount2",
        .gain = "what a mount hides",
        .call = SYS_umount2,
        .go = try_umount,
        .prepare = make_mount,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "fsopen",
        .gain = "parsers of file systems",
        .call = SYS_fsopen,
        .go = try_fsopen,
        .behind = -EPERM,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "fsconfig",
        .gain = "parsers of file systems",
        .call = SYS_fsconfig,
        .go = try_fsconfig,
        .prepare = prepare_new_fs,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "fsmount",
        .gain = "a file system of its own",
        .call = SYS_fsmount,
        .go = try_fsmount,
        .prepare = prepare_fs,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "fspick",
        .gain = "changes how the host's are mounted",
        .call = SYS_fspick,
        .go = try_fspick,
        .behind = -EPERM,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "open_tree",
        .gain = "a folder to start other calls from",
        .call = SYS_open_tree,
        .go = try_open_tree},
    {.name = "open_tree with a copy of the root",
        .gain = "the host's files, whatever the root",
        .call = SYS_open_tree,
        .go = try_clone_tree,
        .behind = -EPERM,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "move_mount",
        .gain = "the host's files, whatever the root",
        .call = SYS_move_mount,
        .go = try_move_mount,
        .prepare = prepare_tree,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "mount_setattr",
        .gain = "makes what is read-only writable",
        .call = SYS_mount_setattr,
        .go = try_mount_setattr,
        .prepare = prepare_tree,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "pivot_root",
        .gain = "another root",
        .call = SYS_pivot_root,
        .go = try_pivot_root,
        .behind = -EPERM,
        .prepare = prepare_pivot,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "chroot",
        .gain = "another root, and with a folder left open the old one",
        .call = SYS_chroot,
        .go = try_chroot,
        .behind = -EPERM,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "listmount",
        .gain = "learns of the host's disks",
        .call = NR_LISTMOUNT,
        .go = try_listmount},
    {.name = "quotactl",
        .gain = "the quotas of others",
        .call = SYS_quotactl,
        .go = try_quotactl},
    {.name = "swapon of what is not there",
        .gain = "the memory of others, on a disk of its own",
        .call = SYS_swapon,
        .go = try_swapon,
        .behind = -EPERM,
        .outside = -ENOENT,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "swapoff of what is not there",
        .gain = "brings the host to its knees",
        .call = SYS_swapoff,
        .go = try_swapoff,
        .behind = -EPERM,
        .outside = -ENOENT,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "acct to what is not there",
        .gain = "learns what the host runs",
        .call = SYS_acct,
        .go = try_acct,
        .behind = -EPERM,
        .outside = -ENOENT,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "syncfs",
        .gain = "has the host's disks wait for it",
        .call = SYS_syncfs,
        .go = try_sync},
    {.name = "unshare of the user namespace",
        .gain = "parts of the kernel that are for root only",
        .call = SYS_unshare,
        .go = try_unshare_user},
    UNSHARED(mount),
    UNSHARED(pid),
    UNSHARED(net),
    UNSHARED(ipc),
    UNSHARED(uts),
    UNSHARED(cgroup),
    UNSHARED(time),
    {.name = "unshare of the descriptors",
        .gain = "descriptors that another thread cannot close",
        .call = SYS_unshare,
        .go = try_unshare_files},
    {.name = "setns to a namespace left open",
        .gain = "the host's network",
        .call = SYS_setns,
        .go = try_setns,
        .behind = -EPERM,
        .prepare = prepare_namespace,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "setns to those of a process outside",
        .gain = "the host's files",
        .call = SYS_setns,
        .go = try_setns_pidfd,
        .behind = -EPERM,
        .lacks = {ESCAPE_ROOT_ONLY}},
};

const struct escape_list escape_mounts = {attempts, ARRAY_SIZE(attempts)};
