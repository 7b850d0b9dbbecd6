/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A control socket's server on a loop, and clients of it, for tests.
 *
 * Thread rule: one thread; nothing happens but in http_bench_run and in what
 * says that it runs the loop.
 */
#ifndef TESTS_UNIT_SUPPORT_HTTP_BENCH_H
#define TESTS_UNIT_SUPPORT_HTTP_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/api/http_server.h"
#include "vmm/core/loop.h"

/* More rounds than this in a row is a busy loop. */
#define HTTP_BENCH_ROUNDS_MAX 100000u

struct http_bench {
    struct loop loop;
    struct http_server server;
    char name[64]; /* of the abstract socket, after its NUL */
};

/* Serves with `handle`; asserts that it works. */
void http_bench_init(
    struct http_bench *b, http_handler_fn *handle, void *opaque);
/* The same on a listening socket, which is the server's then. */
void http_bench_init_on(
    struct http_bench *b, int fd, http_handler_fn *handle, void *opaque);
void http_bench_fini(struct http_bench *b);

/* A connected client, non-blocking. */
int http_bench_connect(struct http_bench *b);

/* Runs the loop until nothing is due. */
void http_bench_run(struct http_bench *b);

/* Sends all of it, running the loop as often as that takes. */
void http_bench_say(struct http_bench *b, int fd, const char *text);
void http_bench_say_bytes(
    struct http_bench *b, int fd, const char *data, size_t len);

/* Runs the loop and takes what has come; valid until the next call. */
const char *http_bench_hear(struct http_bench *b, int fd, bool *ret_ended);

/* Both, expecting exactly `want`. */
void http_bench_ask(
    struct http_bench *b, int fd, const char *text, const char *want);

#endif
