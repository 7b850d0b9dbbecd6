/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/output_limit.h"

#include <assert.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "vmm/base/num.h"

/* Room that is kept for the last line. */
#define NOTE_MAX 160u

void output_limit_init(struct output_limit *limit, uint64_t max, int fd)
{
    assert(max == 0 || max >= OUTPUT_LIMIT_MIN);
    *limit = (struct output_limit){.max = max, .fd = fd};
}

size_t output_limit_take(struct output_limit *limit, size_t len)
{
    uint64_t used;
    uint64_t n;

    if (limit == NULL || limit->max == 0)
        return len;
    used = __atomic_load_n(&limit->used, __ATOMIC_RELAXED);
    do {
        n = num_min(len, limit->max - NOTE_MAX - used);
    } while (!__atomic_compare_exchange_n(&limit->used, &used, used + n, false,
        __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return (size_t)n;
}

void output_limit_give_back(struct output_limit *limit, size_t len)
{
    if (limit != NULL && limit->max != 0)
        (void)__atomic_fetch_sub(&limit->used, len, __ATOMIC_RELAXED);
}

void output_limit_say(struct output_limit *limit)
{
    struct pollfd pfd = {.events = POLLOUT};
    char text[NOTE_MAX];
    int n;

    if (limit == NULL || limit->max == 0 ||
        __atomic_exchange_n(&limit->is_full, 1, __ATOMIC_RELAXED) != 0)
        return;
    n = snprintf(text, sizeof(text),
        "\nspore: warning: %llu bytes of output are all that this file takes: "
        "the guest's further output is left out (--output-limit)\n",
        (unsigned long long)limit->max);
    assert(n > 0 && (size_t)n < sizeof(text));
    pfd.fd = limit->fd;
    /* It is left out of a pipe that is full: no writer may wait here. */
    if (poll(&pfd, 1, 0) <= 0 || write(limit->fd, text, (size_t)n) < 0)
        return;
}
