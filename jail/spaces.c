/* SPDX-License-Identifier: Apache-2.0 */
#include "jail/spaces.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/thread.h"

#define STACK_BYTES (UINT32_C(64) << 10)
#define END_NS      (5 * CLOCK_NS_PER_S)

static const struct {
    int flag;
    const char *file;
    const char *name;
} kinds[SPACES_KINDS] = {
    [SPACES_NET] = {CLONE_NEWNET, "net", "network"},
    [SPACES_IPC] = {CLONE_NEWIPC, "ipc", "IPC"},
    [SPACES_UTS] = {CLONE_NEWUTS, "uts", "UTS"},
    [SPACES_CGROUP] = {CLONE_NEWCGROUP, "cgroup", "cgroup"},
};

static int open_own(const char *path, int flags, struct err *err)
{
    int fd = open(path, flags | O_CLOEXEC);

    return fd < 0 ? err_sys(err, errno, "cannot open %s", path) : fd;
}

static int make_all(struct spaces *s)
{
    int flags = 0;
    int fd;

    for (unsigned int i = 0; i < SPACES_KINDS; i++)
        flags |= kinds[i].flag;
    if (unshare(flags) < 0)
        return err_sys(&s->err, errno, "cannot make namespaces");
    for (unsigned int i = 0; i < SPACES_KINDS; i++) {
        char path[48];

        (void)snprintf(
            path, sizeof(path), "/proc/thread-self/ns/%s", kinds[i].file);
        fd = open_own(path, O_RDONLY, &s->err);
        if (fd < 0)
            return fd;
        s->fds[i] = fd;
    }
    /* One that can be entered when its thread is no more: not all can. */
    fd = open_own("/proc/thread-self/ns", O_PATH | O_DIRECTORY, &s->err);
    if (fd < 0)
        return fd;
    s->root_fd = fd;
    return 0;
}

static void *spaces_thread(void *opaque)
{
    struct spaces *s = opaque;

    s->rc = make_all(s);
    return NULL;
}

int spaces_begin(struct spaces *s, struct err *err)
{
    const struct thread_config config = {
        .run = spaces_thread, .opaque = s, .stack_bytes = STACK_BYTES};
    int rc;

    *s = (struct spaces)SPACES_NONE;
    s->is_wanted = true;
    rc = thread_start(&s->thread, &config);
    if (rc < 0)
        return err_sys(err, rc, "cannot start a thread for namespaces");
    s->has_thread = true;
    return 0;
}

void spaces_share(struct spaces *s, const struct spaces *made)
{
    assert(!made->has_thread);
    *s = *made;
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

/*
 * A thread that was waited for is on its way out of the kernel yet, and its
 * folder still shows the namespaces that it had.
 */
static int await_emptiness(int root_fd, struct err *err)
{
    uint64_t deadline = clock_now_ns() + END_NS;
    struct stat st;

    while (fstatat(root_fd, "net", &st, AT_SYMLINK_NOFOLLOW) == 0) {
        if (clock_now_ns() > deadline)
            return err_set(err, EBUSY,
                "the empty root is none: the thread that made it does not end");
        (void)sched_yield();
    }
    /* Another reason for not finding it would say nothing of the rest. */
    return errno == ENOENT
               ? 0
               : err_sys(err, errno, "cannot tell that the root is empty");
}

static int enter_all(struct spaces *s, struct err *err)
{
    int rc = await_emptiness(s->root_fd, err);

    if (rc < 0)
        return rc;
    for (unsigned int i = 0; i < SPACES_KINDS; i++) {
        if (setns(s->fds[i], kinds[i].flag) < 0)
            return err_sys(
                err, errno, "cannot enter a %s namespace", kinds[i].name);
    }
    if (fchdir(s->root_fd) < 0 || chroot(".") < 0)
        return err_sys(err, errno, "cannot enter the empty root");
    return 0;
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
    spaces_abandon(s);
    return rc;
}
