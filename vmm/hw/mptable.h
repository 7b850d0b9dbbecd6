/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MultiProcessor Specification 1.4 table, for kernels without ACPI.
 *
 * Lies in the last KiB of base memory (LAYOUT_MPTABLE), where the
 * specification has kernels look for it (MP 1.4, 4). Every line is an ISA
 * interrupt of the same number, edge-triggered and active high. Thread rule:
 * none. The configuration is the monitor's own and is asserted.
 */
#ifndef VMM_HW_MPTABLE_H
#define VMM_HW_MPTABLE_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/base/err.h"
#include "vmm/core/gmem.h"

#define MPTABLE_SIZE_MAX 1024u

struct mptable_config {
    unsigned int vcpu_count; /* 1..LAYOUT_VCPUS_MAX */
    uint64_t gsis;           /* bit n: I/O APIC pin n is used */
};

/*
 * Builds the table into `buf` as it is to stand at LAYOUT_MPTABLE, floating
 * pointer first. *ret_len is its length; -ENOSPC if so many processors and
 * lines do not fit.
 */
CC_MUST_CHECK int mptable_table(const struct mptable_config *config,
    uint8_t buf[MPTABLE_SIZE_MAX], size_t *ret_len, struct err *err);

/* Puts the table into guest memory. */
CC_MUST_CHECK int mptable_build(
    struct gmem *mem, const struct mptable_config *config, struct err *err);

#endif
