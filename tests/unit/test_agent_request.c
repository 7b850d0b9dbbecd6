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

#include "guest/agent/frame.h"
#include "guest/agent/request.h"
#include "tests/unit/support/agent_peer.h"

/* The payload in memory of exactly its size. */
struct sample {
    uint8_t *bytes;
    struct frame_view frame;
};

static void sample_init(
    struct sample *s, uint16_t type, const void *bytes, size_t n)
{
    s->bytes = malloc(n == 0 ? 1 : n);
    assert_non_null(s->bytes);
    if (n > 0)
        memcpy(s->bytes, bytes, n);
    s->frame = (struct frame_view){type, s->bytes, n};
}

static void sample_fini(struct sample *s)
{
    free(s->bytes);
}

/* ---- frames ----------------------------------------------------------- */

static void receive(struct frame_in *in, const void *bytes, size_t n)
{
    size_t room;
    uint8_t *space = frame_in_space(in, &room);

    assert_true(n <= room);
    memcpy(space, bytes, n);
    frame_in_commit(in, n);
}

static void test_frames_are_taken_in_order(void **state)
{
    static const uint8_t two[] = {
        1, 0, 0, 0, 7, 1, 0, 0, 'a', 0, 0, 0, 0, 8, 2, 0, 0};
    static struct frame_in in;
    struct frame_view frame;

    (void)state;
    frame_in_init(&in);
    assert_int_equal(frame_in_next(&in, &frame), 0);
    receive(&in, two, 8);
    assert_int_equal(frame_in_next(&in, &frame), 0);
    receive(&in, two + 8, 4);
    assert_int_equal(frame_in_next(&in, &frame), 1);
    assert_int_equal(frame.type, 0x107);
    assert_int_equal(frame.length, 1);
    assert_int_equal(frame.payload[0], 'a');
    assert_int_equal(frame_in_next(&in, &frame), 0);
    receive(&in, two + 12, 5);
    assert_int_equal(frame_in_next(&in, &frame), 1);
    assert_int_equal(frame.type, 0x208);
    assert_int_equal(frame.length, 0);
    assert_int_equal(frame_in_next(&in, &frame), 0);
}

static void test_largest_frame_fits(void **state)
{
    static const uint8_t header[] = {0, 0, 1, 0, 7, 1, 0, 0};
    static uint8_t payload[AGENT_PAYLOAD_MAX];
    static struct frame_in in;
    struct frame_view frame;
    size_t room;

    (void)state;
    frame_in_init(&in);
    /* A small one before it, so that it does not begin at the front. */
    receive(&in, "\0\0\0\0\1\1\0\0", 8);
    receive(&in, header, sizeof(header));
    assert_int_equal(frame_in_next(&in, &frame), 1);
    receive(&in, payload, sizeof(payload));
    (void)frame_in_space(&in, &room);
    assert_int_equal(room, 0);
    assert_int_equal(frame_in_next(&in, &frame), 1);
    assert_int_equal(frame.length, AGENT_PAYLOAD_MAX);
}

static void test_output_keeps_its_reserve(void **state)
{
    static uint8_t bytes[FRAME_OUT_RESERVE];
    static struct frame_out out;
    size_t room;

    (void)state;
    frame_out_init(&out);
    assert_int_equal(frame_out_room(&out), AGENT_PAYLOAD_MAX);
    (void)frame_out_space(&out);
    frame_out_commit(&out, AGENT_STDOUT, 1000);
    room = frame_out_room(&out);
    assert_int_equal(room, AGENT_PAYLOAD_MAX - 1000 - 8);
    frame_out_commit(&out, AGENT_STDOUT, room);
    assert_int_equal(frame_out_room(&out), 0);
    assert_true(frame_out_put(&out, AGENT_ERROR, bytes, 8, bytes, 256));
    assert_false(
        frame_out_put(&out, AGENT_ERROR, bytes, sizeof(bytes), NULL, 0));
    frame_out_sent(&out, frame_out_pending(&out));
    assert_int_equal(frame_out_room(&out), AGENT_PAYLOAD_MAX);
    assert_false(
        frame_out_put(&out, AGENT_PONG, bytes, AGENT_PAYLOAD_MAX + 1, NULL, 0));
}

/* ---- exec ------------------------------------------------------------- */

static uint8_t buf[AGENT_PAYLOAD_MAX];

static size_t make_exec(void)
{
    static const char *const argv[] = {"ls", "", "-l", NULL};
    static const char *const env[] = {"A=1", NULL};
    const struct peer_exec spec = {
        .flags = AGENT_EXEC_USER_NAME | AGENT_EXEC_TTY,
        .user = "me",
        .cwd = "/tmp",
        .argv = argv,
        .env = env,
        .rows = 24,
        .cols = 80,
    };

    return peer_make_exec(buf, &spec);
}

static int decode_exec(size_t n, struct request_exec *ret)
{
    struct sample s;
    int r;

    sample_init(&s, AGENT_EXEC, buf, n);
    r = request_exec(&s.frame, ret);
    /* What it points to is compared before it goes. */
    if (r == 0) {
        assert_string_equal(ret->user, "me");
        assert_string_equal(ret->cwd, "/tmp");
        assert_memory_equal(ret->strings, "ls\0\0-l\0A=1", 11);
    }
    sample_fini(&s);
    return r;
}

