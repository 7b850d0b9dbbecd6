/* SPDX-License-Identifier: Apache-2.0 */
/* What the process that has libspore's machines takes for a request. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "vmm/serve/lib_request.h"

struct packet {
    struct lib_request request;
    char strings[64];
};

static struct lib_call call;

static int parse(const struct packet *p, size_t strings, size_t fd_count)
{
    struct err err;

    return lib_request_parse((const uint8_t *)p, sizeof(p->request) + strings,
        fd_count, &call, &err);
}

static struct packet make(enum lib_op op, uint32_t flags)
{
    return (struct packet){
        .request = {
            .version = LIB_WIRE_VERSION, .op = (uint32_t)op, .flags = flags}};
}

static void test_open(void **state)
{
    struct packet p = make(LIB_OPEN, LIB_RENEW);

    (void)state;
    p.request.max = 4;
    p.request.ready = 4;
    p.request.argc = 2;
    memcpy(p.strings, "web\0--net\0user", 15);
    assert_int_equal(parse(&p, 15, 0), 0);
    assert_string_equal(call.name, "web");
    assert_int_equal(call.argc, 2);
    assert_string_equal(call.argv[0], "--net");
    assert_string_equal(call.argv[1], "user");
    assert_null(call.argv[2]);
    assert_int_equal(call.flags, LIB_RENEW);
    p.request.ready = 5;
    assert_int_equal(parse(&p, 15, 0), -EINVAL);
    p.request.ready = 0;
    p.request.max = LIB_CLONES_MAX + 1;
    assert_int_equal(parse(&p, 15, 0), -EINVAL);
    p.request.max = 0;
    assert_int_equal(parse(&p, 15, 0), -EINVAL);
}

static void test_exec(void **state)
{
    struct packet p =
        make(LIB_EXEC, LIB_STDIN | LIB_STDERR | LIB_CWD | LIB_USER);

    (void)state;
    p.request.argc = 1;
    p.request.envc = 2;
    p.request.timeout_ms = 7;
    memcpy(p.strings, "true\0A=B\0C=\0/srv\0web", 21);
    assert_int_equal(parse(&p, 21, 2), 0);
    assert_int_equal(call.timeout_ms, 7);
    assert_string_equal(call.argv[0], "true");
    assert_null(call.argv[1]);
    assert_string_equal(call.env[1], "C=");
    assert_null(call.env[2]);
    assert_string_equal(call.cwd, "/srv");
    assert_string_equal(call.user, "web");
    /* As many descriptors as flags say. */
    assert_int_equal(parse(&p, 21, 1), -EPROTO);
    assert_int_equal(parse(&p, 21, 3), -EPROTO);
    /* No string without its end, nothing behind the last. */
    assert_int_equal(parse(&p, 20, 2), -EPROTO);
    assert_int_equal(parse(&p, 22, 2), -EPROTO);
    memcpy(p.strings + 5, "=BB", 3);
    assert_int_equal(parse(&p, 21, 2), -EINVAL);
    p.request.argc = LIB_ARGS_MAX + 1;
    assert_int_equal(parse(&p, 21, 2), -EPROTO);
}

/* Every field that an op does not have is to be unused. */
static void test_fields(void **state)
{
    static const struct {
        enum lib_op op;
        size_t fds;
        bool has_timeout;
        bool has_port;
    } ops[] = {{LIB_CLONE, 1, true, false}, {LIB_STREAM, 1, false, true},
        {LIB_RESET, 0, true, false}, {LIB_CANCEL, 0, false, false}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
        const struct packet plain = make(ops[i].op, 0);
        struct packet p = plain;

        assert_int_equal(parse(&p, 0, ops[i].fds), 0);
        assert_int_equal(call.op, ops[i].op);
        assert_int_equal(parse(&p, 0, ops[i].fds + 1), -EPROTO);
        assert_int_equal(parse(&p, 1, ops[i].fds), -EPROTO);
        p.request.timeout_ms = 1;
        assert_int_equal(
            parse(&p, 0, ops[i].fds), ops[i].has_timeout ? 0 : -EPROTO);
        p = plain;
        p.request.port = 1;
        assert_int_equal(
            parse(&p, 0, ops[i].fds), ops[i].has_port ? 0 : -EPROTO);
        p = plain;
        p.request.flags = LIB_STDIN;
        assert_int_equal(parse(&p, 0, ops[i].fds), -EPROTO);
        p = plain;
        p.request.argc = 1;
        assert_int_equal(parse(&p, 0, ops[i].fds), -EPROTO);
        p = plain;
        p.request.max = 1;
        assert_int_equal(parse(&p, 0, ops[i].fds), -EPROTO);
        p = plain;
        p.request.zero = 1;
        assert_int_equal(parse(&p, 0, ops[i].fds), -EPROTO);
    }
}

static void test_what_is_none(void **state)
{
    struct packet p = make(LIB_OPS, 0);

    (void)state;
    assert_int_equal(parse(&p, 0, 0), -EPROTO);
    p = make(LIB_CANCEL, 0);
    p.request.version = LIB_WIRE_VERSION + 1;
    assert_int_equal(parse(&p, 0, 0), -EPROTO);
    assert_int_equal(lib_request_parse((const uint8_t *)&p,
                         sizeof(p.request) - 1, 0, &call, NULL),
        -EPROTO);
    assert_int_equal(lib_request_parse(NULL, 0, 0, &call, NULL), -EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_exec),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_what_is_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
