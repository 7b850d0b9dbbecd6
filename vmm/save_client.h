/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot of a machine that another process runs, made here: this process
 * has the store, and the machine is given files to fill (docs/api.md,
 * /spore/capture). The machine may be one that sees no path at all.
 *
 * Blocking, for commands. Thread rule: one thread. Hostile: the machine's
 * process, since its guest may have taken it over. What it says is checked
 * (snapshot/assembly.h), what it does not say is waited for: until SIGINT,
 * SIGTERM or SIGHUP, which are let through when nothing is left behind.
 */
#ifndef VMM_SAVE_CLIENT_H
#define VMM_SAVE_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "snapshot/id.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

struct save_client_request {
    const char *id;    /* of the machine */
    const char *store; /* its path; NULL: the default one */
    const char *name;  /* NULL: none */
    bool diff;         /* on what the machine was last saved to */
    bool sync;
    bool track; /* follow writes from here on */
    bool share; /* look for pages that the store has already */
};

struct save_client_result {
    struct snapshot_id id;
    uint64_t stopped_us; /* how long the guest stood still, as it says */
    uint64_t took_us;
    uint64_t pages_written;
};

/* A failure leaves nothing in the store, and the machine as it was. */
CC_MUST_CHECK int save_client_run(const struct save_client_request *request,
    struct save_client_result *ret_result, struct err *err);

#endif
