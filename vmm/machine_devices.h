/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The devices of a machine: which there are, where they sit, and how the
 * guest is told. Part of machine.c, in a file of its own.
 *
 * Thread rule: before vCPUs run, and after they have stopped.
 */
#ifndef VMM_MACHINE_DEVICES_H
#define VMM_MACHINE_DEVICES_H

#include "vmm/base/err.h"
#include "vmm/hw/cmdline.h"
#include "vmm/machine.h"

/* What devices report from vCPU threads; machine.c ends the machine. */
struct machine_events {
    void (*power_off)(void *opaque);
    void (*reset)(void *opaque);
    void (*panic)(void *opaque, uint8_t event);
    void (*exit)(void *opaque, uint8_t status);
    /* An access that the host could not carry out; one line for people. */
    void (*host_fault)(void *opaque, const char *text);
    void *opaque;
};

/* Makes every device that the configuration asks for. */
CC_MUST_CHECK int machine_devices_init(
    struct machine *m, const struct machine_events *events, struct err *err);
void machine_devices_fini(struct machine *m);

/* For machine_virtio.c: a window that is free by the layout. */
void machine_devices_map_mmio(
    struct machine *m, uint64_t address, uint64_t len, struct device *dev);

/*
 * Describes the devices to the guest: ACPI tables, or an MP table and words
 * on the command line. *ret_rsdp is 0 without ACPI.
 */
CC_MUST_CHECK int machine_devices_describe(
    struct machine *m, struct cmdline *line, gpa_t *ret_rsdp, struct err *err);

#endif
