/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/serve/serve_rig.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/clock.h"

struct server_config rig_config(enum server_kind kind)
{
    return (struct server_config){.kind = kind,
        .port = 80,
        .vms_max = 4,
        .queue_max = 4,
        .connections_max = 64,
        .timeout_ns = 3600 * CLOCK_NS_PER_S,
        .queue_timeout_ns = 3600 * CLOCK_NS_PER_S,
        .header_timeout_ns = 3600 * CLOCK_NS_PER_S,
        .idle_timeout_ns = 3600 * CLOCK_NS_PER_S,
        .stall_timeout_ns = 3600 * CLOCK_NS_PER_S,
        .header_max = 16384,
        .body_max = 1 << 20};
}

static void on_drained(void *opaque)
{
    struct rig *rig = opaque;

    (void)__atomic_fetch_add(&rig->drained, 1, __ATOMIC_RELEASE);
}

static void on_call(void *opaque)
{
    struct rig *rig = opaque;

    rig->run(rig, rig->arg);
    (void)sem_post(&rig->done);
}

static void *run_loop(void *opaque)
{
    struct rig *rig = opaque;

    assert_int_equal(loop_run(&rig->loop), 0);
    return NULL;
}

static int listen_unix(struct rig *rig)
{
    static unsigned int count;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int n = snprintf(rig->name, sizeof(rig->name), "spore-rig-%ld-%u",
        (long)getpid(), count++);

    assert_true(fd >= 0);
    memcpy(addr.sun_path + 1, rig->name, (size_t)n);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr,
                         (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
                                     1 + (size_t)n)),
        0);
    assert_int_equal(listen(fd, 1024), 0);
    return fd;
}

static int listen_tcp(struct rig *rig)
{
    struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(fd, 1024), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &size), 0);
    rig->tcp_port = ntohs(addr.sin_port);
    return fd;
}

void rig_start(struct rig *rig, const struct server_config *config, bool tcp)
{
    struct pool_config pool = {
        .zygote_fd = -1, .max = config->vms_max, .with_resets = true};
    struct err err;
    int fds[2];

    (void)signal(SIGPIPE, SIG_IGN);
    *rig = (struct rig){.config = *config};
    rig->call = (struct loop_call){.run = on_call, .opaque = rig};
    assert_int_equal(sem_init(&rig->done, 0, 0), 0);
    assert_int_equal(loop_init(&rig->loop, &err), 0);
    pool.loop = &rig->loop;
    assert_int_equal(pool_open(&pool, &rig->pool, &err), 0);
    rig->config.loop = &rig->loop;
    rig->config.pool = rig->pool;
    rig->config.on_drained = on_drained;
    rig->config.opaque = rig;
    fds[0] = listen_unix(rig);
    if (tcp)
        fds[1] = listen_tcp(rig);
    assert_int_equal(
        server_open(&rig->config, fds, tcp ? 2 : 1, &rig->server, &err), 0);
    assert_int_equal(pthread_create(&rig->thread, NULL, run_loop, rig), 0);
}

void rig_stop(struct rig *rig)
{
    loop_stop(&rig->loop);
    assert_int_equal(pthread_join(rig->thread, NULL), 0);
    server_close(rig->server);
    pool_close(rig->pool);
    loop_fini(&rig->loop);
    (void)sem_destroy(&rig->done);
    assert_int_equal(pool_fake_counts().taken, 0);
}

void rig_call(
    struct rig *rig, void (*run)(struct rig *rig, void *arg), void *arg)
{
    rig->run = run;
    rig->arg = arg;
    loop_post(&rig->loop, &rig->call);
    while (sem_wait(&rig->done) < 0)
        assert_int_equal(errno, EINTR);
}

static void do_drain(struct rig *rig, void *arg)
{
    (void)arg;
    server_drain(rig->server, true);
}

void rig_drain(struct rig *rig)
{
    rig_call(rig, do_drain, NULL);
}

