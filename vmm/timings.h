/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The boot timeline: when each phase of a run was reached.
 *
 * Thread rule: timings_mark from any thread, once per phase (later marks of
 * the same phase are ignored); printing after the run.
 */
#ifndef VMM_TIMINGS_H
#define VMM_TIMINGS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "vmm/base/cc.h"

enum timings_phase {
    TIMINGS_PROCESS,     /* the process was started, by its processor time */
    TIMINGS_MAIN,        /* main() entered */
    TIMINGS_KVM,         /* VM with memory and interrupt controller */
    TIMINGS_KERNEL,      /* kernel, initrd and tables are in guest memory */
    TIMINGS_GUEST,       /* first guest instruction */
    TIMINGS_INIT,        /* agent's first instruction */
    TIMINGS_ROOT,        /* root file system mounted */
    TIMINGS_READY,       /* agent says it is ready */
    TIMINGS_COMMAND,     /* command started */
    TIMINGS_COMMAND_END, /* command ended, its output complete */
    TIMINGS_EXIT,        /* VM torn down */
    TIMINGS_COUNT,
};

struct timings {
    uint64_t at_ns[TIMINGS_COUNT]; /* CLOCK_MONOTONIC, 0: not reached */
    /*
     * Instructions of the boot vCPU that KVM had emulated by then, 0: not
     * known. Where guest kernels are interpreted this is what a boot costs,
     * whatever else the host does. The caller's to fill in.
     */
    uint64_t emulated[TIMINGS_COUNT];
    bool wants_emulated;
};

void timings_mark(struct timings *t, enum timings_phase phase);
void timings_mark_at(
    struct timings *t, enum timings_phase phase, uint64_t at_ns);

/* What a phase is called for people. */
const char *timings_text(enum timings_phase phase);

/* A table for people, times in ms from main() and the difference. */
void timings_print(const struct timings *t, FILE *out);

/*
 * One JSON object, nanoseconds from main(); phases not reached are null. In
 * "emulated_instructions" are the phases for which the number is known.
 */
void timings_print_json(const struct timings *t, FILE *out);

#endif
