/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's physical map, port map and interrupt lines: one table.
 *
 *   0x0000_0500  GDT, IDT of the start state          (LAYOUT_GDT, _IDT)
 *   0x0000_6000  PVH start info and its module list
 *   0x0000_7000  Linux zero page (boot_params)
 *   0x0000_9000  page tables of the 64-bit start state, up to 0xf000
 *   0x0002_0000  command line
 *   0x0009_f000  generation-ID page, reserved in e820
 *   0x0009_fc00  MP floating pointer and table, reserved in e820
 *   0x000e_0000  ACPI tables, RSDP first, reserved in e820
 *   0x0010_0000  kernel, as its ELF says; initrd as high as it fits
 *   0xc000_0000  virtio-mmio windows, one page each
 *   0xfec0_0000  I/O APIC
 *   0xfee0_0000  local APICs
 *   0xfffb_0000  two pages, one of which may be of zeros (kvm_vm_forget_tables)
 *   0xfffb_c000  identity map and TSS that VMX without unrestricted guest needs
 *   0x1_0000_0000 RAM again
 *   above both    persistent memory, each region on LAYOUT_PMEM_ALIGN
 */
#ifndef VMM_HW_LAYOUT_H
#define VMM_HW_LAYOUT_H

#include <stdint.h>

#include "vmm/core/gmem.h"

#define LAYOUT_GDT         UINT64_C(0x500)
#define LAYOUT_IDT         UINT64_C(0x520)
#define LAYOUT_PVH_INFO    UINT64_C(0x6000)
#define LAYOUT_ZERO_PAGE   UINT64_C(0x7000)
#define LAYOUT_PAGE_TABLES UINT64_C(0x9000)
#define LAYOUT_CMDLINE     UINT64_C(0x20000)
#define LAYOUT_CMDLINE_MAX UINT64_C(4096)    /* with its NUL */
#define LAYOUT_EBDA_START  UINT64_C(0x9f000) /* e820: reserved up to 1 MiB */
#define LAYOUT_VMGENID     UINT64_C(0x9f000)
#define LAYOUT_MPTABLE     UINT64_C(0x9fc00)
#define LAYOUT_ACPI        UINT64_C(0xe0000)
#define LAYOUT_ACPI_END    UINT64_C(0x100000)
#define LAYOUT_KERNEL_MIN  UINT64_C(0x100000)

#define LAYOUT_VIRTIO        UINT64_C(0xc0000000)
#define LAYOUT_VIRTIO_STRIDE UINT64_C(0x1000)
#define LAYOUT_VIRTIO_MAX    64u
#define LAYOUT_IOAPIC        UINT64_C(0xfec00000)
#define LAYOUT_LAPIC         UINT64_C(0xfee00000)
#define LAYOUT_SPARE         UINT64_C(0xfffb0000)
#define LAYOUT_IDENTITY_MAP  UINT64_C(0xfffbc000)
#define LAYOUT_TSS           UINT64_C(0xfffbd000)

/*
 * A section of Linux's memory map on x86-64: device memory that has one to
 * itself never shares it with RAM or with other device memory.
 */
#define LAYOUT_PMEM_ALIGN (128 * NUM_MIB)

_Static_assert(LAYOUT_VIRTIO == GMEM_GAP_START, "devices start the gap");
_Static_assert(
    LAYOUT_VIRTIO + LAYOUT_VIRTIO_MAX * LAYOUT_VIRTIO_STRIDE <= LAYOUT_IOAPIC,
    "virtio windows end below the I/O APIC");

/* Ports. The ACPI sleep registers are those of hardware-reduced ACPI. */
#define LAYOUT_PORT_I8042    0x60u /* data; command and status at 0x64 */
#define LAYOUT_PORT_RTC      0x70u
#define LAYOUT_PORT_EXIT     0xf4u /* write: end the VM with this status */
#define LAYOUT_PORT_SERIAL   0x3f8u
#define LAYOUT_PORT_PVPANIC  0x505u
#define LAYOUT_PORT_SLEEP    0x600u /* control; status is the next port */
#define LAYOUT_PORT_TIMELINE 0x610u /* write: boot phase reached */

/* Interrupt lines: I/O APIC pins, equal to GSIs. */
#define LAYOUT_GSI_COUNT    64u
#define LAYOUT_GSI_SERIAL   4u
#define LAYOUT_GSI_RTC      8u
#define LAYOUT_GSI_VMGENID  9u
#define LAYOUT_GSI_SHUTDOWN 10u
#define LAYOUT_GSI_VIRTIO   16u

#define LAYOUT_VCPUS_MAX 32u

#endif
