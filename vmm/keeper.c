/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/keeper.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "snapshot/prefetch.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/num.h"
#include "vmm/keeper_wire.h"
#include "vmm/netswitch_join.h"

#define STATUS_MONITOR 125

/* RAM of more pages than a page number holds is no machine's. */
#define PAGES_MAX (UINT64_C(1) << 32)

struct keeper {
    struct cell *cell;
    const struct keeper_config *config;
    int signal_fd;
    bool is_settled; /* the monitor may be a guest's by now */
    bool is_serving;
    char vsock_path[KEEPER_PATH_SIZE]; /* empty: none */
    bool owns_vsock_path;
    int record_fd; /* a snapshot's folder; -1 */
    bool record_adds;
    uint64_t pages;
    int set_fd; /* what the monitor writes a set into; -1 */
    uint64_t oom_kills;
};

/* ---- what is asked for --------------------------------------------------- */

static int serve(struct keeper *k, int *ret_fd, struct err *err)
{
    struct place *place = k->config->place;
    int rc = 0;

    if (place == NULL)
        return err_set(err, EPERM, "there is no place for a control socket");
    if (k->is_serving)
        return err_set(err, EALREADY, "there is a control socket");
    if (place->dir.fd < 0)
        rc = place_claim(place, k->config->id, err);
    if (rc == 0)
        rc = place_listen(place, k->config->api_sock, ret_fd, err);
    k->is_serving = rc == 0;
    return rc;
}

static int settle(struct keeper *k, const struct keeper_request *request,
    int *passed_fd, struct err *err)
{
    if (request->pages > PAGES_MAX)
        return err_set(err, EINVAL, "no machine has so much memory");
    memcpy(k->vsock_path, request->path, sizeof(k->vsock_path));
    k->owns_vsock_path = (request->flags & KEEPER_OWNS_VSOCK) != 0;
    k->record_adds = (request->flags & KEEPER_RECORD_ADDS) != 0;
    k->pages = request->pages;
    k->record_fd = fd_steal(passed_fd);
    k->is_settled = true;
    return 0;
}

static int connect_port(
    const struct keeper *k, uint32_t port, int *ret_fd, struct err *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    CC_CLEANUP(fd_closep) int fd = -1;
    int n = snprintf(
        addr.sun_path, sizeof(addr.sun_path), "%s_%u", k->vsock_path, port);

    if (k->vsock_path[0] == '\0')
        return err_set(err, ECONNREFUSED, "the machine has no vsock socket");
    if (n < 0 || (size_t)n >= sizeof(addr.sun_path))
        return err_set(err, ENAMETOOLONG, "the path is too long");
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_sys(err, errno, "no socket");
    /* Never in progress: a full queue of the listener is -EAGAIN. */
    if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
        return err_sys(err, errno, "nobody listens");
    *ret_fd = fd_steal(&fd);
    return 0;
}

static size_t set_size(const struct keeper *k)
{
    return num_div_up(k->pages, 64) * sizeof(uint64_t);
}

/* Memory as large as the set, which can become no larger. */
static int begin_record(struct keeper *k, int *ret_fd, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = -1;

    if (k->record_fd < 0 || k->set_fd >= 0)
        return err_set(err, EEXIST, "there is no set to record");
    fd = memfd_create("working-set", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)set_size(k)) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        return err_sys(err, errno, "no memory for a working set");
    k->set_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (k->set_fd < 0)
        return err_sys(err, errno, "working set");
    *ret_fd = fd_steal(&fd);
    return 0;
}

