/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vCPU's state as the body of a snapshot section.
 *
 *   u32 count of parts, then each: u32 tag, u32 length, body
 *
 * Tags are the bits of VCPU_STATE_*, ascending, each at most once; bodies are
 * little-endian. REGS, SREGS (struct kvm_sregs2), EVENTS, XCRS, DEBUG and
 * LAPIC are Linux's structures of that name (arch/x86/include/uapi/asm/kvm.h:
 * a stable ABI) byte by byte and have their exact length; MP is a u32; TSC is
 * u64 value, u64 offset, u32 kHz, u32 has_offset; MSRS is u32 index, u32
 * zero, u64 value for each, indices ascending; XSAVE is the standard format
 * of Intel SDM vol. 1, 13.4, of 576 bytes or more.
 *
 * Thread rule: pure functions. File-controlled: everything decoded.
 */
#ifndef VMM_HW_VCPU_STATE_WIRE_H
#define VMM_HW_VCPU_STATE_WIRE_H

#include <stddef.h>

#include "vmm/base/bytes.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/hw/vcpu_state.h"

#define VCPU_STATE_WIRE_VERSION 1u

/* Enough for any state. */
#define VCPU_STATE_WIRE_MAX (sizeof(struct vcpu_state) + 256)

/* Appends the parts that the state has; the writer fails if it is too small. */
void vcpu_state_encode(const struct vcpu_state *state, struct bytes_writer *w);

/*
 * Reads all that `r` has into *state, which is of no use after an error.
 * -EINVAL with the part's name for anything but what vcpu_state_encode makes:
 * an unknown tag, a wrong length, a size or count beyond its maximum, reserved
 * fields that are set, bytes left over. A state need not have all parts: the
 * caller tests `parts`.
 */
CC_MUST_CHECK int vcpu_state_decode(
    struct bytes_reader *r, struct vcpu_state *state, struct err *err);

#endif
