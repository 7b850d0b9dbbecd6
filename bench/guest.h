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
};

/* Ends the program with err's text unless rc is 0 or more. */
void guest_must(int rc, const struct err *err);

/* A machine that boots `path` and was not started. */
struct guest *guest_new(
    const char *path, uint64_t mem_bytes, enum machine_tracking tracking);

/* A machine out of a snapshot, not started. */
struct guest *guest_restore(struct snap *snap, enum machine_tracking tracking);
void guest_free(struct guest *g);

/* What rounds.S reads: at the start, and in each round. */
void guest_set_ring(struct guest *g, uint32_t ring);
void guest_set_pages(struct guest *g, uint32_t count);

/*
 * Runs vCPU 0 on this thread until the guest writes to GUEST_PORT; the machine
 * must not have been started.
 */
void guest_run_round(struct guest *g);

#endif
