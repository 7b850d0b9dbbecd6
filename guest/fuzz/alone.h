/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs that no library can be put into, since they are static: the root
 * lies in init, before the program is started, so that each run starts it.
 * Slower than the preload library by the cost of fork and exec, but complete:
 * input by file or standard input, and the map of AFL++'s runtime, if it is
 * linked in, as System V shared memory.
 */
#ifndef GUEST_FUZZ_ALONE_H
#define GUEST_FUZZ_ALONE_H

#include "guest/fuzz/program.h"

/* Does not come back but with -errno and *ret_step in words. */
int alone_run(struct program *p, const char **ret_step);

#endif
