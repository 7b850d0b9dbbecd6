/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/serve/http_play.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest/agent/proto.h"
#include "vmm/base/fd.h"
#include "vmm/serve/relay_in.h"

/* The request up to its head or its end; what of its body is new. */
static bool take(struct relay_in *in, int fd, enum relay_phase until,
    char *body, size_t *body_len)
{
    static const size_t room = 65536;
    char buf[4096];

    *body_len = 0;
    while (in->phase < until) {
        ssize_t n = recv(fd, buf, 1, MSG_PEEK);
        size_t taken;

        if (n <= 0)
            return false;
        n = recv(fd, buf, in->phase == RELAY_HEAD ? 1 : sizeof(buf), 0);
        taken = relay_in_feed(in, buf, (size_t)n);
        if (in->phase == RELAY_BODY && taken < (size_t)n)
            taken += relay_in_feed(in, buf + taken, (size_t)n - taken);
        if (taken < (size_t)n || in->phase == RELAY_BROKEN)
            return false;
        if (*body_len + in->body_len <= room)
            memcpy(body + *body_len, in->body, in->body_len);
        *body_len += in->body_len;
    }
    return true;
}

static bool is_at(const struct relay_in *in, const char *path)
{
    return relay_in_is(in, in->url, path);
}

static void say(int fd, const char *text)
{
    rig_send_some(fd, text, strlen(text));
}

static void say_big(int fd)
{
    static char block[65536];

    say(fd, "HTTP/1.1 200 OK\r\n\r\n");
    for (size_t sent = 0; sent < HTTP_PLAY_BIG; sent += sizeof(block)) {
        if (send(fd, block, sizeof(block), MSG_NOSIGNAL) < 0)
            return;
    }
}

static enum pool_fake_end respond(const struct http_play *play,
    const struct relay_in *in, int fd, const char *body, size_t len)
{
    char text[256];

    if (is_at(in, "/echo")) {
        (void)snprintf(text, sizeof(text),
            "HTTP/1.1 200 OK\r\nX-Id: 7\r\nContent-Length: %zu\r\n\r\n", len);
        say(fd, text);
        rig_send_some(fd, body, len);
    } else if (is_at(in, "/canned")) {
        say(fd, play->response);
    } else if (is_at(in, "/big")) {
        say_big(fd);
    } else if (is_at(in, "/hang")) {
        while (recv(fd, text, sizeof(text), 0) > 0)
            ;
    } else if (is_at(in, "/off")) {
        say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\noff");
        return POOL_FAKE_POWERED_OFF;
    } else if (is_at(in, "/die")) {
        return POOL_FAKE_KILLED;
    } else if (is_at(in, "/die-halfway")) {
        say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\npart");
        return POOL_FAKE_FAILED;
    } else if (!is_at(in, "/closed")) {
        say(fd, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    }
    return POOL_FAKE_CLOSED;
}

/* The agent's part of a FORWARD to TCP port 8080; false: it is refused. */
static bool play_agent(int fd)
{
    struct {
        struct agent_frame frame;
        struct agent_forward forward;
    } request;
    const struct agent_hello hello = {.magic = agent_le32_put(AGENT_MAGIC),
        .version = agent_le16_put(AGENT_VERSION),
        .features = agent_le64_put(AGENT_FEATURE_FORWARD)};
    const struct agent_error error = {.error = agent_le32_put(111),
        .stage = agent_le16_put(AGENT_STAGE_SYSTEM)};
    struct agent_frame head = {.length = agent_le32_put(sizeof(hello)),
        .type = agent_le16_put(AGENT_HELLO)};
    uint8_t reply[sizeof(head) * 2 + sizeof(hello) + sizeof(struct agent_ok)];
    size_t len = sizeof(head) + sizeof(hello);

    if (fd_read_full(fd, &request, sizeof(request)) !=
            (ssize_t)sizeof(request) ||
        agent_le16_get(request.frame.type) != AGENT_FORWARD)
        return false;
    memset(reply, 0, sizeof(reply));
    memcpy(reply, &head, sizeof(head));
    memcpy(reply + sizeof(head), &hello, sizeof(hello));
    if (agent_le16_get(request.forward.port) != 8080) {
        head.type = agent_le16_put(AGENT_ERROR);
        head.length = agent_le32_put(sizeof(error));
        memcpy(reply + len, &head, sizeof(head));
        memcpy(reply + len + sizeof(head), &error, sizeof(error));
        rig_send_some(fd, reply, len + sizeof(head) + sizeof(error));
        return false;
    }
    head.type = agent_le16_put(AGENT_OK);
    head.length = agent_le32_put(sizeof(struct agent_ok));
    memcpy(reply + len, &head, sizeof(head));
    for (size_t i = 0; i < sizeof(reply); i++)
        rig_send_some(fd, reply + i, 1);
    return true;
}

static enum pool_fake_end guest(void *opaque, uint32_t port, int fd)
{
    struct http_play *play = opaque;
    enum pool_fake_end end = POOL_FAKE_CLOSED;
    char *body = malloc(65536);
    struct relay_in in;
    size_t len;

    if (port == AGENT_PORT && !play_agent(fd)) {
        free(body);
        return POOL_FAKE_CLOSED;
    }
    relay_in_init(&in, RELAY_REQUEST, 16384);
    if (body != NULL && take(&in, fd, RELAY_BODY, body, &len)) {
        bool is_early = is_at(&in, "/early");

        (void)pthread_mutex_lock(&play->lock);
        (void)snprintf(
            play->head, sizeof(play->head), "%.*s", (int)in.head_len, in.head);
        (void)pthread_mutex_unlock(&play->lock);
        if (is_early) {
            say(fd, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
        } else if (take(&in, fd, RELAY_WHOLE, body, &len)) {
            (void)pthread_mutex_lock(&play->lock);
            play->body_bytes += len;
            (void)pthread_mutex_unlock(&play->lock);
            end = respond(play, &in, fd, body, len);
        }
    }
    relay_in_fini(&in);
    free(body);
    return end;
}

void http_play_start(
    struct http_play *play, struct rig *rig, const struct server_config *config)
{
    play->body_bytes = 0;
    pool_fake_init(guest, play);
    rig_start(rig, config, true);
}

/* One response with a length, up to its end; freed by the caller. */
static char *read_response(int fd)
{
    char *text = calloc(1, 65536);
    size_t len = 0;
    size_t rest = 0;
    const char *field;

    assert_non_null(text);
    while (strstr(text, "\r\n\r\n") == NULL) {
        assert_true(len < 65000);
        rig_read(fd, text + len++, 1);
    }
    field = strcasestr(text, "content-length: ");
    if (field != NULL)
        rest = (size_t)atoi(field + strlen("content-length: "));
    rig_read(fd, text + len, rest);
    return text;
}

void http_play_expect(int fd, const char *part)
{
    char *text = read_response(fd);

    if (!rig_has(text, part))
        fail_msg("no '%s' in '%s'", part, text);
    free(text);
}

void http_play_expect_last(int fd, const char *part)
{
    char *text = rig_read_all(fd, NULL);

    if (!rig_has(text, part))
        fail_msg("no '%s' in '%s'", part, text);
    free(text);
    close(fd);
}
