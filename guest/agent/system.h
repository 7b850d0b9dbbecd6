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

/* syncfs of the file system of path, or sync of all with an empty path. */
int system_sync(const char *path);

/* Freezes or thaws the file system of path; empty is "/". */
int system_freeze(const char *path, bool thaw);

#endif
