/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/replay.h"

#include <errno.h>
#include <string.h>

/* Steps between questions whether to go on. */
#define ASK_EVERY 256u

static int get_regs(
    struct replay *r, struct kvm_regs *ret_regs, struct err *err)
{
    struct kvm_sregs2 sregs;

    return debugger_get_regs(r->debugger, ret_regs, &sregs, err);
}

int replay_begin(struct replay *r, struct err *err)
{
    r->steps = 0;
    r->is_counted = true;
    r->has_ended = false;
    r->at_crash = false;
    return debugger_begin(r->debugger, r->input, r->size, err);
}

/* ---- forwards ------------------------------------------------------------ */

int replay_step(struct replay *r, enum replay_stop *ret_stop, struct err *err)
{
    enum debugger_halt halt;
    int rc;

    *ret_stop = REPLAY_END;
    if (r->has_ended)
        return 0;
    r->at_crash = false;
    rc = debugger_step(r->debugger, &halt, err);
    if (rc < 0)
        return rc;
    if (halt == DEBUGGER_ENDED) {
        r->has_ended = true;
        return 0;
    }
    if (r->is_counted)
        r->steps++;
    *ret_stop = halt == DEBUGGER_HIT ? REPLAY_HIT : REPLAY_STEPPED;
    return r->is_counted ? 0 : get_regs(r, &r->regs, err);
}

/* To the breakpoint at `at` for the `times`th time from the root on. */
static int run_to(struct replay *r, uint64_t at, uint64_t times,
    uint64_t *ret_hits, struct err *err)
{
    uint64_t hits = 0;
    int rc = debugger_begin(r->debugger, r->input, r->size, err);

    while (rc == 0 && hits < times) {
        enum debugger_halt halt;
        struct kvm_regs regs;

        rc = debugger_continue(r->debugger, r->timeout_us, &halt, err);
        if (rc < 0 || halt == DEBUGGER_ENDED)
            break;
        rc = get_regs(r, &regs, err);
        hits += rc == 0 && regs.rip == at ? 1 : 0;
    }
    *ret_hits = hits;
    return rc;
}

/* Back to before the instruction at which the run crashed. */
static int go_to_crash(
    struct replay *r, uint64_t at, bool *ret_there, struct err *err)
{
    bool was_in = breakpoints_find(debugger_breaks(r->debugger), at) >= 0;
    uint64_t hits = 0;
    int rc = 0;

    *ret_there = false;
    if (!was_in && debugger_add_break(r->debugger, at, err) < 0)
        return 0; /* a jump to where no code is: that is where it ended */
    rc = run_to(r, at, UINT64_MAX, &hits, err);
    if (rc == 0 && hits > 0) {
        rc = run_to(r, at, hits, &hits, err);
        *ret_there = rc == 0;
    }
    if (!was_in)
        debugger_remove_break(r->debugger, at);
    return rc;
}

static int end_of_run(
    struct replay *r, enum replay_stop *ret_stop, struct err *err)
{
    const struct fuzz_result *result = debugger_result(r->debugger);
    uint64_t at = result->rip;
    bool is_crash =
        (result->verdict == FUZZ_CRASH || result->verdict == FUZZ_SANITIZER) &&
        at != 0 && !r->at_crash;
    bool there = false;
    int rc;

    r->signal = result->signal;
    rc = is_crash ? go_to_crash(r, at, &there, err) : 0;
    if (rc < 0)
        return rc;
    r->has_ended = !there;
    r->at_crash = there;
    *ret_stop = there ? REPLAY_CRASH : REPLAY_END;
    return there ? get_regs(r, &r->regs, err) : 0;
}

int replay_continue(
    struct replay *r, enum replay_stop *ret_stop, struct err *err)
{
    enum debugger_halt halt;
    int rc;

    *ret_stop = REPLAY_END;
    if (r->has_ended)
        return 0;
    r->is_counted = false;
    rc = debugger_continue(r->debugger, r->timeout_us, &halt, err);
    if (rc < 0)
        return rc;
    if (halt == DEBUGGER_ENDED)
        return end_of_run(r, ret_stop, err);
    r->at_crash = false;
    *ret_stop = REPLAY_HIT;
    return get_regs(r, &r->regs, err);
}

/* ---- backwards ----------------------------------------------------------- */

static bool asks_stop(const struct replay *r, uint64_t steps)
{
    return steps % ASK_EVERY == 0 && r->is_interrupted != NULL &&
           r->is_interrupted(r->opaque);
}

