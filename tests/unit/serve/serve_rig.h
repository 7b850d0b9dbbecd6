/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server for tests: its loop in a thread of its own, over the played pool
 * (pool_fake.h), and clients that block but never for ever.
 *
 * Thread rule: the test's thread. What a client waits for comes within
 * RIG_WAIT_MS or fails the test.
 */
#ifndef TESTS_UNIT_SERVE_SERVE_RIG_H
#define TESTS_UNIT_SERVE_SERVE_RIG_H

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stddef.h>

#include "tests/unit/serve/pool_fake.h"
#include "vmm/serve/server.h"

#define RIG_WAIT_MS 120000

struct rig {
    struct loop loop;
    struct pool *pool;
    struct server *server;
    struct server_config config;
    char name[64]; /* abstract socket */
    int tcp_port;
    pthread_t thread;
    int drained; /* times; atomic */

    struct loop_call call;
    void (*run)(struct rig *rig, void *arg);
    void *arg;
    sem_t done;
};

/* Sensible limits, none of which is reached by itself. */
struct server_config rig_config(enum server_kind kind);

/* Starts it; pool_fake_init comes before. `tcp`: listens there, too. */
void rig_start(struct rig *rig, const struct server_config *config, bool tcp);
void rig_stop(struct rig *rig);

/* Runs it on the loop's thread, and waits until it has. */
void rig_call(
    struct rig *rig, void (*run)(struct rig *rig, void *arg), void *arg);

void rig_drain(struct rig *rig);

/* How often requests ended so, and gauges. */
uint64_t rig_outcomes(struct rig *rig, enum serve_outcome outcome);
struct serve_gauges rig_gauges(struct rig *rig);

/* Waits until so many requests ended so; fails if it does not come. */
void rig_expect(struct rig *rig, enum serve_outcome outcome, uint64_t count);
void rig_expect_running(struct rig *rig, uint32_t count);
void rig_expect_queued(struct rig *rig, uint32_t count);
void rig_expect_connections(struct rig *rig, uint32_t count);
void rig_expect_drained(struct rig *rig);

/* A client, connected. */
int rig_connect(struct rig *rig);
/* The same with a Unix socket that is there. */
void rig_connect_to(struct rig *rig, int fd);
int rig_connect_tcp(struct rig *rig);
void rig_send(int fd, const char *text);
/* May fail: the other side may have gone. */
void rig_send_some(int fd, const void *data, size_t len);
/* All up to the end (a reset counts as one), with a NUL; freed by the caller.
 */
char *rig_read_all(int fd, size_t *ret_len);
/* Exactly so many bytes. */
void rig_read(int fd, void *buf, size_t len);
/* That the other side closes without another byte. */
void rig_expect_end(int fd);

/* Whether `text` has a line (a header) or a part. */
bool rig_has(const char *text, const char *part);

#endif
