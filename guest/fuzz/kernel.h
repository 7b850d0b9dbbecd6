/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel as what is fuzzed: each input is written to a device by one
 * write(2), and what KCOV saw of it becomes the map. The root lies in init, in
 * front of that call. A kernel that panics ends the machine, which the
 * executor takes for the crash that it is.
 */
#ifndef GUEST_FUZZ_KERNEL_H
#define GUEST_FUZZ_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#include "guest/fuzz/conf.h"

/* Of the map unless the file says another size. */
#define KERNEL_MAP_BYTES 65536u

/*
 * Counts the ways from one place to the next as AFL++ counts edges: `pcs` in
 * the order that they were reached in. `map_size` is a power of two; a count
 * stays at 255 once it is there.
 */
void kernel_count_edges(
    const uint64_t *pcs, size_t count, uint8_t *map, size_t map_size);

/* Does not come back but with -errno and *ret_step in words. */
int kernel_run(const struct conf *conf, const char **ret_step);

#endif
