/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPU templates: what a guest is not to see of the host's processors, so that
 * it can go on where they lack it.
 *
 * Thread rule: pure functions. The text is the user's, or a snapshot's.
 */
#ifndef VMM_HW_CPUID_TEMPLATE_H
#define VMM_HW_CPUID_TEMPLATE_H

#include <stdbool.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/hw/cpuid.h"
#include "vmm/hw/kvm.h"

#define CPUID_TEMPLATE_MAX 2048u /* bytes of its text */

/*
 * Whether `text` is a template: "x86-64-v2", "-v3" or "-v4" (the levels of the
 * System V ABI for AMD64, 3.1.1, what every such host has besides, and the
 * mitigations of its faults), or names of features to hide, as /proc/cpuinfo
 * has them, with commas between. -EINVAL with the name that is not known.
 */
CC_MUST_CHECK int cpuid_template_check(const char *text, struct err *err);

/* A level's name, and no list. */
bool cpuid_template_is_level(const char *text);

/*
 * Hides from guests that are to be booted with `cpuid` what the template says.
 * -ENOTSUP where they see the processor itself and it has a feature that is to
 * be hidden; *cpuid is half masked then.
 */
CC_MUST_CHECK int cpuid_template_apply(struct cpuid *cpuid,
    const struct kvm_features *features, const char *text, struct err *err);

#endif
