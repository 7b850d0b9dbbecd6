/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What clients of a control socket may send: the whole path from bytes over
 * HTTP, JSON and the table of endpoints to the machine's phase. The input is a
 * list of steps of a few clients: raw bytes, requests put together from the
 * contract's words, bodies of the input's own, reading, going away. Whatever
 * they do, replies are replies, connections stay bounded, the phase is one that
 * was asked for, a request that is refused has changed nothing, and who comes
 * next is served.
 *
 * Sockets and the loop are those of fuzz_kernel.h, and files that are named are
 * opened by nobody.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fuzz/support/fuzz_kernel.h"
#include "tests/unit/support/control_bench.h"
#include "vmm/base/bytes.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/mmds_text.h"

#define CLIENTS     4u
#define BUILT_MAX   8192u
#define STEPS_MAX   64u
#define REPLIES_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_openat64(int dir, const char *path, int flags, ...);
int __wrap_mkdir(const char *path, mode_t mode);
int __wrap_mkdirat(int dir, const char *path, mode_t mode);
int __wrap_bind(int fd, const struct sockaddr *addr, socklen_t len);
int __wrap_unlink(const char *path);
int __wrap_saver_start(struct saver *saver, struct instance *inst,
    const struct saver_request *request, saver_fn *done, void *opaque,
    struct err *err);
int __wrap_saver_capture(struct saver *saver, struct instance *inst,
    const struct saver_capture *capture, saver_fn *captured, saver_fn *done,
    void *opaque, struct err *err);

enum step {
    STEP_RAW,     /* length, that many bytes of the input */
    STEP_REQUEST, /* verb, path, body, headers, each an index */
    STEP_BODY,    /* verb and path, length, that many bytes as the body */
    STEP_READ,
    STEP_CLOSE,
    STEP_SHUT, /* the sending half only */
    STEP_COUNT,
};

struct bench {
    struct control_bench control;
    struct bytes_reader r;
    int listen_fd;
    int clients[CLIENTS]; /* -1: not there */
};

/* An input is. */
static bool is_running;

/* ---- files ----------------------------------------------------------------
 */

int __wrap_open64(const char *path, int flags, ...)
{
    mode_t mode;
    va_list args;

    /* Who replays inputs has files of its own. */
    if (!is_running) {
        va_start(args, flags);
        mode = (flags & O_CREAT) != 0 ? va_arg(args, mode_t) : 0;
        va_end(args);
        return __real_open64(path, flags, mode);
    }
    /* Seeds, and the one file that takes whatever is written to it. */
    if (strcmp(path, "/dev/null") == 0 || strcmp(path, "/dev/urandom") == 0)
        return __real_open64(path, flags & ~O_CREAT);
    errno = ENOENT;
    return -1;
}

int __wrap_openat64(int dir, const char *path, int flags, ...)
{
    (void)dir;
    (void)path;
    (void)flags;
    errno = EACCES;
    return -1;
}

int __wrap_mkdir(const char *path, mode_t mode)
{
    (void)path;
    (void)mode;
    errno = EACCES;
    return -1;
}

int __wrap_mkdirat(int dir, const char *path, mode_t mode)
{
    (void)dir;
    (void)path;
    (void)mode;
    errno = EACCES;
    return -1;
}

int __wrap_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
    (void)fd;
    (void)addr;
    (void)len;
    return 0;
}

int __wrap_unlink(const char *path)
{
    (void)path;
    return 0;
}

int __wrap_saver_start(struct saver *saver, struct instance *inst,
    const struct saver_request *request, saver_fn *done, void *opaque,
    struct err *err)
{
    (void)saver;
    (void)inst;
    (void)request;
    (void)done;
    (void)opaque;
    return err_set(err, EBUSY, "there are no saves here");
}

int __wrap_saver_capture(struct saver *saver, struct instance *inst,
    const struct saver_capture *capture, saver_fn *captured, saver_fn *done,
    void *opaque, struct err *err)
{
    (void)saver;
    (void)inst;
    (void)capture;
    (void)captured;
    (void)done;
    (void)opaque;
    return err_set(err, EBUSY, "there are no saves here");
}

static void require(bool holds)
{
    if (!holds)
        abort();
}

/* ---- what is sent ---------------------------------------------------------
 */

static const char *const verbs[] = {
    "GET", "PUT", "PATCH", "DELETE", "POST", "HEAD", "CONNECT", ""};

