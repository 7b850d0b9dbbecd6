/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/support/http_bench.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Everything that one client may be told in one test. */
#define HEARD_MAX (4u * 1024u * 1024u)

static void require(bool holds, const char *what)
{
    if (holds)
        return;
    (void)fprintf(stderr, "http_bench: %s\n", what);
    abort();
}

static struct sockaddr_un address(
    const struct http_bench *b, socklen_t *ret_len)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t len = strlen(b->name);

    memcpy(addr.sun_path + 1, b->name, len);
    *ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len);
    return addr;
}

void http_bench_init_on(
    struct http_bench *b, int fd, http_handler_fn *handle, void *opaque)
{
    require(loop_init(&b->loop, NULL) == 0, "loop");
    require(
        http_server_init(&b->server, &b->loop, fd, handle, opaque, NULL) == 0,
        "server");
}

void http_bench_init(
    struct http_bench *b, http_handler_fn *handle, void *opaque)
{
    struct sockaddr_un addr;
    socklen_t len;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    memset(b, 0, sizeof(*b));
    (void)snprintf(
        b->name, sizeof(b->name), "spore-http-bench-%d", (int)getpid());
    addr = address(b, &len);
    require(fd >= 0, "socket");
    require(bind(fd, (struct sockaddr *)&addr, len) == 0, "bind");
    require(listen(fd, 64) == 0, "listen");
    http_bench_init_on(b, fd, handle, opaque);
}

void http_bench_fini(struct http_bench *b)
{
    http_server_fini(&b->server);
    loop_fini(&b->loop);
}

int http_bench_connect(struct http_bench *b)
{
    struct sockaddr_un addr;
    socklen_t len;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    addr = address(b, &len);
    require(fd >= 0, "socket");
    require(connect(fd, (struct sockaddr *)&addr, len) == 0, "connect");
    http_bench_run(b);
    return fd;
}

void http_bench_run(struct http_bench *b)
{
    struct pollfd pfd = {.fd = b->loop.epoll_fd, .events = POLLIN};

    for (unsigned int i = 0; poll(&pfd, 1, 0) == 1; i++) {
        require(i < HTTP_BENCH_ROUNDS_MAX, "a busy loop");
        require(loop_run_once(&b->loop, 0) == 0, "loop_run_once");
    }
}

void http_bench_say_bytes(
    struct http_bench *b, int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

        require(n > 0 || errno == EAGAIN || errno == EPIPE, "send");
        /* A server that has closed, or does not read, goes without. */
        if (n < 0 && errno == EPIPE)
            break;
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
        http_bench_run(b);
        if (n < 0 && send(fd, data, 1, MSG_NOSIGNAL) < 0)
            break;
        if (n < 0) {
            data++;
            len--;
        }
    }
}

void http_bench_say(struct http_bench *b, int fd, const char *text)
{
    http_bench_say_bytes(b, fd, text, strlen(text));
}

const char *http_bench_hear(struct http_bench *b, int fd, bool *ret_ended)
{
    static char heard[HEARD_MAX + 1];
    size_t len = 0;
    ssize_t n;

    *ret_ended = false;
    do {
        http_bench_run(b);
        n = recv(fd, heard + len, HEARD_MAX - len, MSG_DONTWAIT);
        if (n > 0)
            len += (size_t)n;
        else if (n == 0 || errno != EAGAIN)
            *ret_ended = true;
    } while (n > 0);
    heard[len] = '\0';
    return heard;
}

void http_bench_ask(
    struct http_bench *b, int fd, const char *text, const char *want)
{
    bool ended;
    const char *got;

    http_bench_say(b, fd, text);
    got = http_bench_hear(b, fd, &ended);
    if (strcmp(got, want) == 0)
        return;
    (void)fprintf(
        stderr, "asked: %.300s\nwant:  %s\ngot:   %s\n", text, want, got);
    abort();
}
