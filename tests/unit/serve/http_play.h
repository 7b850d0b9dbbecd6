/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP server in the clones of the played pool, and what clients expect of
 * a response: for the tests of spore serve's HTTP. The request's path says
 * what the server does:
 *
 *   /echo         its body
 *   /canned       `response`
 *   /early        403 before it reads the body
 *   /big          HTTP_PLAY_BIG bytes up to the end of the connection
 *   /hang         nothing, and takes all that comes
 *   /closed       the connection ends without a response
 *   /off          a response, then the machine powers off
 *   /die          the machine is killed
 *   /die-halfway  the machine fails within a response
 *   others        404
 *
 * Reached through the agent (AGENT_PORT) it listens at TCP port 8080.
 *
 * Thread rule: the test's thread. The fields are written by the guests' and
 * are a test's to read when it has the response.
 */
#ifndef TESTS_UNIT_SERVE_HTTP_PLAY_H
#define TESTS_UNIT_SERVE_HTTP_PLAY_H

#include <pthread.h>

#include "tests/unit/serve/serve_rig.h"

#define HTTP_PLAY_BIG (8u << 20)

struct http_play {
    pthread_mutex_t lock;
    const char *response; /* to /canned */
    char head[4096];      /* of the last request */
    uint64_t body_bytes;  /* of all */
};

#define HTTP_PLAY_INIT                                                         \
    {                                                                          \
        .lock = PTHREAD_MUTEX_INITIALIZER                                      \
    }

/* Begins a pool with this guest, and the server over it. */
void http_play_start(struct http_play *play, struct rig *rig,
    const struct server_config *config);

/* The next response, which has a length, has to have this part. */
void http_play_expect(int fd, const char *part);

/* All that comes up to the end has to have it; closes `fd`. */
void http_play_expect_last(int fd, const char *part);

#endif
