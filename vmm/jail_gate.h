/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order in which the threads of a machine are held to their roles: those of
 * vCPUs are made before the main thread is confined, so that they have no more
 * than theirs, and none of them runs its guest before the main thread is.
 *
 * Thread rule: jail_gate_init before there are others; the rest on any.
 */
#ifndef VMM_JAIL_GATE_H
#define VMM_JAIL_GATE_H

#include <pthread.h>
#include <stdbool.h>

#include "jail/jail.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

struct jail_gate {
    const struct jail *jail; /* borrowed */
    pthread_mutex_t lock;    /* protects the rest */
    pthread_cond_t changed;
    bool is_main_confined;
    int main_rc; /* what that came to */
};

void jail_gate_init(struct jail_gate *gate, const struct jail *jail);

/* The calling thread, as struct outside has it. */
CC_MUST_CHECK int jail_gate_confine(
    struct jail_gate *gate, enum jail_role role, struct err *err);

/* A machine that is half started is to end: who waits goes on, to an error. */
void jail_gate_give_up(struct jail_gate *gate);

#endif
