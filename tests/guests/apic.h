/* SPDX-License-Identifier: Apache-2.0 */
/* The local APIC and the I/O APIC. */
#ifndef TESTS_GUESTS_APIC_H
#define TESTS_GUESTS_APIC_H

#define LAPIC_ID       0x20
#define LAPIC_EOI      0xb0
#define LAPIC_SPURIOUS 0xf0
#define LAPIC_ICR_LOW  0x300
#define LAPIC_ICR_HIGH 0x310
#define LAPIC_TIMER    0x320
#define LAPIC_INITIAL  0x380
#define LAPIC_CURRENT  0x390
#define LAPIC_DIVIDE   0x3e0

#define TIMER_PERIODIC 0x20000
#define TIMER_DEADLINE 0x40000
#define MSR_DEADLINE   0x6e0

#define IPI_INIT           0x004500
#define IPI_STARTUP        0x004600
#define IPI_ALL_BUT_SELF   0x0c0000

#define IOAPIC_MASKED 0x10000

/* Uses rax. */
.macro LAPIC_PUT register, value
        movl    $LAPIC + \register, %eax
        movl    $\value, (%rax)
.endm

/* Register `index` of the I/O APIC. Uses rax. */
.macro IOAPIC_PUT index, value
        movl    $IOAPIC, %eax
        movl    $\index, (%rax)
        movl    $\value, 0x10(%rax)
.endm

#endif
