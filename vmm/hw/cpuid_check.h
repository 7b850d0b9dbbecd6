/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CPUID of a snapshot: its wire form, whether another host can stand in,
 * and masks that make hosts alike.
 *
 * Thread rule: pure functions but for cpuid_host. File-controlled: every table
 * that cpuid_decode made.
 */
#ifndef VMM_HW_CPUID_CHECK_H
#define VMM_HW_CPUID_CHECK_H

#include "vmm/base/bytes.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/hw/cpuid.h"
#include "vmm/hw/kvm.h"

/*
 * u32 count, then for each entry u32 leaf, subleaf, flags, eax, ebx, ecx, edx,
 * in the table's order.
 */
#define CPUID_WIRE_VERSION 1u
#define CPUID_WIRE_MAX     (4u + CPUID_ENTRIES_MAX * 28u)
void cpuid_encode(const struct cpuid *cpuid, struct bytes_writer *w);

/*
 * Reads all that `r` has into a table of its own (cpuid_fini). -EINVAL for
 * more than CPUID_ENTRIES_MAX entries, unknown flags, an entry that is there
 * twice, missing bytes or bytes left over; -ENOMEM.
 */
CC_MUST_CHECK int cpuid_decode(
    struct bytes_reader *r, struct cpuid *ret_cpuid, struct err *err);

/*
 * Of a table that KVM made, what guests truly see: where ring 0 is emulated,
 * leaves below 0x40000000 are the processor's own whatever KVM is told, so
 * they are replaced by that. To be applied to what is saved and to what it is
 * compared with. A hundred CPUID instructions, each of which may trap.
 */
void cpuid_see(struct cpuid *cpuid, const struct kvm_features *features);

/*
 * Whether a guest that saw `saved` can go on where guests see `host`: every
 * feature bit that `saved` has, `host` must have; XSAVE components that both
 * have must lie at the same place in the area, physical addresses be no
 * narrower. Identity (vendor aside, which must be the same), topology, caches,
 * frequencies and what the host has more are no reason. -ENOTSUP; the error
 * names the features as /proc/cpuinfo does, as many as fit, or
 * "cpuid 0x7.0 edx bit 12" for a bit without a name.
 */
CC_MUST_CHECK int cpuid_check(
    const struct cpuid *saved, const struct cpuid *host, struct err *err);

/*
 * Hides the features in `names` (comma-separated, as in /proc/cpuinfo) from
 * guests that are to be booted with `cpuid`. -EINVAL for a name that is not
 * known; -ENOTSUP on a host where guests see the processor's own CPUID and
 * the feature is there, as hiding it cannot work: names before it in the list
 * are hidden then. What builds on a feature is not hidden with it.
 */
CC_MUST_CHECK int cpuid_mask(struct cpuid *cpuid,
    const struct kvm_features *features, const char *names, struct err *err);

#endif
