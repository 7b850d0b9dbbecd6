/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/serve/serve_rig.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "guest/agent/proto.h"
#include "vmm/serve/relay_in.h"

#define BIG (8u << 20)

static struct rig rig;

/* What the server in the clones does, by the request's path. */
static struct {
    pthread_mutex_t lock;
    const char *response; /* to /canned */
    char head[4096];      /* of the last request */
    uint64_t requests;
    uint64_t body_bytes; /* of all */
} play = {.lock = PTHREAD_MUTEX_INITIALIZER};

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
    for (size_t sent = 0; sent < BIG; sent += sizeof(block)) {
        if (send(fd, block, sizeof(block), MSG_NOSIGNAL) < 0)
            return;
    }
}

static enum pool_fake_end respond(
    const struct relay_in *in, int fd, const char *body, size_t len)
{
    char text[256];

    if (is_at(in, "/echo")) {
        (void)snprintf(text, sizeof(text),
            "HTTP/1.1 200 OK\r\nX-Id: 7\r\nContent-Length: %zu\r\n\r\n", len);
        say(fd, text);
        rig_send_some(fd, body, len);
    } else if (is_at(in, "/canned")) {
        say(fd, play.response);
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
    enum pool_fake_end end = POOL_FAKE_CLOSED;
    char *body = malloc(65536);
    struct relay_in in;
    size_t len;

    (void)opaque;
    if (port == AGENT_PORT && !play_agent(fd)) {
        free(body);
        return POOL_FAKE_CLOSED;
    }
    relay_in_init(&in, RELAY_REQUEST, 16384);
    if (body != NULL && take(&in, fd, RELAY_BODY, body, &len)) {
        bool is_early = is_at(&in, "/early");

        (void)pthread_mutex_lock(&play.lock);
        play.requests++;
        (void)snprintf(
            play.head, sizeof(play.head), "%.*s", (int)in.head_len, in.head);
        (void)pthread_mutex_unlock(&play.lock);
        if (is_early) {
            say(fd, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
        } else if (take(&in, fd, RELAY_WHOLE, body, &len)) {
            (void)pthread_mutex_lock(&play.lock);
            play.body_bytes += len;
            (void)pthread_mutex_unlock(&play.lock);
            end = respond(&in, fd, body, len);
        }
    }
    relay_in_fini(&in);
    free(body);
    return end;
}

static void start(const struct server_config *config)
{
    play.requests = 0;
    play.body_bytes = 0;
    pool_fake_init(guest, NULL);
    rig_start(&rig, config, true);
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

static void expect_response(int fd, const char *part)
{
    char *text = read_response(fd);

    if (!rig_has(text, part))
        fail_msg("no '%s' in '%s'", part, text);
    free(text);
}

/* All that comes up to the end has to have it. */
static void expect_last(int fd, const char *part)
{
    char *text = rig_read_all(fd, NULL);

    if (!rig_has(text, part))
        fail_msg("no '%s' in '%s'", part, text);
    free(text);
    close(fd);
}

static void test_a_request(void **state)
{
    struct server_config config = rig_config(SERVER_HTTP);
    int fd;

    (void)state;
    start(&config);
    fd = rig_connect_tcp(&rig);
    rig_send(fd, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
                 "Connection: close, x-mine\r\nX-Mine: 1\r\nX-Other:  2 \r\n"
                 "Keep-Alive: 5\r\nUpgrade: h2c\r\nTE: trailers\r\n\r\nhello");
    {
        char *text = rig_read_all(fd, NULL);

        assert_string_equal(text,
            "HTTP/1.1 200 OK\r\nX-Id: 7\r\nContent-Length: 5\r\n"
            "Connection: close\r\n\r\nhello");
        free(text);
    }
    close(fd);
    rig_expect(&rig, SERVE_OK, 1);
    assert_string_equal(play.head,
        "POST /echo HTTP/1.1\r\nHost: a\r\nX-Other: 2\r\n"
        "Content-Length: 5\r\nConnection: close\r\n\r");
    rig_expect_connections(&rig, 0);
    rig_stop(&rig);
}

static void test_a_connection_is_kept(void **state)
{
    struct server_config config = rig_config(SERVER_HTTP);
    int fd;

    (void)state;
    start(&config);
    fd = rig_connect(&rig);
    for (unsigned int i = 0; i < 5; i++) {
        rig_send(fd, "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
        expect_response(fd, "200 OK");
    }
    /* Each was a clone's. */
    assert_int_equal(pool_fake_counts().given, 5);
    /* Not there is no failure of ours. */
    rig_send(fd, "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n");
    expect_response(fd, "404 Not Found");
    rig_send(fd, "GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    expect_response(fd, "Connection: keep-alive");
    rig_send(fd, "GET /echo HTTP/1.0\r\n\r\n");
    expect_last(fd, "Connection: close");
    rig_expect(&rig, SERVE_OK, 8);
    rig_stop(&rig);
}

static void test_requests_in_one_piece(void **state)
{
    static const char one[] = "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n";
    struct server_config config = rig_config(SERVER_HTTP);
    int fd;

    (void)state;
    start(&config);
    fd = rig_connect(&rig);
    for (unsigned int i = 0; i < 20; i++)
        rig_send(fd, one);
    rig_send(fd, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
                 "GET /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
                 "GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
    for (unsigned int i = 0; i < 20; i++)
        expect_response(fd, "Content-Length: 0");
    expect_response(fd, "\r\n\r\nhi");
    expect_last(fd, "Connection: close");
    rig_expect(&rig, SERVE_OK, 22);
    assert_int_equal(pool_fake_counts().most, 1);
    rig_stop(&rig);
}

static void test_a_request_byte_by_byte(void **state)
{
    static const char text[] =
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        "3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nTrailer: t\r\n\r\n";
    struct server_config config = rig_config(SERVER_HTTP);
    int fd;

    (void)state;
    start(&config);
    fd = rig_connect(&rig);
    for (size_t i = 0; i + 1 < sizeof(text); i++) {
        assert_int_equal(send(fd, text + i, 1, 0), 1);
        /* Served when it is whole, and not before. */
        assert_int_equal(pool_fake_counts().given, 0);
    }
    expect_response(fd, "\r\n\r\nabcdefg");
    close(fd);
    rig_stop(&rig);
}

/* ---- framing ------------------------------------------------------------ */

struct framing_case {
    const char *request;
    const char *response;
    const char *expected; /* all that the client gets, then the end */
};

#define GET11  "GET /canned HTTP/1.1\r\nHost: a\r\n\r\n"
#define GET10  "GET /canned HTTP/1.0\r\n\r\n"
#define HEAD11 "HEAD /canned HTTP/1.1\r\nHost: a\r\n\r\n"
#define HINT   "HTTP/1.1 103 Early Hints\r\n\r\n"
#define HINTS  HINT HINT HINT HINT
#define BAD    "HTTP/1.1 502 Bad Gateway\r\n"

static const struct framing_case framing_cases[] = {
    /* A length. */
    {GET11, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"},
    {GET11, "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
    /* More than its length is not passed on. */
    {GET11, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"},
    /* Chunks. */
    {GET11,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        "3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        "3\r\nabc\r\n0\r\n\r\n"},
    {GET11,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        "1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\nX: y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        "3\r\nabc\r\n0\r\n\r\n"},
    {GET10,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        "3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc"},
    /* Until the end. */
    {GET11, "HTTP/1.0 200 OK\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        "3\r\nabc\r\n0\r\n\r\n"},
    {GET10, "HTTP/1.1 200 OK\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc"},
    /* No body, whatever is said. */
    {HEAD11, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"},
    {HEAD11, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
    {HEAD11, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"},
    {GET11, "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n"},
    {GET11, "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 204 No Content\r\n\r\n"},
    {GET11, "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"},
    /* What comes before. */
    {GET11,
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n"
        "\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"},
    {GET10,
        "HTTP/1.1 103 Early Hints\r\n\r\n"
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\na"},
    /* No reason, lines that end with less. */
    {GET11, "HTTP/1.1 299\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n"},
    {GET11, "HTTP/1.1 200 OK\nA: b\nContent-Length: 1\n\na",
        "HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 1\r\n\r\na"},
    /* What is for the connection only. */
    {GET11,
        "HTTP/1.1 200 OK\r\nConnection: Close, A\r\nKeep-Alive: 1\r\nA: 1\r\n"
        "B: 2\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nB: 2\r\nContent-Length: 0\r\n\r\n"},
    /* Cut short: what has begun ends without an end. */
    {GET11, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc"},
    {GET11, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"},
    /* Too many of them. */
    {GET10, HINTS HINTS HINTS HINTS HINTS, BAD},
    /* None. */
    {GET11, "", BAD},
    {GET11, "hello\r\n\r\n", BAD},
    {GET11, "HTTP/1.1 200 OK\r\nContent-Le", BAD},
    {GET11, "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", BAD},
    {GET11, "HTTP/1.1 99 No\r\n\r\n", BAD},
    {GET11, "HTTP/1.1 700 No\r\n\r\n", BAD},
    {GET11, "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", BAD},
    {GET11,
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        BAD},
    {GET11, "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", BAD},
    {GET11, "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", BAD},
    {GET11,
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        BAD},
    {GET11,
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n"
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        BAD},
    {GET11, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", BAD},
    {GET11, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", BAD},
    {GET11, "HTTP/1.1 200 OK\r\nA : b\r\n\r\n", BAD},
    {GET11, "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n", BAD},
    {GET11, "HTTP/1.1 200 OK\r\nA: \x01\r\nContent-Length: 0\r\n\r\n", BAD},
};

static void expect_framing(const struct framing_case *t)
{
    bool is_bad = strcmp(t->expected, BAD) == 0;
    char *text;
    int fd = rig_connect(&rig);

    play.response = t->response;
    rig_send(fd, t->request);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    text = rig_read_all(fd, NULL);
    if (is_bad ? strncmp(text, BAD, strlen(BAD)) != 0
               : strcmp(text, t->expected) != 0)
        fail_msg("to '%s' the answer is '%s'", t->response, text);
    free(text);
    close(fd);
}

static void test_framing(void **state)
{
    struct server_config config = rig_config(SERVER_HTTP);

    (void)state;
    start(&config);
    for (size_t i = 0; i < ARRAY_SIZE(framing_cases); i++)
        expect_framing(&framing_cases[i]);
    rig_expect_connections(&rig, 0);
    rig_stop(&rig);
}

struct request_case {
    const char *request;
    const char *status;
};

static const struct request_case bad_requests[] = {
    {"GET / HTTP/1.1\r\n\r\n", "400"},
    {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"},
    {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505"},
    {"NOSUCH / HTTP/1.1\r\nHost: a\r\n\r\n", "501"},
    {"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", "501"},
    {"nonsense\r\n\r\n", "501"},
    {"\x16\x03\x01\x02", "501"},
    {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
     "Content-Length: 2\r\n\r\nab",
        "400"},
    {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
     "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "400"},
    {"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
     "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "400"},
    {"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n", "400"},
    {"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "400|501"},
    {"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "400|501"},
    {"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
    {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na", "400"},
    {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 1\r\n\r\na", "400"},
    {"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", "400"},
    {"GET / HTTP/1.1\r\nHost: a\r\n X: b\r\n\r\n", "400"},
    {"GET / HTTP/1.1\r\nHost: a\r\nX\x01: a\r\n\r\n", "400"},
    {"GET / HTTP/1.1\r\nHost: a\r\nX: a\x01\r\n\r\n", "400"},
    {"GET / HTTP/1.1\r\nHost: a\r\nExpect: more\r\n\r\n", "417"},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n\r\n", "413"},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
     "xyz\r\n",
        "400"},
};

static void test_bad_requests(void **state)
{
    struct server_config config = rig_config(SERVER_HTTP);

    (void)state;
    start(&config);
    for (size_t i = 0; i < ARRAY_SIZE(bad_requests); i++) {
        int fd = rig_connect_tcp(&rig);
        char *text;

        rig_send(fd, bad_requests[i].request);
        text = rig_read_all(fd, NULL);
        if (strncmp(text, "HTTP/1.1 ", 9) != 0 ||
            (strncmp(text + 9, bad_requests[i].status, 3) != 0 &&
                strncmp(text + 9, bad_requests[i].status + 4, 3) != 0))
            fail_msg(
                "to '%s' the answer is '%s'", bad_requests[i].request, text);
        assert_true(rig_has(text, "Connection: close"));
        free(text);
        close(fd);
    }
    rig_expect(&rig, SERVE_BAD_REQUEST, ARRAY_SIZE(bad_requests));
    assert_int_equal(pool_fake_counts().given, 0);
    rig_stop(&rig);
}

static void test_heads_have_a_bound(void **state)
{
    struct server_config config = rig_config(SERVER_HTTP);
    char line[128];
    int fd;

    (void)state;
    config.header_max = 2048;
    start(&config);
    fd = rig_connect(&rig);
    rig_send(fd, "GET / HTTP/1.1\r\nHost: a\r\n");
    memset(line, 'x', sizeof(line));
    memcpy(line, "X-Long: ", 8);
    line[126] = '\r';
    line[127] = '\n';
    for (unsigned int i = 0; i < 30; i++)
        rig_send_some(fd, line, sizeof(line));
    expect_last(fd, "HTTP/1.1 431");
    /* Many of them. */
    fd = rig_connect(&rig);
    rig_send(fd, "GET / HTTP/1.1\r\nHost: a\r\n");
    for (unsigned int i = 0; i < 120; i++)
        rig_send_some(fd, "A: b\r\n", 6);
    rig_send_some(fd, "\r\n", 2);
    expect_last(fd, "HTTP/1.1 431");
    rig_stop(&rig);
}

/* ---- bodies ------------------------------------------------------------- */

static void test_a_long_body_in_chunks(void **state)
{
    static char chunk[4096 + 16];
    struct server_config config = rig_config(SERVER_HTTP);
    int fd;

    (void)state;
    memcpy(chunk, "1000\r\n", 6);
    memcpy(chunk + 6 + 4096, "\r\n", 2);
    start(&config);
    fd = rig_connect(&rig);
    rig_send(fd, "POST /nowhere HTTP/1.1\r\nHost: a\r\n"
                 "Transfer-Encoding: chunked\r\n\r\n");
    for (unsigned int i = 0; i < 200; i++)
        rig_send_some(fd, chunk, 4096 + 8);
    rig_send(fd, "0\r\n\r\n");
    expect_response(fd, "404 Not Found");
    assert_int_equal(play.body_bytes, 200 * 4096);
    /* The connection is good for another. */
    rig_send(fd, "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
    expect_response(fd, "200 OK");
    /* Beyond the bound it ends. */
    rig_send(fd, "POST /nowhere HTTP/1.1\r\nHost: a\r\n"
                 "Transfer-Encoding: chunked\r\n\r\n");
    for (unsigned int i = 0; i < 300; i++)
        rig_send_some(fd, chunk, 4096 + 8);
    {
        char *text = rig_read_all(fd, NULL);

        assert_true(text[0] == '\0' || rig_has(text, "413"));
        free(text);
    }
    close(fd);
    rig_expect(&rig, SERVE_BAD_REQUEST, 1);
    rig_stop(&rig);
}

static void test_expect_continue(void **state)
{
    struct server_config config = rig_config(SERVER_HTTP);
    int fd;

    (void)state;
    start(&config);
    fd = rig_connect(&rig);
    rig_send(fd, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n"
                 "Expect: 100-continue\r\n\r\n");
    expect_response(fd, "HTTP/1.1 100 Continue");
    rig_send(fd, "body");
    expect_response(fd, "\r\n\r\nbody");
    close(fd);
    rig_stop(&rig);
}

static void test_an_answer_before_the_body(void **state)
{
    static char block[65536];
    struct server_config config = rig_config(SERVER_HTTP);
    int fd;

    (void)state;
    start(&config);
    fd = rig_connect_tcp(&rig);
    rig_send(fd, "POST /early HTTP/1.1\r\nHost: a\r\n"
                 "Content-Length: 1000000\r\n\r\n");
    rig_send_some(fd, block, sizeof(block));
    rig_send_some(fd, block, sizeof(block));
    expect_last(fd, "403 Forbidden");
    rig_expect(&rig, SERVE_OK, 1);
    rig_stop(&rig);
}

static void test_a_big_response(void **state)
{
    struct server_config config = rig_config(SERVER_HTTP);
    size_t len;
    int fd;

    (void)state;
    start(&config);
    fd = rig_connect(&rig);
    rig_send(fd, "GET /big HTTP/1.0\r\n\r\n");
    free(rig_read_all(fd, &len));
    close(fd);
    assert_int_equal(len, BIG + strlen("HTTP/1.1 200 OK\r\n"
                                       "Connection: close\r\n\r\n"));
    rig_expect(&rig, SERVE_OK, 1);
    rig_stop(&rig);
}

/* ---- clients that misbehave --------------------------------------------- */

static void test_slow_clients_have_no_clone(void **state)
{
    struct server_config config = rig_config(SERVER_HTTP);
    int fds[3];

    (void)state;
    config.header_timeout_ns = 50 * CLOCK_NS_PER_MS;
    start(&config);
    fds[0] = rig_connect(&rig);
    fds[1] = rig_connect(&rig);
    fds[2] = rig_connect(&rig);
    rig_send(fds[0], "GET / HT");
    rig_send(fds[1], "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"
                     "12345678");
    expect_last(fds[0], "408 Request Timeout");
    expect_last(fds[1], "408 Request Timeout");
    /* One that says nothing is told nothing. */
    rig_expect_end(fds[2]);
    close(fds[2]);
    rig_expect(&rig, SERVE_CLIENT_SLOW, 2);
    assert_int_equal(pool_fake_counts().given, 0);
    rig_expect_connections(&rig, 0);
    rig_stop(&rig);
}

static void test_idle_connections_end(void **state)
{
    struct server_config config = rig_config(SERVER_HTTP);
    int fd;

    (void)state;
    config.idle_timeout_ns = 50 * CLOCK_NS_PER_MS;
    start(&config);
    fd = rig_connect(&rig);
    rig_send(fd, "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
    expect_response(fd, "200 OK");
    rig_expect_end(fd);
    close(fd);
    rig_stop(&rig);
}

static void test_who_reads_nothing_is_given_up(void **state)
{
    struct server_config config = rig_config(SERVER_HTTP);
    int fd;

    (void)state;
    config.stall_timeout_ns = 100 * CLOCK_NS_PER_MS;
    start(&config);
    fd = rig_connect(&rig);
    rig_send(fd, "GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
    rig_expect(&rig, SERVE_CLIENT_SLOW, 1);
    close(fd);
    /* Nor who sends nothing more of a long body. */
    fd = rig_connect(&rig);
    rig_send(fd, "POST /echo HTTP/1.1\r\nHost: a\r\n"
                 "Content-Length: 100000\r\n\r\n");
    {
        static char part[70000];

        rig_send_some(fd, part, sizeof(part));
    }
    rig_expect(&rig, SERVE_CLIENT_SLOW, 2);
    close(fd);
    rig_expect_connections(&rig, 0);
    rig_stop(&rig);
}

static void test_clients_that_go(void **state)
{
    struct server_config config = rig_config(SERVER_HTTP);
    int fd;

    (void)state;
    start(&config);
    fd = rig_connect(&rig);
    rig_send(fd, "GET /hang HTTP/1.1\r\nHost: a\r\n\r\n");
    rig_expect_running(&rig, 1);
    close(fd);
    rig_expect(&rig, SERVE_CLIENT_GONE, 1);
    /* Within a request. */
    fd = rig_connect(&rig);
    rig_send(fd, "GET /hang HT");
    close(fd);
    rig_expect(&rig, SERVE_CLIENT_GONE, 2);
    /* While it waits. */
    pool_fake_hold(true);
    fd = rig_connect(&rig);
    rig_send(fd, "GET /hang HTTP/1.1\r\nHost: a\r\n\r\n");
    rig_expect_queued(&rig, 1);
    close(fd);
    rig_expect(&rig, SERVE_CLIENT_GONE, 3);
    pool_fake_hold(false);
    /* With a reset, in the middle of a response. */
    {
        const struct linger hard = {.l_onoff = 1};

        fd = rig_connect_tcp(&rig);
        rig_send(fd, "GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
        rig_expect_running(&rig, 1);
        assert_int_equal(
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), 0);
        close(fd);
    }
    rig_expect(&rig, SERVE_CLIENT_GONE, 4);
    rig_expect_connections(&rig, 0);
    rig_stop(&rig);
}

static void test_idle_ones_make_room(void **state)
{
    struct server_config config = rig_config(SERVER_HTTP);
    int fds[8];
    int fd;

    (void)state;
    config.connections_max = 8;
    start(&config);
    for (unsigned int i = 0; i < 8; i++) {
        fds[i] = rig_connect(&rig);
        rig_send(fds[i], "GET /slow");
    }
    rig_expect_connections(&rig, 8);
    fd = rig_connect(&rig);
    rig_send(fd, "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
    expect_response(fd, "200 OK");
    close(fd);
    /* The oldest had to go for it. */
    rig_expect_end(fds[0]);
    for (unsigned int i = 0; i < 8; i++)
        close(fds[i]);
    rig_stop(&rig);
}

/* ---- limits ------------------------------------------------------------- */

static void test_overload(void **state)
{
    struct server_config config = rig_config(SERVER_HTTP);
    int fds[3];
    int fd;

    (void)state;
    config.vms_max = 1;
    config.queue_max = 1;
    config.connections_max = 3;
    start(&config);
    for (unsigned int i = 0; i < 2; i++) {
        fds[i] = rig_connect(&rig);
        rig_send(fds[i], "GET /hang HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    rig_expect_running(&rig, 1);
    rig_expect_queued(&rig, 1);
    /* Refused, but its connection is as good as before. */
    fds[2] = rig_connect(&rig);
    for (unsigned int i = 0; i < 2; i++) {
        rig_send(fds[2], "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
        expect_response(fds[2], "Retry-After: 1");
    }
    assert_int_equal(rig_outcomes(&rig, SERVE_OVERLOAD), 2);
    rig_send(fds[2], "GET /ha");
    /* A connection too many, of which none is idle when all are at work. */
    close(fds[0]);
    rig_expect(&rig, SERVE_CLIENT_GONE, 1);
    rig_send(fds[2], "ng HTTP/1.1\r\nHost: a\r\n\r\n");
    rig_expect_queued(&rig, 1);
    fds[0] = rig_connect(&rig);
    rig_send(fds[0], "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
    expect_response(fds[0], "503 Service Unavailable");
    fd = rig_connect(&rig);
    rig_send(fd, "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
    expect_response(fd, "503 Service Unavailable");
    close(fd);
    for (unsigned int i = 0; i < 3; i++)
        close(fds[i]);
    rig_stop(&rig);
}

static void test_a_time_for_each(void **state)
{
    struct server_config config = rig_config(SERVER_HTTP);
    int fd;

    (void)state;
    config.timeout_ns = 50 * CLOCK_NS_PER_MS;
    start(&config);
    fd = rig_connect(&rig);
    /* Twice: it was not the connection's fault. */
    for (unsigned int i = 0; i < 2; i++) {
        rig_send(fd, "GET /hang HTTP/1.1\r\nHost: a\r\n\r\n");
        expect_response(fd, "504 Gateway Timeout");
    }
    close(fd);
    rig_expect(&rig, SERVE_TIMEOUT, 2);
    rig_stop(&rig);
}

static void test_no_clone(void **state)
{
    struct server_config config = rig_config(SERVER_HTTP);
    int fd;

    (void)state;
    config.queue_timeout_ns = 50 * CLOCK_NS_PER_MS;
    start(&config);
    fd = rig_connect(&rig);
    pool_fake_hold(true);
    rig_send(fd, "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
    expect_response(fd, "503 Service Unavailable");
    rig_expect(&rig, SERVE_QUEUE_TIMEOUT, 1);
    pool_fake_fail(true);
    rig_send(fd, "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
    expect_response(fd, "503 Service Unavailable");
    rig_expect(&rig, SERVE_NO_CLONE, 1);
    pool_fake_hold(false);
    pool_fake_fail(false);
    rig_send(fd, "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
    expect_response(fd, "200 OK");
    close(fd);
    rig_stop(&rig);
}

static void test_machines_that_end(void **state)
{
    struct server_config config = rig_config(SERVER_HTTP);
    int fd;

    (void)state;
    start(&config);
    fd = rig_connect(&rig);
    rig_send(fd, "GET /off HTTP/1.1\r\nHost: a\r\n\r\n");
    expect_response(fd, "\r\n\r\noff");
    rig_send(fd, "GET /die HTTP/1.1\r\nHost: a\r\n\r\n");
    expect_response(fd, "502 Bad Gateway");
    /* Its connection may have ended before it was said to have. */
    assert_int_equal(rig_outcomes(&rig, SERVE_KILLED) +
                         rig_outcomes(&rig, SERVE_NOT_CONNECTED),
        1);
    rig_send(fd, "GET /closed HTTP/1.1\r\nHost: a\r\n\r\n");
    expect_response(fd, "502 Bad Gateway");
    rig_send(fd, "GET /die-halfway HTTP/1.1\r\nHost: a\r\n\r\n");
    {
        char *text = rig_read_all(fd, NULL);

        assert_true(rig_has(text, "Content-Length: 30\r\n\r\npart"));
        free(text);
    }
    close(fd);
    assert_int_equal(rig_outcomes(&rig, SERVE_OK), 1);
    rig_stop(&rig);
}

static void test_a_tcp_server(void **state)
{
    struct server_config config = rig_config(SERVER_HTTP);
    int fd;

    (void)state;
    config.port = 8080;
    config.port_is_tcp = true;
    start(&config);
    fd = rig_connect(&rig);
    for (unsigned int i = 0; i < 3; i++) {
        rig_send(fd, "POST /echo HTTP/1.1\r\nHost: a\r\n"
                     "Content-Length: 3\r\n\r\nabc");
        expect_response(fd, "\r\n\r\nabc");
    }
    close(fd);
    assert_int_equal(pool_fake_counts().told_agent, 3);
    rig_expect(&rig, SERVE_OK, 3);
    rig_stop(&rig);
    /* One that is not there. */
    config.port = 8081;
    start(&config);
    fd = rig_connect(&rig);
    rig_send(fd, "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
    expect_response(fd, "502 Bad Gateway");
    close(fd);
    rig_expect(&rig, SERVE_NOT_CONNECTED, 1);
    rig_stop(&rig);
}

static void test_drain(void **state)
{
    struct server_config config = rig_config(SERVER_HTTP);
    int idle;
    int busy;
    int begun;

    (void)state;
    config.vms_max = 1;
    start(&config);
    idle = rig_connect(&rig);
    rig_send(idle, "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
    expect_response(idle, "200 OK");
    pool_fake_hold(true);
    busy = rig_connect(&rig);
    rig_send(busy, "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
    rig_expect_queued(&rig, 1);
    begun = rig_connect(&rig);
    rig_send(begun, "GET /echo HTTP/1.1\r\n");
    rig_expect_connections(&rig, 3);
    rig_drain(&rig);
    rig_expect_end(idle);
    close(idle);
    pool_fake_hold(false);
    expect_last(busy, "Connection: close");
    rig_send(begun, "Host: a\r\n\r\n");
    expect_last(begun, "Connection: close");
    rig_expect_drained(&rig);
    assert_int_equal(rig_outcomes(&rig, SERVE_OK), 3);
    rig_stop(&rig);
}

static void test_many_on_many_connections(void **state)
{
    struct server_config config = rig_config(SERVER_HTTP);
    int fds[8];

    (void)state;
    config.queue_max = 64;
    config.resets = true;
    start(&config);
    for (unsigned int i = 0; i < ARRAY_SIZE(fds); i++)
        fds[i] = i % 2 == 0 ? rig_connect(&rig) : rig_connect_tcp(&rig);
    for (unsigned int round = 0; round < 30; round++) {
        for (unsigned int i = 0; i < ARRAY_SIZE(fds); i++)
            rig_send(fds[i], "POST /echo HTTP/1.1\r\nHost: a\r\n"
                             "Content-Length: 3\r\n\r\nabc");
        for (unsigned int i = 0; i < ARRAY_SIZE(fds); i++)
            expect_response(fds[i], "\r\n\r\nabc");
    }
    for (unsigned int i = 0; i < ARRAY_SIZE(fds); i++)
        close(fds[i]);
    rig_expect(&rig, SERVE_OK, 240);
    assert_int_equal(pool_fake_counts().recycled, 240);
    assert_int_equal(pool_fake_counts().most, config.vms_max);
    rig_expect_connections(&rig, 0);
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_request),
        cmocka_unit_test(test_a_connection_is_kept),
        cmocka_unit_test(test_requests_in_one_piece),
        cmocka_unit_test(test_a_request_byte_by_byte),
        cmocka_unit_test(test_framing),
        cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_heads_have_a_bound),
        cmocka_unit_test(test_a_long_body_in_chunks),
        cmocka_unit_test(test_expect_continue),
        cmocka_unit_test(test_an_answer_before_the_body),
        cmocka_unit_test(test_a_big_response),
        cmocka_unit_test(test_slow_clients_have_no_clone),
        cmocka_unit_test(test_idle_connections_end),
        cmocka_unit_test(test_who_reads_nothing_is_given_up),
        cmocka_unit_test(test_clients_that_go),
        cmocka_unit_test(test_idle_ones_make_room),
        cmocka_unit_test(test_overload),
        cmocka_unit_test(test_a_time_for_each),
        cmocka_unit_test(test_no_clone),
        cmocka_unit_test(test_machines_that_end),
        cmocka_unit_test(test_a_tcp_server),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_many_on_many_connections),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
