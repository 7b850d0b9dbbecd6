/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server: connections of clients, a clone for each of them, or for each
 * request that comes in on one.
 *
 *   SERVER_STREAM  the accepted socket is given to the clone, which connects
 *                  it to a vsock port of its guest: the server copies nothing
 *   SERVER_EXEC    a command is run by the guest's agent, with the connection
 *                  as its standard input and output
 *   SERVER_HTTP    requests are read, checked, and sent on to a server in the
 *                  guest, each to one in a clone of its own
 *
 * Owns its listening sockets, the connections and the clones they have. What
 * is too much is refused at once (HTTP: 503), never left to wait; a connection
 * costs a bounded amount of memory, whatever its client does; and a client
 * gets a clone only when its whole request (or much of it) is there.
 *
 * Thread rule: the loop's thread. A signal that kills writers of closed pipes
 * (SIGPIPE) is the caller's to ignore. Not trusted: clients and guests, every
 * byte of them and when they go.
 */
#ifndef VMM_SERVE_SERVER_H
#define VMM_SERVE_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/loop.h"
#include "vmm/serve/pool.h"
#include "vmm/serve/serve_metrics.h"

#define SERVER_LISTEN_MAX 8u

enum server_kind { SERVER_STREAM, SERVER_EXEC, SERVER_HTTP };

struct server_config {
    struct loop *loop;
    struct pool *pool; /* borrowed */
    enum server_kind kind;
    uint32_t port;    /* of the guest; not SERVER_EXEC */
    bool port_is_tcp; /* on its loopback, through the agent; SERVER_HTTP */

    /* SERVER_EXEC, borrowed; as guest_exec_config has them. */
    const char *const *argv;
    const char *const *env;
    const char *cwd;
    const char *user;

    uint32_t vms_max;         /* clones that serve at a time */
    uint32_t queue_max;       /* requests that wait for one */
    uint32_t connections_max; /* vms_max + queue_max at least */
    uint64_t memory_max;      /* bytes, of all clones; 0: no limit */
    bool resets;              /* clones are put back between requests */

    uint64_t timeout_ns;       /* a request, from having a clone */
    uint64_t queue_timeout_ns; /* its wait for one */

    /* SERVER_HTTP */
    uint64_t header_timeout_ns; /* to send a request's head, and as much of
                                   its body as is waited for */
    uint64_t idle_timeout_ns;   /* between requests */
    uint64_t stall_timeout_ns;  /* to send or take a few KiB, with a clone */
    size_t header_max;          /* bytes of a head, either way */
    uint64_t body_max;          /* bytes of a request's body */

    /* After server_drain, when the last connection is gone. */
    void (*on_drained)(void *opaque);
    void *opaque;
};

struct server;

/*
 * Serves `fds`, 1 to SERVER_LISTEN_MAX listening stream sockets, which it owns
 * from then on; on failure the caller keeps them.
 */
CC_MUST_CHECK int server_open(const struct server_config *config,
    const int *fds, uint32_t count, struct server **ret_server,
    struct err *err);

/*
 * Accepts no more, lets everything finish that has begun, and says so. With
 * `takes_rest`, whoever has connected up to now counts as begun; without, they
 * are left to whoever else has the sockets.
 */
void server_drain(struct server *server, bool takes_rest);

/* Ends everything, now. Fine on NULL. */
void server_close(struct server *server);

/* Metrics, as text for Prometheus. */
void server_write_metrics(const struct server *server, FILE *out);

bool server_is_draining(const struct server *server);

struct serve_gauges server_gauges(const struct server *server);
const struct serve_metrics *server_metrics(const struct server *server);

/* Calls `found` for every clone that serves; it may not change anything. */
void server_walk(const struct server *server,
    void (*found)(void *opaque, pid_t pid, uint64_t since_ns), void *opaque);

#endif
