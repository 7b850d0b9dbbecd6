/* SPDX-License-Identifier: Apache-2.0 */
/* Starts the application processors (Intel SDM vol. 3, 9.4). */
#ifndef TESTS_GUESTS_SMP_H
#define TESTS_GUESTS_SMP_H

#include "apic.h"

#define TRAMPOLINE 0x30000

        .section .data
        .balign 8
ap_gdt: .quad 0
        .quad 0x00cf9b000000ffff
        .quad 0x00cf93000000ffff
ap_gdt_pointer:
        .word ap_gdt_pointer - ap_gdt - 1
        .long ap_gdt

        .text
/*
 * Real mode, copied to TRAMPOLINE: goes on at ap_start in 32-bit mode with
 * eax = the APIC's id, and no stack.
 */
        .code16
trampoline:
        cli
        movw    %cs, %ax
        movw    %ax, %ds
        lgdtl   trampoline_gdt_pointer - trampoline
        movl    %cr0, %eax
        orl     $1, %eax
        movl    %eax, %cr0
        ljmpl   $0x08, $ap_protected
trampoline_gdt_pointer:
        .word   ap_gdt_pointer - ap_gdt - 1
        .long   ap_gdt
trampoline_end:
        .code32
ap_protected:
        movl    $0x10, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movl    LAPIC + LAPIC_ID, %eax
        shrl    $24, %eax
        jmp     ap_start

/* Wakes all others; for 32-bit code on the boot processor. */
.macro START_OTHERS
        movl    $trampoline, %esi
        movl    $TRAMPOLINE, %edi
        movl    $trampoline_end - trampoline, %ecx
        rep movsb
        movl    $0x1ff, LAPIC + LAPIC_SPURIOUS
        movl    $IPI_ALL_BUT_SELF | IPI_INIT, LAPIC + LAPIC_ICR_LOW
        movl    $IPI_ALL_BUT_SELF | IPI_STARTUP | TRAMPOLINE >> 12, \
                LAPIC + LAPIC_ICR_LOW
        movl    $IPI_ALL_BUT_SELF | IPI_STARTUP | TRAMPOLINE >> 12, \
                LAPIC + LAPIC_ICR_LOW
.endm

#endif
