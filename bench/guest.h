/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine around a bare guest of tests/guests, with what an owner gives
 * one, for measurements. What cannot be set up ends the program.
 */
#ifndef BENCH_GUEST_H
#define BENCH_GUEST_H

#include <stdint.h>

#include "snapshot/snap.h"
#include "vmm/machine.h"

/* rounds.S */
#define GUEST_MAILBOX    UINT64_C(0x40000)
#define GUEST_FIRST_PAGE 1024u
#define GUEST_PORT       0x80u

struct guest {
    struct config config;
    struct kvm kvm;
    struct loop loop;
    struct console console;
    struct timings timings;
    struct machine machine;
    uint64_t built_ns; /* clock before machine_init */
};

/* Ends the program with err's text unless rc is 0 or more. */
void guest_must(int rc, const struct err *err);

/* A machine that boots `path` and was not started. */
struct guest *guest_new(
    const char *path, uint64_t mem_bytes, enum machine_tracking tracking);

/* One out of a snapshot; its serial port's output goes to out_fd, or -1. */
struct guest *guest_restore(struct snap *snap, int out_fd);

/* The same in two steps: what can be made ahead, and the guest. */
struct guest *guest_shell(struct snap *snap, bool is_mapped);
void guest_fill(struct guest *g, struct snap *snap);
void guest_free(struct guest *g);

/* What rounds.S reads: at the start, and in each round. */
void guest_set_ring(struct guest *g, uint32_t ring);
void guest_set_pages(struct guest *g, uint32_t count);

/*
 * Runs vCPU 0 on this thread until the guest writes to a port; the machine
 * must not have been started.
 */
void guest_run_to(struct guest *g, uint16_t port);

static inline void guest_run_round(struct guest *g)
{
    guest_run_to(g, GUEST_PORT);
}

#endif
