/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a monitor asks its keeper for (keeper.h), and what it is given.
 *
 * Every request is hostile once the monitor has settled: it is received as a
 * copy, its size and its path are checked, and it is refused if it is not of
 * this phase. Owns what the settlement brought, and the set that is recorded.
 * Thread rule: one thread. Nothing here waits for the monitor.
 */
#ifndef VMM_KEEPER_REQUESTS_H
#define VMM_KEEPER_REQUESTS_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/keeper.h"
#include "vmm/keeper_wire.h"

struct keeper_requests {
    const struct keeper_config *config;
    bool is_settled; /* the monitor may be a guest's by now */
    bool is_serving;
    char vsock_path[KEEPER_PATH_SIZE]; /* empty: none */
    bool owns_vsock_path;
    int record_fd; /* a snapshot's folder; -1 */
    bool record_adds;
    uint64_t pages;
    int set_fd; /* what the monitor writes a set into; -1 */
};

/* `config` is read, its place and detach used, until the requests end. */
void keeper_requests_init(
    struct keeper_requests *k, const struct keeper_config *config);

/* Removes the vsock path if the machine made it, and the place. */
void keeper_requests_fini(struct keeper_requests *k);

/*
 * One request that is there to be read from the link, and its reply: 0 when
 * the monitor asks no more, or does not read what it is told.
 */
CC_MUST_CHECK int keeper_requests_answer(
    struct keeper_requests *k, int link_fd);

#endif
