/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/minimize.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/num.h"

struct work {
    const struct minimize *m;
    uint8_t *bytes;
    size_t *size;
    uint8_t *trial;
    struct minimize_stats stats;
};

static bool is_over(const struct work *w)
{
    return w->stats.tries >= w->m->tries_max;
}

/* Tries w->trial, and takes it if it keeps the property. */
static int try(struct work *w, size_t size, bool *ret_kept, struct err *err)
{
    int rc;

    *ret_kept = false;
    w->stats.tries++;
    rc = w->m->keeps(w->m->opaque, w->trial, size, ret_kept, err);
    if (rc == 0 && *ret_kept) {
        memcpy(w->bytes, w->trial, size);
        *w->size = size;
    }
    return rc;
}

/* Leaves out every block of `block` bytes that can be; whether any was. */
static int remove_blocks(
    struct work *w, size_t block, bool *ret_any, struct err *err)
{
    size_t at = 0;

    *ret_any = false;
    while (at < *w->size && !is_over(w)) {
        size_t n = num_min(block, *w->size - at);
        bool kept;
        int rc;

        memcpy(w->trial, w->bytes, at);
        memcpy(w->trial + at, w->bytes + at + n, *w->size - at - n);
        rc = try(w, *w->size - n, &kept, err);
        if (rc < 0)
            return rc;
        /* What is behind the block has moved to where it was. */
        if (!kept)
            at += n;
        *ret_any |= kept;
    }
    return 0;
}

static bool is_filled(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != MINIMIZE_FILL)
            return false;
    }
    return true;
}

static int fill_blocks(struct work *w, size_t block, struct err *err)
{
    for (size_t at = 0; at < *w->size && !is_over(w); at += block) {
        size_t n = num_min(block, *w->size - at);
        bool kept;
        int rc;

        if (is_filled(w->bytes + at, n))
            continue;
        memcpy(w->trial, w->bytes, *w->size);
        memset(w->trial + at, MINIMIZE_FILL, n);
        rc = try(w, *w->size, &kept, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* The largest power of two that is no more than half of it, but 1 at least. */
static size_t first_block(size_t size)
{
    size_t block = 1;

    while (block <= size / 4)
        block *= 2;
    return block;
}

static int run(struct work *w, struct err *err)
{
    bool any = true;
    int rc = 0;

    /* Until a whole round with blocks of all sizes finds nothing. */
    while (rc == 0 && any && !is_over(w)) {
        any = false;
        for (size_t block = first_block(*w->size); block > 0 && rc == 0;
             block /= 2) {
            bool removed;

            rc = remove_blocks(w, block, &removed, err);
            any |= rc == 0 && removed;
        }
    }
    for (size_t block = first_block(*w->size); block > 0 && rc == 0; block /= 2)
        rc = fill_blocks(w, block, err);
    return rc;
}

int minimize_run(const struct minimize *m, uint8_t *bytes, size_t *size,
    struct minimize_stats *ret_stats, struct err *err)
{
    struct work w = {.m = m, .bytes = bytes, .size = size};
    int rc;

    w.trial = malloc(*size + 1);
    if (w.trial == NULL)
        return err_sys(err, ENOMEM, "an input of %zu bytes", *size);
    rc = run(&w, err);
    free(w.trial);
    if (rc < 0)
        return rc;
    w.stats.is_complete = !is_over(&w);
    *ret_stats = w.stats;
    return 0;
}