static void test_exec_is_decoded(void **state)
{
    struct request_exec request;
    size_t n = make_exec();

    (void)state;
    assert_int_equal(decode_exec(n, &request), 0);
    assert_int_equal(request.flags, AGENT_EXEC_USER_NAME | AGENT_EXEC_TTY);
    assert_int_equal(request.argc, 3);
    assert_int_equal(request.envc, 1);
    assert_int_equal(request.rows, 24);
    assert_int_equal(request.cols, 80);
    for (size_t cut = 0; cut < n; cut++)
        assert_int_equal(decode_exec(cut, &request), -EPROTO);
    buf[n] = 0;
    assert_int_equal(decode_exec(n + 1, &request), -EPROTO);
}

/* Changes the head, and says what becomes of it. */
static void expect_exec_refused(const struct agent_exec *head)
{
    struct request_exec request;
    size_t n = make_exec();

    memcpy(buf, head, sizeof(*head));
    assert_int_equal(decode_exec(n, &request), -EPROTO);
}

static void test_wrong_exec_heads_are_refused(void **state)
{
    struct agent_exec good;
    struct agent_exec bad;

    (void)state;
    (void)make_exec();
    memcpy(&good, buf, sizeof(good));
    bad = good;
    bad.flags = agent_le32_put(AGENT_EXEC_USER_NAME | 0x40);
    expect_exec_refused(&bad);
    bad.flags = agent_le32_put(AGENT_EXEC_TTY); /* but a user's name */
    expect_exec_refused(&bad);
    bad.flags = agent_le32_put(
        AGENT_EXEC_USER_NAME | AGENT_EXEC_DETACH | AGENT_EXEC_STDIN);
    expect_exec_refused(&bad);
    bad = good;
    bad.argc = agent_le16_put(0);
    expect_exec_refused(&bad);
    bad.argc = agent_le16_put(4);
    expect_exec_refused(&bad);
    bad.argc = agent_le16_put(UINT16_MAX);
    bad.envc = agent_le16_put(UINT16_MAX);
    expect_exec_refused(&bad);
    bad = good;
    bad.uid = agent_le32_put(UINT32_MAX);
    expect_exec_refused(&bad);
    bad = good;
    bad.gid = agent_le32_put(UINT32_MAX);
    expect_exec_refused(&bad);
    bad = good;
    bad.reserved = agent_le32_put(1);
    expect_exec_refused(&bad);
}

static void test_exec_needs_a_command_and_absolute_directory(void **state)
{
    static const char *const empty[] = {"", NULL};
    static const char *const argv[] = {"x", NULL};
    struct peer_exec spec = {.argv = empty};
    struct request_exec request;
    size_t n = peer_make_exec(buf, &spec);

    (void)state;
    assert_int_equal(decode_exec(n, &request), -EPROTO);
    spec.argv = argv;
    spec.cwd = "relative";
    n = peer_make_exec(buf, &spec);
    assert_int_equal(decode_exec(n, &request), -EPROTO);
}

static void test_too_many_strings_are_refused(void **state)
{
    static const char *argv[AGENT_EXEC_STRINGS_MAX + 2];
    struct peer_exec spec = {
        .flags = AGENT_EXEC_USER_NAME,
        .user = "me",
        .argv = argv,
    };
    struct request_exec request;
    struct sample s;
    size_t n;

    (void)state;
    for (size_t i = 0; i < AGENT_EXEC_STRINGS_MAX; i++)
        argv[i] = "x";
    n = peer_make_exec(buf, &spec);
    sample_init(&s, AGENT_EXEC, buf, n);
    assert_int_equal(request_exec(&s.frame, &request), 0);
    assert_int_equal(request.argc, AGENT_EXEC_STRINGS_MAX);
    sample_fini(&s);
    argv[AGENT_EXEC_STRINGS_MAX] = "x";
    n = peer_make_exec(buf, &spec);
    assert_int_equal(decode_exec(n, &request), -EPROTO);
}

/* ---- entries ---------------------------------------------------------- */

static int decode_entry(const struct agent_entry *head, const void *strings,
    size_t n, struct request_entry *ret)
{
    struct sample s;
    int r;

    memcpy(buf, head, sizeof(*head));
    memcpy(buf + sizeof(*head), strings, n);
    sample_init(&s, AGENT_ENTRY, buf, sizeof(*head) + n);
    r = request_entry(&s.frame, ret);
    if (r == 0)
        assert_memory_equal(ret->name, strings, strlen(ret->name) + 1);
    sample_fini(&s);
    return r;
}

