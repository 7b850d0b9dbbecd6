/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An interrupt line of a device: edge-triggered, an eventfd.
 *
 * The machine binds the eventfd to the interrupt controller (KVM_IRQFD); a
 * test reads it. Thread rule: irq_raise from any thread.
 */
#ifndef VMM_CORE_IRQ_H
#define VMM_CORE_IRQ_H

#include "vmm/base/fd.h"

struct irq_line {
    int fd; /* owned by the machine; -1 for a line that goes nowhere */
};

/* Raises one edge. */
static inline void irq_raise(const struct irq_line *line)
{
    if (line->fd >= 0)
        fd_eventfd_signal(line->fd);
}

#endif
