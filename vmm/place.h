/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine's place among those that run: its folder (rundir.h) and the
 * control socket in it, which others find it by.
 *
 * Owns the folder and the names of the socket, not the socket. Thread rule:
 * one thread; place_abandon from any.
 */
#ifndef VMM_PLACE_H
#define VMM_PLACE_H

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/rundir.h"

/* The socket's name in the machine's folder. */
#define PLACE_SOCKET "api.sock"

struct place {
    char id[RUNDIR_ID_SIZE];
    struct rundir dir; /* fd -1: not claimed */
    char *api_sock;    /* a socket elsewhere, to be removed; or NULL */
};

void place_init(struct place *place);

/* Removes the socket and the folder; fine on one that was not claimed. */
void place_fini(struct place *place);

/*
 * The same for a process that ends at once: nothing is freed. From any
 * thread, whatever the others do.
 */
void place_abandon(const struct place *place);

/* Takes a folder under `id`, or under a random one for NULL. */
CC_MUST_CHECK int place_claim(
    struct place *place, const char *id, struct err *err);

/*
 * Listens in the claimed folder; with `api_sock` the socket is at that path,
 * where nothing may be yet, and a link in the folder leads to it. The caller
 * closes *ret_fd.
 */
CC_MUST_CHECK int place_listen(
    struct place *place, const char *api_sock, int *ret_fd, struct err *err);

/* At that path and nowhere else: the place has no folder. */
CC_MUST_CHECK int place_listen_alone(
    struct place *place, const char *api_sock, int *ret_fd, struct err *err);

#endif
