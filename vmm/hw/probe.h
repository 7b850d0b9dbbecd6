/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the KVM of this host can do, found by asking and by trying.
 *
 * Nothing here changes the host: the one machine that is made has one page of
 * code that we wrote, and is gone when its function returns. Thread rule: one
 * thread per call, nothing shared.
 */
#ifndef VMM_HW_PROBE_H
#define VMM_HW_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/hw/kvm.h"

enum probe_backend { PROBE_VMX, PROBE_SVM, PROBE_SOFTWARE, PROBE_UNKNOWN };

struct probe_caps {
    int api_version;
    enum probe_backend backend; /* as the modules and the CPU have it */
    bool split_irqchip;
    bool immediate_exit;
    bool ioeventfd;
    bool irqfd;
    bool tsc_deadline;
    bool tsc_control;
    uint32_t manual_protect; /* KVM_DIRTY_LOG_* mask, 0: none */
    uint32_t dirty_ring_max; /* entries of 16 bytes, 0: no dirty ring */
    uint32_t sync_regs;      /* KVM_SYNC_X86_* mask */
    uint32_t vcpus_max;
    uint32_t vcpus_recommended;
    uint32_t memslots_max;
};

/* Asks; what the kernel does not know reads as 0 or false. */
void probe_read_caps(const struct kvm *kvm, struct probe_caps *ret_caps);

/*
 * Runs a ring-0 loop in a throw-away machine and says how many instructions a
 * second it made. Takes about 20 ms at most. An error says what of a minimal
 * machine this host cannot do.
 */
CC_MUST_CHECK int probe_measure_ring0(
    const struct kvm *kvm, uint64_t *ret_per_second, struct err *err);

#endif
