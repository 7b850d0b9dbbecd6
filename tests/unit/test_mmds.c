/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/clock.h"
#include "vmm/mmds.h"
#include "vmm/mmds_http.h"
#include "vmm/mmds_text.h"

#define NOW (100 * CLOCK_NS_PER_S)

static json_t *parse(const char *text)
{
    json_t *json = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);

    assert_non_null(json);
    return json;
}

static void put(struct mmds *m, const char *text)
{
    json_t *json = parse(text);

    assert_int_equal(mmds_put(m, json, NULL), 0);
    json_decref(json);
}

static void assert_data(const struct mmds *m, const char *want)
{
    char *text;
    size_t len;

    assert_int_equal(mmds_text_json(m->data, &text, &len), 0);
    assert_string_equal(text, want);
    assert_int_equal(len, strlen(want));
    free(text);
}

/* RFC 7396, appendix A, as far as it can be told apart. */
static void merges_patches(void **state)
{
    static const struct {
        const char *data;
        const char *patch;
        const char *want;
    } cases[] = {
        {"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"a\":null}", "{}"},
        {"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"},
        {"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"},
        {"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}",
            "{\"a\":{\"b\":\"d\"}}"},
        {"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}"},
        {"[\"a\",\"b\"]", "[\"c\",\"d\"]", "[\"c\",\"d\"]"},
        {"{\"a\":\"b\"}", "[\"c\"]", "[\"c\"]"},
        {"{\"a\":\"foo\"}", "null", "null"},
        {"{\"a\":\"foo\"}", "\"bar\"", "\"bar\""},
        {"{\"e\":null}", "{\"a\":1}", "{\"a\":1,\"e\":null}"},
        {"[1,2]", "{\"a\":\"b\",\"c\":null}", "{\"a\":\"b\"}"},
        {"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mmds m;
        json_t *patch = parse(cases[i].patch);

        mmds_init(&m);
        assert_int_equal(mmds_patch(&m, patch, NULL), -ENODATA);
        put(&m, cases[i].data);
        assert_int_equal(mmds_patch(&m, patch, NULL), 0);
        assert_data(&m, cases[i].want);
        json_decref(patch);
        mmds_fini(&m);
    }
}

static void keeps_to_the_limit(void **state)
{
    struct mmds m;
    struct err err;
    json_t *json = parse("{\"abc\":\"12345\"}");
    json_t *patch = parse("{\"abc\":\"123456\"}");

    (void)state;
    mmds_init(&m);
    m.limit = strlen("{\"abc\":\"12345\"}");
    assert_int_equal(mmds_put(&m, json, &err), 0);
    assert_int_equal(mmds_patch(&m, patch, &err), -E2BIG);
    assert_string_equal(err.text, "The MMDS patch request doesn't fit.");
    assert_data(&m, "{\"abc\":\"12345\"}");
    m.limit--;
    assert_int_equal(mmds_put(&m, json, &err), -E2BIG);
    json_decref(json);
    json_decref(patch);
    mmds_fini(&m);
}

static void writes_json(void **state)
{
    static const char *const same[] = {"null", "true", "[]", "{}", "-24",
        "12.12", "1e300", "[1,[2,{\"a\":[]}],3]",
        "{\"a\":1,\"b\":{\"c\":\"\\u0000\\u0001\\t\\\"\\\\/\"},\"z\":[{}]}",
        "\"\xc3\xa4\""};

    (void)state;
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
        json_t *json = parse(same[i]);
        char *text;
        size_t len;

        assert_int_equal(mmds_text_json(json, &text, &len), 0);
        assert_string_equal(text, same[i]);
        free(text);
        json_decref(json);
    }
}

