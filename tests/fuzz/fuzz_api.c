/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What clients of a control socket may send: the whole path from bytes over
 * HTTP, JSON and the table of endpoints to the machine's phase. The input is a
 * list of steps of a few clients: raw bytes, requests put together from the
 * contract's words, reading, going away. Whatever they do, replies are replies,
 * connections stay bounded, the phase is one that was asked for, and who comes
 * next is served.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/support/control_bench.h"
#include "vmm/base/bytes.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define CLIENTS   4u
#define BUILT_MAX 8192u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum step {
    STEP_RAW,     /* length, that many bytes of the input */
    STEP_REQUEST, /* verb, path, body, headers, each an index */
    STEP_READ,
    STEP_CLOSE,
    STEP_SHUT, /* the sending half only */
    STEP_COUNT,
};

struct client {
    int fd;
};

struct bench {
    struct control_bench control;
    struct bytes_reader r;
    struct client clients[CLIENTS];
};

static void require(bool holds)
{
    if (!holds)
        abort();
}

static const char *const verbs[] = {
    "GET", "PUT", "PATCH", "DELETE", "POST", "HEAD", "CONNECT", ""};

static const char *const paths[] = {"/", "/version", "/vm", "/vm/config",
    "/actions", "/machine-config", "/boot-source", "/drives/a", "/drives/",
    "/network-interfaces/eth0", "/pmem/p", "/balloon", "/balloon/statistics",
    "/balloon/hinting/start", "/balloon/hinting/stop",
    "/balloon/hinting/status", "/hotplug/memory", "/mmds", "/snapshot/create",
    "/spore", "/spore/vsock/777", "/spore/vsock/99999999999", "/spore/stop",
    "http://localhost/vm", "//", "*", "/vm/", "/spore/vsock/", "/snapshot/load",
    "/spore/reset"};

static const char *const bodies[] = {"", "{}", "{\"state\":\"Paused\"}",
    "{\"state\":\"Resumed\"}", "{\"state\":null}", "{\"state\":1}",
    "{\"action_type\":\"FlushMetrics\"}", "{\"action_type\":\"InstanceStart\"}",
    "{\"amount_mib\":1}", "{\"stats_polling_interval_s\":1}",
    "{\"drive_id\":\"a\",\"path_on_host\":\"/dev/null\"}",
    "{\"iface_id\":\"eth0\",\"rx_rate_limiter\":{\"ops\":{\"size\":1}}}",
    "{\"timeout_ms\":1e3}", "{\"acknowledge_on_stop\":true}", "[[[[[[[[",
    "{\"state\":\"Paused\",\"state\":\"Paused\"}",
    "{\"snapshot_path\":\"/dev/null/x\",\"resume_vm\":true}",
    "{\"snapshot_path\":\"a\",\"network_overrides\":[{\"iface_id\":\"b\"}]}",
    "{\"level\":0}"};

static const char *const headers[] = {"", "Connection: close\r\n",
    "Expect: 100-continue\r\n", "Connection: Upgrade\r\nUpgrade: vsock\r\n",
    "Transfer-Encoding: chunked\r\n", "Content-Length: 99999\r\n",
    "Upgrade: h2c\r\nConnection: upgrade\r\n", "X: y\r\n z\r\n"};

static void send_some(struct bench *b, int fd, const void *data, size_t len)
{
    (void)send(fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    http_bench_run(&b->control.http);
}

static void do_request(struct bench *b, int fd)
{
    uint8_t choice[4];
    char text[BUILT_MAX];
    const char *body;
    int n;

    bytes_get(&b->r, choice, sizeof(choice));
    body = bodies[choice[2] % ARRAY_SIZE(bodies)];
    n = snprintf(text, sizeof(text), "%s %s HTTP/1.1\r\n%s",
        verbs[choice[0] % ARRAY_SIZE(verbs)],
        paths[choice[1] % ARRAY_SIZE(paths)],
        headers[choice[3] % ARRAY_SIZE(headers)]);
    require(n > 0 && (size_t)n < sizeof(text) - 2048);
    if (body[0] != '\0')
        n += snprintf(text + n, sizeof(text) - (size_t)n,
            "Content-Length: %zu\r\n", strlen(body));
    n += snprintf(text + n, sizeof(text) - (size_t)n, "\r\n%s", body);
    send_some(b, fd, text, (size_t)n);
}

/* Whether what came is a reply, or the end; half a one may come too. */
static void take_replies(struct bench *b, struct client *c)
{
    static const char start[] = "HTTP/1.1 ";
    bool ended;
    const char *got = http_bench_hear(&b->control.http, c->fd, &ended);
    size_t len = strlen(got);

    require(len == 0 || memcmp(got, start, num_min(len, 9)) == 0);
    if (ended)
        fd_closep(&c->fd);
}

static void do_step(struct bench *b)
{
    uint8_t step = bytes_get_u8(&b->r);
    struct client *c = &b->clients[step / STEP_COUNT % CLIENTS];
    uint64_t len;

    if (c->fd < 0)
        c->fd = http_bench_connect(&b->control.http);
    switch ((enum step)(step % STEP_COUNT)) {
    case STEP_RAW:
        len = num_min(bytes_get_u8(&b->r), bytes_left(&b->r));
        send_some(b, c->fd, bytes_take(&b->r, len), (size_t)len);
        break;
    case STEP_REQUEST:
        do_request(b, c->fd);
        break;
    case STEP_READ:
        take_replies(b, c);
        break;
    case STEP_CLOSE:
        fd_closep(&c->fd);
        break;
    case STEP_SHUT:
        (void)shutdown(c->fd, SHUT_WR);
        break;
    case STEP_COUNT:
    default:
        abort();
    }
    http_bench_run(&b->control.http);
    require(b->control.http.server.conn_count <= HTTP_SERVER_CONNECTIONS_MAX);
    require(b->control.inst.phase == INSTANCE_RUNNING ||
            b->control.inst.phase == INSTANCE_PAUSED);
}

/* Who comes next is served. */
static void check_service(struct bench *b)
{
    int fd = http_bench_connect(&b->control.http);

    http_bench_ask(&b->control.http, fd, "GET /version HTTP/1.1\r\n\r\n",
        "HTTP/1.1 200 \r\nServer: Firecracker API\r\n"
        "Connection: keep-alive\r\nContent-Type: application/json\r\n"
        "Content-Length: 32\r\n\r\n{\"firecracker_version\":\"1.17.0\"}");
    (void)close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bench *b = calloc(1, sizeof(*b));

    require(b != NULL);
    control_bench_init(&b->control);
    for (size_t i = 0; i < CLIENTS; i++)
        b->clients[i].fd = -1;
    bytes_reader_init(&b->r, data, size);
    while (bytes_left(&b->r) > 0)
        do_step(b);
    check_service(b);
    for (size_t i = 0; i < CLIENTS; i++)
        fd_closep(&b->clients[i].fd);
    http_bench_run(&b->control.http);
    require(b->control.http.server.conn_count == 0);
    control_bench_fini(&b->control);
    free(b);
    return 0;
}
