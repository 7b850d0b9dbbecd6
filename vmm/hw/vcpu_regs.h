/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registers and MSRs of a vCPU at boot.
 *
 * Thread rule: before the vCPU runs.
 */
#ifndef VMM_HW_VCPU_REGS_H
#define VMM_HW_VCPU_REGS_H

#include <linux/kvm.h>
#include <stdbool.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/hw/boot_entry.h"

/* What firmware would have set: fast strings, write-back memory by default. */
CC_MUST_CHECK int vcpu_regs_set_boot_msrs(int vcpu_fd, struct err *err);

/*
 * The registers that `entry` asks for, everything else as after a reset. With
 * `sync_regs` they go in with the next KVM_RUN and cost no system call.
 */
CC_MUST_CHECK int vcpu_regs_set_boot(int vcpu_fd, struct kvm_run *run,
    bool sync_regs, const struct boot_entry *entry, struct err *err);

#endif
