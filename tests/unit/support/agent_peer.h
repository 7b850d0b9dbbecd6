/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's part for tests of the guest agent: an agent in a process of its
 * own behind a Unix socket, connections to it, and commands run on them.
 * Every wait has a limit and fails the test when it is reached.
 */
#ifndef TESTS_UNIT_SUPPORT_AGENT_PEER_H
#define TESTS_UNIT_SUPPORT_AGENT_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "guest/agent/proto.h"

/* Names the file that an agent tells its generation in; without: none. */
#define PEER_GENERATION_ENV "PEER_GENERATION"

struct peer_agent {
    pid_t pid;
    char name[64]; /* abstract socket name, after the NUL */
};

struct peer {
    int fd;
    size_t start;
    size_t end;
    uint8_t buf[2 * AGENT_FRAME_MAX];
};

struct peer_frame {
    uint16_t type;
    size_t length;
    const uint8_t *payload; /* until the next peer_recv */
};

struct peer_exec {
    uint32_t flags;
    const char *user;
    const char *cwd;
    const char *const *argv; /* ended by NULL, as is env */
    const char *const *env;
    uint16_t rows;
    uint16_t cols;
};

struct peer_output {
    uint8_t *bytes;
    size_t length;
};

/* Everything that came until the agent closed. */
struct peer_result {
    pid_t pid; /* 0: no STARTED */
    struct peer_output out;
    struct peer_output err;
    uint64_t acked;
    bool input_closed;
    bool has_exit;
    uint32_t status;
    uint32_t signal;
    bool has_error;
    uint32_t error;
    uint16_t stage;
    uint16_t error_status;
    bool has_ok;
    uint64_t entries;
    uint64_t bytes;
};

/* Starts an agent in the position of a daemon. */
void peer_start_agent(struct peer_agent *agent);

/* Asks it to end; its exit status, which a leak makes non-zero. */
int peer_stop_agent(struct peer_agent *agent);

/* Connects, without reading HELLO. */
void peer_open(const struct peer_agent *agent, struct peer *p);

/* Connects and takes HELLO. */
void peer_connect(const struct peer_agent *agent, struct peer *p);

void peer_close(struct peer *p);

/* All bytes, or false if the agent has closed. */
bool peer_send_bytes(struct peer *p, const void *bytes, size_t n);

/* One frame, or false if the agent has closed. */
bool peer_send(struct peer *p, uint16_t type, const void *payload, size_t n);

/* The next frame, or false at the end of the stream. */
bool peer_recv(struct peer *p, struct peer_frame *ret_frame);

/* An EXEC payload in buf (AGENT_PAYLOAD_MAX bytes); its length. */
size_t peer_make_exec(uint8_t *buf, const struct peer_exec *spec);

/* Sends EXEC. */
void peer_exec(struct peer *p, const struct peer_exec *spec);

/* Takes frames until the agent closes. peer_result_fini afterwards. */
void peer_collect(struct peer *p, struct peer_result *r);

/* The same, but returns after the first STARTED, STDOUT or closing frame. */
bool peer_collect_one(struct peer *p, struct peer_result *r);

/* exec, collect and close: a whole command with /bin/sh -c. */
void peer_shell(const struct peer_agent *agent, uint32_t flags,
    const char *script, struct peer_result *r);

void peer_result_init(struct peer_result *r);
void peer_result_fini(struct peer_result *r);

/* True if the output is that text. */
bool peer_output_is(const struct peer_output *o, const char *text);

/* True within some seconds once the process is gone. */
bool peer_process_ends(pid_t pid);

#endif
