/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What afl-fuzz calls in a custom mutator (AFL++, docs/custom_mutators.md), as
 * far as ours has it. Thread rule: one thread. Inputs are anybody's.
 */
#ifndef FUZZ_MUTATOR_H
#define FUZZ_MUTATOR_H

#include <stddef.h>
#include <stdint.h>

/* NULL for lack of memory, at which afl-fuzz ends. */
void *afl_custom_init(void *afl, unsigned int seed);
void afl_custom_deinit(void *data);
uint8_t afl_custom_queue_get(void *data, const uint8_t *path);
uint32_t afl_custom_fuzz_count(void *data, const uint8_t *buf, size_t size);
size_t afl_custom_fuzz(void *data, uint8_t *buf, size_t size, uint8_t **ret_buf,
    uint8_t *other, size_t other_size, size_t size_max);
size_t afl_custom_post_process(
    void *data, uint8_t *buf, size_t size, uint8_t **ret_buf);

#endif
