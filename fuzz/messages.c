/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/messages.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "vmm/base/num.h"

#define GROWTH_MAX 64u

/* xorshift64* */
uint32_t messages_draw(struct messages_rng *rng, uint32_t below)
{
    assert(below > 0 && rng->state != 0);
    rng->state ^= rng->state >> 12;
    rng->state ^= rng->state << 25;
    rng->state ^= rng->state >> 27;
    return (uint32_t)((rng->state * UINT64_C(0x2545f4914f6cdd1d)) >> 32) %
           below;
}

static uint16_t get_length(const uint8_t *at)
{
    return (uint16_t)(at[0] | at[1] << 8);
}

static void put_length(uint8_t *at, size_t length)
{
    at[0] = (uint8_t)length;
    at[1] = (uint8_t)(length >> 8);
}

size_t messages_first(const uint8_t *input, size_t size)
{
    assert(size > 0);
    return size < MESSAGES_LENGTH_SIZE
               ? size
               : num_min(MESSAGES_LENGTH_SIZE + get_length(input), size);
}

size_t messages_count(const uint8_t *input, size_t size)
{
    size_t count = 0;

    for (size_t at = 0; at < size; count++)
        at += messages_first(input + at, size - at);
    return count;
}

size_t messages_at(const uint8_t *input, size_t size, size_t index)
{
    size_t at = 0;

    for (; index > 0 && at < size; index--)
        at += messages_first(input + at, size - at);
    return at;
}

/* ---- changes ------------------------------------------------------------- */

struct edit {
    uint8_t *input;
    size_t size;
    size_t size_max;
};

static void cut_out(struct edit *e, size_t at, size_t size)
{
    memmove(e->input + at, e->input + at + size, e->size - at - size);
    e->size -= size;
}

/* Room of `size` bytes at `at`; false: there is none. */
static bool open_up(struct edit *e, size_t at, size_t size)
{
    if (size > e->size_max - e->size)
        return false;
    memmove(e->input + at + size, e->input + at, e->size - at);
    e->size += size;
    return true;
}

/* `at` is that of one that may be moved by it. */
static void put_twice(struct edit *e, size_t at, size_t size)
{
    if (open_up(e, at, size))
        memcpy(e->input + at, e->input + at + size, size);
}

/* Behind the one that comes next. */
static void put_later(struct edit *e, size_t at, size_t size)
{
    uint8_t moved[MESSAGES_LENGTH_SIZE + UINT16_MAX];
    size_t next;

    if (at + size >= e->size)
        return;
    next = messages_first(e->input + at + size, e->size - at - size);
    memcpy(moved, e->input + at, size);
    memmove(e->input + at, e->input + at + size, next);
    memcpy(e->input + at + next, moved, size);
}

static void put_in(
    struct edit *e, size_t at, const uint8_t *message, size_t size)
{
    if (size > 0 && open_up(e, at, size))
        memcpy(e->input + at, message, size);
}

static void shorten(struct edit *e, size_t at, size_t size, uint32_t by)
{
    size_t length = size - MESSAGES_LENGTH_SIZE - by;

    cut_out(e, at + MESSAGES_LENGTH_SIZE + length, by);
    put_length(e->input + at, length);
}

static void lengthen(
    struct edit *e, size_t at, size_t size, struct messages_rng *rng)
{
    uint32_t by = 1 + messages_draw(rng, GROWTH_MAX);
    size_t length = size - MESSAGES_LENGTH_SIZE + by;

    if (length > UINT16_MAX || !open_up(e, at + size, by))
        return;
    for (uint32_t i = 0; i < by; i++)
        e->input[at + size + i] = (uint8_t)messages_draw(rng, 256);
    put_length(e->input + at, length);
}

static void change_bytes(
    struct edit *e, size_t at, size_t size, struct messages_rng *rng)
{
    uint32_t length = (uint32_t)(size - MESSAGES_LENGTH_SIZE);
    uint8_t *bytes = e->input + at + MESSAGES_LENGTH_SIZE;

    for (uint32_t n = 1 + messages_draw(rng, 4); n > 0; n--) {
        uint8_t *byte = &bytes[messages_draw(rng, length)];

        switch (messages_draw(rng, 3)) {
        case 0:
            *byte = (uint8_t)messages_draw(rng, 256);
            break;
        case 1:
            *byte ^= (uint8_t)(1u << messages_draw(rng, 8));
            break;
        default:
            *byte = (uint8_t)(*byte + messages_draw(rng, 33) - 16);
            break;
        }
    }
}

/* Within one message that has bytes. */
static void change_inside(
    struct edit *e, size_t at, size_t size, struct messages_rng *rng)
{
    uint32_t length = (uint32_t)(size - MESSAGES_LENGTH_SIZE);

    switch (messages_draw(rng, 4)) {
    case 0:
        shorten(e, at, size, 1 + messages_draw(rng, length));
        break;
    case 1:
        lengthen(e, at, size, rng);
        break;
    default:
        change_bytes(e, at, size, rng);
        break;
    }
}

/* Some message of `input`, of which there is one. */
static const uint8_t *pick(const uint8_t *input, size_t size,
    struct messages_rng *rng, size_t *ret_size)
{
    uint32_t count = (uint32_t)messages_count(input, size);
    size_t at = messages_at(input, size, messages_draw(rng, count));

    *ret_size = messages_first(input + at, size - at);
    return input + at;
}

size_t messages_change(uint8_t *input, size_t size, size_t size_max,
    size_t from, const uint8_t *other, size_t other_size,
    struct messages_rng *rng)
{
    struct edit e = {.input = input, .size = size, .size_max = size_max};
    const uint8_t *theirs = NULL;
    size_t their_size = 0;
    size_t at;
    size_t ours;

    assert(from <= size && size <= size_max);
    if (other_size > 0)
        theirs = pick(other, other_size, rng, &their_size);
    if (from == size) {
        put_in(&e, from, theirs, their_size);
        return e.size;
    }
    at = (size_t)(pick(input + from, size - from, rng, &ours) - input);
    switch (messages_draw(rng, 8)) {
    case 0:
        cut_out(&e, at, ours);
        break;
    case 1:
        put_twice(&e, at, ours);
        break;
    case 2:
        put_later(&e, at, ours);
        break;
    case 3:
        put_in(&e, at, theirs, their_size);
        break;
    case 4:
        if (their_size > 0) {
            cut_out(&e, at, ours);
            put_in(&e, at, theirs, their_size);
        }
        break;
    default:
        if (ours > MESSAGES_LENGTH_SIZE)
            change_inside(&e, at, ours, rng);
        break;
    }
    return e.size;
}