static void finds_paths(void **state)
{
    static const struct {
        const char *path;
        const char *want; /* NULL: nothing */
    } cases[] = {
        {"/name/first", "\"John\""},
        {"//name///first/", "\"John\""},
        {"/phones/0", "\"a\""},
        {"/phones/1/", "\"b\""},
        {"/phones/01", NULL},
        {"/phones/+1", NULL},
        {"/phones/2", NULL},
        {"/phones/99999999999999999999", NULL},
        {"/name", "{\"first\":\"John\"}"},
        {"/a~1b", "1"},
        {"/m~0n", "2"},
        {"/m~01n", "3"},
        {"/m~", NULL},
        {"/x", NULL},
        {"/name/first/x", NULL},
        {"name", NULL},
        {"", NULL},
    };
    json_t *root =
        parse("{\"name\":{\"first\":\"John\"},\"phones\":[\"a\",\"b\"]"
              ",\"a/b\":1,\"m~n\":2,\"m~1n\":3}");

    (void)state;
    assert_ptr_equal(mmds_text_find(root, "/", 1), root);
    assert_ptr_equal(mmds_text_find(root, "///", 3), root);
    assert_null(mmds_text_find(root, "/name\0x", 7));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        json_t *found =
            mmds_text_find(root, cases[i].path, strlen(cases[i].path));
        char *text;
        size_t len;

        if (cases[i].want == NULL) {
            assert_null(found);
            continue;
        }
        assert_non_null(found);
        assert_int_equal(mmds_text_json(found, &text, &len), 0);
        assert_string_equal(text, cases[i].want);
        free(text);
    }
    json_decref(root);
}

static void gives_tokens(void **state)
{
    struct mmds m;
    char first[MMDS_TOKEN_CHARS + 1];
    char token[MMDS_TOKEN_CHARS + 1];

    (void)state;
    mmds_init(&m);
    assert_int_equal(mmds_make_token(&m, NOW, 0, first), -ERANGE);
    assert_int_equal(mmds_make_token(&m, NOW, 21601, first), -ERANGE);
    assert_int_equal(mmds_make_token(&m, NOW, 1, first), 0);
    assert_int_equal(strlen(first), MMDS_TOKEN_CHARS);
    assert_true(mmds_has_token(&m, NOW, first, MMDS_TOKEN_CHARS));
    assert_false(mmds_has_token(&m, NOW, first, MMDS_TOKEN_CHARS - 1));
    assert_false(
        mmds_has_token(&m, NOW + CLOCK_NS_PER_S, first, MMDS_TOKEN_CHARS));
    first[5] ^= 1;
    assert_false(mmds_has_token(&m, NOW, first, MMDS_TOKEN_CHARS));
    memset(token, '0', MMDS_TOKEN_CHARS);
    assert_false(mmds_has_token(&m, NOW, token, MMDS_TOKEN_CHARS));
    /* That which ends first makes way. */
    assert_int_equal(mmds_make_token(&m, NOW, 5, first), 0);
    for (unsigned int i = 0; i < MMDS_TOKENS_MAX - 1; i++)
        assert_int_equal(mmds_make_token(&m, NOW, 9, token), 0);
    assert_true(mmds_has_token(&m, NOW, first, MMDS_TOKEN_CHARS));
    assert_int_equal(mmds_make_token(&m, NOW, 9, token), 0);
    assert_false(mmds_has_token(&m, NOW, first, MMDS_TOKEN_CHARS));
    assert_true(mmds_has_token(&m, NOW, token, MMDS_TOKEN_CHARS));
    mmds_fini(&m);
}

/* ---- requests ------------------------------------------------------------ */

struct exchange {
    const char *request;
    int status;
    const char *headers; /* that are there */
    const char *body;
};

static void exchange(struct mmds *m, const struct exchange *x)
{
    struct mmds_reply reply;
    char text[4096];
    char want[64];
    size_t used = 0;

    if (mmds_http_answer(
            m, x->request, strlen(x->request), NOW, &used, &reply) != 1)
        fail_msg("no answer: %s", x->request);
    assert_true(reply.len < sizeof(text));
    memcpy(text, reply.data, reply.len);
    text[reply.len] = '\0';
    free(reply.data);
    (void)snprintf(want, sizeof(want), "HTTP/1.1 %d \r\n", x->status);
    if (strncmp(text, want, strlen(want)) != 0)
        fail_msg("%s\n%s", x->request, text);
    assert_non_null(strstr(text, "\r\nServer: Firecracker API\r\n"));
    if (x->headers != NULL && strstr(text, x->headers) == NULL)
        fail_msg("%s\n%s", x->request, text);
    if (x->body != NULL && strcmp(strstr(text, "\r\n\r\n") + 4, x->body) != 0)
        fail_msg("%s\n%s", x->request, text);
    (void)snprintf(want, sizeof(want), "Content-Length: %zu\r\n",
        strlen(strstr(text, "\r\n\r\n") + 4));
    assert_non_null(strstr(text, want));
}

