/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes of other programs. Each dies with us, whatever ends us.
 *
 * Thread rule: one thread, which must go on as long as the children are to
 * live (PR_SET_PDEATHSIG is about the thread). What they print is theirs.
 */
#ifndef VMM_CHILD_H
#define VMM_CHILD_H

#include <stddef.h>
#include <sys/types.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

struct child_options {
    char *const *argv; /* [0] is looked for in PATH, /usr/sbin and /sbin */
    char *const *env;  /* NAME=VALUE, on top of ours; NULL-terminated or NULL */
    int in_fd;         /* its standard input, -1: /dev/null */
    int out_fd;        /* its standard output, -1: /dev/null */
    int err_fd;        /* its standard error, as above */
};

/*
 * Starts it with no signal blocked or ignored, in a process group of its own.
 * -ENOENT if there is no such program.
 */
CC_MUST_CHECK int child_start(
    const struct child_options *options, pid_t *ret_pid, struct err *err);

/* Waits for its end: *ret_status as wait(2) has it. */
CC_MUST_CHECK int child_wait(pid_t pid, int *ret_status);

/*
 * Runs it to its end and keeps what it prints, both ways in one text of at
 * most CHILD_TEXT_MAX bytes; the caller frees *ret_text. The error is about
 * the start only.
 */
#define CHILD_TEXT_MAX (1u << 20)
CC_MUST_CHECK int child_run(char *const *argv, char *const *env,
    int *ret_status, char **ret_text, struct err *err);

#endif
