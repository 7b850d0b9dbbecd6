/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process outside the jail that keeps a jailed monitor's place, and does
 * for it the few things that it cannot do itself.
 *
 * `spore run` is two processes where there is a jail (jail/jail.h): the one
 * that was started becomes the keeper, its child the monitor. The keeper owns
 * the machine's folder and socket, its name on the host for vsock, the
 * working set's place in the snapshot and the log; it passes signals on, waits
 * for the monitor, says what ended it, and ends with its status.
 *
 * Requests come over the cell's link, one packet each, and are answered in
 * turn. Until keeper_settle the monitor has run nothing of a guest's and is
 * trusted; from then on it is hostile: what it can have is a socket to listen
 * on for this machine, connections to "<vsock path>_<port>", and a working set
 * recorded where the restore began.
 *
 * Thread rule: keeper_run on its process's only thread. The functions of the
 * monitor: one thread at a time, each waits for its answer.
 */
#ifndef VMM_KEEPER_H
#define VMM_KEEPER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "jail/cell.h"
#include "jail/cgroup.h"
#include "vmm/base/bitmap.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/detach.h"
#include "vmm/place.h"

/* ---- the keeper ---------------------------------------------------------- */

struct keeper_config {
    struct place *place;   /* claimed, or not yet; NULL: it has none */
    const char *id;        /* to claim; NULL: a random one */
    const char *api_sock;  /* as place_listen has it */
    struct detach *detach; /* NULL: nobody waits to be told */
    struct cgroup *cgroup; /* to be removed at the end; NULL: none */
    const char *command;   /* "run", for messages */
};

/* Serves the monitor to its end; the exit status. */
int keeper_run(struct cell *cell, const struct keeper_config *config);

/* ---- the monitor's side -------------------------------------------------- */

/* What the keeper says first: the monitor as the host knows it. */
CC_MUST_CHECK int keeper_hello(int link_fd, pid_t *ret_pid, struct err *err);

/* A listening control socket, and the machine's id. */
CC_MUST_CHECK int keeper_serve(
    int link_fd, int *ret_fd, char ret_id[RUNDIR_ID_SIZE], struct err *err);

/* A place on virtual switch `target`, as netswitch_join; before settling. */
CC_MUST_CHECK int keeper_join_switch(
    int link_fd, const char *target, int *ret_fd, struct err *err);

/* What the machine was built with, before its guest runs. */
struct keeper_settlement {
    const char *vsock_path; /* NULL: none */
    bool owns_vsock_path;   /* it is to be removed at the end */
    int record_fd;          /* a snapshot's folder; -1: nothing to record */
    bool record_adds;
    uint64_t pages; /* of RAM, of the set to be recorded */
};

CC_MUST_CHECK int keeper_settle(
    int link_fd, const struct keeper_settlement *settlement, struct err *err);

/* A connection to "<vsock path>_<port>": a descriptor, or -errno. */
CC_MUST_CHECK int keeper_connect(int link_fd, uint32_t port);

/* Records a working set (prefetch_record); once. */
CC_MUST_CHECK int keeper_record(
    int link_fd, const struct bitmap *touched, struct err *err);

/* The starter was told: errors go to the log from here on. */
void keeper_released(int link_fd);

/* Others find the machine no more. */
void keeper_leave(int link_fd);

#endif
