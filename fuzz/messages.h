/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inputs of messages, each behind its length of 16 bits, little-endian, as
 * `spore fuzz pack --frames` has them: where they begin, and changes of whole
 * messages and within them, behind a beginning that is to stay as it is.
 *
 * Of an input that does not end with a message's end the rest is a message too:
 * that is how the guest's side takes it.
 *
 * Plain functions, and a generator of random numbers that is the caller's.
 * Controlled by whoever wrote the input: all of it.
 */
#ifndef FUZZ_MESSAGES_H
#define FUZZ_MESSAGES_H

#include <stddef.h>
#include <stdint.h>

#define MESSAGES_LENGTH_SIZE sizeof(uint16_t)

struct messages_rng {
    uint64_t state; /* not 0 */
};

/* A number of [0, below); below > 0. */
uint32_t messages_draw(struct messages_rng *rng, uint32_t below);

/* Bytes of the message that an input of `size` > 0 bytes begins with, its
 * length included: [1, size]. */
size_t messages_first(const uint8_t *input, size_t size);

size_t messages_count(const uint8_t *input, size_t size);

/* Where message `index` begins; `size` if there are not so many. */
size_t messages_at(const uint8_t *input, size_t size, size_t index);

/*
 * Changes one thing about the messages from `from` on, a message's beginning:
 * one goes, comes twice, changes its place, is cut, grows or has bytes changed;
 * or one of `other` (may be of no bytes) is put in or takes its place. Of
 * `input`, `size` bytes in room for `size_max`; the new size, at least `from`.
 */
size_t messages_change(uint8_t *input, size_t size, size_t size_max,
    size_t from, const uint8_t *other, size_t other_size,
    struct messages_rng *rng);

#endif
