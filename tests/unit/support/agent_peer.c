/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/support/agent_peer.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/agent/agent.h"

#define WAIT_MS 60000

static socklen_t make_address(
    const struct peer_agent *agent, struct sockaddr_un *ret)
{
    size_t n = strlen(agent->name);

    memset(ret, 0, sizeof(*ret));
    ret->sun_family = AF_UNIX;
    memcpy(ret->sun_path + 1, agent->name, n);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n);
}

static int run_agent(int listener)
{
    static struct agent agent;
    int r = agent_init(&agent, AGENT_POSITION_DAEMON);

    agent.shared.generation.path = getenv(PEER_GENERATION_ENV);
    if (r == 0)
        r = agent_set_listener(&agent, listener);
    while (r == 0 && !agent.stop)
        r = agent_step(&agent);
    agent_fini(&agent);
    return r == 0 ? 0 : 1;
}

void peer_start_agent(struct peer_agent *agent)
{
    static unsigned count;
    struct sockaddr_un address;
    socklen_t len;
    int fd;

    (void)snprintf(agent->name, sizeof(agent->name), "spore-test-%ld-%u",
        (long)getpid(), count++);
    len = make_address(agent, &address);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(fd, 128), 0);
    agent->pid = fork();
    assert_true(agent->pid >= 0);
    if (agent->pid == 0)
        exit(run_agent(fd)); /* not _exit: leaks are looked for there */
    close(fd);
}

