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

#include "snapshot/hash.h"
#include "snapshot/id.h"
#include "snapshot/manifest.h"

#define ID "\"0102030405060708090a0b0c0d0e0f10\""
#define FIELDS                                                                 \
    "\"parent\":null,\"name\":null,\"created\":1,\"monitor\":null,"            \
    "\"kernel\":null,\"vcpus\":1,\"pages\":4,\"data_pages\":3,"                \
    "\"own_pages\":2,\"state_bytes\":0"

static int decode(const char *text, struct manifest *m)
{
    struct err err;
    int rc = manifest_decode(text, strlen(text), m, &err);

    if (rc < 0)
        assert_int_equal(strncmp(err.text, "manifest.json: ", 15), 0);
    return rc;
}

static void test_round_trip(void **state)
{
    struct manifest m = {.id = {.b = {1}},
        .parent = {.b = {2}},
        .name = "a.name-1",
        .monitor = "spore 0.1.0",
        .kernel = "/boot/\"vmlinux\" \xc3\xa9",
        .created = 1700000000,
        .vcpus = 2,
        .pages = 100,
        .data_pages = 50,
        .own_pages = 7,
        .state_bytes = 12345};
    struct manifest again;
    char *text;
    struct err err;

    (void)state;
    assert_int_equal(manifest_encode(&m, &text, &err), 0);
    assert_int_equal(decode(text, &again), 0);
    assert_memory_equal(&again.id, &m.id, sizeof(m.id));
    assert_memory_equal(&again.parent, &m.parent, sizeof(m.parent));
    assert_string_equal(again.name, m.name);
    assert_string_equal(again.monitor, m.monitor);
    assert_string_equal(again.kernel, m.kernel);
    assert_int_equal(again.created, m.created);
    assert_int_equal(again.vcpus, 2);
    assert_int_equal(again.pages, 100);
    assert_int_equal(again.data_pages, 50);
    assert_int_equal(again.own_pages, 7);
    assert_int_equal(again.state_bytes, 12345);
    free(text);
    /* A file name may be any bytes. */
    memcpy(m.kernel, "\xff\xfe", 3);
    assert_int_equal(manifest_encode(&m, &text, &err), 0);
    assert_int_equal(decode(text, &again), 0);
    assert_string_equal(again.kernel, "");
    free(text);
}

static void test_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        "{\"format\":1}",
        "{\"format\":1,\"id\":" ID "}",
        "{\"format\":\"1\",\"id\":" ID "," FIELDS "}",
        "{\"format\":1,\"id\":null," FIELDS "}",
        "{\"format\":1,\"id\":\"01\"," FIELDS "}",
        "{\"format\":1,\"id\":\"00000000000000000000000000000000\"," FIELDS "}",
        "{\"format\":1,\"id\":" ID "," FIELDS ",\"pages\":5}",
        "{\"format\":1,\"id\":" ID "," FIELDS "} x",
    };
    struct manifest m;
    char big[600];

    (void)state;
    assert_int_equal(decode("{\"format\":1,\"id\":" ID "," FIELDS "}", &m), 0);
    assert_int_equal(m.own_pages, 2);
    assert_int_equal(
        decode("{\"format\":2,\"id\":" ID "," FIELDS "}", &m), -ENOTSUP);
    assert_int_equal(
        decode("{\"format\":1,\"new\":[],\"id\":" ID "," FIELDS "}", &m), 0);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        if (decode(bad[i], &m) != -EBADMSG)
            fail_msg("accepted: %s", bad[i]);
    }
    /* Each field in turn wrong. */
    {
        static const char *const fields[][2] = {
            {"\"parent\":null", "\"parent\":7"},
            {"\"name\":null", "\"name\":\"a b\""},
            {"\"created\":1", "\"created\":-1"},
            {"\"created\":1", "\"created\":9007199254740993"},
            {"\"monitor\":null", "\"monitor\":\"\\u0001\""},
            {"\"kernel\":null", "\"kernel\":\"a\\u000ab\""},
            {"\"vcpus\":1", "\"vcpus\":4294967296"},
            {"\"vcpus\":1", "\"vcpus\":1.5"},
            {"\"data_pages\":3", "\"data_pages\":5"},
            {"\"own_pages\":2", "\"own_pages\":4"},
            {"\"state_bytes\":0", "\"state_bytes\":null"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
            static const char good[] =
                "{\"format\":1,\"id\":" ID "," FIELDS "}";
            const char *at = strstr(good, fields[i][0]);

            assert_non_null(at);
            (void)snprintf(big, sizeof(big), "%.*s%s%s", (int)(at - good), good,
                fields[i][1], at + strlen(fields[i][0]));
            if (decode(big, &m) != -EBADMSG)
                fail_msg("accepted: %s", big);
        }
    }
}

static void test_names(void **state)
{
    static const char *const good[] = {"a", "9", "a.b_c-D", "abcdef",
        "0102030405060708090a0b0c0d0e0f1", "0102030405060708090a0b0c0d0e0f1G"};
    static const char *const bad[] = {"", ".", "..", "-a", "a/b", "a b", "a\n",
        "0102030405060708090a0b0c0d0e0f10", "\xc3\xa9"};
    char longest[SNAPSHOT_NAME_MAX + 2];
    struct snapshot_id id;
    char text[SNAPSHOT_ID_TEXT_SIZE];
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        assert_int_equal(snapshot_name_check(good[i], &err), 0);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(snapshot_name_check(bad[i], &err), -EINVAL);
    memset(longest, 'x', sizeof(longest));
    longest[SNAPSHOT_NAME_MAX + 1] = '\0';
    assert_int_equal(snapshot_name_check(longest, &err), -EINVAL);
    longest[SNAPSHOT_NAME_MAX] = '\0';
    assert_int_equal(snapshot_name_check(longest, &err), 0);
    assert_false(snapshot_id_from_text("", &id));
    assert_false(
        snapshot_id_from_text("0102030405060708090A0b0c0d0e0f10", &id));
    assert_false(
        snapshot_id_from_text("0102030405060708090a0b0c0d0e0f100", &id));
    assert_true(snapshot_id_from_text("0102030405060708090a0b0c0d0e0f10", &id));
    assert_int_equal(id.b[15], 0x10);
    snapshot_id_to_text(&id, text);
    assert_string_equal(text, "0102030405060708090a0b0c0d0e0f10");
}

/* What `xxhsum -H2` prints: the file format depends on it. */
static void test_hash(void **state)
{
    struct hash_stream stream;
    struct hash128 hash = hash_bytes("", 0);
    struct hash128 pages[2];
    char text[HASH_TEXT_SIZE];
    char data[8192];

    (void)state;
    hash_to_text(&hash, text);
    assert_string_equal(text, "99aa06d3014798d86001c324468d497f");
    memset(data, 'x', sizeof(data));
    hash_pages(data, 2, pages);
    assert_true(hash_equal(&pages[0], &pages[1]));
    assert_int_equal(hash_stream_init(&stream), 0);
    for (size_t i = 0; i < 4096; i += 7)
        hash_stream_add(&stream, data, i + 7 <= 4096 ? 7 : 4096 - i);
    hash = hash_stream_end(&stream);
    assert_true(hash_equal(&hash, &pages[0]));
    hash_stream_fini(&stream);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_hash),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
