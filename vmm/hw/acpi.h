/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI tables: RSDP, XSDT, FADT, MADT, DSDT, one after the other.
 *
 * Hardware-reduced ACPI 6.x: no PM timer, no SCI, no PIC. Devices are named in
 * the DSDT; on hosts where the guest's kernel is interpreted each byte of it
 * is boot time, so it has names where others have methods. Interrupts are
 * edge-triggered, active high. Thread rule: none. The configuration is the
 * monitor's own and is asserted.
 *
 * Power off: the guest enters sleep type ACPI_PM_S5 at LAYOUT_PORT_SLEEP.
 * Reset: it writes ACPI_RESET_VALUE to ACPI_RESET_PORT, the i8042's command
 * register. Changed generation ID and power button: raise LAYOUT_GSI_VMGENID
 * and LAYOUT_GSI_SHUTDOWN.
 */
#ifndef VMM_HW_ACPI_H
#define VMM_HW_ACPI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/err.h"
#include "vmm/core/gmem.h"

#define ACPI_RESET_PORT  0x64u
#define ACPI_RESET_VALUE 0xfeu

struct acpi_virtio {
    uint64_t base; /* of the virtio-mmio window, below 4 GiB */
    uint32_t gsi;
};

struct acpi_config {
    unsigned int vcpu_count;          /* 1..LAYOUT_VCPUS_MAX */
    const struct acpi_virtio *virtio; /* in the order guests number them */
    unsigned int virtio_count;        /* <= LAYOUT_VIRTIO_MAX */
    bool serial;                      /* COM1 at LAYOUT_PORT_SERIAL */
    bool rtc;                         /* CMOS clock at LAYOUT_PORT_RTC */
    bool pvpanic;                     /* at LAYOUT_PORT_PVPANIC */
    bool vmgenid;                     /* 16 bytes at LAYOUT_VMGENID */
    bool power_button;
};

/* Enough for every configuration. */
#define ACPI_SIZE_MAX ((size_t)16 * 1024)

/*
 * Builds the tables into `buf` as they are to stand at LAYOUT_ACPI, RSDP
 * first; returns their length in bytes.
 */
CC_MUST_CHECK size_t acpi_tables(
    const struct acpi_config *config, uint8_t buf[ACPI_SIZE_MAX]);

/* Puts the tables into guest memory; *ret_rsdp is for struct boot_config. */
CC_MUST_CHECK int acpi_build(struct gmem *mem, const struct acpi_config *config,
    gpa_t *ret_rsdp, struct err *err);

#endif
