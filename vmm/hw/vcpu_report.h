/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Words for exits that end a guest: what happened, at which RIP, and what a
 * user can do about it.
 *
 * Thread rule: on the vCPU's thread, after KVM_RUN. Guest-controlled: the
 * registers and instruction bytes; they are only ever printed.
 */
#ifndef VMM_HW_VCPU_REPORT_H
#define VMM_HW_VCPU_REPORT_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/hw/vcpu.h"

/* Fills *ret_stop from the exit in vcpu->run. */
void vcpu_report_exit(struct vcpu *vcpu, struct vcpu_stop *ret_stop);

/* Fills *ret_stop for a KVM_RUN that failed with `code`, an errno. */
void vcpu_report_host_error(
    struct vcpu *vcpu, int code, struct vcpu_stop *ret_stop);

/*
 * The name of the instruction at `bytes`, "an instruction" if it is not one
 * of those that KVM's emulator is known to lack.
 */
const char *vcpu_report_insn_name(const uint8_t *bytes, size_t len);

#endif
