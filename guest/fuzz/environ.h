/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The environment of the program: what fuzzing needs and what fuzz.conf adds.
 *
 * One thread. The strings of fuzz.conf are kept by reference; the others lie
 * in `text`.
 */
#ifndef GUEST_FUZZ_ENVIRON_H
#define GUEST_FUZZ_ENVIRON_H

#include <stdbool.h>
#include <stddef.h>

#include "guest/fuzz/conf.h"

#define ENVIRON_OURS_MAX 16u

struct environ_list {
    char *list[CONF_ENV_MAX + ENVIRON_OURS_MAX + 1]; /* NULL-terminated */
    size_t count;
    size_t used;
    char text[16384];
};

/*
 * Makes it. `early` and `no_avx` are for the preload library's word and for
 * hosts that interpret the guest's kernel. 0, or -E2BIG.
 */
int environ_make(
    struct environ_list *e, const struct conf *c, bool early, bool no_avx);

#endif
