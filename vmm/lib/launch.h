/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts a program that is nobody's child, without forking the caller: its
 * process shares the caller's memory until the program is there, and does
 * nothing meanwhile but system calls. No SIGCHLD is raised, at its end neither,
 * and no wait of the caller's finds it.
 *
 * Thread rule: any thread, whatever others do.
 */
#ifndef VMM_LIB_LAUNCH_H
#define VMM_LIB_LAUNCH_H

#include "vmm/base/cc.h"

/*
 * Runs `path` with `argv` and the caller's environment, `fd` as LIB_WIRE_FD,
 * /dev/null as standard input and output, the caller's standard error, and no
 * other descriptor, with all signals blocked. -errno of what failed, execve
 * included.
 */
CC_MUST_CHECK int launch_start(
    const char *path, const char *const *argv, int fd);

#endif
