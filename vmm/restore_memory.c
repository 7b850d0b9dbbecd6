/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/restore_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "snapshot/page_session.h"
#include "snapshot/prefetch.h"
#include "vmm/base/fd.h"

/* What a child that has been hung up on may take to end by itself. */
#define CHILD_END_MS 1000

int restore_memory_connect(struct restore_memory *memory,
    const struct page_client_host *host, const char *path, struct err *err)
{
    *memory = (struct restore_memory)RESTORE_MEMORY_NONE;
    return page_client_connect(&memory->client, host, path, err);
}

/* ---- the child ----------------------------------------------------------- */

static int by_number(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* Closes all but the `count` of `keep`, which it sorts. */
static int close_others(int *keep, size_t count)
{
    unsigned int next = 0;

    qsort(keep, count, sizeof(keep[0]), by_number);
    for (size_t i = 0; i < count; i++) {
        unsigned int fd = (unsigned int)keep[i];

        if (fd > next && syscall(SYS_close_range, next, fd - 1, 0) < 0)
            return -errno;
        next = fd + 1;
    }
    return syscall(SYS_close_range, next, ~0u, 0) < 0 ? -errno : 0;
}

static int keep_only(const struct snap *snap, int socket_fd)
{
    size_t files = snap->index.file_count;
    int *keep = reallocarray(NULL, files + 5, sizeof(keep[0]));
    size_t count = 0;
    int rc;

    if (keep == NULL)
        return -ENOMEM;
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        keep[count++] = fd;
    keep[count++] = socket_fd;
    keep[count++] = snap->dir_fd;
    for (size_t i = 0; i < files; i++)
        keep[count++] = snap->image_fds[i];
    rc = close_others(keep, count);
    free(keep);
    return rc;
}

/* Nothing of the monitor's but what it serves from. */
static int shut_in(const struct snap *snap, int socket_fd, pid_t parent)
{
    const struct rlimit none = {0};
    CC_CLEANUP(fd_closep) int null = -1;
    sigset_t all;

    (void)sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, NULL);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
        return -ESRCH;
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return -errno;
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (dup2(null, fd) < 0)
            return -errno;
    }
    fd_closep(&null);
    (void)setsid();
    (void)prctl(PR_SET_NAME, "spore-pages");
    if (chdir("/") < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        setrlimit(RLIMIT_CORE, &none) < 0)
        return -errno;
    return keep_only(snap, socket_fd);
}

struct child {
    struct page_source source;
    struct working_set ahead; /* may be empty */
    enum restore_memory_set set;
};

static void on_settled(void *opaque, const struct bitmap *touched)
{
    const struct child *child = opaque;

    /* A hint; the child has nobody to tell that there is none. */
    (void)!prefetch_record(child->source.snap->dir_fd, touched,
        child->set == RESTORE_MEMORY_SET_ADDED_TO, NULL);
}

CC_NORETURN static void serve(struct child *child, int socket_fd, pid_t parent)
{
    struct page_session_config config = {.source = &child->source,
        .ahead = &child->ahead,
        .around = PAGE_SESSION_AROUND,
        .stop_fd = -1,
        .settle_ns = RESTORE_MEMORY_SETTLED_NS,
        .opaque = child};
    struct page_session_stats stats;

    if (child->set >= RESTORE_MEMORY_SET_RECORDED)
        config.on_settled = on_settled;
    if (shut_in(child->source.snap, socket_fd, parent) < 0)
        _exit(1);
    _exit(page_session_run(&config, socket_fd, &stats, NULL) < 0 ? 1 : 0);
}

/* ---- the parent ---------------------------------------------------------- */

static int start_child(struct restore_memory *memory,
    const struct page_client_host *host, struct child *child, struct err *err)
{
    pid_t parent = getpid();
    int fds[2];
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return err_sys(err, errno, "page server");
    pid = fork();
    if (pid == 0) {
        (void)close(fds[0]);
        serve(child, fds[1], parent);
    }
    (void)close(fds[1]);
    if (pid < 0) {
        (void)close(fds[0]);
        return err_sys(err, errno, "cannot start a page server");
    }
    memory->child = pid;
    memory->child_fd = (int)syscall(SYS_pidfd_open, pid, 0);
    page_client_take(&memory->client, host, fds[0]);
    return 0;
}

int restore_memory_verify(struct restore_memory *memory,
    const struct page_client_host *host, const struct snap *snap,
    enum restore_memory_set set, struct err *err)
{
    struct child child = {.set = set};
    int rc = page_source_init(&child.source, snap, err);

    *memory = (struct restore_memory)RESTORE_MEMORY_NONE;
    if (rc < 0)
        return rc;
    if (set != RESTORE_MEMORY_SET_LEFT)
        (void)!snap_read_working_set(snap, &child.ahead);
    rc = start_child(memory, host, &child, err);
    working_set_fini(&child.ahead);
    page_source_fini(&child.source);
    return rc;
}

void restore_memory_close(struct restore_memory *memory)
{
    struct pollfd ended = {.fd = memory->child_fd, .events = POLLIN};

    page_client_close(&memory->client);
    if (memory->child > 0) {
        /* By descriptor: a jail lets no other process be named. */
        if (memory->child_fd < 0)
            (void)kill(memory->child, SIGKILL);
        else if (poll(&ended, 1, CHILD_END_MS) <= 0)
            (void)syscall(
                SYS_pidfd_send_signal, memory->child_fd, SIGKILL, NULL, 0);
        while (waitpid(memory->child, NULL, 0) < 0 && errno == EINTR)
            continue;
    }
    fd_closep(&memory->child_fd);
    *memory = (struct restore_memory)RESTORE_MEMORY_NONE;
}