/* Any bits are a set: it is a hint, and costs a bad one its use. */
static int end_record(struct keeper *k, struct err *err)
{
    CC_CLEANUP(fd_closep) int set_fd = fd_steal(&k->set_fd);
    CC_CLEANUP(fd_closep) int dir_fd = -1;
    struct bitmap touched;
    ssize_t n;
    int rc;

    if (set_fd < 0)
        return err_set(err, EINVAL, "there is no set to record");
    dir_fd = fd_steal(&k->record_fd);
    if (bitmap_init(&touched, k->pages) < 0)
        return err_sys(err, ENOMEM, "working set");
    n = fd_pread_full(set_fd, touched.words, set_size(k), 0);
    rc = n != (ssize_t)set_size(k) ? err_set(err, EIO, "working set") : 0;
    /* Bits behind the last page are nobody's. */
    if (rc == 0 && k->pages % 64 != 0)
        touched.words[k->pages / 64] &= (UINT64_C(1) << (k->pages % 64)) - 1;
    if (rc == 0)
        rc = prefetch_record(dir_fd, &touched, k->record_adds, err);
    bitmap_fini(&touched);
    return rc;
}

/* All that the machine has in the file system goes. */
static void leave(struct keeper *k)
{
    /* First: whoever waits for the end of it waits for the folder. */
    if (k->owns_vsock_path)
        (void)unlink(k->vsock_path);
    k->owns_vsock_path = false;
    if (k->config->place != NULL)
        place_fini(k->config->place);
}

static int check_phase(
    const struct keeper *k, enum keeper_op op, struct err *err)
{
    const bool is_early = op == KEEPER_JOIN_SWITCH || op == KEEPER_SETTLE;

    if (is_early && k->is_settled)
        return err_set(err, EPERM, "the machine is in its jail already");
    if (!is_early && !k->is_settled &&
        (op == KEEPER_CONNECT || op == KEEPER_RECORD_BEGIN ||
            op == KEEPER_RECORD_END))
        return err_set(err, EPERM, "the machine is not made yet");
    return 0;
}

/* `request` is a copy; its path was checked to end. */
static int carry_out(struct keeper *k, const struct keeper_request *request,
    int *passed_fd, int *ret_fd, struct err *err)
{
    enum keeper_op op =
        request->op < KEEPER_OPS ? (enum keeper_op)request->op : KEEPER_OPS;
    struct err log_err;
    int rc = check_phase(k, op, err);

    if (rc < 0)
        return rc;
    switch (op) {
    case KEEPER_SERVE:
        return serve(k, ret_fd, err);
    case KEEPER_JOIN_SWITCH:
        return netswitch_join(request->path, ret_fd, err);
    case KEEPER_SETTLE:
        return settle(k, request, passed_fd, err);
    case KEEPER_CONNECT:
        return connect_port(k, request->port, ret_fd, err);
    case KEEPER_RECORD_BEGIN:
        return begin_record(k, ret_fd, err);
    case KEEPER_RECORD_END:
        return end_record(k, err);
    case KEEPER_RELEASED:
        if (k->config->detach == NULL)
            return err_set(err, EPERM, "nobody waits to be told");
        fd_closep(&k->config->detach->starter_fd);
        return detach_use_log(k->config->detach, &log_err);
    case KEEPER_LEAVE:
        leave(k);
        return 0;
    case KEEPER_HELLO:
    case KEEPER_OPS:
    default:
        return err_set(err, ENOSYS, "there is no such request");
    }
}

/* One request and its reply: 0 when the monitor asks no more. */
static int answer(struct keeper *k)
{
    struct keeper_request request = {0};
    struct keeper_reply reply = {0};
    CC_CLEANUP(fd_closep) int passed_fd = -1;
    CC_CLEANUP(fd_closep) int fd = -1;
    int rc =
        keeper_receive(k->cell->link_fd, &request, sizeof(request), &passed_fd);

    if (rc == -EBADMSG)
        rc = err_set(&reply.err, EBADMSG, "that is no request");
    else if (rc <= 0)
        return 0;
    else if (memchr(request.path, '\0', sizeof(request.path)) == NULL)
        rc = err_set(&reply.err, EBADMSG, "that is no path");
    else
        rc = carry_out(k, &request, &passed_fd, &fd, &reply.err);
    /* Not waited for: the guest is about to run. */
    if (request.op == KEEPER_SETTLE)
        return 1;
    reply.rc = rc;
    if (k->config->place != NULL)
        memcpy(reply.id, k->config->place->id, sizeof(reply.id));
    return keeper_send(k->cell->link_fd, &reply, sizeof(reply), fd) == 0;
}

