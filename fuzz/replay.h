/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One run of a target, gone through forwards and backwards. Backwards is
 * forwards again from the root: runs are the same every time, so a place is
 * known by the number of instructions before it. Where the program went
 * without being counted, that is found out when it is needed, by stepping.
 *
 * What a debugger has written to registers or memory is gone after a move
 * backwards. Borrows the debugger and the input. Thread rule: the debugger's.
 * Guest-controlled: as the debugger has it.
 */
#ifndef FUZZ_REPLAY_H
#define FUZZ_REPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fuzz/debugger.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/* Instructions that are stepped through for one move: some minutes. */
#define REPLAY_STEPS_MAX (1u << 21)

enum replay_stop {
    REPLAY_STEPPED,
    REPLAY_HIT,
    REPLAY_BEGIN,       /* at the root: nothing came before */
    REPLAY_END,         /* the run is over */
    REPLAY_CRASH,       /* before the instruction that it crashes at */
    REPLAY_INTERRUPTED, /* somewhere on the way */
};

struct replay {
    struct debugger *debugger;
    const uint8_t *input;
    size_t size;
    uint64_t timeout_us;
    bool (*is_interrupted)(void *opaque); /* asked now and then; or NULL */
    void *opaque;

    uint64_t steps;  /* from the root to the last counted place */
    bool is_counted; /* this is that place */
    bool has_ended;
    struct kvm_regs regs; /* where it stopped, if not counted */
    bool at_crash;
    uint32_t signal; /* of the crash, once it was met; 0: none */
};

/* To the root. The first six members are set. */
CC_MUST_CHECK int replay_begin(struct replay *r, struct err *err);

CC_MUST_CHECK int replay_step(
    struct replay *r, enum replay_stop *ret_stop, struct err *err);

/*
 * To a breakpoint or the end. Of a run that crashes at a known instruction,
 * it stops before that, and goes on to the end from there. -ETIMEDOUT never:
 * a run that takes too long has ended.
 */
CC_MUST_CHECK int replay_continue(
    struct replay *r, enum replay_stop *ret_stop, struct err *err);

/* -E2BIG if there is more than REPLAY_STEPS_MAX before it; -EPROTO if the run
 * was another this time. */
CC_MUST_CHECK int replay_step_back(
    struct replay *r, enum replay_stop *ret_stop, struct err *err);
CC_MUST_CHECK int replay_continue_back(
    struct replay *r, enum replay_stop *ret_stop, struct err *err);

#endif