#define DATA                                                                   \
    "{\"name\":{\"second\":\"Doe\",\"first\":\"John\",\"x\":{}},\"age\":43,"   \
    "\"list\":[\"a\"]}"
#define PLAIN "Content-Type: text/plain\r\n"
#define JSON  "Content-Type: application/json\r\n"
#define END   " HTTP/1.1\r\n\r\n"
#define NO_TOKEN                                                               \
    "No MMDS token provided. Use `X-metadata-token` or "                       \
    "`X-aws-ec2-metadata-token` header to specify the session token."
#define NO_TTL                                                                 \
    "Token time to live value not found. Use `X-metadata-token-ttl-seconds` "  \
    "or `X-aws-ec2-metadata-token-ttl-seconds` header to specify the token's " \
    "lifetime."
#define TOKEN_REQUEST(header)                                                  \
    "PUT /latest/api/token HTTP/1.1\r\n" header "\r\n\r\n"

static void answers_version_1(void **state)
{
    static const struct exchange cases[] = {
        {"GET /name/first" END, 200, PLAIN, "John"},
        {"GET /name" END, 200, PLAIN, "first\nsecond\nx/"},
        {"GET /" END, 200, PLAIN, "age\nlist\nname/"},
        {"GET http://169.254.169.254/name/first" END, 200, PLAIN, "John"},
        {"GET /name HTTP/1.1\r\nAccept: application/json\r\n\r\n", 200, JSON,
            "{\"first\":\"John\",\"second\":\"Doe\",\"x\":{}}"},
        {"GET /age HTTP/1.1\r\nACCEPT:  application/json \r\n\r\n", 200, JSON,
            "43"},
        {"GET /age HTTP/1.1\r\nAccept: */*\r\n\r\n", 501, PLAIN,
            "Cannot retrieve value. The value has an unsupported type."},
        {"GET /list" END, 501, PLAIN, NULL},
        {"GET /list/0" END, 200, PLAIN, "a"},
        {"GET //invalid/x" END, 404, PLAIN, "Resource not found: //invalid/x."},
        {"GET http://x" END, 400, PLAIN, "Invalid URI."},
        {"GET * HTTP/1.1\r\n\r\n", 400, PLAIN, NULL},
        {"PATCH /name" END, 405, "Allow: GET, PUT\r\n",
            "Not allowed HTTP method."},
        {"DELETE /name" END, 405, NULL, NULL},
        {"GET /name/first HTTP/1.1\r\nX-metadata-token: zzz\r\n\r\n", 200, NULL,
            "John"},
        {"PUT /name" END, 404, NULL, "Resource not found: /name."},
        {TOKEN_REQUEST("Host: x"), 400, NULL, NO_TTL},
        {TOKEN_REQUEST("X-metadata-token-ttl-seconds: 0"), 400, NULL,
            "Invalid time to live value provided for token: 0. Please provide "
            "a value between 1 and 21600."},
        {TOKEN_REQUEST("X-metadata-token-ttl-seconds: 21601"), 400, NULL, NULL},
        {TOKEN_REQUEST("x-Metadata-Token-ttl-seconds: abc"), 400, NULL,
            "Invalid header. Reason: Invalid value. "
            "Key:x-Metadata-Token-ttl-seconds; Value:abc"},
        {TOKEN_REQUEST("X-metadata-token-ttl-seconds: 4294967296"), 400, NULL,
            NULL},
        {TOKEN_REQUEST("X-metadata-token-ttl-seconds: 21600"), 200,
            "X-metadata-token-ttl-seconds: 21600\r\n", NULL},
        {TOKEN_REQUEST("X-aws-ec2-metadata-token-ttl-seconds: 1"), 200,
            "X-aws-ec2-metadata-token-ttl-seconds: 1\r\n", NULL},
        {TOKEN_REQUEST("X-metadata-token-ttl-seconds: 9\r\nX-Forwarded-For: a"),
            400, NULL,
            "Invalid header. Reason: Unsupported header name. Key: "
            "X-Forwarded-For"},
        {"NONSENSE\r\n\r\n", 400, "Connection: close\r\n", NULL},
        {"GET /name/first HTTP/1.1\r\nConnection: close\r\n\r\n", 200,
            "Connection: close\r\n", "John"},
    };
    struct mmds m;

    (void)state;
    mmds_init(&m);
    exchange(&m,
        &(struct exchange){"GET /" END, 404, NULL, "Resource not found: /."});
    put(&m, DATA);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        exchange(&m, &cases[i]);
    assert_int_equal(m.invalid_tokens, 1);
    m.imds_compat = true;
    exchange(
        &m, &(struct exchange){
                "GET /name/first HTTP/1.1\r\nAccept: application/json\r\n\r\n",
                200, PLAIN, "John"});
    mmds_fini(&m);
}