static const char *const paths[] = {"/", "/version", "/vm", "/vm/config",
    "/actions", "/machine-config", "/boot-source", "/drives/a", "/drives/",
    "/network-interfaces/eth0", "/pmem/p", "/balloon", "/balloon/statistics",
    "/balloon/hinting/start", "/balloon/hinting/stop",
    "/balloon/hinting/status", "/hotplug/memory", "/mmds", "/snapshot/create",
    "/spore", "/spore/vsock/777", "/entropy", "/serial", "/vsock", "/logger",
    "/metrics", "/cpu-config", "/hotplug/memory", "/mmds/config", "/balloon/x",

    "/spore/vsock/99999999999", "/spore/stop", "http://localhost/vm", "//", "*",
    "/vm/", "/spore/vsock/", "/snapshot/load", "/spore/reset"};

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
    "{\"level\":0}", "{\"vcpu_count\":2,\"mem_size_mib\":64,\"smt\":true}",
    "{\"kernel_image_path\":\"/dev/null\",\"boot_args\":\"x\"}",
    "{\"drive_id\":\"a\",\"path_on_host\":\"/dev/"
    "null\",\"is_root_device\":true}",
    "{\"iface_id\":\"eth0\",\"host_dev_name\":\"t\","
    "\"guest_mac\":\"02:00:00:00:00:01\"}",
    "{\"id\":\"p\",\"path_on_host\":\"/dev/null\",\"root_device\":true}",
    "{\"guest_cid\":3,\"uds_path\":\"v\",\"vsock_id\":\"\"}",
    "{\"amount_mib\":1,\"deflate_on_oom\":true}",
    "{\"metrics_path\":\"/dev/null\",\"properties\":{\"a\":\"b\"}}",
    "{\"log_path\":\"/dev/null\",\"level\":\"Info\"}",
    "{\"rate_limiter\":{\"ops\":{\"size\":1,\"refill_time\":1}}}",
    "{\"network_interfaces\":[\"eth0\"],\"version\":\"V2\","
    "\"ipv4_address\":\"169.254.1.1\"}",
    "{\"a\":{\"b\":null,\"c\":[1.5,{}]},\"d\":null}",
    "{\"cpuid_modifiers\":[{\"leaf\":\"0x1\",\"subleaf\":\"0b0\",\"flags\":1,"
    "\"modifiers\":[{\"register\":\"eax\",\"bitmap\":\"0b01x_\"}]}],"
    "\"msr_modifiers\":[{\"addr\":\"0x10\",\"bitmap\":\"0b1\"}]}",
    "{\"rate_limiter\":{\"size\":1,\"refill_time\":1}}"};

static const char *const headers[] = {"", "Connection: close\r\n",
    "Expect: 100-continue\r\n", "Connection: Upgrade\r\nUpgrade: vsock\r\n",
    "Transfer-Encoding: chunked\r\n", "Content-Length: 99999\r\n",
    "Upgrade: h2c\r\nConnection: upgrade\r\n", "X: y\r\n z\r\n"};

/* Until nothing is due. */
static void settle(struct bench *b)
{
    for (unsigned int i = 0; fuzz_kernel_is_due(); i++) {
        require(i < HTTP_BENCH_ROUNDS_MAX);
        require(loop_run_once(&b->control.http.loop, 0) == 0);
    }
}

