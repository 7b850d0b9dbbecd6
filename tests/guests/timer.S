/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The local APIC's timer: one shot, periodic, and by TSC deadline where CPUID
 * has it. A tick that does not come leaves the guest in hlt.
 */
#include "pvh.h"
#include "long.h"
#include "apic.h"

#define VECTOR 0x40

start:
        ENTER_LONG
        SET_GATE VECTOR, on_tick
        LAPIC_PUT LAPIC_SPURIOUS, 0x1ff
        LAPIC_PUT LAPIC_DIVIDE, 0x0b    /* by 1 */

        LAPIC_PUT LAPIC_TIMER, VECTOR
        LAPIC_PUT LAPIC_INITIAL, 100000
        movl    $1, %ebp
        call    wait
        movl    $LAPIC + LAPIC_CURRENT, %eax
        cmpl    $0, (%rax)
        NEED    e, 1

        LAPIC_PUT LAPIC_TIMER, VECTOR | TIMER_PERIODIC
        LAPIC_PUT LAPIC_INITIAL, 1000000
        movl    $4, %ebp
        call    wait
        LAPIC_PUT LAPIC_INITIAL, 0

        movl    $1, %eax
        cpuid
        testl   $1 << 24, %ecx
        jz      .Ldone
        LAPIC_PUT LAPIC_TIMER, VECTOR | TIMER_DEADLINE
        movl    ticks, %ebp
        incl    %ebp
        rdtsc
        addl    $1000000, %eax
        adcl    $0, %edx
        movl    $MSR_DEADLINE, %ecx
        wrmsr
        call    wait
        movl    $MSR_DEADLINE, %ecx
        rdmsr
        orl     %edx, %eax
        NEED    z, 2
.Ldone:
        EXIT    0

/* Until there were ebp ticks. */
wait:
        cli
        cmpl    %ebp, ticks
        jae     .Lenough
        sti
        hlt
        jmp     wait
.Lenough:
        ret

on_tick:
        pushq   %rax
        incl    ticks
        LAPIC_PUT LAPIC_EOI, 0
        popq    %rax
        iretq

        .section .bss
        .balign 4
ticks:  .skip   4
