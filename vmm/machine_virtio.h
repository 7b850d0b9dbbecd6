/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio devices of a machine, in the order in which the guest finds them
 * and a snapshot keeps them. Part of machine_devices.c, in a file of its own.
 *
 * Thread rule: before vCPUs run, and after they have stopped.
 */
#ifndef VMM_MACHINE_VIRTIO_H
#define VMM_MACHINE_VIRTIO_H

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/machine.h"
#include "vmm/machine_devices.h"

/* Makes those that the configuration asks for; machine_virtio_fini is due. */
CC_MUST_CHECK int machine_virtio_init(
    struct machine *m, const struct machine_events *events, struct err *err);
void machine_virtio_fini(struct machine *m);

#endif