static void send_some(struct bench *b, int fd, const void *data, size_t len)
{
    (void)send(fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    settle(b);
}

/* All that has come; *ret_ended: and nothing more will. */
static const char *hear(struct bench *b, int fd, bool *ret_ended)
{
    static char heard[REPLIES_MAX + 1];
    size_t len = 0;
    ssize_t n;

    *ret_ended = false;
    do {
        settle(b);
        n = recv(fd, heard + len, REPLIES_MAX - len, MSG_DONTWAIT);
        if (n > 0)
            len += (size_t)n;
        else if (n == 0 || errno != EAGAIN)
            *ret_ended = true;
    } while (n > 0);
    heard[len] = '\0';
    return heard;
}

/* A client; -1 if there are too many that wait. */
static int connect_client(struct bench *b)
{
    int fd = fuzz_kernel_call(b->listen_fd);

    settle(b);
    return fd;
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

/* What a request that is refused must leave as it was; free it. */
static char *take_state(const struct bench *b)
{
    const struct control_bench *c = &b->control;
    char *json = NULL;
    char *data = NULL;
    char *state = NULL;
    size_t len;

    require(config_to_json(c->inst.config, &json, NULL) == 0);
    if (c->inst.mmds.data != NULL)
        require(mmds_text_json(c->inst.mmds.data, &data, &len) == 0);
    require(
        asprintf(&state, "%d %u %d %d %d %d %s %s", (int)c->inst.phase,
            c->options.given, (int)c->options.tracking, c->control.has_smt,
            c->control.metrics.fd >= 0, c->inst.config->cpu_modifiers != NULL,
            json, data != NULL ? data : "-") > 0);
    free(json);
    free(data);
    return state;
}

/* By a client of its own, whose only request it is. */
static void do_body(struct bench *b)
{
    uint8_t choice[2];
    char text[256];
    uint64_t len;
    const void *body;
    const char *got;
    char *before;
    char *after;
    bool ended;
    int fd;
    int n;

    bytes_get(&b->r, choice, sizeof(choice));
    len = num_min(bytes_get_u16(&b->r), bytes_left(&b->r));
    body = bytes_take(&b->r, len);
    fd = body == NULL ? -1 : connect_client(b);
    if (fd < 0)
        return;
    before = take_state(b);
    n = snprintf(text, sizeof(text),
        "%s %s HTTP/1.1\r\nContent-Length: %llu\r\n\r\n",
        choice[0] % 2 == 0 ? "PUT" : "PATCH",
        paths[choice[1] % ARRAY_SIZE(paths)], (unsigned long long)len);
    (void)send(fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
    send_some(b, fd, body, (size_t)len);
    got = hear(b, fd, &ended);
    require(got[0] == '\0' || strncmp(got, "HTTP/1.1 ", 9) == 0);
    if (strncmp(got, "HTTP/1.1 4", 10) == 0) {
        after = take_state(b);
        require(strcmp(before, after) == 0);
        free(after);
    }
    free(before);
    (void)close(fd);
    settle(b);
}

/* Whether what came is a reply, or the end; half a one may come too. */
static void take_replies(struct bench *b, int *fd)
{
    static const char start[] = "HTTP/1.1 ";
    bool ended;
    const char *got = hear(b, *fd, &ended);
    size_t len = strlen(got);

    require(len == 0 || memcmp(got, start, num_min(len, 9)) == 0);
    if (ended)
        fd_closep(fd);
}

static void do_step(struct bench *b)
{
    uint8_t step = bytes_get_u8(&b->r);
    int *fd = &b->clients[step / STEP_COUNT % CLIENTS];
    const void *raw;
    uint64_t len;

    if (*fd < 0)
        *fd = connect_client(b);
    if (*fd < 0)
        return;
    switch ((enum step)(step % STEP_COUNT)) {
    case STEP_RAW:
        len = num_min(bytes_get_u8(&b->r), bytes_left(&b->r));
        raw = bytes_take(&b->r, len);
        if (raw != NULL)
            send_some(b, *fd, raw, (size_t)len);
        break;
    case STEP_REQUEST:
        do_request(b, *fd);
        break;
    case STEP_BODY:
        do_body(b);
        break;
    case STEP_READ:
        take_replies(b, fd);
        break;
    case STEP_CLOSE:
        fd_closep(fd);
        break;
    case STEP_SHUT:
        (void)shutdown(*fd, SHUT_WR);
        break;
    case STEP_COUNT:
    default:
        abort();
    }
    settle(b);
    require(b->control.http.server.conn_count <= HTTP_SERVER_CONNECTIONS_MAX);
    require(b->control.inst.phase == INSTANCE_RUNNING ||
            b->control.inst.phase == INSTANCE_PAUSED ||
            (b->control.control.host != NULL &&
                b->control.inst.phase == INSTANCE_NEW));
}

/* Who comes next is served. */
static void check_service(struct bench *b)
{
    static const char ask[] = "GET /version HTTP/1.1\r\n\r\n";
    int fd = connect_client(b);
    bool ended;

    require(fd >= 0);
    send_some(b, fd, ask, sizeof(ask) - 1);
    require(strcmp(hear(b, fd, &ended),
                "HTTP/1.1 200 \r\nServer: Firecracker API\r\n"
                "Connection: keep-alive\r\nContent-Type: application/json\r\n"
                "Content-Length: 32\r\n\r\n"
                "{\"firecracker_version\":\"1.17.0\"}") == 0);
    (void)close(fd);
    settle(b);
}

/* Captures and levels take a machine that has memory, a stop one that runs. */
static void handle(
    void *opaque, struct http_conn *conn, const struct http_request *request)
{
    if (strncmp(request->path, "/spore/capture", 14) == 0 ||
        strncmp(request->path, "/spore/push", 11) == 0 ||
        strncmp(request->path, "/spore/stop", 11) == 0)
        http_conn_reply(conn, 400, "{}");
    else
        router_handle(opaque, conn, request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bench *b = calloc(1, sizeof(*b));

    require(b != NULL);
    is_running = true;
    fuzz_kernel_prepare(FUZZ_KERNEL_ROOM_MAX);
    b->listen_fd = fuzz_kernel_listen();
    control_bench_init_on(&b->control, b->listen_fd);
    b->control.http.server.handle = handle;
    for (size_t i = 0; i < CLIENTS; i++)
        b->clients[i] = -1;
    bytes_reader_init(&b->r, data, size);
    if (bytes_get_u8(&b->r) % 2 == 0)
        control_bench_begin(&b->control);
    for (size_t i = 0; i < STEPS_MAX && bytes_left(&b->r) > 0; i++)
        do_step(b);
    for (size_t i = 0; i < CLIENTS; i++)
        fd_closep(&b->clients[i]);
    settle(b);
    require(b->control.http.server.conn_count == 0);
    check_service(b);
    control_bench_fini(&b->control);
    require(fuzz_kernel_count() == 0);
    free(b);
    is_running = false;
    return 0;
}
