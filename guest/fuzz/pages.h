/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that the executor reaches: locked where it is, so that its pages stay
 * what they were in the hello. One thread; lives as long as the process.
 */
#ifndef GUEST_FUZZ_PAGES_H
#define GUEST_FUZZ_PAGES_H

#include <stddef.h>
#include <stdint.h>

#include "guest/fuzz/abi.h"

#define PAGES_SIZE 4096u

/* `size` bytes of zeroes, whole pages; 0 or -errno. */
int pages_make(size_t size, uint8_t **ret_pages);

/* Where an input comes to: its length ends the page in front of it. */
struct pages_input {
    uint8_t *bytes;
};

int pages_make_input(struct pages_input *input);

/* Of the input of this run: at most FUZZ_ABI_INPUT_MAX. */
uint32_t pages_input_size(const struct pages_input *input);

/* Names map and input to the executor; `map_size` is exact. */
void pages_say_hello(
    const struct pages_input *input, const uint8_t *map, size_t map_size);

#endif
