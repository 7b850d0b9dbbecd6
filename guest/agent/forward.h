/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection to a server of this guest, on its loopback, for FORWARD: what
 * the host sends goes there, and back, and so do the ends of either direction.
 * Owns the socket. One thread; never blocks. Bytes pass through unseen.
 *
 * The socket is watched edge-triggered and once, as exec.h has it.
 */
#ifndef GUEST_AGENT_FORWARD_H
#define GUEST_AGENT_FORWARD_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/agent/frame.h"
#include "guest/agent/request.h"

struct forward {
    int fd; /* -1: none */
    bool connecting;
    bool readable;
    bool writable;
    bool hup;       /* an end is to come: read on to it */
    bool in_ended;  /* the host sends no more */
    bool in_closed; /* and the server knows, or takes no more */
    bool out_ended; /* the server sends no more */
};

/*
 * Begins to connect; forward_connected says what came of it. 0 or -errno, and
 * then nothing is to be undone.
 */
int forward_start(struct forward *f, const struct request_forward *request,
    int epoll_fd, uint32_t slot);

/* 1 once it is connected, 0 as long as that is open, -errno if it is not. */
int forward_connected(struct forward *f);

/* Notes what epoll said. */
void forward_event(struct forward *f, uint32_t events);

/*
 * Passes on what can be without waiting: true if that was something. -errno
 * in *ret_error if the server's side broke.
 */
bool forward_pump(struct forward *f, struct frame_in *in, struct frame_out *out,
    int *ret_error);

void forward_fini(struct forward *f);

#endif
