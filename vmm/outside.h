/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a machine in a jail has somebody outside do for it, since its process
 * opens nothing by name and starts nobody.
 *
 * Thread rule: join_switch while the machine is built, connect on any of its
 * threads, under the vsock device's lock.
 */
#ifndef VMM_OUTSIDE_H
#define VMM_OUTSIDE_H

#include <stdint.h>

#include "jail/role.h"
#include "vmm/base/err.h"

struct outside {
    /* As netswitch_join. */
    int (*join_switch)(
        void *opaque, const char *where, int *ret_fd, struct err *err);
    /* A connection to "<vsock path>_<port>": a descriptor, or -errno. */
    int (*connect)(void *opaque, uint32_t port);
    /*
     * Holds the calling thread to its role, if the machine is in a jail. That
     * of a vCPU then waits for the main thread, which is confined when all
     * vCPUs have theirs.
     */
    int (*confine)(void *opaque, enum jail_role role, struct err *err);
    void *opaque;
};

#endif
