/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a server says of itself over HTTP: /metrics for Prometheus, /healthz
 * for who balances load, /status for `spore top`.
 *
 * At a place of the user's choice, and for this user's commands in the folder
 * of servers (rundir.h) under the process's number. Owns the sockets. Thread
 * rule: the loop's thread. Not trusted: who asks; connections are bounded.
 */
#ifndef VMM_SERVE_SERVE_STATUS_H
#define VMM_SERVE_SERVE_STATUS_H

#include <stdint.h>

#include "vmm/api/http_server.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/rundir.h"
#include "vmm/serve/server.h"

struct serve_status {
    const struct server *server; /* borrowed */
    const char *template;        /* its name; borrowed */
    uint64_t started_ns;
    struct http_server own;     /* in the folder of servers */
    struct http_server metrics; /* where the user wants it */
    struct rundir dir;          /* fd -1: there is none */
    char name[16];
};

/*
 * `metrics_fd` is a listening socket, taken over on success, or -1. Without a
 * folder for the socket of its own there is none, which is said in the log.
 */
CC_MUST_CHECK int serve_status_open(struct serve_status *status,
    struct loop *loop, const struct server *server, const char *template,
    int metrics_fd, struct err *err);

/* Fine on a zeroed one. */
void serve_status_close(struct serve_status *status);

#endif
