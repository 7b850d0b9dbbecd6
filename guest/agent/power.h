/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way down: SIGTERM to all, SIGKILL to the rest, sync, root read-only,
 * and the machine off or restarted. A small state machine that the agent's
 * loop drives, so that processes are reaped meanwhile. One thread.
 */
#ifndef GUEST_AGENT_POWER_H
#define GUEST_AGENT_POWER_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/agent/request.h"

enum power_stage {
    POWER_NONE,
    POWER_TERM, /* SIGTERM is sent, until deadline_ms */
    POWER_KILL, /* SIGKILL is sent, until deadline_ms */
};

struct power {
    enum power_stage stage;
    bool restart;
    bool off_is_restart; /* for machines that cannot switch off */
    bool is_init;        /* all processes are this one's to end */
    uint32_t flags;      /* AGENT_POWER_* */
    int64_t deadline_ms; /* CLOCK_MONOTONIC */
};

/* Begins. Nothing if it has begun already. With NOSYNC or where another init
 * is in charge it does not return. */
void power_start(struct power *p, const struct request_power *request,
    bool restart, int64_t now_ms);

/*
 * Goes on: when no process but the agent is left, or the deadline is past.
 * Does not return once there is nothing to wait for.
 */
void power_step(struct power *p, bool nobody_left, int64_t now_ms);

/* Off at once: for a start that failed. Does not return. */
_Noreturn void power_off_now(const struct power *p);

#endif
