/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/support/http_bench.h"
#include "vmm/base/fd.h"

#define HEAD       "Server: Firecracker API\r\nConnection: keep-alive\r\n"
#define HEAD_CLOSE "Server: Firecracker API\r\nConnection: close\r\n"
#define JSON       "Content-Type: application/json\r\n"
#define NO_CONTENT "HTTP/1.1 204 \r\n" HEAD "\r\n"
#define DROPPED    "\\nAll previous unanswered requests will be dropped.\" }"
#define FULL                                                                   \
    "HTTP/1.1 503\r\n" HEAD_CLOSE                                              \
    "Content-Length: 40\r\n\r\n{ \"error\": \"Too many open connections\" }"

struct fixture {
    struct http_bench b;
    unsigned int handled;
    size_t reply_size; /* bytes of what GET /big is answered with */
    size_t body_len;   /* of the last request */
    char path[2048];   /* and its path */
    bool had_upgrade;  /* and whether it asked for vsock */
    int taken;         /* descriptor taken over, or -1 */
    int take_result;
};

/* "/big" is answered with many bytes, "/take" taken over, others echoed. */
static void handle(
    void *opaque, struct http_conn *conn, const struct http_request *request)
{
    struct fixture *f = opaque;
    char *text;

    f->handled++;
    f->body_len = request->body_len;
    f->had_upgrade = request->upgrade != NULL;
    (void)snprintf(f->path, sizeof(f->path), "%s", request->path);
    assert_int_equal(strlen(request->body), request->body_len);
    if (strcmp(request->path, "/take") == 0) {
        f->take_result = http_conn_take(conn, &f->taken);
        if (f->take_result == 0)
            http_conn_end(conn);
        else
            http_conn_reply(conn, 400, NULL);
    } else if (strcmp(request->path, "/big") == 0) {
        text = malloc(f->reply_size + 1);
        assert_non_null(text);
        memset(text, 'x', f->reply_size);
        text[f->reply_size] = '\0';
        http_conn_reply(conn, 200, text);
        free(text);
    } else if (request->verb == HTTP_VERB_GET) {
        http_conn_reply(conn, 200, request->path);
    } else {
        http_conn_reply(conn, 204, NULL);
    }
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->taken = -1;
    http_bench_init(&f->b, handle, f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    fd_closep(&f->taken);
    http_bench_fini(&f->b);
    free(f);
    return 0;
}

static void expect_end(struct fixture *f, int fd, const char *want)
{
    bool ended;

    assert_string_equal(http_bench_hear(&f->b, fd, &ended), want);
    assert_true(ended);
    (void)close(fd);
    http_bench_run(&f->b);
    assert_int_equal(f->b.server.conn_count, 0);
}

static void replies_are_framed_as_clients_know_them(void **state)
{
    struct fixture *f = *state;
    int fd = http_bench_connect(&f->b);

    http_bench_ask(&f->b, fd, "GET /abc HTTP/1.1\r\nHost: x\r\n\r\n",
        "HTTP/1.1 200 \r\n" HEAD JSON "Content-Length: 4\r\n\r\n/abc");
    http_bench_ask(&f->b, fd,
        "PUT /abc HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", NO_CONTENT);
    assert_int_equal(f->body_len, 2);
    http_bench_ask(&f->b, fd,
        "PATCH http://localhost/a/b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
        "\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        NO_CONTENT);
    assert_int_equal(f->body_len, 5);
    assert_string_equal(f->path, "/a/b");
    http_bench_ask(&f->b, fd, "DELETE / HTTP/1.1\r\n\r\n", NO_CONTENT);
    assert_int_equal(f->handled, 4);
    assert_int_equal(f->b.server.requests, 4);
    (void)close(fd);
    http_bench_run(&f->b);
    assert_int_equal(f->b.server.conn_count, 0);
}

static void requests_come_in_any_pieces(void **state)
{
    static const char request[] =
        "PUT /x HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello";
    struct fixture *f = *state;
    int fd = http_bench_connect(&f->b);
    bool ended;

    for (size_t i = 0; i < sizeof(request) - 1; i++) {
        assert_int_equal(f->handled, 0);
        http_bench_say_bytes(&f->b, fd, request + i, 1);
    }
    assert_int_equal(f->handled, 1);
    assert_string_equal(http_bench_hear(&f->b, fd, &ended), NO_CONTENT);
    (void)close(fd);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    struct fixture *f = *state;
    int fd = http_bench_connect(&f->b);

    http_bench_ask(&f->b, fd,
        "GET /1 HTTP/1.1\r\n\r\n"
        "PUT /2 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
        "GET /3 HTTP/1.1\r\n\r\n",
        "HTTP/1.1 200 \r\n" HEAD JSON "Content-Length: 2\r\n\r\n/1" NO_CONTENT
        "HTTP/1.1 200 \r\n" HEAD JSON "Content-Length: 2\r\n\r\n/3");
    assert_int_equal(f->handled, 3);
    (void)close(fd);
}

/* More of them than one turn, in one buffer. */
static void many_pipelined_requests(void **state)
{
    static const char request[] =
        "PUT /x HTTP/1.1\r\nContent-Length: 1\r\n\r\nx";
    struct fixture *f = *state;
    int fd = http_bench_connect(&f->b);
    char text[100 * sizeof(request)] = "";
    bool ended;

    for (int i = 0; i < 100; i++)
        (void)strcat(text, request);
    http_bench_say(&f->b, fd, text);
    assert_int_equal(
        strlen(http_bench_hear(&f->b, fd, &ended)), 100 * strlen(NO_CONTENT));
    assert_int_equal(f->handled, 100);
    (void)close(fd);
}

static void a_body_has_a_limit(void **state)
{
    struct fixture *f = *state;
    char *body = calloc(1, HTTP_SERVER_BODY_MAX + 1);
    int fd = http_bench_connect(&f->b);
    bool ended;

    assert_non_null(body);
    memset(body, 'b', HTTP_SERVER_BODY_MAX);
    http_bench_say(
        &f->b, fd, "PUT /x HTTP/1.1\r\nContent-Length: 51200\r\n\r\n");
    http_bench_say(&f->b, fd, body);
    assert_string_equal(http_bench_hear(&f->b, fd, &ended), NO_CONTENT);
    assert_int_equal(f->body_len, HTTP_SERVER_BODY_MAX);
    http_bench_say(&f->b, fd,
        "PUT /x HTTP/1.1\r\nContent-Length: 51201\r\n"
        "Expect: 100-continue\r\n\r\n");
    expect_end(f, fd,
        "HTTP/1.1 413 \r\n" HEAD_CLOSE JSON
        "Content-Length: 150\r\n\r\n{ \"error\": \"Request payload with size "
        "51201 is larger than the limit of 51200 allowed by server." DROPPED);
    assert_int_equal(f->handled, 1);

    /* The length of chunks is not known beforehand. */
    fd = http_bench_connect(&f->b);
    http_bench_say(&f->b, fd,
        "PUT /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nc800\r\n");
    http_bench_say(&f->b, fd, body);
    http_bench_say(&f->b, fd, "\r\n1\r\nx\r\n");
    assert_int_equal(f->handled, 1);
    assert_memory_equal(
        http_bench_hear(&f->b, fd, &ended), "HTTP/1.1 413 \r\n", 15);
    assert_true(ended);
    (void)close(fd);
    free(body);
}

static void who_asks_is_told_to_go_on(void **state)
{
    struct fixture *f = *state;
    int fd = http_bench_connect(&f->b);

    http_bench_ask(&f->b, fd,
        "PUT /x HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n",
        "HTTP/1.1 100 \r\n" HEAD "\r\n");
    assert_int_equal(f->handled, 0);
    http_bench_ask(&f->b, fd, "{}", NO_CONTENT);
    (void)close(fd);
}

static void connections_have_a_limit(void **state)
{
    struct fixture *f = *state;
    int fds[HTTP_SERVER_CONNECTIONS_MAX];
    int late;
    bool ended;

    for (size_t i = 0; i < HTTP_SERVER_CONNECTIONS_MAX; i++)
        fds[i] = http_bench_connect(&f->b);
    late = http_bench_connect(&f->b);
    assert_string_equal(http_bench_hear(&f->b, late, &ended), FULL);
    assert_true(ended);
    (void)close(late);
    assert_int_equal(f->b.server.refused, 1);
    (void)close(fds[3]);
    http_bench_run(&f->b);
    fds[3] = http_bench_connect(&f->b);
    for (size_t i = 0; i < HTTP_SERVER_CONNECTIONS_MAX; i++) {
        http_bench_ask(&f->b, fds[i], "DELETE / HTTP/1.1\r\n\r\n", NO_CONTENT);
        (void)close(fds[i]);
    }
    http_bench_run(&f->b);
    assert_int_equal(f->b.server.conn_count, 0);
}

static void clients_may_die_anywhere(void **state)
{
    static const char request[] =
        "PUT /x HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 20\r\n\r\n"
        "half of it";
    struct fixture *f = *state;

    for (size_t len = 0; len < sizeof(request); len++) {
        int fd = http_bench_connect(&f->b);

        http_bench_say_bytes(&f->b, fd, request, len);
        (void)close(fd);
        http_bench_run(&f->b);
        assert_int_equal(f->b.server.conn_count, 0);
    }
    assert_int_equal(f->handled, 0);
}

static void who_does_not_read_holds_up_only_himself(void **state)
{
    struct fixture *f = *state;
    int slow = http_bench_connect(&f->b);
    int other = http_bench_connect(&f->b);
    const char *got;
    bool ended;

    f->reply_size = 3 * 1024 * 1024;
    for (int i = 0; i < 50; i++)
        http_bench_say(&f->b, slow, "GET /big HTTP/1.1\r\n\r\n");
    assert_int_equal(f->handled, 1);
    http_bench_ask(&f->b, other, "DELETE / HTTP/1.1\r\n\r\n", NO_CONTENT);
    got = http_bench_hear(&f->b, slow, &ended);
    assert_true(strlen(got) > f->reply_size);
    assert_true(f->handled > 2);
    /* And one that dies while a reply waits for it. */
    (void)close(slow);
    http_bench_run(&f->b);
    assert_int_equal(f->b.server.conn_count, 1);
    (void)close(other);
}

static void what_is_no_request_ends_the_connection(void **state)
{
    static const struct {
        const char *request;
        const char *reason;
    } cases[] = {
        {"BREW /pot HTTP/1.1\r\n\r\n", "invalid HTTP method"},
        {"GET /x FTP/1.1\r\n\r\n", "invalid constant string"},
        {"GET nowhere HTTP/1.1\r\n\r\n", "invalid URL"},
        {"\x16\x03\x01", "invalid HTTP method"},
        {"PUT /x HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            "invalid character in content-length header"},
        {"PUT /x HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "unexpected content-length header"},
        {"PUT /x HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: "
         "chunked\r\n\r\n",
            "unexpected content-length header"},
        {"GET /x HTTP/1.1\r\nna\x01me: x\r\n\r\n",
            "invalid character in header"},
        {"POST /x HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
            "Invalid HTTP Method."},
        {"HEAD /x HTTP/1.1\r\n\r\n", "Invalid HTTP Method."},
        {"OPTIONS * HTTP/1.1\r\n\r\n", "Invalid HTTP Method."},
        {"GET http://host HTTP/1.1\r\n\r\n", "Invalid URI."},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int fd = http_bench_connect(&f->b);
        char want[512];

        http_bench_say(&f->b, fd, cases[i].request);
        (void)snprintf(want, sizeof(want),
            "HTTP/1.1 400 \r\n" HEAD_CLOSE JSON
            "Content-Length: %zu\r\n\r\n{ \"error\": \"%s" DROPPED,
            strlen(cases[i].reason) + strlen("{ \"error\": \"" DROPPED),
            cases[i].reason);
        expect_end(f, fd, want);
    }
    assert_int_equal(f->handled, 0);
}

static void a_path_has_a_limit(void **state)
{
    struct fixture *f = *state;
    char request[HTTP_SERVER_PATH_MAX + 64];
    int fd = http_bench_connect(&f->b);
    bool ended;

    (void)strcpy(request, "GET ");
    memset(request + 4, '/', HTTP_SERVER_PATH_MAX);
    (void)strcpy(request + 4 + HTTP_SERVER_PATH_MAX, " HTTP/1.1\r\n\r\n");
    http_bench_say(&f->b, fd, request);
    assert_int_equal(f->handled, 1);
    assert_int_equal(strlen(f->path), HTTP_SERVER_PATH_MAX);
    (void)http_bench_hear(&f->b, fd, &ended);
    assert_false(ended);
    (void)strcpy(request + 4 + HTTP_SERVER_PATH_MAX, "/ HTTP/1.1\r\n\r\n");
    http_bench_say(&f->b, fd, request);
    assert_int_equal(f->handled, 1);
    (void)http_bench_hear(&f->b, fd, &ended);
    assert_true(ended);
    (void)close(fd);
}

static void headers_have_a_limit(void **state)
{
    struct fixture *f = *state;
    int fd = http_bench_connect(&f->b);
    bool ended;

    http_bench_say(&f->b, fd, "GET /x HTTP/1.1\r\n");
    for (int i = 0; i < 10000; i++)
        http_bench_say(&f->b, fd, "X-Some-Header: of no interest\r\n");
    (void)http_bench_hear(&f->b, fd, &ended);
    assert_true(ended);
    assert_int_equal(f->handled, 0);
    (void)close(fd);
}

static void who_asks_for_it_is_closed(void **state)
{
    struct fixture *f = *state;
    int fd = http_bench_connect(&f->b);

    http_bench_say(&f->b, fd, "DELETE / HTTP/1.1\r\nConnection: close\r\n\r\n");
    expect_end(f, fd, "HTTP/1.1 204 \r\n" HEAD_CLOSE "\r\n");
    fd = http_bench_connect(&f->b);
    http_bench_say(&f->b, fd, "DELETE / HTTP/1.0\r\n\r\n");
    expect_end(f, fd, "HTTP/1.1 204 \r\n" HEAD_CLOSE "\r\n");
}

static void a_connection_is_taken_over(void **state)
{
    struct fixture *f = *state;
    int fd = http_bench_connect(&f->b);
    char buf[16];

    http_bench_say(&f->b, fd,
        "GET /take HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: vsock\r\n\r\n");
    assert_true(f->had_upgrade);
    assert_int_equal(f->take_result, 0);
    assert_int_equal(f->b.server.conn_count, 0);
    assert_int_equal(send(fd, "ping", 4, 0), 4);
    assert_int_equal(recv(f->taken, buf, sizeof(buf), 0), 4);
    assert_int_equal(send(f->taken, "pong", 4, 0), 4);
    assert_int_equal(recv(fd, buf, sizeof(buf), 0), 4);
    (void)close(fd);
}

static void who_does_not_wait_is_not_taken_over(void **state)
{
    struct fixture *f = *state;
    int fd = http_bench_connect(&f->b);

    http_bench_ask(&f->b, fd,
        "GET /take HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: vsock\r\n\r\n"
        "DELETE / HTTP/1.1\r\n\r\n",
        "HTTP/1.1 400 \r\n" HEAD "\r\n" NO_CONTENT);
    assert_int_equal(f->take_result, -EPROTO);
    (void)close(fd);
}

static void other_protocols_are_not_offered(void **state)
{
    struct fixture *f = *state;
    int fd = http_bench_connect(&f->b);

    http_bench_ask(&f->b, fd,
        "DELETE / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        NO_CONTENT);
    assert_false(f->had_upgrade);
    http_bench_ask(&f->b, fd,
        "PUT / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: vsock\r\n"
        "Content-Length: 2\r\n\r\n{}",
        NO_CONTENT);
    assert_int_equal(f->body_len, 2);
    /* It does not stick. */
    http_bench_ask(&f->b, fd, "DELETE / HTTP/1.1\r\n\r\n", NO_CONTENT);
    assert_false(f->had_upgrade);
    (void)close(fd);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    static const struct CMUnitTest tests[] = {
        TEST(replies_are_framed_as_clients_know_them),
        TEST(requests_come_in_any_pieces),
        TEST(pipelined_requests_are_answered_in_order),
        TEST(many_pipelined_requests),
        TEST(a_body_has_a_limit),
        TEST(who_asks_is_told_to_go_on),
        TEST(connections_have_a_limit),
        TEST(clients_may_die_anywhere),
        TEST(who_does_not_read_holds_up_only_himself),
        TEST(what_is_no_request_ends_the_connection),
        TEST(a_path_has_a_limit),
        TEST(headers_have_a_limit),
        TEST(who_asks_for_it_is_closed),
        TEST(a_connection_is_taken_over),
        TEST(who_does_not_wait_is_not_taken_over),
        TEST(other_protocols_are_not_offered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
