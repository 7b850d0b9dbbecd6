/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/bitmap.h"
#include "vmm/base/cc.h"

/* The same set, one byte per bit. */
struct model {
    uint8_t *bits;
    size_t count;
};

static uint32_t next_random(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (uint32_t)(*seed >> 33);
}

static bool model_next_run(
    const struct model *m, size_t from, size_t *ret_first, size_t *ret_count)
{
    size_t end;

    while (from < m->count && m->bits[from] == 0)
        from++;
    if (from >= m->count)
        return false;
    for (end = from; end < m->count && m->bits[end] != 0; end++)
        continue;
    *ret_first = from;
    *ret_count = end - from;
    return true;
}

static void expect_equal(const struct bitmap *map, const struct model *m)
{
    size_t count = 0;

    for (size_t i = 0; i < m->count; i++) {
        assert_int_equal(bitmap_test(map, i), m->bits[i]);
        count += m->bits[i];
    }
    assert_int_equal(bitmap_count(map), count);
    for (size_t from = 0; from <= m->count + 1; from++) {
        size_t first = 0x5a;
        size_t run = 0x5a;
        size_t want_first = 0x5a;
        size_t want_run = 0x5a;

        assert_int_equal(bitmap_next_run(map, from, &first, &run),
            model_next_run(m, from, &want_first, &want_run));
        assert_int_equal(first, want_first);
        assert_int_equal(run, want_run);
    }
}

static const size_t sizes[] = {
    1, 2, 63, 64, 65, 127, 128, 129, 191, 192, 500, 1024};

static void test_random_operations_match_the_model(void **state)
{
    uint64_t seed = 20240611;

    (void)state;
    for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
        struct model m = {.count = sizes[s]};
        struct bitmap map;

        m.bits = calloc(1, m.count);
        assert_non_null(m.bits);
        assert_int_equal(bitmap_init(&map, m.count), 0);
        expect_equal(&map, &m);
        for (int round = 0; round < 200; round++) {
            size_t first = next_random(&seed) % (m.count + 1);
            size_t most = m.count - first;
            size_t n = next_random(&seed) % (most + 1);

            /* Mostly short runs, so that there are many of them. */
            if (next_random(&seed) % 4 != 0 && n > 3)
                n = next_random(&seed) % 4;
            if (next_random(&seed) % 40 == 0) {
                bitmap_clear_all(&map);
                memset(m.bits, 0, m.count);
            }
            bitmap_set(&map, first, n);
            memset(m.bits + first, 1, n);
            if (round % 8 == 0)
                expect_equal(&map, &m);
        }
        expect_equal(&map, &m);
        bitmap_fini(&map);
        free(m.bits);
    }
}

/* Every range of a bitmap of three words, the last one partly used. */
static void test_every_range(void **state)
{
    const size_t bits = 150;
    struct model m = {.count = bits};
    struct bitmap map;

    (void)state;
    m.bits = calloc(1, bits);
    assert_non_null(m.bits);
    assert_int_equal(bitmap_init(&map, bits), 0);
    for (size_t first = 0; first <= bits; first++) {
        for (size_t n = 0; n <= bits - first; n++) {
            size_t got_first;
            size_t got_count;

            bitmap_clear_all(&map);
            bitmap_set(&map, first, n);
            assert_int_equal(bitmap_count(&map), n);
            assert_int_equal(
                bitmap_next_run(&map, 0, &got_first, &got_count), n > 0);
            if (n > 0) {
                assert_int_equal(got_first, first);
                assert_int_equal(got_count, n);
            }
        }
    }
    bitmap_clear_all(&map);
    expect_equal(&map, &m);
    bitmap_fini(&map);
    free(m.bits);
}

static void test_empty_bitmap(void **state)
{
    struct bitmap map;
    size_t first;
    size_t count;

    (void)state;
    assert_int_equal(bitmap_init(&map, 0), 0);
    bitmap_set(&map, 0, 0);
    bitmap_clear_all(&map);
    assert_int_equal(bitmap_count(&map), 0);
    assert_false(bitmap_next_run(&map, 0, &first, &count));
    bitmap_fini(&map);
    assert_null(map.words);
    bitmap_fini(&map);
}

