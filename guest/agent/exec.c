/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/exec.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/agent/sys.h"
#include "guest/agent/text.h"
#include "guest/agent/watch.h"

#define DEFAULT_PATH                                                           \
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#define VEOF_CHAR 0x04 /* Control-D */

/*
 * So many are typed before the terminal is hung up. A shell with IGNOREEOF
 * ends at the eleventh, and one in another takes as many again.
 */
#define VEOF_MAX 64

/* The agent's and the command's ends of the streams. */
struct ends {
    int ours[3];
    int theirs[3];
};

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void exec_init(struct exec *e)
{
    e->pid = 0;
    e->flags = 0;
    e->exited = false;
    e->status = 0;
    for (size_t i = 0; i < 2; i++) {
        e->out[i].fd = -1;
        e->out[i].ready = false;
        e->out[i].hup = false;
    }
    e->in_fd = -1;
    e->in_ready = false;
    e->in_eof = false;
    e->in_closed = false;
    e->in_closed_told = false;
    e->in_veofs = 0;
    e->in_ack = 0;
    e->in_start = 0;
    e->in_len = 0;
}

/* ---- environment ------------------------------------------------------ */

static const char *env_find(char **env, size_t count, const char *name)
{
    size_t n = strlen(name);

    for (size_t i = 0; i < count; i++) {
        if (strncmp(env[i], name, n) == 0 && env[i][n] == '=')
            return env[i] + n + 1;
    }
    return NULL;
}

/* Appends NAME=value from the defaults' buffer, unless NAME is there. */
static void env_default(char **env, size_t *count, struct text *t,
    const char *name, const char *value)
{
    char *start = t->buf + t->len;

    if (value[0] == '\0' || env_find(env, *count, name) != NULL)
        return;
    text_str(t, name);
    text_str(t, "=");
    text_str(t, value);
    /* Past the NUL, which stays the end of this string. */
    if (t->len + 1 < t->size) {
        t->len++;
        t->buf[t->len] = '\0';
        env[(*count)++] = start;
    }
}

/* argv, NULL, environment, NULL in ctx->strings. */
static void make_strings(struct exec_context *ctx, const struct request_exec *r,
    struct spawn_plan *plan)
{
    char *at = NULL;
    size_t count = r->envc;
    struct text t;

    /* execve's prototype lacks const; it writes to none of them. */
    memcpy(&at, &r->strings, sizeof(at));
    plan->argv = ctx->strings;
    plan->envp = ctx->strings + r->argc + 1;
    for (size_t i = 0; i < r->argc + r->envc; i++) {
        ctx->strings[i < r->argc ? i : i + 1] = at;
        at += strlen(at) + 1;
    }
    ctx->strings[r->argc] = NULL;
    if ((r->flags & AGENT_EXEC_ENV_EXACT) == 0) {
        text_init(&t, ctx->defaults, sizeof(ctx->defaults));
        env_default(plan->envp, &count, &t, "PATH", DEFAULT_PATH);
        env_default(plan->envp, &count, &t, "HOME", ctx->user.home);
        env_default(plan->envp, &count, &t, "USER", ctx->user.name);
        env_default(plan->envp, &count, &t, "LOGNAME", ctx->user.name);
        env_default(plan->envp, &count, &t, "SHELL", ctx->user.shell);
        if (ctx->no_avx)
            env_default(
                plan->envp, &count, &t, EXEC_NO_AVX_NAME, EXEC_NO_AVX_VALUE);
        if ((r->flags & AGENT_EXEC_TTY) != 0)
            env_default(plan->envp, &count, &t, "TERM", "linux");
    }
    plan->envp[count] = NULL;
    plan->search = env_find(plan->envp, count, "PATH");
    if (plan->search == NULL)
        plan->search = DEFAULT_PATH;
}

/* ---- start ------------------------------------------------------------ */

static int open_pipe(struct ends *ends, int stream)
{
    int theirs = stream == 0 ? 0 : 1;
    int fd[2];

    if (pipe2(fd, O_CLOEXEC) != 0)
        return -errno;
    ends->theirs[stream] = fd[theirs];
    ends->ours[stream] = fd[1 - theirs];
    /* Only this end: the other one's file description is the command's. */
    if (fcntl(ends->ours[stream], F_SETFL, O_NONBLOCK) != 0)
        return -errno;
    return 0;
}

static int open_pipes(
    struct ends *ends, const struct exec_context *ctx, uint32_t flags)
{
    bool detach = (flags & AGENT_EXEC_DETACH) != 0;

    for (int i = 0; i < 3; i++) {
        bool is_null = detach || (i == 0 && (flags & AGENT_EXEC_STDIN) == 0);
        int r = 0;

        if (is_null)
            ends->theirs[i] = ctx->null_fd;
        else
            r = open_pipe(ends, i);
        if (r != 0)
            return r;
    }
    return 0;
}

