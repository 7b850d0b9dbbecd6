/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/jail_gate.h"

#include <errno.h>

void jail_gate_init(struct jail_gate *gate, const struct jail *jail)
{
    *gate = (struct jail_gate){.jail = jail,
        .lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER,
        .changed = (pthread_cond_t)PTHREAD_COND_INITIALIZER};
}

static int wait_for_main(struct jail_gate *gate, struct err *err)
{
    int rc;

    (void)pthread_mutex_lock(&gate->lock);
    while (!gate->is_main_confined)
        (void)pthread_cond_wait(&gate->changed, &gate->lock);
    rc = gate->main_rc;
    (void)pthread_mutex_unlock(&gate->lock);
    return rc < 0 ? err_set(err, -rc, "the machine is not in its jail") : 0;
}

static void main_is_confined(struct jail_gate *gate, int rc)
{
    (void)pthread_mutex_lock(&gate->lock);
    gate->is_main_confined = true;
    gate->main_rc = rc;
    (void)pthread_cond_broadcast(&gate->changed);
    (void)pthread_mutex_unlock(&gate->lock);
}

int jail_gate_confine(
    struct jail_gate *gate, enum jail_role role, struct err *err)
{
    int rc = jail_confine(gate->jail, role, err);

    if (role == JAIL_ROLE_MAIN)
        main_is_confined(gate, rc);
    else if (role == JAIL_ROLE_VCPU && rc == 0)
        rc = wait_for_main(gate, err);
    return rc;
}

void jail_gate_give_up(struct jail_gate *gate)
{
    if (!gate->is_main_confined)
        main_is_confined(gate, -ECANCELED);
}
