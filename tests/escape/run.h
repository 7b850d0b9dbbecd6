/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One attempt in a process of its own, and the host around it: a process to
 * attack, services to reach, a folder to write to, a terminal.
 *
 * Thread rule: one thread.
 */
#ifndef TESTS_ESCAPE_RUN_H
#define TESTS_ESCAPE_RUN_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "jail/role.h"
#include "tests/escape/escape.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

struct run_host {
    struct escape_report *report;
    char dir[64];
    char abstract[64];
    char abstract_dgram[64];
    char path_dgram[96];
    char terminal[64];
    uint16_t port;
    int listen_fd; /* abstract */
    int dgram_fd;  /* abstract */
    int path_fd;   /* with a path, datagrams */
    int tcp_fd;
    int leak;
    int terminal_fd; /* -1: none now */
};

/* What an attempt is locked into. */
enum run_jail {
    RUN_FREE,
    RUN_JAILED,
    RUN_UNFILTERED, /* all of the jail but its filter */
};

enum run_end {
    RUN_RETURNED, /* `result` is what `go` returned, 0 for more */
    RUN_KILLED,   /* by SIGSYS, at `last_call` */
    RUN_DIED,     /* by another signal, or its exit status */
    RUN_UNTRIED,  /* it came to `stage` only: `result`, `why` */
    RUN_HUNG,
};

struct run_result {
    enum run_end end;
    enum escape_stage stage;
    int result;
    int status; /* as waitpid has it */
    long last_call;
    char why[384];
};

/* What cannot be set up is an error; nothing is left then. */
CC_MUST_CHECK int run_host_init(struct run_host *host, struct err *err);
void run_host_fini(struct run_host *host);

/* Puts back what an attempt has left. -errno: the host is not as it was. */
CC_MUST_CHECK int run_attempt(struct run_host *host,
    const struct escape_attempt *attempt, enum run_jail jail,
    enum jail_role role, struct run_result *ret_result, struct err *err);

#endif
