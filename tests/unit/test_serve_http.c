/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/serve/http_play.h"

static struct rig rig;
static struct http_play play = HTTP_PLAY_INIT;

static void start(const struct server_config *config)
{
    http_play_start(&play, &rig, config);
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
        http_play_expect(fd, "200 OK");
    }
    /* Each was a clone's. */
    assert_int_equal(pool_fake_counts().given, 5);
    /* Not there is no failure of ours. */
    rig_send(fd, "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n");
    http_play_expect(fd, "404 Not Found");
    rig_send(fd, "GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    http_play_expect(fd, "Connection: keep-alive");
    rig_send(fd, "GET /echo HTTP/1.0\r\n\r\n");
    http_play_expect_last(fd, "Connection: close");
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
        http_play_expect(fd, "Content-Length: 0");
    http_play_expect(fd, "\r\n\r\nhi");
    http_play_expect_last(fd, "Connection: close");
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
    http_play_expect(fd, "\r\n\r\nabcdefg");
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
    http_play_expect_last(fd, "HTTP/1.1 431");
    /* Many of them. */
    fd = rig_connect(&rig);
    rig_send(fd, "GET / HTTP/1.1\r\nHost: a\r\n");
    for (unsigned int i = 0; i < 120; i++)
        rig_send_some(fd, "A: b\r\n", 6);
    rig_send_some(fd, "\r\n", 2);
    http_play_expect_last(fd, "HTTP/1.1 431");
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
    http_play_expect(fd, "404 Not Found");
    assert_int_equal(play.body_bytes, 200 * 4096);
    /* The connection is good for another. */
    rig_send(fd, "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
    http_play_expect(fd, "200 OK");
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
    http_play_expect(fd, "HTTP/1.1 100 Continue");
    rig_send(fd, "body");
    http_play_expect(fd, "\r\n\r\nbody");
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
    http_play_expect_last(fd, "403 Forbidden");
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
    assert_int_equal(len, HTTP_PLAY_BIG + strlen("HTTP/1.1 200 OK\r\n"
                                                 "Connection: close\r\n\r\n"));
    rig_expect(&rig, SERVE_OK, 1);
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
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
