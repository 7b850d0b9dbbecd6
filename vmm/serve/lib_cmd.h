/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `spore libspore-pool`: the process that has the machines of a program that
 * uses libspore. The library starts it (vmm/lib/wire.h); people do not.
 *
 * It ends, and all its machines with it, when the program closes the template
 * or ends, whatever of the program's children still have its sockets.
 *
 * Thread rule: one thread, the process's.
 */
#ifndef VMM_SERVE_LIB_CMD_H
#define VMM_SERVE_LIB_CMD_H

int cmd_libspore_pool(int argc, char **argv);

#endif
