/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket of a machine: the server behind it. What is served is in
 * control_api.h, where the socket is found in place.h.
 *
 * Thread rule: the loop's thread, or before the loop runs; control_fini not
 * from within a request.
 */
#ifndef VMM_CONTROL_H
#define VMM_CONTROL_H

#include <sys/types.h>

#include "vmm/api/http_server.h"
#include "vmm/api/router.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/control_log.h"
#include "vmm/instance.h"
#include "vmm/metrics.h"
#include "vmm/run_options.h"
#include "vmm/rundir.h"

/* What /snapshot/load asks for. */
struct control_load {
    char *store;          /* a path */
    char *name;           /* of the snapshot in it, or its id */
    struct config config; /* what is to be behind devices of the snapshot's */
    uint32_t given;       /* of it, enum run_given */
    bool keeps_vsock;     /* the socket's path in the snapshot */
    bool tracks;          /* follow writes from the start */
    bool resumes;         /* run at once; else it is paused */
    bool freezes;         /* the guest's clock stood still meanwhile */
    enum run_verify verify;
    char *page_server; /* a socket that gives it its memory; or NULL */
    bool allows_changed_disks;
    bool allows_duplicate;
};

/* Who makes the machine of a socket that is there before it. */
struct control_host {
    /* Boots the machine that `options` describe. */
    int (*boot)(void *opaque, struct err *err);
    /* Makes one out of a snapshot; takes over what `load` owns. */
    int (*load)(void *opaque, struct control_load *load, struct err *err);
    /* Ends the process, which has no machine yet. */
    void (*quit)(void *opaque);
    /* What the guest writes to its serial port goes to this file. */
    int (*set_serial)(void *opaque, const char *path, struct err *err);
    struct run_options *options; /* the command line's, and changed since */
    void *opaque;
};

struct control {
    struct instance *inst;           /* NULL until it serves */
    const struct control_host *host; /* NULL: the machine is there */
    char id[RUNDIR_ID_SIZE];
    pid_t pid; /* of the machine's process, as the host has it */
    bool is_prepared;
    size_t body_max; /* bytes of a request's; 0: the usual */
    bool has_smt;    /* as clients were told; guests see no siblings */
    bool tracks;
    bool has_default_args;
    int smaps_fd;                /* what this process's memory is made of; -1 */
    struct http_conn *save_conn; /* whose save goes on; NULL: it is gone */
    bool save_is_plain; /* it wants to know no more than that it is done */
    struct control_log log;
    struct metrics metrics;
    bool has_capture; /* it has been told of one, and to make a snapshot */
    struct router router;
    struct http_server server;
};

void control_init(struct control *control);

/* Opens what is asked for later, by when no file may be opened any more. */
void control_prepare(struct control *control);

void control_fini(struct control *control);

void control_load_fini(struct control_load *load);

/* Serves on `listen_fd`, which is its own afterwards, the machine `id`. */
CC_MUST_CHECK int control_serve(struct control *control, struct instance *inst,
    const char *id, pid_t pid, int listen_fd, struct err *err);

#endif
