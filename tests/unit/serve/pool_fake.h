/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool without machines: vmm/serve/pool.h played by threads, linked in its
 * place. A clone's guest is a function that gets the connection.
 *
 * Thread rule: pool.h's for what that declares; the controls from any thread.
 */
#ifndef TESTS_UNIT_SERVE_POOL_FAKE_H
#define TESTS_UNIT_SERVE_POOL_FAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/serve/pool.h"

/* What becomes of the clone when its guest is done with the connection. */
enum pool_fake_end {
    POOL_FAKE_CLOSED,
    POOL_FAKE_POWERED_OFF,
    POOL_FAKE_FAILED,
    POOL_FAKE_KILLED,
};

/* Closes `fd`, or leaves it to be closed when it returns. */
typedef enum pool_fake_end pool_fake_guest_fn(
    void *opaque, uint32_t port, int fd);

/* Back to the beginning, before a test. */
void pool_fake_init(pool_fake_guest_fn *guest, void *opaque);

/* Nobody gets a clone while it is held. */
void pool_fake_hold(bool on);
/* Making clones fails. */
void pool_fake_fail(bool on);
/* The zygote is gone. */
void pool_fake_break(bool on);

struct pool_fake_counts {
    uint32_t taken; /* at the moment */
    uint32_t most;  /* at a time */
    uint32_t waiting;
    uint64_t given;
    uint64_t dropped;
    uint64_t recycled;
    uint64_t told_agent;
};
struct pool_fake_counts pool_fake_counts(void);

#endif
