/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/lib/exec_streams.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK_SIZE 16384u

/* Of one call, so that the answer is looked for, too; more than a pipe holds.
 */
#define CHUNKS_MAX 64

enum stream { INPUT, OUTPUT, ERRORS };

static void close_end(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

/* A socket, since writing into one raises no signal if that is asked for. */
static int open_input(struct exec_streams *s)
{
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return -errno;
    (void)shutdown(fds[0], SHUT_RD);
    s->ours[INPUT] = fds[0];
    s->theirs[INPUT] = fds[1];
    return 0;
}

static int open_output(struct exec_streams *s, enum stream which)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    s->ours[which] = fds[0];
    s->theirs[which] = fds[1];
    /* The two ends of a pipe have flags of their own. */
    return fcntl(fds[0], F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

int exec_streams_open(struct exec_streams *s, const struct spore_exec *command)
{
    int rc = 0;

    *s = (struct exec_streams){.command = command,
        .theirs = {command->stdin_fd, command->stdout_fd, command->stderr_fd},
        .ours = {-1, -1, -1}};
    if (command->stdin_fd < 0 && command->input_size > 0)
        rc = open_input(s);
    if (rc == 0 && command->stdout_fd < 0 && command->on_stdout != NULL)
        rc = open_output(s, OUTPUT);
    if (rc == 0 && command->stderr_fd < 0 && command->on_stderr != NULL)
        rc = open_output(s, ERRORS);
    if (rc < 0) {
        exec_streams_close_theirs(s);
        exec_streams_close(s);
    }
    return rc;
}

void exec_streams_close_theirs(struct exec_streams *s)
{
    for (size_t i = 0; i < LIB_FDS_MAX; i++) {
        if (s->ours[i] >= 0)
            close_end(&s->theirs[i]);
    }
}

void exec_streams_close(struct exec_streams *s)
{
    for (size_t i = 0; i < LIB_FDS_MAX; i++)
        close_end(&s->ours[i]);
}

int exec_streams_wait(struct exec_streams *s, int channel)
{
    struct pollfd wanted[LIB_FDS_MAX + 1] = {
        [INPUT] = {.fd = s->ours[INPUT], .events = POLLOUT},
        [OUTPUT] = {.fd = s->ours[OUTPUT], .events = POLLIN},
        [ERRORS] = {.fd = s->ours[ERRORS], .events = POLLIN},
        [LIB_FDS_MAX] = {.fd = channel, .events = POLLIN},
    };

    while (poll(wanted, LIB_FDS_MAX + 1, -1) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    return 0;
}

/* Whoever reads it may have gone, which is no matter. */
static void move_input(struct exec_streams *s)
{
    const struct spore_exec *c = s->command;

    while (s->ours[INPUT] >= 0 && s->input_at < c->input_size) {
        const char *at = (const char *)c->input + s->input_at;
        ssize_t n = send(s->ours[INPUT], at, c->input_size - s->input_at,
            MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0)
            break;
        s->input_at += (size_t)n;
    }
    close_end(&s->ours[INPUT]);
}

static void move_output(struct exec_streams *s, enum stream which)
{
    int (*take)(void *, const void *, size_t) =
        which == OUTPUT ? s->command->on_stdout : s->command->on_stderr;
    char chunk[CHUNK_SIZE];

    for (int i = 0; i < CHUNKS_MAX && s->ours[which] >= 0; i++) {
        ssize_t n = read(s->ours[which], chunk, sizeof(chunk));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0)
            close_end(&s->ours[which]);
        else if (!s->was_refused &&
                 take(s->command->opaque, chunk, (size_t)n) != 0)
            s->was_refused = true;
    }
}

void exec_streams_move(struct exec_streams *s)
{
    move_input(s);
    move_output(s, OUTPUT);
    move_output(s, ERRORS);
}
