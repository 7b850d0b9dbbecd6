/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saves of a machine that runs, on a thread of their own beside its loop.
 *
 * There are two kinds. One makes a snapshot in a store, as this process sees
 * it. The other captures into files that a client has passed, who makes the
 * snapshot of them (snapshot/assembly.h) and says so: between on_captured and
 * saver_commit or saver_abort, or until saver_fini, all that was taken is
 * neither saved nor lost, and no other save can begin.
 *
 * Thread rule: the loop's thread. The saver's own thread copies and writes;
 * for the moment in which the guest stands still it has the loop call it back
 * and waits for that. The callbacks come on the loop. saver_fini waits for a
 * save that is going on; one that has not stopped the guest yet is given up.
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
#include "vmm/machine_snapshot.h"

struct instance;

struct saver_request {
    const char *store; /* its path; NULL: the default one */
    const char *name;  /* NULL: none */
    bool diff;         /* against what the machine was last saved to */
    bool sync;
    bool track; /* follow writes from here on */
    bool share; /* look for pages that the store has already */
};

/* Into files of a client: that of the capture, then the plan's images. */
#define SAVER_FILES_MAX (1u + CAPTURE_IMAGES_MAX)

struct saver_capture {
    struct snapshot_id parent; /* as machine_save_options */
    bool sync;
    bool track;
    int fds[SAVER_FILES_MAX]; /* taken over when saver_capture succeeds */
    uint32_t fd_count;
};

struct saver_result {
    int rc;
    struct err err;
    struct snapshot_id id;
    uint64_t stopped_ns; /* how long the guest stood still */
    uint64_t took_ns;
    uint64_t pages_written;
};

typedef void saver_fn(void *opaque, const struct saver_result *result);

struct saver {
    struct instance *inst; /* NULL: nothing is going on */
    char *store;
    char *name;
    struct saver_request request;
    bool is_capture;
    struct saver_capture capture;
    struct machine_snapshot snapshot;
    struct machine_save *save; /* that is going on: the thread's */
    struct saver_result result;
    saver_fn *on_captured;
    saver_fn *on_done;
    void *opaque;
    pthread_t thread;
    struct loop_call stop_call;
    struct loop_call captured_call;
    struct loop_call done_call;
    bool is_cancelled;    /* atomic */
    pthread_mutex_t lock; /* protects the rest */
    pthread_cond_t changed;
    bool is_stopped; /* stop_call has run */
    bool is_given_up;
    bool is_committed; /* the client's snapshot is there, as result.id */
    int stop_rc;
};

void saver_init(struct saver *saver);
void saver_fini(struct saver *saver);

/*
 * Begins a save. -EBUSY while another goes on or the machine has ended, -EPERM
 * of one in a jail, which opens no store.
 * `on_done` is called once unless saver_fini comes first.
 */
CC_MUST_CHECK int saver_start(struct saver *saver, struct instance *inst,
    const struct saver_request *request, saver_fn *on_done, void *opaque,
    struct err *err);

/*
 * Begins a capture. `on_captured` is called when the files are written and
 * closed here, unless something failed; `on_done` once in any case, at the
 * latest after saver_commit or saver_abort.
 */
CC_MUST_CHECK int saver_capture(struct saver *saver, struct instance *inst,
    const struct saver_capture *capture, saver_fn *on_captured,
    saver_fn *on_done, void *opaque, struct err *err);

/* After on_captured: the snapshot is there as `id`. */
void saver_commit(struct saver *saver, const struct snapshot_id *id);

/* There will be none; at any time, fine if nothing is going on. */
void saver_abort(struct saver *saver);

#endif
