/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The requests that are one or two system calls on the whole guest. No state,
 * one thread. Each returns 0 or -errno.
 */
#ifndef GUEST_AGENT_SYSTEM_H
#define GUEST_AGENT_SYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/agent/request.h"

/* Sets CLOCK_REALTIME. */
int system_set_time(const struct request_time *time);

/*
 * Credits n bytes (1..AGENT_ENTROPY_MAX, 8 bits of entropy each) to the
 * kernel's generator and makes it use them from the next byte on: without
 * the reseed a clone would go on giving its twin's numbers for a while.
 */
int system_add_entropy(const uint8_t *bytes, size_t n);

/* What is known of the guest's generation (VMGenID) since it was restored. */
struct system_generation {
    const char *path;                /* where it is told; NULL: nowhere */
    uint8_t id[AGENT_GENERATION_ID]; /* the latest; zeros: none yet */
};

/*
 * Acts on a generation that is new: the seed goes to the kernel's generator,
 * the clock is set, and the id is written to `path` in place (so that who
 * mapped or watches it sees it): 32 hex digits and a newline. Goes on after an
 * error and returns the first.
 */
int system_new_generation(struct system_generation *generation,
    const struct request_generation *request);

/* syncfs of the file system of path, or sync of all with an empty path. */
int system_sync(const char *path);

/* Freezes or thaws the file system of path; empty is "/". */
int system_freeze(const char *path, bool thaw);

#endif