static int set_winsize(int fd, uint16_t rows, uint16_t cols)
{
    struct winsize size = {.ws_row = rows, .ws_col = cols};

    return ioctl(fd, TIOCSWINSZ, &size) != 0 ? -errno : 0;
}

/* The master in ours[1], the slave in all of theirs. */
static int open_tty(
    struct ends *ends, const struct user *user, const struct request_exec *r)
{
    int unlock = 0;
    int slave;

    ends->ours[1] = openat(
        AT_FDCWD, "/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (ends->ours[1] < 0 ||
        ioctl(ends->ours[1], SYS_IOCTL(SYS_TIOCSPTLCK), &unlock) != 0)
        return -errno;
    slave = ioctl(ends->ours[1], SYS_IOCTL(SYS_TIOCGPTPEER),
        O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0)
        return -errno;
    for (int i = 0; i < 3; i++)
        ends->theirs[i] = slave;
    if (user->uid != 0 && fchown(slave, user->uid, (gid_t)-1) != 0)
        return -errno;
    if (r->rows != 0 || r->cols != 0)
        return set_winsize(ends->ours[1], r->rows, r->cols);
    return 0;
}

static void close_theirs(struct ends *ends, const struct exec_context *ctx)
{
    int last = -1;

    for (int i = 0; i < 3; i++) {
        int fd = ends->theirs[i];

        if (fd >= 0 && fd != ctx->null_fd && fd != last)
            close(fd);
        last = fd;
    }
}

static void close_ours(struct ends *ends)
{
    for (int i = 0; i < 3; i++)
        close_fd(&ends->ours[i]);
}

static int watch_streams(
    struct exec *e, const struct exec_context *ctx, uint32_t slot)
{
    static const enum watch_kind kinds[2] = {WATCH_STDOUT, WATCH_STDERR};
    bool tty = (e->flags & AGENT_EXEC_TTY) != 0;
    int r = 0;

    for (size_t i = 0; i < 2 && r == 0; i++) {
        if (e->out[i].fd >= 0)
            r = watch_add(ctx->epoll_fd, e->out[i].fd,
                EPOLLIN | (tty ? (uint32_t)EPOLLOUT : 0u), kinds[i], slot);
    }
    /* An empty pipe takes input without being asked. */
    e->in_ready = e->in_fd >= 0;
    if (r == 0 && e->in_fd >= 0 && !tty)
        r = watch_add(ctx->epoll_fd, e->in_fd, EPOLLOUT, WATCH_STDIN, slot);
    return r;
}

static int find_user(struct exec_context *ctx, const struct request_exec *r)
{
    static const char passwd[] = "/etc/passwd";
    static const char group[] = "/etc/group";

    if ((r->flags & AGENT_EXEC_USER_NAME) != 0)
        return user_by_name(r->user, passwd, group, &ctx->user);
    user_by_id(r->uid, r->gid, passwd, group, &ctx->user);
    return 0;
}

static int fail(
    struct spawn_failure *failure, enum agent_stage stage, int error)
{
    failure->stage = stage;
    failure->error = -error;
    return error;
}

static void adopt(struct exec *e, const struct ends *ends, uint32_t flags)
{
    e->flags = flags;
    e->out[0].fd = ends->ours[1];
    e->out[1].fd = ends->ours[2];
    e->in_fd = ends->ours[0];
    if ((flags & AGENT_EXEC_TTY) != 0 && (flags & AGENT_EXEC_STDIN) != 0)
        e->in_fd = ends->ours[1];
}

int exec_start(struct exec *e, struct exec_context *ctx, uint32_t slot,
    const struct request_exec *request, struct spawn_failure *ret_failure)
{
    bool tty = (request->flags & AGENT_EXEC_TTY) != 0;
    struct ends ends = {{-1, -1, -1}, {-1, -1, -1}};
    struct spawn_plan plan = {.user = &ctx->user, .tty = tty};
    int r;

    exec_init(e);
    r = find_user(ctx, request);
    if (r != 0)
        return fail(ret_failure, AGENT_STAGE_USER, r);
    make_strings(ctx, request, &plan);
    plan.cwd = request->cwd[0] != '\0' ? request->cwd : NULL;
    plan.switch_user = ctx->user.uid != ctx->uid || ctx->user.gid != ctx->gid ||
                       ctx->user.group_count != 0;
    if (ctx->null_fd < 0 && !tty) {
        ctx->null_fd = openat(AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC);
        if (ctx->null_fd < 0)
            return fail(ret_failure, AGENT_STAGE_RESOURCE, -errno);
    }

    r = tty ? open_tty(&ends, &ctx->user, request)
            : open_pipes(&ends, ctx, request->flags);
    if (r != 0) {
        r = fail(ret_failure, tty ? AGENT_STAGE_TTY : AGENT_STAGE_RESOURCE, r);
    } else {
        memcpy(plan.stdio, ends.theirs, sizeof(plan.stdio));
        r = spawn_run(&plan, &e->pid, ret_failure);
    }
    close_theirs(&ends, ctx);
    if (r != 0) {
        close_ours(&ends);
        e->pid = 0;
        return r;
    }
    adopt(e, &ends, request->flags);
    r = watch_streams(e, ctx, slot);
    if (r != 0) {
        kill(-e->pid, SIGKILL);
        e->pid = 0;
        exec_close(e);
        return fail(ret_failure, AGENT_STAGE_RESOURCE, r);
    }
    return 0;
}

