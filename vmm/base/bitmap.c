/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/bitmap.h"

#include <assert.h>
#include <errno.h>
#include <sys/mman.h>

#include "vmm/base/num.h"

#define WORD_BITS 64u

static size_t word_count(size_t bits)
{
    return num_div_up(bits, WORD_BITS);
}

/* Words and summary, one behind the other. */
static size_t byte_count(size_t bits)
{
    size_t words = word_count(bits);

    return num_max(words + word_count(words), 1) * sizeof(uint64_t);
}

int bitmap_init(struct bitmap *map, size_t bits)
{
    uint64_t *p = mmap(NULL, byte_count(bits), PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED)
        return -ENOMEM;
    *map = (struct bitmap){
        .words = p, .summary = p + word_count(bits), .bits = bits};
    return 0;
}

void bitmap_fini(struct bitmap *map)
{
    if (map->words != NULL)
        (void)munmap(map->words, byte_count(map->bits));
    *map = (struct bitmap){0};
}

static uint64_t mask_of(size_t first, size_t count)
{
    uint64_t ones =
        count == WORD_BITS ? UINT64_MAX : (UINT64_C(1) << count) - 1;

    return ones << first;
}

/*
 * Behind the word's own bit, as bitmap_take clears in the opposite order: who
 * still sees the summary's bit has its word looked at afterwards.
 */
static void note_word(struct bitmap *map, size_t word)
{
    uint64_t *summary = &map->summary[word / WORD_BITS];
    uint64_t mask = mask_of(word % WORD_BITS, 1);

    if ((__atomic_load_n(summary, __ATOMIC_SEQ_CST) & mask) == 0)
        (void)__atomic_fetch_or(summary, mask, __ATOMIC_SEQ_CST);
}

void bitmap_set(struct bitmap *map, size_t first, size_t count)
{
    assert(num_range_within(first, count, map->bits));
    while (count > 0) {
        size_t word = first / WORD_BITS;
        size_t bit = first % WORD_BITS;
        size_t n = num_min(count, WORD_BITS - bit);
        uint64_t mask = mask_of(bit, n);

        (void)__atomic_fetch_or(&map->words[word], mask, __ATOMIC_SEQ_CST);
        note_word(map, word);
        first += n;
        count -= n;
    }
}

bool bitmap_take(struct bitmap *map, size_t *word, uint64_t *ret_bits)
{
    size_t count = word_count(map->bits);
    size_t at = *word;

    while (at < count) {
        uint64_t *summary = &map->summary[at / WORD_BITS];
        uint64_t left = __atomic_load_n(summary, __ATOMIC_RELAXED) &
                        UINT64_MAX << at % WORD_BITS;

        if (left == 0) {
            at = (at / WORD_BITS + 1) * WORD_BITS;
            continue;
        }
        at = at / WORD_BITS * WORD_BITS + (size_t)__builtin_ctzll(left);
        (void)__atomic_fetch_and(
            summary, ~mask_of(at % WORD_BITS, 1), __ATOMIC_SEQ_CST);
        *ret_bits = __atomic_exchange_n(&map->words[at], 0, __ATOMIC_SEQ_CST);
        /* Cleared meanwhile, or another taker was faster. */
        if (*ret_bits != 0) {
            *word = at;
            return true;
        }
        at++;
    }
    return false;
}

void bitmap_clear(struct bitmap *map, size_t first, size_t count)
{
    assert(num_range_within(first, count, map->bits));
    while (count > 0) {
        size_t bit = first % WORD_BITS;
        size_t n = num_min(count, WORD_BITS - bit);
        uint64_t mask = mask_of(bit, n);
        uint64_t *word = &map->words[first / WORD_BITS];

        /* A word that was never written to stays a zero page. */
        if ((__atomic_load_n(word, __ATOMIC_RELAXED) & mask) != 0)
            (void)__atomic_fetch_and(word, ~mask, __ATOMIC_RELAXED);
        first += n;
        count -= n;
    }
}

bool bitmap_test(const struct bitmap *map, size_t bit)
{
    uint64_t word;

    assert(bit < map->bits);
    word = __atomic_load_n(&map->words[bit / WORD_BITS], __ATOMIC_RELAXED);
    return (word >> (bit % WORD_BITS) & 1) != 0;
}

void bitmap_clear_all(struct bitmap *map)
{
    for (size_t i = 0; i < word_count(map->bits); i++) {
        if (__atomic_load_n(&map->words[i], __ATOMIC_RELAXED) != 0)
            __atomic_store_n(&map->words[i], 0, __ATOMIC_RELAXED);
    }
}

size_t bitmap_count(const struct bitmap *map)
{
    size_t n = 0;

    for (size_t i = 0; i < word_count(map->bits); i++) {
        uint64_t word = __atomic_load_n(&map->words[i], __ATOMIC_RELAXED);

        n += (size_t)__builtin_popcountll(word);
    }
    return n;
}

/* The first bit at or after `from` whose value is `value`, or `bits`. */
static size_t find(const struct bitmap *map, size_t from, bool value)
{
    while (from < map->bits) {
        uint64_t word =
            __atomic_load_n(&map->words[from / WORD_BITS], __ATOMIC_RELAXED);
        size_t bit = from % WORD_BITS;

        if (!value)
            word = ~word;
        word &= UINT64_MAX << bit;
        if (word != 0) {
            from += (size_t)__builtin_ctzll(word) - bit;
            return num_min(from, map->bits);
        }
        from += WORD_BITS - bit;
    }
    return map->bits;
}

bool bitmap_next_run(
    const struct bitmap *map, size_t from, size_t *ret_first, size_t *ret_count)
{
    size_t first = find(map, from, true);

    if (first >= map->bits)
        return false;
    *ret_first = first;
    *ret_count = find(map, first, false) - first;
    return true;
}