static void test_large_bitmap_is_cheap_until_set(void **state)
{
    const size_t bits = (size_t)1 << 28; /* pages of 1 TiB */
    struct bitmap map;
    size_t first;
    size_t count;

    (void)state;
    assert_int_equal(bitmap_init(&map, bits), 0);
    bitmap_set(&map, bits - 3, 3);
    assert_true(bitmap_next_run(&map, bits - 1000, &first, &count));
    assert_int_equal(first, bits - 3);
    assert_int_equal(count, 3);
    bitmap_fini(&map);
}

#define SETTERS 4

struct setter {
    struct bitmap *map;
    size_t start;
};

static void *set_every_fourth(void *opaque)
{
    const struct setter *s = opaque;

    for (size_t i = s->start; i < s->map->bits; i += SETTERS)
        bitmap_set(s->map, i, 1);
    return NULL;
}

/* All threads write the same words: a lost update loses a bit. */
static void test_threads_do_not_lose_bits(void **state)
{
    struct setter setters[SETTERS];
    pthread_t threads[SETTERS];
    struct bitmap map;

    (void)state;
    assert_int_equal(bitmap_init(&map, 200000), 0);
    for (size_t i = 0; i < SETTERS; i++) {
        setters[i] = (struct setter){.map = &map, .start = i};
        assert_int_equal(
            pthread_create(&threads[i], NULL, set_every_fourth, &setters[i]),
            0);
    }
    for (size_t i = 0; i < SETTERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(bitmap_count(&map), 200000);
    bitmap_fini(&map);
}

/* What is taken was set, is gone, and comes in order. */
static void test_take(void **state)
{
    const size_t bits = 64 * 64 * 3 + 17;
    uint64_t seed = 7;
    struct bitmap map;

    (void)state;
    assert_int_equal(bitmap_init(&map, bits), 0);
    for (unsigned int n = 0; n < 200; n++) {
        uint8_t *model = calloc(bits, 1);
        size_t last = 0;
        uint64_t word_bits;

        assert_non_null(model);
        for (unsigned int i = 0; i < n; i++) {
            size_t first = next_random(&seed) % bits;
            size_t count = next_random(&seed) % 200;

            count = count > bits - first ? bits - first : count;
            bitmap_set(&map, first, count);
            memset(model + first, 1, count);
        }
        if (n % 5 == 4) {
            bitmap_clear_all(&map);
            memset(model, 0, bits);
        }
        for (size_t w = 0; bitmap_take(&map, &w, &word_bits); w++) {
            assert_true(w >= last);
            last = w;
            for (size_t b = 0; b < 64; b++) {
                if ((word_bits >> b & 1) == 0)
                    continue;
                assert_int_equal(model[w * 64 + b], 1);
                model[w * 64 + b] = 0;
            }
        }
        for (size_t i = 0; i < bits; i++)
            assert_int_equal(model[i], 0);
        assert_int_equal(bitmap_count(&map), 0);
        free(model);
    }
    bitmap_fini(&map);
}

/* Counts up and says so through a bit: never taken without the number. */
struct teller {
    struct bitmap map;
    uint64_t said;
    uint32_t done;
};

static void *tell(void *opaque)
{
    struct teller *t = opaque;

    for (uint64_t n = 1; n <= 300000; n++) {
        __atomic_store_n(&t->said, n, __ATOMIC_RELAXED);
        bitmap_set(&t->map, 4000, 1);
    }
    __atomic_store_n(&t->done, 1, __ATOMIC_RELEASE);
    return NULL;
}

static void test_take_loses_no_write(void **state)
{
    static struct teller t;
    pthread_t thread;
    uint64_t seen = 0;
    uint64_t bits;
    bool is_last;

    (void)state;
    assert_int_equal(bitmap_init(&t.map, 5000), 0);
    assert_int_equal(pthread_create(&thread, NULL, tell, &t), 0);
    do {
        is_last = __atomic_load_n(&t.done, __ATOMIC_ACQUIRE) != 0;
        for (size_t w = 0; bitmap_take(&t.map, &w, &bits); w++)
            seen = __atomic_load_n(&t.said, __ATOMIC_RELAXED);
    } while (!is_last);
    assert_int_equal(seen, 300000);
    assert_int_equal(pthread_join(thread, NULL), 0);
    bitmap_fini(&t.map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_take),
        cmocka_unit_test(test_take_loses_no_write),
        cmocka_unit_test(test_random_operations_match_the_model),
        cmocka_unit_test(test_every_range),
        cmocka_unit_test(test_empty_bitmap),
        cmocka_unit_test(test_large_bitmap_is_cheap_until_set),
        cmocka_unit_test(test_threads_do_not_lose_bits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