/* ---- the monitor's end --------------------------------------------------- */

/*
 * Those of a terminal reach the monitor without us; it is in the same process
 * group.
 */
static void pass_on(const struct keeper *k, const struct signalfd_siginfo *info)
{
    if (info->ssi_code != SI_KERNEL)
        (void)kill(k->cell->pid, (int)info->ssi_signo);
}

/* True: the monitor has ended, with *ret_status. */
static bool look_at_signals(const struct keeper *k, int *ret_status)
{
    struct signalfd_siginfo info;

    if (read(k->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return false;
    if (info.ssi_signo != SIGCHLD) {
        pass_on(k, &info);
        return false;
    }
    return waitpid(k->cell->pid, ret_status, WNOHANG) == k->cell->pid;
}

static int judge(const struct keeper *k, int status)
{
    const char *command = k->config->command;

    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    if (WTERMSIG(status) == SIGSYS) {
        (void)dprintf(STDERR_FILENO,
            "spore: %s: the monitor tried what its jail does not allow and "
            "was ended: the guest has taken it over, or this is a fault of "
            "spore's (spore jail show; --jail=off)\n",
            command);
        return STATUS_MONITOR;
    }
    if (k->oom_kills > 0) {
        (void)dprintf(STDERR_FILENO,
            "spore: %s: the machine used more memory than its cgroup has and "
            "was ended: give it more (--memory-max, or the cgroup above)\n",
            command);
        return 128 + WTERMSIG(status);
    }
    (void)dprintf(STDERR_FILENO,
        "spore: %s: the monitor was ended by signal %d (%s)\n", command,
        WTERMSIG(status), strsignal(WTERMSIG(status)));
    return 128 + WTERMSIG(status);
}

static int open_signals(struct keeper *k)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGHUP);
    (void)sigaddset(&set, SIGQUIT);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    k->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return k->signal_fd < 0 ? -errno : 0;
}

/* The status that wait(2) has. */
static int serve_to_the_end(struct keeper *k)
{
    struct pollfd fds[] = {{.fd = k->signal_fd, .events = POLLIN},
        {.fd = k->cell->link_fd, .events = POLLIN}};
    int status;

    /* It may have ended before SIGCHLD was looked for. */
    if (waitpid(k->cell->pid, &status, WNOHANG) == k->cell->pid)
        return status;
    for (;;) {
        if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
            continue;
        if (fds[1].revents != 0 && !answer(k))
            fds[1].fd = -1;
        if (fds[0].revents != 0 && look_at_signals(k, &status))
            return status;
    }
}

static void remove_cgroup(struct keeper *k)
{
    struct err err;

    if (k->config->cgroup == NULL)
        return;
    k->oom_kills = cgroup_oom_kills(k->config->cgroup);
    if (cgroup_remove(k->config->cgroup, &err) < 0)
        log_warn("keeper", "%s", err.text);
}

int keeper_run(struct cell *cell, const struct keeper_config *config)
{
    struct keeper k = {.cell = cell,
        .config = config,
        .signal_fd = -1,
        .record_fd = -1,
        .set_fd = -1};
    const struct keeper_reply hello = {.pid = (uint32_t)cell->pid};
    int status;

    /* The monitor's own standard input and output are what counts. */
    if (open_signals(&k) < 0 ||
        keeper_send(cell->link_fd, &hello, sizeof(hello), -1) < 0)
        (void)kill(cell->pid, SIGKILL);
    status = serve_to_the_end(&k);
    remove_cgroup(&k);
    leave(&k);
    fd_closep(&k.signal_fd);
    fd_closep(&k.record_fd);
    fd_closep(&k.set_fd);
    fd_closep(&cell->link_fd);
    return judge(&k, status);
}