static void answers_version_2(void **state)
{
    static const char ask[] = TOKEN_REQUEST("X-metadata-token-ttl-seconds: 60");
    static const char *const names[] = {
        "X-metadata-token", "x-AWS-ec2-metadata-token"};
    struct mmds m;
    struct mmds_reply reply;
    char text[512];
    size_t used;

    (void)state;
    mmds_init(&m);
    m.is_v2 = true;
    put(&m, DATA);
    exchange(&m, &(struct exchange){"GET /name" END, 401, PLAIN, NO_TOKEN});
    exchange(&m, &(struct exchange){
                     "GET /name HTTP/1.1\r\nX-metadata-token: abc\r\n\r\n", 401,
                     PLAIN, "MMDS token not valid."});
    assert_int_equal(
        mmds_http_answer(&m, ask, strlen(ask), NOW, &used, &reply), 1);
    assert_int_equal(used, strlen(ask));
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(text, sizeof(text),
            "GET /name/first HTTP/1.1\r\n%s: %.*s\r\n\r\n", names[i],
            (int)MMDS_TOKEN_CHARS, reply.data + reply.len - MMDS_TOKEN_CHARS);
        exchange(&m, &(struct exchange){text, 200, PLAIN, "John"});
    }
    free(reply.data);
    assert_int_equal(mmds_http_answer(&m, text, strlen(text),
                         NOW + 61 * CLOCK_NS_PER_S, &used, &reply),
        1);
    assert_memory_equal(reply.data, "HTTP/1.1 401 ", 13);
    free(reply.data);
    mmds_fini(&m);
}

static void waits_for_the_whole(void **state)
{
    static const char text[] = "PUT /latest/api/token HTTP/1.0\r\n"
                               "X-metadata-token-ttl-seconds: 5\r\n"
                               "Content-Length: 3\r\n\r\nabcGET /";
    struct mmds m;
    struct mmds_reply reply;
    size_t used;

    (void)state;
    mmds_init(&m);
    for (size_t n = 1; n < sizeof(text) - 6; n++)
        assert_int_equal(mmds_http_answer(&m, text, n, NOW, &used, &reply), 0);
    assert_int_equal(
        mmds_http_answer(&m, text, sizeof(text) - 1, NOW, &used, &reply), 1);
    assert_int_equal(used, sizeof(text) - 6);
    assert_memory_equal(reply.data, "HTTP/1.0 200 ", 13);
    assert_true(reply.is_last);
    free(reply.data);
    mmds_fini(&m);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_patches),
        cmocka_unit_test(keeps_to_the_limit),
        cmocka_unit_test(writes_json),
        cmocka_unit_test(finds_paths),
        cmocka_unit_test(gives_tokens),
        cmocka_unit_test(answers_version_1),
        cmocka_unit_test(answers_version_2),
        cmocka_unit_test(waits_for_the_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
