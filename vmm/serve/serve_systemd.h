/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What systemd and a service say to each other: sd_listen_fds(3) and
 * sd_notify(3), which are two environment variables and a datagram.
 *
 * Thread rule: before there is any other thread. The environment is whoever's
 * who starts us.
 */
#ifndef VMM_SERVE_SERVE_SYSTEMD_H
#define VMM_SERVE_SERVE_SYSTEMD_H

#include <stdint.h>

/* The first descriptor that is passed. */
#define SERVE_SYSTEMD_FD 3

/*
 * How many descriptors were passed to this process; and forgets it, so that
 * no child takes it to be meant.
 */
uint32_t serve_systemd_listen_fds(void);

/* Sends a state ("READY=1"), if anybody wants to know. */
void serve_systemd_notify(const char *state);

#endif
