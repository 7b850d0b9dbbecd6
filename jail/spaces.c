/* SPDX-License-Identifier: Apache-2.0 */
#include "jail/spaces.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/thread.h"

#define STACK_BYTES (UINT32_C(64) << 10)

static const struct {
    int flag;
    const char *file;
    const char *name;
} kinds[SPACES_KINDS] = {
    [SPACES_MOUNT] = {CLONE_NEWNS, "mnt", "mount"},
    [SPACES_NET] = {CLONE_NEWNET, "net", "network"},
    [SPACES_IPC] = {CLONE_NEWIPC, "ipc", "IPC"},
    [SPACES_UTS] = {CLONE_NEWUTS, "uts", "UTS"},
    [SPACES_CGROUP] = {CLONE_NEWCGROUP, "cgroup", "cgroup"},
};

/* A mount of an empty file system that nobody can write to; or -errno. */
static int make_root(void)
{
    CC_CLEANUP(fd_closep)
    int fs = (int)syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
    int root;

    if (fs < 0)
        return -errno;
    if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "mode", "0555", 0) < 0 ||
        syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "nr_inodes", "1", 0) <
            0 ||
        syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return -errno;
    root = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC,
        MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
            MOUNT_ATTR_NOEXEC);
    return root < 0 ? -errno : root;
}

/*
 * The thread's mount namespace loses all it was copied with. Where the root
 * cannot be exchanged (it is the kernel's first one), the empty one lies on
 * top of it, and what enters the namespace begins there.
 */
static int replace_root(int root_fd)
{
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return -errno;
    if (syscall(SYS_move_mount, root_fd, "", AT_FDCWD, "/",
            MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return -errno;
    if (fchdir(root_fd) < 0)
        return -errno;
    if (syscall(SYS_pivot_root, ".", ".") == 0)
        return umount2(".", MNT_DETACH) < 0 ? -errno : 0;
    return chroot(".") < 0 ? -errno : 0;
}

static int open_space(enum spaces_kind kind)
{
    char path[48];
    int fd;

    (void)snprintf(
        path, sizeof(path), "/proc/thread-self/ns/%s", kinds[kind].file);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int make_all(struct spaces *s)
{
    int flags = 0;
    int rc;

    for (unsigned int i = 0; i < SPACES_KINDS; i++) {
        if ((s->wanted & SPACES_BIT(i)) != 0)
            flags |= kinds[i].flag;
    }
    if (unshare(flags) < 0)
        return err_sys(&s->err, errno, "cannot make namespaces");
    /* Only who made its mount namespace may mount, and root in the first. */
    rc = make_root();
    if (rc < 0)
        return err_sys(&s->err, rc, "cannot make an empty root");
    s->root_fd = rc;
    for (unsigned int i = 0; i < SPACES_KINDS; i++) {
        if ((s->wanted & SPACES_BIT(i)) == 0)
            continue;
        rc = open_space((enum spaces_kind)i);
        if (rc < 0)
            return err_sys(
                &s->err, rc, "cannot open a %s namespace", kinds[i].name);
        s->fds[i] = rc;
    }
    if ((s->wanted & SPACES_BIT(SPACES_MOUNT)) == 0)
        return 0;
    rc = replace_root(s->root_fd);
    return rc < 0 ? err_sys(&s->err, rc, "cannot exchange the root") : 0;
}

static void *spaces_thread(void *opaque)
{
    struct spaces *s = opaque;

    s->rc = make_all(s);
    return NULL;
}

int spaces_begin(struct spaces *s, uint32_t wanted, struct err *err)
{
    const struct thread_config config = {
        .run = spaces_thread, .opaque = s, .stack_bytes = STACK_BYTES};
    int rc;

    *s = (struct spaces)SPACES_NONE;
    s->wanted = wanted;
    rc = thread_start(&s->thread, &config);
    if (rc < 0)
        return err_sys(err, rc, "cannot start a thread for namespaces");
    s->has_thread = true;
    return 0;
}

void spaces_share(struct spaces *s, const struct spaces *made)
{
    int root = make_root();

    assert(!made->has_thread && made->fds[SPACES_MOUNT] < 0);
    *s = *made;
    s->root_fd = root;
    if (root < 0)
        s->rc = err_sys(&s->err, root, "cannot make an empty root");
}

void spaces_wait(struct spaces *s)
{
    if (s->has_thread)
        (void)pthread_join(s->thread, NULL);
    s->has_thread = false;
}

void spaces_abandon(struct spaces *s)
{
    spaces_wait(s);
    for (unsigned int i = 0; i < SPACES_KINDS; i++)
        fd_closep(&s->fds[i]);
    fd_closep(&s->root_fd);
}

/* That of mounts last: its root comes with it. */
static int enter_all(struct spaces *s, struct err *err)
{
    /*
     * A root that is shared cannot be exchanged, and the kernel's workers of
     * an io_uring share it; they open nothing by name.
     */
    if (s->fds[SPACES_MOUNT] >= 0 && unshare(CLONE_FS) < 0)
        return err_sys(err, errno, "cannot have a root of its own");
    for (unsigned int i = SPACES_KINDS; i-- > 0;) {
        if (s->fds[i] >= 0 && setns(s->fds[i], kinds[i].flag) < 0)
            return err_sys(
                err, errno, "cannot enter a %s namespace", kinds[i].name);
    }
    if (s->fds[SPACES_MOUNT] < 0 && (fchdir(s->root_fd) < 0 || chroot(".") < 0))
        return err_sys(err, errno, "cannot enter the empty root");
    return chdir("/") < 0 ? err_sys(err, errno, "cannot enter /") : 0;
}

int spaces_enter(struct spaces *s, struct err *err)
{
    int rc;

    spaces_wait(s);
    rc = s->rc;
    if (rc < 0)
        *err = s->err;
    else
        rc = enter_all(s, err);
    /*
     * A mount that is in no namespace is dissolved when its descriptor is
     * closed, which takes the kernel 0.1 ms: it goes with the process, and
     * leads nowhere but to the root that this has anyway.
     */
    if (rc == 0 && s->fds[SPACES_MOUNT] < 0)
        (void)fd_steal(&s->root_fd);
    spaces_abandon(s);
    return rc;
}
