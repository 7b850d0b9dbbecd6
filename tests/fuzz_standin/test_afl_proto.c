/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both ways to say hello to AFL++, with the test in AFL++'s place: what it
 * reads is compared with the words of its sources (include/types.h, 4.04c and
 * 4.22a).
 */
#include "fuzz/afl_proto.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

/* After those. */
#include <cmocka.h>

#include "vmm/base/fd.h"

static const uint8_t dict[] = "\4word\1x";
#define DICT_SIZE 7u

struct fixture {
    struct afl_proto proto;
    int to;   /* the target */
    int from; /* it */
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    int in[2];
    int out[2];

    assert_non_null(f);
    assert_int_equal(pipe(in), 0);
    assert_int_equal(pipe(out), 0);
    f->proto.in_fd = in[0];
    f->proto.out_fd = out[1];
    f->to = in[1];
    f->from = out[0];
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    fd_closep(&f->proto.in_fd);
    fd_closep(&f->proto.out_fd);
    fd_closep(&f->to);
    fd_closep(&f->from);
    free(f);
    return 0;
}

static void say(struct fixture *f, uint32_t word)
{
    assert_int_equal(write(f->to, &word, sizeof(word)), sizeof(word));
}

static uint32_t hear(struct fixture *f)
{
    uint32_t word;

    assert_int_equal(read(f->from, &word, sizeof(word)), sizeof(word));
    return word;
}

static void assert_silence(struct fixture *f)
{
    uint8_t byte;

    fd_closep(&f->proto.out_fd);
    assert_int_equal(read(f->from, &byte, 1), 0);
}

static void hear_dict(struct fixture *f)
{
    uint8_t bytes[DICT_SIZE];

    assert_int_equal(hear(f), DICT_SIZE);
    assert_int_equal(read(f->from, bytes, sizeof(bytes)), sizeof(bytes));
    assert_memory_equal(bytes, dict, sizeof(bytes));
}

static int hello(struct fixture *f, const struct afl_offer *offer)
{
    struct err err;

    return afl_proto_hello(&f->proto, offer, &err);
}

static void test_old_with_a_map_only(void **state)
{
    struct fixture *f = *state;
    const struct afl_offer offer = {.map_size = 1000};

    assert_int_equal(hello(f, &offer), 0);
    assert_int_equal(hear(f), 0x80000001u | 0x40000000u | 999u << 1);
    assert_silence(f);
}

static void test_old_with_everything(void **state)
{
    struct fixture *f = *state;
    const struct afl_offer offer = {.map_size = AFL_PROTO_MAP_MAX,
        .wants_shm_input = true,
        .has_cmp = true,
        .dict = dict,
        .dict_size = DICT_SIZE};

    say(f, 0x80000001u | 0x10000000u | 0x01000000u);
    assert_int_equal(hello(f, &offer), 0);
    assert_int_equal(hear(f), 0xd3ffffffu);
    hear_dict(f);
    assert_silence(f);
}

/* afl-tmin and the like have no use for a dictionary. */
static void test_old_declined(void **state)
{
    struct fixture *f = *state;
    const struct afl_offer offer = {.map_size = 64,
        .wants_shm_input = true,
        .dict = dict,
        .dict_size = DICT_SIZE};

    say(f, 0x80000001u | 0x01000000u);
    assert_int_equal(hello(f, &offer), 0);
    assert_int_equal(hear(f), 0xd1000001u | 63u << 1);
    assert_silence(f);
}

static void test_old_misunderstood(void **state)
{
    struct fixture *f = *state;
    const struct afl_offer offer = {.map_size = 64, .wants_shm_input = true};

    say(f, 0x80000001u);
    assert_int_equal(hello(f, &offer), -EPROTO);
    fd_closep(&f->to);
    assert_int_equal(hello(f, &offer), -EPROTO);
}

static void test_new_with_everything(void **state)
{
    struct fixture *f = *state;
    const struct afl_offer offer = {.map_size = 300001,
        .wants_shm_input = true,
        .dict = dict,
        .dict_size = DICT_SIZE};

    f->proto.is_new = true;
    say(f, 0x41464c01u ^ 0xffffffffu);
    assert_int_equal(hello(f, &offer), 0);
    assert_int_equal(hear(f), 0x41464c01u);
    assert_int_equal(hear(f), 0x1u | 0x2u | 0x800u);
    assert_int_equal(hear(f), 300001u);
    hear_dict(f);
    assert_int_equal(hear(f), 0x41464c01u);
    assert_silence(f);
}

/* AFL++ up to 4.10c goes on with the first test case. */
static void test_new_misunderstood(void **state)
{
    struct fixture *f = *state;
    const struct afl_offer offer = {.map_size = 64};

    f->proto.is_new = true;
    say(f, 0);
    assert_int_equal(hello(f, &offer), -EPROTO);
}

static void test_test_cases(void **state)
{
    struct fixture *f = *state;
    bool was_killed = true;
    struct err err;

    say(f, 0);
    assert_int_equal(afl_proto_next(&f->proto, &was_killed, &err), 1);
    assert_false(was_killed);
    assert_int_equal(afl_proto_begin(&f->proto, 4711, &err), 0);
    assert_int_equal(hear(f), 4711);
    assert_int_equal(afl_proto_end(&f->proto, 11, &err), 0);
    assert_int_equal(hear(f), 11);
    say(f, 1);
    assert_int_equal(afl_proto_next(&f->proto, &was_killed, &err), 1);
    assert_true(was_killed);
    assert_int_equal(write(f->to, "xy", 2), 2);
    fd_closep(&f->to);
    assert_int_equal(afl_proto_next(&f->proto, &was_killed, &err), -EPROTO);
    assert_int_equal(afl_proto_next(&f->proto, &was_killed, &err), 0);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_old_with_a_map_only),
        CASE(test_old_with_everything),
        CASE(test_old_declined),
        CASE(test_old_misunderstood),
        CASE(test_new_with_everything),
        CASE(test_new_misunderstood),
        CASE(test_test_cases),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
