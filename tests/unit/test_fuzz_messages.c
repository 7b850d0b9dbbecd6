/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz/messages, and fuzz/mutator.c as afl-fuzz calls it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fuzz/messages.h"
#include "fuzz/mutator.h"

#define ROOM 256u

/* "ab" "" "cde", and one that is cut. */
static const uint8_t session[] = {
    2, 0, 'a', 'b', 0, 0, 3, 0, 'c', 'd', 'e', 9, 0, 'f'};

static void messages_are_found(void **state)
{
    (void)state;
    assert_int_equal(messages_count(session, sizeof(session)), 4);
    assert_int_equal(messages_at(session, sizeof(session), 0), 0);
    assert_int_equal(messages_at(session, sizeof(session), 1), 4);
    assert_int_equal(messages_at(session, sizeof(session), 2), 6);
    assert_int_equal(messages_at(session, sizeof(session), 3), 11);
    assert_int_equal(messages_at(session, sizeof(session), 4), sizeof(session));
    assert_int_equal(
        messages_at(session, sizeof(session), 99), sizeof(session));
    assert_int_equal(messages_first(session + 11, 3), 3);
    assert_int_equal(messages_first(session, 1), 1);
    assert_int_equal(messages_count(session, 0), 0);
}

static void changes_keep_the_beginning(void **state)
{
    static const uint8_t other[] = {1, 0, 'x', 2, 0, 'y', 'z'};
    struct messages_rng rng = {.state = 1};
    unsigned int changed = 0;

    (void)state;
    for (unsigned int i = 0; i < 20000; i++) {
        uint8_t input[ROOM];
        size_t from = messages_at(session, sizeof(session), i % 5);
        size_t size_max = sizeof(session) + messages_draw(&rng, 100);
        size_t size = sizeof(session);

        memcpy(input, session, size);
        size = messages_change(input, size, size_max, from, other,
            i % 3 == 0 ? 0 : sizeof(other), &rng);
        assert_true(size >= from && size <= size_max);
        assert_memory_equal(input, session, from);
        changed += size != sizeof(session) || memcmp(input, session, size) != 0;
    }
    assert_true(changed > 10000);
}

/* What is changed in the middle is still messages, all but a cut last one. */
static void changes_keep_messages(void **state)
{
    static const uint8_t whole[] = {
        1, 0, 'a', 4, 0, 'b', 'c', 'd', 'e', 1, 0, 'f'};
    struct messages_rng rng = {.state = 3};

    (void)state;
    for (unsigned int i = 0; i < 20000; i++) {
        uint8_t input[ROOM];
        size_t size = sizeof(whole);

        memcpy(input, whole, size);
        size =
            messages_change(input, size, ROOM, 0, whole, sizeof(whole), &rng);
        for (size_t at = 0; at < size;) {
            size_t n = messages_first(input + at, size - at);

            assert_int_equal(n, MESSAGES_LENGTH_SIZE + input[at] +
                                    ((size_t)input[at + 1] << 8));
            at += n;
        }
    }
}

static void draws_are_within(void **state)
{
    struct messages_rng rng = {.state = 7};
    unsigned int seen = 0;

    (void)state;
    for (unsigned int i = 0; i < 1000; i++) {
        uint32_t n = messages_draw(&rng, 5);

        assert_true(n < 5);
        seen |= 1u << n;
    }
    assert_int_equal(seen, 0x1f);
    assert_int_equal(messages_draw(&rng, 1), 0);
}

/* ---- the mutator --------------------------------------------------------- */

/* Bytes that all which is tried of `session` begins with, this time. */
static size_t held_of(void *mutator)
{
    size_t held = sizeof(session);

    for (unsigned int i = 0; i < 16; i++) {
        uint8_t buf[sizeof(session)];
        uint8_t *out = NULL;
        size_t n;

        /* What has nothing of it gets it in front. */
        memset(buf, (int)(0x80 + i), sizeof(buf));
        n = afl_custom_post_process(mutator, buf, sizeof(buf), &out);
        assert_non_null(out);
        assert_int_equal(n, sizeof(buf));
        for (size_t k = 0; k < held; k++) {
            if (out[k] != session[k])
                held = k;
        }
    }
    return held;
}

static void an_input_keeps_some_of_its_messages(void **state)
{
    void *mutator = afl_custom_init(NULL, 5);
    static const uint8_t path[] = "queue/id:0";
    unsigned int seen[sizeof(session)] = {0};
    uint8_t buf[sizeof(session)];

    (void)state;
    assert_non_null(mutator);
    for (unsigned int i = 0; i < 200; i++) {
        size_t held;

        assert_int_equal(afl_custom_queue_get(mutator, path), 1);
        /* In between it is trimmed, and calibrated: as it is. */
        assert_int_equal(held_of(mutator), 0);
        assert_true(
            afl_custom_fuzz_count(mutator, session, sizeof(session)) > 0);
        held = held_of(mutator);
        seen[held]++;
        for (unsigned int k = 0; k < 10; k++) {
            uint8_t *out = NULL;
            size_t n;

            memcpy(buf, session, sizeof(buf));
            n = afl_custom_fuzz(
                mutator, buf, sizeof(buf), &out, NULL, 0, 1u << 20);
            assert_true(n >= held);
            assert_memory_equal(out, session, held);
        }
    }
    /* Each beginning of whole messages that leaves something, and no other. */
    assert_true(seen[0] > 0 && seen[4] > 0 && seen[6] > 0 && seen[11] > 0);
    assert_int_equal(seen[0] + seen[4] + seen[6] + seen[11], 200);
    afl_custom_deinit(mutator);
}

static void what_is_too_short_gets_longer(void **state)
{
    void *mutator = afl_custom_init(NULL, 1);
    uint8_t buf[1] = {0x77};
    uint8_t *out = NULL;
    size_t n = 0;

    (void)state;
    assert_non_null(mutator);
    do {
        (void)afl_custom_queue_get(mutator, NULL);
        (void)afl_custom_fuzz_count(mutator, session, sizeof(session));
        n = afl_custom_post_process(mutator, buf, 1, &out);
    } while (n == 1);
    assert_memory_equal(out, session, n - 1);
    assert_int_equal(out[n - 1], 0x77);
    afl_custom_deinit(mutator);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_found),
        cmocka_unit_test(changes_keep_the_beginning),
        cmocka_unit_test(changes_keep_messages),
        cmocka_unit_test(draws_are_within),
        cmocka_unit_test(an_input_keeps_some_of_its_messages),
        cmocka_unit_test(what_is_too_short_gets_longer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
