/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saves of a machine that runs, on a thread of their own beside its loop.
 *
 * Thread rule: the loop's thread. The saver's own thread copies and writes;
 * for the moment in which the guest stands still it has the loop call it back
 * and waits for that. `on_done` comes on the loop. saver_fini waits for a save
 * that is going on; one that has not stopped the guest yet is given up.
 */
#ifndef VMM_SAVER_H
#define VMM_SAVER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "snapshot/id.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/loop.h"
#include "vmm/machine_save.h"

struct instance;

struct saver_request {
    const char *store; /* its path; NULL: the default one */
    const char *name;  /* NULL: none */
    bool diff;         /* against what the machine was last saved to */
    bool sync;
    bool track; /* follow writes from here on */
    bool share; /* look for pages that the store has already */
};

struct saver_result {
    int rc;
    struct err err;
    struct snapshot_id id;
    uint64_t stopped_ns; /* how long the guest stood still */
    uint64_t took_ns;
    uint64_t pages_written;
};

struct saver {
    struct instance *inst; /* NULL: nothing is going on */
    char *store;
    char *name;
    struct saver_request request;
    struct machine_save save;
    struct saver_result result;
    void (*on_done)(void *opaque, const struct saver_result *result);
    void *opaque;
    pthread_t thread;
    struct loop_call stop_call;
    struct loop_call done_call;
    pthread_mutex_t lock; /* protects the rest */
    pthread_cond_t changed;
    bool is_stopped; /* stop_call has run */
    bool is_given_up;
    int stop_rc;
};

void saver_init(struct saver *saver);
void saver_fini(struct saver *saver);

/*
 * Begins a save. -EBUSY while another goes on or the machine has ended.
 * `on_done` is called once unless saver_fini comes first.
 */
CC_MUST_CHECK int saver_start(struct saver *saver, struct instance *inst,
    const struct saver_request *request,
    void (*on_done)(void *opaque, const struct saver_result *result),
    void *opaque, struct err *err);

#endif
