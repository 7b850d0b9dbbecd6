/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When a snapshot of a prefix pays: what inputs that come one after another
 * begin with is run once, and each of them from there.
 *
 * An agent says where in the input a run has come to (FUZZ_ABI_LEVEL). Once
 * enough inputs in a row began with the same bytes, a level is pushed at the
 * last such place in them, on top of those that are there; an input that
 * begins otherwise goes back to the highest level that it fits, or to the
 * root. A level holds for an input that has all the bytes in front of its
 * place, and more behind it: agents look no further ahead than that there is
 * more.
 *
 * This module decides, and keeps what it needs for that; whoever owns it pushes
 * and pops. Its guesses cost time when they are wrong, never a result, and it
 * guesses less the more often it was wrong.
 *
 * Thread rule: one thread. Guest-controlled: the places; inputs are anybody's.
 */
#ifndef FUZZ_LEVELS_H
#define FUZZ_LEVELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define LEVELS_MAX       8u
#define LEVELS_PLACE_MAX 256u

/* Inputs in a row with one beginning before a level is pushed: at the first,
 * and when most of them came to nothing. */
#define LEVELS_PATIENCE_MIN 8u
#define LEVELS_PATIENCE_MAX 4096u

/* A level is worth its push if this many times the patience run from it. */
#define LEVELS_WORTH 4u

struct levels_held {
    size_t at;    /* bytes of the input that were used */
    uint8_t *map; /* the coverage map of then */
};

struct levels {
    size_t input_max;
    size_t map_size;
    struct levels_held held[LEVELS_MAX]; /* the highest last */
    uint32_t count;
    uint8_t *last; /* the latest input; begins as all that is held does */
    size_t last_size;
    size_t shared;        /* bytes that the inputs of the streak begin with */
    uint64_t streak;      /* inputs */
    uint64_t patience;    /* inputs until the next push */
    uint64_t runs_on_top; /* since the highest was pushed */
    size_t places[LEVELS_PLACE_MAX]; /* of the latest run, ascending */
    uint32_t place_count;
    size_t wanted;     /* where this run is to push; 0: nowhere */
    uint8_t *next_map; /* room for the next level's */
};

/* For inputs and a coverage map of these many bytes. -ENOMEM. */
CC_MUST_CHECK int levels_init(
    struct levels *levels, size_t input_max, size_t map_size, struct err *err);

void levels_fini(struct levels *levels); /* a zeroed one is let be */

/*
 * A run of `input` is about to begin: the level that it is to begin at, at most
 * levels->count, which is then the number of levels that are held.
 */
uint32_t levels_begin(struct levels *levels, const uint8_t *input, size_t size);

/*
 * The run has come to `place`, bytes of its input: whether to push a level
 * here, of which levels_pushed is to be told if that worked.
 */
bool levels_reach(struct levels *levels, uint64_t place);

/* It was; `map` is copied. */
void levels_pushed(struct levels *levels, const uint8_t *map);

/* The map that a run from the highest level begins with; NULL: all zero. */
const uint8_t *levels_map(const struct levels *levels);

#endif
