/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sleep control and sleep status registers of hardware-reduced ACPI
 * (ACPI 6.5, 4.8.3.7), one byte port each.
 *
 * Entering sleep type ACPI_PM_S5 turns the machine off. There is no other
 * sleep state: the guest is awake again at once, which WAK_STS tells it.
 * Thread rule: that of the device contract; `power_off` is called with the
 * lock held on the vCPU's thread and must not block. Guest-controlled: both
 * registers.
 */
#ifndef VMM_HW_ACPI_PM_H
#define VMM_HW_ACPI_PM_H

#include <stdint.h>

#include "vmm/core/device.h"

#define ACPI_PM_PORTS   2u
#define ACPI_PM_CONTROL 0u
#define ACPI_PM_STATUS  1u
#define ACPI_PM_S5      5u /* SLP_TYP of _S5 in the DSDT */

struct acpi_pm_state {
    uint8_t control; /* SLP_TYP in place; SLP_EN is write-only */
    uint8_t status;  /* WAK_STS in place */
};

struct acpi_pm {
    struct device dev;
    struct acpi_pm_state state;
    void (*power_off)(void *opaque);
    void *opaque;
};

/* ACPI_PM_PORTS ports of the PIO bus. */
void acpi_pm_init(
    struct acpi_pm *pm, void (*power_off)(void *opaque), void *opaque);

#endif