static void test_entry_is_decoded(void **state)
{
    const struct agent_entry good = {
        .type = AGENT_ENTRY_SYMLINK,
        .mode = agent_le32_put(07777),
        .uid = agent_le32_put(1),
        .gid = agent_le32_put(2),
        .mtime_s = agent_le64_put((uint64_t)-5),
        .mtime_ns = agent_le32_put(999999999),
    };
    struct request_entry entry;
    struct agent_entry bad = good;

    (void)state;
    assert_int_equal(decode_entry(&good, "a/b\0t", 6, &entry), 0);
    assert_int_equal(entry.mtime_s, -5);
    assert_int_equal(entry.mode, 07777);
    assert_int_equal(decode_entry(&good, "a\0t", 3, &entry), -EPROTO);
    assert_int_equal(decode_entry(&good, "a", 2, &entry), -EPROTO);
    assert_int_equal(decode_entry(&good, "a\0", 3, &entry), -EPROTO);
    bad.type = AGENT_ENTRY_FILE; /* has no target */
    assert_int_equal(decode_entry(&bad, "a\0t", 4, &entry), -EPROTO);
    assert_int_equal(decode_entry(&bad, "a", 2, &entry), 0);
    bad.closing = 1;
    assert_int_equal(decode_entry(&bad, "a", 2, &entry), -EPROTO);
    bad.type = AGENT_ENTRY_DIR;
    assert_int_equal(decode_entry(&bad, "a", 2, &entry), 0);
    bad.closing = 2;
    assert_int_equal(decode_entry(&bad, "a", 2, &entry), -EPROTO);
    bad = good;
    bad.type = 0;
    assert_int_equal(decode_entry(&bad, "a\0t", 4, &entry), -EPROTO);
    bad.type = 4;
    assert_int_equal(decode_entry(&bad, "a\0t", 4, &entry), -EPROTO);
    bad = good;
    bad.mode = agent_le32_put(010000);
    assert_int_equal(decode_entry(&bad, "a\0t", 4, &entry), -EPROTO);
    bad = good;
    bad.mtime_ns = agent_le32_put(1000000000);
    assert_int_equal(decode_entry(&bad, "a\0t", 4, &entry), -EPROTO);
    bad = good;
    bad.uid = agent_le32_put(UINT32_MAX);
    assert_int_equal(decode_entry(&bad, "a\0t", 4, &entry), -EPROTO);
    bad = good;
    bad.reserved[1] = 1;
    assert_int_equal(decode_entry(&bad, "a\0t", 4, &entry), -EPROTO);
}

static void test_names(void **state)
{
    char longest[AGENT_PATH_MAX + 2];

    (void)state;
    assert_true(request_name_is_valid("."));
    assert_true(request_name_is_valid("a"));
    assert_true(request_name_is_valid("..."));
    assert_true(request_name_is_valid(".a/..b/ c\n"));
    assert_false(request_name_is_valid(""));
    assert_false(request_name_is_valid("/"));
    assert_false(request_name_is_valid("/a"));
    assert_false(request_name_is_valid("a/"));
    assert_false(request_name_is_valid("a//b"));
    assert_false(request_name_is_valid(".."));
    assert_false(request_name_is_valid("./a"));
    assert_false(request_name_is_valid("a/../b"));
    assert_false(request_name_is_valid("a/."));
    for (size_t i = 0; i < sizeof(longest) - 1; i++)
        longest[i] = i % 2 == 0 ? 'a' : '/';
    longest[AGENT_PATH_MAX] = '\0';
    assert_true(request_name_is_valid(longest));
    longest[AGENT_PATH_MAX] = '/';
    longest[AGENT_PATH_MAX + 1] = '\0';
    assert_false(request_name_is_valid(longest));
}

static void test_data_must_fit_a_file(void **state)
{
    struct agent_data head = {.offset = agent_le64_put(INT64_MAX - 1)};
    struct request_data data;
    struct sample s;

    (void)state;
    memcpy(buf, &head, sizeof(head));
    buf[sizeof(head)] = 'x';
    buf[sizeof(head) + 1] = 'y';
    sample_init(&s, AGENT_DATA, buf, sizeof(head) + 1);
    assert_int_equal(request_data(&s.frame, &data), 0);
    assert_int_equal(data.length, 1);
    assert_int_equal(data.bytes[0], 'x');
    sample_fini(&s);
    sample_init(&s, AGENT_DATA, buf, sizeof(head) + 2);
    assert_int_equal(request_data(&s.frame, &data), -EPROTO);
    sample_fini(&s);
    sample_init(&s, AGENT_DATA, buf, sizeof(head)); /* no bytes */
    assert_int_equal(request_data(&s.frame, &data), -EPROTO);
    sample_fini(&s);
    memset(buf, 0xff, sizeof(head));
    sample_init(&s, AGENT_DATA, buf, sizeof(head) + 1);
    assert_int_equal(request_data(&s.frame, &data), -EPROTO);
    sample_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames_are_taken_in_order),
        cmocka_unit_test(test_largest_frame_fits),
        cmocka_unit_test(test_output_keeps_its_reserve),
        cmocka_unit_test(test_exec_is_decoded),
        cmocka_unit_test(test_wrong_exec_heads_are_refused),
        cmocka_unit_test(test_exec_needs_a_command_and_absolute_directory),
        cmocka_unit_test(test_too_many_strings_are_refused),
        cmocka_unit_test(test_entry_is_decoded),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_data_must_fit_a_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
