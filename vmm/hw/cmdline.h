/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kernel command line of bounded length.
 *
 * Words after " -- " are init's and not the kernel's: what the monitor adds
 * goes in front of what its user gave. Thread rule: one thread. User-
 * controlled: appended text.
 */
#ifndef VMM_HW_CMDLINE_H
#define VMM_HW_CMDLINE_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/base/err.h"
#include "vmm/hw/layout.h"

/* x86 Linux reads so many bytes and silently drops the rest. */
#define CMDLINE_LINUX_MAX 2047u

struct cmdline {
    size_t len;                    /* < LAYOUT_CMDLINE_MAX */
    char text[LAYOUT_CMDLINE_MAX]; /* NUL-terminated */
};

void cmdline_init(struct cmdline *line);

/*
 * Appends words, with a space between; empty text adds nothing. -EINVAL for
 * control characters, -E2BIG when it does not fit, and the line is as before.
 */
CC_MUST_CHECK int cmdline_append(
    struct cmdline *line, const char *words, struct err *err);

/*
 * Appends "virtio_mmio.device=4K@<base>:<gsi>:<id>", by which kernels without
 * ACPI find a device window of one page.
 */
CC_MUST_CHECK int cmdline_append_virtio(struct cmdline *line, uint64_t base,
    uint32_t gsi, unsigned int id, struct err *err);

#endif
