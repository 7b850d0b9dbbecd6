/* SPDX-License-Identifier: Apache-2.0 */
/*
 * poll, select and epoll of a server whose socket is the input's: what is
 * ready is known here. Descriptors that are not ours are asked for without
 * waiting; where nothing is ready and nothing will come, the run is over.
 */
#ifndef GUEST_FUZZ_PRELOAD_WAITS_H
#define GUEST_FUZZ_PRELOAD_WAITS_H

#include <stdbool.h>

/* The program waits for its connection: the root is here, if there is none. */
void waits_root(void);

/* Of sockets.c, for these calls. */
bool sockets_is_ours(int fd);
bool sockets_is_readable(int fd);
bool sockets_is_over(void);

#endif