int peer_stop_agent(struct peer_agent *agent)
{
    int status;

    assert_int_equal(kill(agent->pid, SIGTERM), 0);
    assert_int_equal(waitpid(agent->pid, &status, 0), agent->pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

void peer_open(const struct peer_agent *agent, struct peer *p)
{
    struct sockaddr_un address;
    socklen_t len = make_address(agent, &address);

    p->start = 0;
    p->end = 0;
    p->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(p->fd >= 0);
    assert_int_equal(connect(p->fd, (struct sockaddr *)&address, len), 0);
}

void peer_connect(const struct peer_agent *agent, struct peer *p)
{
    struct peer_frame frame;

    peer_open(agent, p);
    assert_true(peer_recv(p, &frame));
    assert_int_equal(frame.type, AGENT_HELLO);
}

void peer_close(struct peer *p)
{
    close(p->fd);
    p->fd = -1;
}

bool peer_send_bytes(struct peer *p, const void *bytes, size_t n)
{
    const uint8_t *at = bytes;

    while (n > 0) {
        ssize_t sent = send(p->fd, at, n, MSG_NOSIGNAL);

        if (sent < 0)
            return false;
        at += sent;
        n -= (size_t)sent;
    }
    return true;
}

bool peer_send(struct peer *p, uint16_t type, const void *payload, size_t n)
{
    struct agent_frame header = {
        .length = agent_le32_put((uint32_t)n),
        .type = agent_le16_put(type),
    };

    return peer_send_bytes(p, &header, sizeof(header)) &&
           (n == 0 || peer_send_bytes(p, payload, n));
}

static bool take_frame(struct peer *p, struct peer_frame *ret)
{
    struct agent_frame header;
    size_t have = p->end - p->start;
    size_t length;

    if (have < sizeof(header))
        return false;
    memcpy(&header, p->buf + p->start, sizeof(header));
    length = agent_le32_get(header.length);
    assert_true(length <= AGENT_PAYLOAD_MAX);
    assert_int_equal(agent_le16_get(header.flags), 0);
    if (have - sizeof(header) < length)
        return false;
    ret->type = agent_le16_get(header.type);
    ret->length = length;
    ret->payload = p->buf + p->start + sizeof(header);
    p->start += sizeof(header) + length;
    return true;
}

bool peer_recv(struct peer *p, struct peer_frame *ret_frame)
{
    while (!take_frame(p, ret_frame)) {
        struct pollfd wait = {.fd = p->fd, .events = POLLIN};
        ssize_t n;

        memmove(p->buf, p->buf + p->start, p->end - p->start);
        p->end -= p->start;
        p->start = 0;
        if (poll(&wait, 1, WAIT_MS) != 1)
            fail_msg("the agent said nothing for %d ms", WAIT_MS);
        n = recv(p->fd, p->buf + p->end, sizeof(p->buf) - p->end, 0);
        if (n <= 0) {
            /* It never stops in the middle of a frame. */
            assert_int_equal(p->end, 0);
            return false;
        }
        p->end += (size_t)n;
    }
    return true;
}

static size_t put_string(uint8_t *buf, size_t at, const char *s)
{
    size_t n = strlen(s) + 1;

    assert_true(at + n <= AGENT_PAYLOAD_MAX);
    memcpy(buf + at, s, n);
    return at + n;
}

size_t peer_make_exec(uint8_t *buf, const struct peer_exec *spec)
{
    struct agent_exec head = {
        .flags = agent_le32_put(spec->flags),
        .uid = agent_le32_put(geteuid()),
        .gid = agent_le32_put(getegid()),
        .rows = agent_le16_put(spec->rows),
        .cols = agent_le16_put(spec->cols),
    };
    size_t at = sizeof(head);
    uint16_t argc = 0;
    uint16_t envc = 0;

    at = put_string(buf, at, spec->user == NULL ? "" : spec->user);
    at = put_string(buf, at, spec->cwd == NULL ? "" : spec->cwd);
    for (; spec->argv[argc] != NULL; argc++)
        at = put_string(buf, at, spec->argv[argc]);
    for (; spec->env != NULL && spec->env[envc] != NULL; envc++)
        at = put_string(buf, at, spec->env[envc]);
    head.argc = agent_le16_put(argc);
    head.envc = agent_le16_put(envc);
    memcpy(buf, &head, sizeof(head));
    return at;
}

void peer_exec(struct peer *p, const struct peer_exec *spec)
{
    static uint8_t buf[AGENT_PAYLOAD_MAX];
    size_t n = peer_make_exec(buf, spec);

    assert_true(peer_send(p, AGENT_EXEC, buf, n));
}

static void append(struct peer_output *o, const struct peer_frame *frame)
{
    o->bytes = realloc(o->bytes, o->length + frame->length);
    assert_non_null(o->bytes);
    assert_true(frame->length > 0);
    memcpy(o->bytes + o->length, frame->payload, frame->length);
    o->length += frame->length;
}

static void take_exit(struct peer_result *r, const struct peer_frame *frame)
{
    struct agent_exit exit_frame;

    assert_int_equal(frame->length, sizeof(exit_frame));
    memcpy(&exit_frame, frame->payload, sizeof(exit_frame));
    r->has_exit = true;
    r->status = agent_le32_get(exit_frame.status);
    r->signal = agent_le32_get(exit_frame.signal);
}

static void take_error(struct peer_result *r, const struct peer_frame *frame)
{
    struct agent_error head;

    assert_true(frame->length >= sizeof(head));
    memcpy(&head, frame->payload, sizeof(head));
    r->has_error = true;
    r->error = agent_le32_get(head.error);
    r->stage = agent_le16_get(head.stage);
    r->error_status = agent_le16_get(head.status);
    assert_true(r->error != 0);
    assert_true(frame->length > sizeof(head));
}

static void take_ok(struct peer_result *r, const struct peer_frame *frame)
{
    struct agent_ok ok;

    assert_int_equal(frame->length, sizeof(ok));
    memcpy(&ok, frame->payload, sizeof(ok));
    r->has_ok = true;
    r->entries = agent_le64_get(ok.entries);
    r->bytes = agent_le64_get(ok.bytes);
}

static void take_ack(struct peer_result *r, const struct peer_frame *frame)
{
    struct agent_stdin_ack ack;

    assert_int_equal(frame->length, sizeof(ack));
    memcpy(&ack, frame->payload, sizeof(ack));
    r->acked += agent_le32_get(ack.bytes);
    r->input_closed |= (agent_le32_get(ack.flags) & AGENT_STDIN_CLOSED) != 0;
}

bool peer_collect_one(struct peer *p, struct peer_result *r)
{
    struct agent_started started;
    struct peer_frame frame;

    if (!peer_recv(p, &frame))
        return false;
    assert_false(r->has_exit || r->has_error || r->has_ok);
    switch (frame.type) {
    case AGENT_STARTED:
        assert_int_equal(frame.length, sizeof(started));
        memcpy(&started, frame.payload, sizeof(started));
        r->pid = (pid_t)agent_le32_get(started.pid);
        break;
    case AGENT_STDOUT:
        append(&r->out, &frame);
        break;
    case AGENT_STDERR:
        append(&r->err, &frame);
        break;
    case AGENT_STDIN_ACK:
        take_ack(r, &frame);
        break;
    case AGENT_EXIT:
        take_exit(r, &frame);
        break;
    case AGENT_ERROR:
        take_error(r, &frame);
        break;
    case AGENT_OK:
        take_ok(r, &frame);
        break;
    default:
        fail_msg("unexpected frame of type 0x%x", frame.type);
    }
    return true;
}

void peer_collect(struct peer *p, struct peer_result *r)
{
    while (peer_collect_one(p, r))
        continue;
}

void peer_shell(const struct peer_agent *agent, uint32_t flags,
    const char *script, struct peer_result *r)
{
    const char *const argv[] = {"/bin/sh", "-c", script, NULL};
    const struct peer_exec spec = {.flags = flags, .argv = argv};
    static struct peer p;

    peer_result_init(r);
    peer_connect(agent, &p);
    peer_exec(&p, &spec);
    peer_collect(&p, r);
    peer_close(&p);
}

void peer_result_init(struct peer_result *r)
{
    memset(r, 0, sizeof(*r));
}

void peer_result_fini(struct peer_result *r)
{
    free(r->out.bytes);
    free(r->err.bytes);
    peer_result_init(r);
}

bool peer_output_is(const struct peer_output *o, const char *text)
{
    return o->length == strlen(text) &&
           (o->length == 0 || memcmp(o->bytes, text, o->length) == 0);
}

bool peer_process_ends(pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    int n;

    if (fd < 0)
        return errno == ESRCH;
    n = poll(&wait, 1, WAIT_MS);
    close(fd);
    return n == 1;
}