static int too_far(struct err *err)
{
    return err_set(err, E2BIG,
        "more than %u instructions lie before this place: set a breakpoint "
        "nearer to the root",
        REPLAY_STEPS_MAX);
}

/* From the root; stops early if it is to, with REPLAY_INTERRUPTED. */
static int walk(struct replay *r, uint64_t steps, enum replay_stop *ret_stop,
    struct err *err)
{
    int rc = replay_begin(r, err);

    *ret_stop = REPLAY_STEPPED;
    while (rc == 0 && r->steps < steps && !r->has_ended) {
        if (asks_stop(r, r->steps)) {
            *ret_stop = REPLAY_INTERRUPTED;
            return 0;
        }
        rc = replay_step(r, ret_stop, err);
    }
    if (rc == 0 && r->steps < steps)
        return err_set(err, EPROTO, "the run was another this time");
    return rc;
}

/*
 * Counts the steps to where it is: from the last counted place on, to the
 * first where all registers are the same, or to the end.
 */
static int count(struct replay *r, enum replay_stop *ret_stop, struct err *err)
{
    const struct kvm_regs wanted = r->regs;
    bool to_end = r->has_ended;
    uint64_t from = r->steps;
    int rc = 0;

    *ret_stop = REPLAY_STEPPED;
    if (r->is_counted)
        return 0;
    rc = walk(r, from, ret_stop, err);
    while (rc == 0 && *ret_stop != REPLAY_INTERRUPTED && !r->has_ended) {
        struct kvm_regs regs;

        if (r->steps == REPLAY_STEPS_MAX)
            return too_far(err);
        if (asks_stop(r, r->steps)) {
            *ret_stop = REPLAY_INTERRUPTED;
            return 0;
        }
        rc = replay_step(r, ret_stop, err);
        if (rc == 0 && !to_end && !r->has_ended)
            rc = get_regs(r, &regs, err);
        if (rc == 0 && !to_end && !r->has_ended &&
            memcmp(&regs, &wanted, sizeof(regs)) == 0)
            return 0;
    }
    if (rc == 0 && r->has_ended && !to_end)
        return err_set(err, EPROTO, "the run was another this time");
    return rc;
}

int replay_step_back(
    struct replay *r, enum replay_stop *ret_stop, struct err *err)
{
    uint64_t to;
    int rc = count(r, ret_stop, err);

    if (rc < 0 || *ret_stop == REPLAY_INTERRUPTED)
        return rc;
    /* The last step, which did not come to its end, is not counted. */
    if (r->steps == 0 && !r->has_ended) {
        *ret_stop = REPLAY_BEGIN;
        return replay_begin(r, err);
    }
    to = r->has_ended ? r->steps : r->steps - 1;
    return walk(r, to, ret_stop, err);
}

/* The last place before this one at which a breakpoint is. */
static int find_last(struct replay *r, uint64_t before, bool *ret_found,
    uint64_t *ret_steps, enum replay_stop *ret_stop, struct err *err)
{
    const struct breakpoints *breaks = debugger_breaks(r->debugger);
    int rc = replay_begin(r, err);

    *ret_found = false;
    *ret_stop = REPLAY_STEPPED;
    while (rc == 0 && r->steps < before) {
        struct kvm_regs regs;

        if (asks_stop(r, r->steps)) {
            *ret_stop = REPLAY_INTERRUPTED;
            return 0;
        }
        rc = get_regs(r, &regs, err);
        if (rc == 0 && breakpoints_find(breaks, regs.rip) >= 0) {
            *ret_found = true;
            *ret_steps = r->steps;
        }
        if (rc == 0)
            rc = replay_step(r, ret_stop, err);
        if (rc == 0 && r->has_ended)
            break;
    }
    return rc;
}

int replay_continue_back(
    struct replay *r, enum replay_stop *ret_stop, struct err *err)
{
    uint64_t steps = 0;
    bool found;
    int rc = count(r, ret_stop, err);

    if (rc < 0 || *ret_stop == REPLAY_INTERRUPTED)
        return rc;
    rc = find_last(
        r, r->steps + (r->has_ended ? 1 : 0), &found, &steps, ret_stop, err);
    if (rc < 0 || *ret_stop == REPLAY_INTERRUPTED)
        return rc;
    rc = walk(r, steps, ret_stop, err);
    if (rc == 0 && *ret_stop != REPLAY_INTERRUPTED)
        *ret_stop = found ? REPLAY_HIT : REPLAY_BEGIN;
    return rc;
}
