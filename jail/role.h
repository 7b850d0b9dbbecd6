/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kinds of thread that a jail knows: each has its own list of system
 * calls (policy.h). A thread is of one role for good.
 */
#ifndef JAIL_ROLE_H
#define JAIL_ROLE_H

enum jail_role {
    JAIL_ROLE_MAIN,        /* the loop: devices, consoles, control socket */
    JAIL_ROLE_VCPU,        /* runs the guest, and devices at its accesses */
    JAIL_ROLE_WORKER,      /* a save, a prefetch: what the loop starts beside */
    JAIL_ROLE_PAGE_SERVER, /* serves the pages of a snapshot */
    JAIL_ROLE_FUZZ,        /* runs one vCPU and resets it, on one thread */
    JAIL_ROLES,
};

#endif
