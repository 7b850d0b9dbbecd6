/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM's own counters of a vCPU (Documentation/virt/kvm/api.rst, 4.133).
 *
 * Owns the descriptor of one, which is opened while the process may (a jail
 * allows no such ioctl). Thread rule: opening on the vCPU's thread outside of
 * KVM_RUN or while it is not running, reading on any. Nothing here is
 * guest-controlled but what it makes KVM count.
 */
#ifndef VMM_HW_VCPU_STATS_H
#define VMM_HW_VCPU_STATS_H

#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/hw/vcpu.h"

/* Instructions that KVM's emulator carried out. */
#define VCPU_STATS_EMULATED "insn_emulation"

struct vcpu_stats {
    int fd;      /* -1: no counter */
    uint64_t at; /* of the counter in it */
};

#define VCPU_STATS_NONE ((struct vcpu_stats){.fd = -1})

/*
 * The counter `name`: 0, -ENOENT if this kernel has none of that name,
 * -ENOTSUP or another -errno if it has no counters. Half a dozen system calls.
 */
CC_MUST_CHECK int vcpu_stats_open(
    const struct vcpu *vcpu, const char *name, struct vcpu_stats *ret_stats);
void vcpu_stats_close(struct vcpu_stats *stats);

/* Its value; -EBADF without one. */
CC_MUST_CHECK int vcpu_stats_read(
    const struct vcpu_stats *stats, uint64_t *ret_value);

#endif
