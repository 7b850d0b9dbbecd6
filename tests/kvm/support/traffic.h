/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine whose guest (tests/guests/traffic.c) keeps a disk, a network and a
 * vsock stream busy, and the other sides of these: frames come back, the
 * stream is checked as it arrives.
 *
 * Owns the instance, the files and sockets, and a thread that is the other
 * side. Thread rule: one thread, which runs the loop. What goes wrong is a
 * failed test.
 */
#ifndef TESTS_KVM_SUPPORT_TRAFFIC_H
#define TESTS_KVM_SUPPORT_TRAFFIC_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "snapshot/snap.h"
#include "tests/guests/traffic.h"
#include "vmm/instance.h"

/* The other side of its network and its stream. */
struct traffic_peer {
    pthread_t thread;
    int net_fd;
    int listen_fd;
    int stop_fd;
    atomic_uint connections;
    atomic_ulong bytes; /* of streams, that were right */
    atomic_uint faults; /* bytes that were not */
};

struct traffic {
    struct instance inst;
    struct config config;
    struct timings timings;
    struct traffic_peer peer;
    bool has_ended;
    struct machine_end end;
    char folder[64]; /* its sockets and its disk's base */
};

/* What a guest has done since it began. */
struct traffic_count {
    uint32_t ticks;
    uint32_t disk;
    uint32_t net;
    uint32_t vsock;
};

/* Boots on a disk of zeros below a private overlay; not started. */
struct traffic *traffic_new(enum machine_tracking tracking);

/* Out of a snapshot of one, with another side of its own; not started. */
struct traffic *traffic_restore(struct snap *snap);

void traffic_free(struct traffic *t);

void traffic_start(struct traffic *t);

/* As the guest's mailbox says; `address` is an offset in it. */
void traffic_read(const struct traffic *t, struct traffic_mailbox *ret_mailbox);

/* Runs the loop until the guest has done so much more of each. */
void traffic_run(struct traffic *t, const struct traffic_count *more);

/* Runs the loop once, for at most a millisecond. */
void traffic_turn(struct traffic *t);

/* Neither the guest nor the other side has found anything wrong. */
void traffic_expect_sound(const struct traffic *t);

#endif
