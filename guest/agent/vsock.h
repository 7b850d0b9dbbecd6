/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two sockets that the agent begins with. One thread. Both return a
 * non-blocking, close-on-exec descriptor, or -errno.
 */
#ifndef GUEST_AGENT_VSOCK_H
#define GUEST_AGENT_VSOCK_H

#include <stdbool.h>

/* Listens on AGENT_PORT for every context id of this machine. */
int vsock_listen(int backlog);

/*
 * Begins to connect from port AGENT_PORT_READY to AGENT_PORT_READY of the
 * host. *ret_connecting: the answer is still to come.
 */
int vsock_connect_ready(bool *ret_connecting);

#endif
