/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program as a process: started from init, its end awaited.
 *
 * One thread. fuzz.conf decides what is executed; what the program does is
 * its own business, but for its output, of which init keeps the end.
 */
#ifndef GUEST_FUZZ_PROGRAM_H
#define GUEST_FUZZ_PROGRAM_H

#include <stdbool.h>
#include <sys/types.h>

#include "guest/fuzz/conf.h"
#include "guest/fuzz/environ.h"

struct program {
    const struct conf *conf;
    struct environ_list *environ;
    int output_fd; /* standard output and error: a file in memory */
    int input_fd;  /* standard input */
    int rooted_fd; /* FUZZ_NAMES_ROOTED_FD */
};

/* Descriptors of a program; 0 or -errno. */
int program_init(
    struct program *p, const struct conf *conf, struct environ_list *environ);

/* Starts it. 0 or -errno. */
int program_start(const struct program *p, pid_t *ret_pid);

/* Until that process ends; reaps all others. As wait(2) has it. */
int program_wait(pid_t pid);

/*
 * Until the process that has got to the root ends, which may be another than
 * that one if it is a daemon; true then. False if none has and all have ended,
 * with the first one's status.
 */
bool program_wait_rooted(const struct program *p, pid_t pid, int *ret_status);

/* True if it has no interpreter: no library can be put into it. */
bool program_is_static(const char *path);

#endif
