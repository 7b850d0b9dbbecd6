/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/zygote.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

#include "jail/fds.h"
#include "snapshot/store.h"
#include "vmm/base/fd.h"
#include "vmm/keeper_wire.h"
#include "vmm/rundir.h"
#include "vmm/serve/clone_wire.h"
#include "vmm/serve/zygote_process.h"

#define BACKLOG    64
#define START_LOCK "lock"

static int make_pair(int fds[2], int flags, struct err *err)
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0, fds) < 0)
        return err_sys(err, errno, "cannot make a zygote's socket");
    return 0;
}

/* What it says when its template is open, or cannot be opened. */
static int hear(int fd, struct err *err)
{
    struct zygote_message said;
    int passed = -1;
    int rc = keeper_receive(fd, &said, sizeof(said), &passed);

    fd_closep(&passed);
    if (rc <= 0)
        return err_set(err, ESHUTDOWN, "the zygote has ended at its start");
    if (said.event == ZYGOTE_CLONE)
        return 0;
    said.err.text[sizeof(said.err.text) - 1] = '\0';
    return err_set(err, said.status, "%s", said.err.text);
}

/*
 * In a session of its own, with nothing of the caller's open but, for one that
 * ends with it, standard error.
 */
static int leave_caller(int socket_fd, int said_fd, bool keeps_stderr)
{
    const int keep[] = {socket_fd, said_fd};
    CC_CLEANUP(fd_closep) int fd = -1;

    if (fds_close_others(keep, ARRAY_SIZE(keep), -1, NULL) < 0)
        return -EBADF;
    fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fd < 0 || setsid() < 0)
        return -errno;
    (void)dup2(fd, STDIN_FILENO);
    (void)dup2(fd, STDOUT_FILENO);
    if (!keeps_stderr)
        (void)dup2(fd, STDERR_FILENO);
    (void)signal(SIGPIPE, SIG_IGN);
    return 0;
}

/* ---- one's own ----------------------------------------------------------- */

int zygote_start(
    const struct zygote_config *config, int *ret_fd, struct err *err)
{
    int fds[2];
    int said[2];
    pid_t pid;
    int rc = make_pair(fds, SOCK_NONBLOCK, err);

    if (rc == 0)
        rc = make_pair(said, 0, err);
    if (rc < 0)
        return rc;
    pid = fork();
    if (pid == 0) {
        _exit(leave_caller(fds[1], said[1], true) < 0
                  ? EXIT_FAILURE
                  : zygote_run(config, -1, fds[1], NULL, said[1]));
    }
    (void)close(fds[1]);
    (void)close(said[1]);
    rc = pid < 0 ? err_sys(err, errno, "cannot start a zygote")
                 : hear(said[0], err);
    (void)close(said[0]);
    if (rc < 0)
        (void)close(fds[0]);
    else
        *ret_fd = fds[0];
    return rc;
}

/* ---- the one that commands share ----------------------------------------- */

struct meeting {
    struct rundir dir;
    char name[SNAPSHOT_ID_TEXT_SIZE]; /* of the socket: the snapshot's id */
};

static int find_meeting(
    const struct template *t, struct meeting *ret_meeting, struct err *err)
{
    struct snapshot_id id;
    struct store store;
    int rc = store_open(&store, t->store, false, err);

    if (rc < 0)
        return rc;
    rc = store_find(&store, TEMPLATE_SNAPSHOT, &id, err);
    store_close(&store);
    if (rc < 0)
        return rc;
    snapshot_id_to_text(&id, ret_meeting->name);
    return rundir_open(&ret_meeting->dir, RUNDIR_ZYGOTES, err);
}

static int try_connect(const struct meeting *m, int *ret_fd)
{
    struct sockaddr_un address = rundir_address(&m->dir, m->name);
    CC_CLEANUP(fd_closep)
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0 ||
        connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return -errno;
    *ret_fd = fd_steal(&fd);
    return 0;
}

static int listen_there(const struct meeting *m, int *ret_fd, struct err *err)
{
    struct sockaddr_un address = rundir_address(&m->dir, m->name);
    CC_CLEANUP(fd_closep)
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    (void)unlinkat(m->dir.fd, m->name, 0);
    if (fd < 0 ||
        bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(fd, BACKLOG) < 0)
        return err_sys(err, errno, "%s/%s", m->dir.path, m->name);
    *ret_fd = fd_steal(&fd);
    return 0;
}

static int start_shared(const struct zygote_config *config,
    const struct meeting *m, int lock, struct err *err)
{
    char path[sizeof(m->dir.path) + sizeof(m->name) + 1];
    int said[2];
    pid_t pid;
    int fd = -1;
    int rc = listen_there(m, &fd, err);

    if (rc == 0)
        rc = make_pair(said, 0, err);
    if (rc < 0)
        return rc;
    (void)snprintf(path, sizeof(path), "%s/%s", m->dir.path, m->name);
    pid = fork();
    if (pid == 0) {
        /* Held by nobody once the starter is done. */
        (void)close(lock);
        _exit(leave_caller(fd, said[1], false) < 0
                  ? EXIT_FAILURE
                  : zygote_run(config, fd, -1, path, said[1]));
    }
    (void)close(fd);
    (void)close(said[1]);
    rc = pid < 0 ? err_sys(err, errno, "cannot start a zygote")
                 : hear(said[0], err);
    (void)close(said[0]);
    return rc;
}

/* Starting is one's at a time: who comes second finds it there. */
static int meet(const struct zygote_config *config, const struct meeting *m,
    int *ret_fd, struct err *err)
{
    CC_CLEANUP(fd_closep) int lock = -1;
    int rc = try_connect(m, ret_fd);

    if (rc == 0)
        return 0;
    lock = openat(m->dir.fd, START_LOCK, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock < 0 || flock(lock, LOCK_EX) < 0)
        return err_sys(err, errno, "%s/" START_LOCK, m->dir.path);
    if (try_connect(m, ret_fd) == 0)
        return 0;
    rc = start_shared(config, m, lock, err);
    if (rc == 0) {
        rc = try_connect(m, ret_fd);
        if (rc < 0)
            rc = err_sys(err, rc, "%s/%s", m->dir.path, m->name);
    }
    return rc;
}

int zygote_reach(
    const struct zygote_config *config, int *ret_fd, struct err *err)
{
    struct meeting m;
    int rc = find_meeting(config->template, &m, err);

    if (rc < 0)
        return rc;
    rc = meet(config, &m, ret_fd, err);
    rundir_close(&m.dir);
    return rc;
}