/* ---- input ------------------------------------------------------------ */

/* From now on input is consumed by throwing it away. */
static void stop_input(struct exec *e)
{
    e->in_closed = true;
    if ((e->flags & AGENT_EXEC_TTY) == 0)
        close_fd(&e->in_fd);
    e->in_fd = -1;
    e->in_ack += (uint32_t)e->in_len;
    e->in_len = 0;
}

int exec_stdin(struct exec *e, const uint8_t *bytes, size_t n)
{
    if ((e->flags & AGENT_EXEC_STDIN) == 0 || e->in_eof || n == 0 ||
        n > sizeof(e->in_buf) - e->in_len)
        return -EPROTO;
    if (e->in_closed) {
        e->in_ack += (uint32_t)n;
        return 0;
    }
    if (n > sizeof(e->in_buf) - e->in_start - e->in_len) {
        memmove(e->in_buf, e->in_buf + e->in_start, e->in_len);
        e->in_start = 0;
    }
    memcpy(e->in_buf + e->in_start + e->in_len, bytes, n);
    e->in_len += n;
    return 0;
}

int exec_stdin_eof(struct exec *e)
{
    if ((e->flags & AGENT_EXEC_STDIN) == 0 || e->in_eof)
        return -EPROTO;
    e->in_eof = true;
    return 0;
}

static bool pump_input(struct exec *e)
{
    bool progress = false;

    while (e->in_len > 0 && e->in_ready) {
        ssize_t n = write(e->in_fd, e->in_buf + e->in_start, e->in_len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            e->in_ready = false;
            break;
        }
        progress = true;
        if (n < 0) {
            stop_input(e);
            break;
        }
        e->in_start += (size_t)n;
        e->in_len -= (size_t)n;
        e->in_ack += (uint32_t)n;
    }
    if (e->in_len == 0) {
        e->in_start = 0;
        if (e->in_eof && (e->flags & AGENT_EXEC_TTY) == 0)
            close_fd(&e->in_fd);
    }
    return progress;
}

static void put_ack(struct exec *e, struct frame_out *out)
{
    bool tell_closed = e->in_closed && !e->in_closed_told;
    struct agent_stdin_ack ack;

    if (e->in_eof || e->exited ||
        (!tell_closed && e->in_ack < AGENT_STDIN_WINDOW / 2))
        return;
    /* The reserve is for what ends the operation. */
    if (frame_out_room(out) < sizeof(ack))
        return;
    ack.bytes = agent_le32_put(e->in_ack);
    ack.flags = agent_le32_put(e->in_closed ? AGENT_STDIN_CLOSED : 0);
    if (frame_out_put(out, AGENT_STDIN_ACK, &ack, sizeof(ack), NULL, 0)) {
        e->in_ack = 0;
        e->in_closed_told = e->in_closed;
    }
}

int exec_winsize(struct exec *e, const struct request_winsize *w)
{
    if ((e->flags & AGENT_EXEC_TTY) == 0)
        return -EPROTO;
    if (e->out[0].fd >= 0)
        (void)set_winsize(e->out[0].fd, w->rows, w->cols);
    return 0;
}

void exec_signal(struct exec *e, const struct request_signal *s)
{
    bool one = (s->flags & AGENT_SIGNAL_PROCESS) != 0;

    if (e->pid > 0)
        kill(one ? e->pid : -e->pid, s->signal);
}

/* ---- output ----------------------------------------------------------- */

/* A read of one byte per frame would cost more than waiting for room. */
#define ROOM_MIN 4096u

static void end_stream(struct exec *e, struct exec_stream *s)
{
    if (e->in_fd == s->fd)
        stop_input(e);
    close_fd(&s->fd);
    s->ready = false;
}

static bool pump_stream(
    struct exec *e, struct exec_stream *s, uint16_t type, struct frame_out *out)
{
    bool tty = (e->flags & AGENT_EXEC_TTY) != 0;
    bool until_eof = (e->flags & AGENT_EXEC_WAIT_EOF) != 0;
    size_t room = frame_out_room(out);
    ssize_t n;

