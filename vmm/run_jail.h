/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jail of `spore run`: its two processes, and what a machine in it has
 * done from outside.
 *
 * Owns the machine's place (place.h) where there is no keeper, and the link to
 * the keeper where there is one.
 *
 * Thread rule: run_jail_split, run_jail_enter and run_jail_start on the
 * process's only thread, in this order; the rest on the loop's, but for
 * run_jail_abandon, which is for any.
 */
#ifndef VMM_RUN_JAIL_H
#define VMM_RUN_JAIL_H

#include <stdbool.h>
#include <sys/types.h>

#include "jail/jail.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/detach.h"
#include "vmm/instance.h"
#include "vmm/jail_gate.h"
#include "vmm/outside.h"
#include "vmm/place.h"
#include "vmm/run_options.h"
#include "vmm/run_origin.h"

struct run_jail {
    struct jail jail;
    struct cell cell; /* link_fd: to the keeper; -1: there is none */
    struct place place;
    struct cgroup *cgroup; /* the keeper's; NULL: none was asked for */
    const struct run_options *options;
    struct outside outside;
    bool is_greeted; /* `pid` is what the keeper has said */
    pid_t pid;       /* of this process, as the host has it */
    struct jail_gate gate;
};

void run_jail_init(struct run_jail *rj, const struct run_options *options);

/*
 * Takes the machine's place, if it has a name, and makes the monitor's
 * process: 0 in that, or where there is no jail; 1 in the keeper when the
 * monitor has ended, with its *ret_status.
 */
CC_MUST_CHECK int run_jail_split(struct run_jail *rj, struct detach *detach,
    int *ret_status, struct err *err);

/* For struct instance; NULL where there is no jail. */
const struct outside *run_jail_outside(const struct run_jail *rj);

/*
 * When the machine is built, and before it starts: after this nothing is
 * opened by name. Tells the keeper what `origin` is to have recorded.
 */
CC_MUST_CHECK int run_jail_enter(struct run_jail *rj,
    const struct machine *machine, struct run_origin *origin, struct err *err);

/* On the thread that watches a page server (page_client.h). */
CC_MUST_CHECK int run_jail_confine_watcher(
    struct run_jail *rj, struct err *err);

/* Claims a place if there is none, and listens there: *ret_fd, the caller's. */
CC_MUST_CHECK int run_jail_listen(
    struct run_jail *rj, int *ret_fd, struct err *err);

/* The starter of a detached machine was told of it. */
void run_jail_released(struct run_jail *rj);

/* Nobody finds the machine any more; once or more. */
void run_jail_leave(struct run_jail *rj);

/* The same for a process that ends at once (place_abandon). */
void run_jail_abandon(const struct run_jail *rj);

/* A machine that is half started is to end: what waits for its jail goes on. */
void run_jail_give_up(struct run_jail *rj);

/* The end. */
void run_jail_fini(struct run_jail *rj);

#endif