struct question {
    enum serve_outcome outcome;
    uint64_t count;
    struct serve_gauges gauges;
};

static void ask(struct rig *rig, void *arg)
{
    struct question *q = arg;

    q->count = server_metrics(rig->server)->outcomes[q->outcome];
    q->gauges = server_gauges(rig->server);
}

uint64_t rig_outcomes(struct rig *rig, enum serve_outcome outcome)
{
    struct question q = {.outcome = outcome};

    rig_call(rig, ask, &q);
    return q.count;
}

struct serve_gauges rig_gauges(struct rig *rig)
{
    struct question q = {.outcome = SERVE_OK};

    rig_call(rig, ask, &q);
    return q.gauges;
}

/* Asks again until it is so, or has not been for long. */
#define EXPECT(what, count)                                                    \
    do {                                                                       \
        uint64_t until = clock_now_ns() + RIG_WAIT_MS * CLOCK_NS_PER_MS;       \
        while ((what) != (count) && clock_now_ns() < until)                    \
            (void)poll(NULL, 0, 1);                                            \
        assert_int_equal((what), (count));                                     \
    } while (0)

void rig_expect(struct rig *rig, enum serve_outcome outcome, uint64_t count)
{
    EXPECT(rig_outcomes(rig, outcome), count);
}

void rig_expect_running(struct rig *rig, uint32_t count)
{
    EXPECT(rig_gauges(rig).running, count);
}

void rig_expect_queued(struct rig *rig, uint32_t count)
{
    EXPECT(rig_gauges(rig).queued, count);
}

void rig_expect_connections(struct rig *rig, uint32_t count)
{
    EXPECT(rig_gauges(rig).connections, count);
}

void rig_expect_drained(struct rig *rig)
{
    EXPECT(__atomic_load_n(&rig->drained, __ATOMIC_ACQUIRE), 1);
}

static void bound_waits(int fd)
{
    struct timeval limit = {.tv_sec = RIG_WAIT_MS / 1000};

    assert_int_equal(
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
    assert_int_equal(
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)), 0);
}

void rig_connect_to(struct rig *rig, int fd)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t n = strlen(rig->name);

    memcpy(addr.sun_path + 1, rig->name, n);
    assert_int_equal(
        connect(fd, (struct sockaddr *)&addr,
            (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n)),
        0);
    bound_waits(fd);
}

int rig_connect(struct rig *rig)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    rig_connect_to(rig, fd);
    return fd;
}

int rig_connect_tcp(struct rig *rig)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
        .sin_port = htons((uint16_t)rig->tcp_port),
        .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    bound_waits(fd);
    return fd;
}

void rig_send_some(int fd, const void *data, size_t len)
{
    const char *at = data;

    while (len > 0) {
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL);

        if (n < 0)
            return;
        at += n;
        len -= (size_t)n;
    }
}

void rig_send(int fd, const char *text)
{
    size_t len = strlen(text);

    assert_int_equal(send(fd, text, len, MSG_NOSIGNAL), len);
}

char *rig_read_all(int fd, size_t *ret_len)
{
    char *text = NULL;
    size_t len = 0;
    ssize_t n;

    do {
        text = realloc(text, len + 65536 + 1);
        assert_non_null(text);
        n = recv(fd, text + len, 65536, 0);
        if (n > 0)
            len += (size_t)n;
        else if (n < 0)
            assert_int_equal(errno, ECONNRESET);
    } while (n > 0);
    text[len] = '\0';
    if (ret_len != NULL)
        *ret_len = len;
    return text;
}

void rig_read(int fd, void *buf, size_t len)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = recv(fd, (char *)buf + done, len - done, 0);

        assert_true(n > 0);
        done += (size_t)n;
    }
}

void rig_expect_end(int fd)
{
    char byte;
    ssize_t n = recv(fd, &byte, 1, 0);

    assert_true(n == 0 || (n < 0 && errno == ECONNRESET));
}

bool rig_has(const char *text, const char *part)
{
    return strstr(text, part) != NULL;
}