    if (s->fd < 0 || !s->ready || room < ROOM_MIN)
        return false;
    do {
        n = read(s->fd, frame_out_space(out), room);
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
        frame_out_commit(out, type, (size_t)n);
        /*
         * A short read of a pipe has emptied it; a terminal hands out its
         * buffers one at a time.
         */
        if ((size_t)n < room && !s->hup && !tty && !e->exited)
            s->ready = false;
        return true;
    }
    if (n < 0 && errno == EAGAIN) {
        s->ready = false;
        if (e->exited && !until_eof)
            end_stream(e, s);
        return false;
    }
    /* End of file; EIO is how a terminal says it. */
    end_stream(e, s);
    return true;
}

/* Whether a read of the command's would find something in its terminal. */
static bool has_unread(const struct exec *e)
{
    int slave = ioctl(
        e->in_fd, SYS_IOCTL(SYS_TIOCGPTPEER), O_RDWR | O_NOCTTY | O_CLOEXEC);
    struct pollfd p = {.fd = slave, .events = POLLIN};
    bool unread;

    if (slave < 0)
        return true;
    unread = poll(&p, 1, 0) != 0;
    close(slave);
    return unread;
}

/*
 * A terminal has no end that lasts, as a pipe does: one character tells one
 * read. It only ends the line if that was begun; a command that has changed
 * the terminal's mode since gets it as a mere byte, or threw it away with that.
 * So another one is typed whenever the one before is gone. The kernel says
 * when to look: a read of the command's makes room in the terminal, which is an
 * event, and so is what it writes. A command that takes them all and goes on
 * would wait for ever for input that nobody can give.
 */
static void type_eof(struct exec *e)
{
    static const uint8_t veof = VEOF_CHAR;

    if (!e->in_eof || e->in_len > 0 || !e->in_ready)
        return;
    if (e->in_veofs > 0 && (e->out[0].ready || has_unread(e))) {
        e->in_ready = e->out[0].ready;
        return;
    }
    e->in_ready = false;
    if (e->in_veofs < VEOF_MAX) {
        if (write(e->in_fd, &veof, 1) == 1)
            e->in_veofs++;
        return;
    }
    /*
     * With its master gone reads end, as a mere SIGHUP would not have them: a
     * shell that has just started another reader would wait for that.
     */
    end_stream(e, &e->out[0]);
}

bool exec_pump(struct exec *e, struct frame_out *out)
{
    bool progress = false;

    if (e->in_fd >= 0)
        progress |= pump_input(e);
    put_ack(e, out);
    progress |= pump_stream(e, &e->out[0], AGENT_STDOUT, out);
    progress |= pump_stream(e, &e->out[1], AGENT_STDERR, out);
    if (e->in_fd >= 0 && (e->flags & AGENT_EXEC_TTY) != 0)
        type_eof(e);
    return progress;
}

void exec_reaped(struct exec *e, int status, const struct rusage *usage)
{
    e->pid = 0;
    e->exited = true;
    e->status = status;
    e->usage = *usage;
    stop_input(e);
    /* All that it wrote is in the pipes by now: read them once more. */
    for (size_t i = 0; i < 2; i++)
        e->out[i].ready = e->out[i].fd >= 0;
}

bool exec_is_finished(const struct exec *e)
{
    return e->exited && e->out[0].fd < 0 && e->out[1].fd < 0;
}

static uint64_t timeval_us(const struct timeval *t)
{
    return (uint64_t)t->tv_sec * 1000000u + (uint64_t)t->tv_usec;
}

bool exec_put_exit(const struct exec *e, struct frame_out *out)
{
    bool signalled = WIFSIGNALED(e->status);
    struct agent_exit exit = {
        .status =
            agent_le32_put(signalled ? 0 : (uint32_t)WEXITSTATUS(e->status)),
        .signal = agent_le32_put(signalled ? (uint32_t)WTERMSIG(e->status) : 0),
        .core = agent_le32_put(signalled && WCOREDUMP(e->status) ? 1 : 0),
        .user_us = agent_le64_put(timeval_us(&e->usage.ru_utime)),
        .system_us = agent_le64_put(timeval_us(&e->usage.ru_stime)),
        .max_rss_kib = agent_le64_put((uint64_t)e->usage.ru_maxrss),
    };

    return frame_out_put(out, AGENT_EXIT, &exit, sizeof(exit), NULL, 0);
}

void exec_close(struct exec *e)
{
    if (e->in_fd != e->out[0].fd)
        close_fd(&e->in_fd);
    e->in_fd = -1;
    close_fd(&e->out[0].fd);
    close_fd(&e->out[1].fd);
}
