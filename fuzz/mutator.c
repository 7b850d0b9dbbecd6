/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libspore-mutator.so, a custom mutator of AFL++ (its docs/custom_mutators.md)
 * for targets that take messages.
 *
 * While afl-fuzz is at one input of its queue, all that it tries begins with
 * the same messages of that input, how many is drawn each time. That
 * makes them a level (fuzz/levels.h), from which only what is behind them is
 * run. Besides, it changes whole messages, which AFL++'s own stages do not know
 * of.
 *
 * Owns its buffers. Thread rule: afl-fuzz's one thread. The symbols are AFL++'s
 * and all that there are.
 */
#include "fuzz/mutator.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "fuzz/messages.h"
#include "vmm/base/num.h"

#define INPUT_MAX (1u << 20) /* AFL++'s MAX_FILE */
#define PAGE      4096u
#define CHANGES   64u /* tried of each input, beside AFL++'s own */
#define STACK_MAX 4u  /* changes at once */

struct mutator {
    struct messages_rng rng;
    size_t held; /* bytes that all inputs begin with */
    uint8_t prefix[INPUT_MAX];
    uint8_t changed[INPUT_MAX];
    uint8_t processed[INPUT_MAX];
};

void *afl_custom_init(void *afl, unsigned int seed)
{
    struct mutator *m = calloc(1, sizeof(*m));

    (void)afl;
    if (m != NULL)
        m->rng.state = (uint64_t)seed << 1 | 1;
    return m;
}

void afl_custom_deinit(void *data)
{
    free(data);
}

/* The next input's turn: it is trimmed as it is. */
uint8_t afl_custom_queue_get(void *data, const uint8_t *path)
{
    struct mutator *m = data;

    (void)path;
    m->held = 0;
    return 1;
}

/* Trimming is behind it now, and all that follows changes it. */
uint32_t afl_custom_fuzz_count(void *data, const uint8_t *buf, size_t size)
{
    struct mutator *m = data;
    size_t count;

    size = num_min(size, INPUT_MAX);
    count = messages_count(buf, size);
    m->held = count < 2 ? 0
                        : messages_at(buf, size,
                              messages_draw(&m->rng, (uint32_t)count));
    memcpy(m->prefix, buf, m->held);
    return CHANGES;
}

size_t afl_custom_fuzz(void *data, uint8_t *buf, size_t size, uint8_t **ret_buf,
    uint8_t *other, size_t other_size, size_t size_max)
{
    struct mutator *m = data;

    size_max = num_min(size_max, INPUT_MAX);
    size = num_min(size, size_max);
    memcpy(m->changed, buf, size);
    for (uint32_t n = 1 + messages_draw(&m->rng, STACK_MAX); n > 0; n--)
        size =
            messages_change(m->changed, size, size_max, num_min(m->held, size),
                other, other == NULL ? 0 : other_size, &m->rng);
    *ret_buf = m->changed;
    return size;
}

/* What has lost its beginning gets it back. */
size_t afl_custom_post_process(
    void *data, uint8_t *buf, size_t size, uint8_t **ret_buf)
{
    struct mutator *m = data;
    size_t from = size > m->held ? m->held : 0;
    size_t rest;

    *ret_buf = buf;
    /*
     * What comes of another fuzzer's queue, between the turns of two inputs of
     * ours, is a mapped file and to be tried as it is: none of afl-fuzz's own
     * buffers begins at a page.
     */
    if ((uintptr_t)buf % PAGE == 0)
        return size;
    if (from == m->held && memcmp(buf, m->prefix, m->held) == 0)
        return size;
    rest = num_min(size - from, INPUT_MAX - m->held);
    memcpy(m->processed, m->prefix, m->held);
    memcpy(m->processed + m->held, buf + from, rest);
    *ret_buf = m->processed;
    return m->held + rest;
}
