/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A command in a guest, for tests of the host's side: a loop, an agent that
 * says what the test writes down, and pipes for what the command prints.
 *
 * Thread rule: one thread; nothing happens but in exec_bench_run.
 */
#ifndef TESTS_UNIT_SUPPORT_EXEC_BENCH_H
#define TESTS_UNIT_SUPPORT_EXEC_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/agent/proto.h"
#include "vmm/guest_exec.h"

#define EXEC_BENCH_WINDOW 65536u

/* More rounds than this in a row is a busy loop. */
#define EXEC_BENCH_ROUNDS_MAX 20000u

/* Bytes that came out of one of the pipes. */
struct exec_bench_text {
    uint8_t *data;
    size_t len;
    size_t room;
};

struct exec_bench {
    struct loop loop;
    struct guest_exec exec;
    int agent;  /* the agent's end of the connection; non-blocking */
    int out[2]; /* the command's standard output: reader, writer */
    int err[2];
    struct exec_bench_text printed;
    struct exec_bench_text complained;
    unsigned int started;
    unsigned int done;
    struct guest_exec_result result;
};

struct exec_bench_frame {
    uint16_t type;
    uint32_t len;
    uint8_t data[AGENT_PAYLOAD_MAX];
};

/* Loop, connection and pipes; asserts that it works. */
void exec_bench_init(struct exec_bench *b);
void exec_bench_fini(struct exec_bench *b);

/* "cmd", without terminal and environment; `stdin_fd` may be -1. */
struct guest_exec_config exec_bench_config(struct exec_bench *b, int stdin_fd);

/* guest_exec_start with that configuration, asserting success. */
void exec_bench_start(struct exec_bench *b, int stdin_fd);

/* The same, and the agent has taken the request and started the command. */
void exec_bench_start_running(
    struct exec_bench *b, int stdin_fd, uint32_t window);

/* Runs the loop until nothing is due, then reads what came out. */
void exec_bench_run(struct exec_bench *b);

/* Runs the loop without reading the pipes: a command whose output waits. */
void exec_bench_run_unread(struct exec_bench *b);
void exec_bench_read_outputs(struct exec_bench *b);

/* Any bytes from the agent; how many the socket had room for. */
size_t exec_bench_send(struct exec_bench *b, const void *data, size_t len);

/* A frame from the agent, which must fit. */
void exec_bench_say(
    struct exec_bench *b, uint16_t type, const void *data, size_t len);
void exec_bench_say_hello(struct exec_bench *b, uint32_t window);
void exec_bench_say_started(struct exec_bench *b);
void exec_bench_say_ack(struct exec_bench *b, uint32_t bytes, uint32_t flags);
void exec_bench_say_exit(
    struct exec_bench *b, uint32_t status, uint32_t signal);

/* The next frame from the host, false if no whole one is there. */
bool exec_bench_hear(struct exec_bench *b, struct exec_bench_frame *ret_frame);

/* The next frame must be this one. */
void exec_bench_expect(
    struct exec_bench *b, uint16_t type, const void *data, size_t len);

/* That the command has ended like this, once. */
void exec_bench_expect_exit(const struct exec_bench *b, int status);
void exec_bench_expect_error(
    const struct exec_bench *b, int status, const char *text);

#endif
