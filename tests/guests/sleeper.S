/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sleeps in hlt with interrupts on; each interrupt of vector 0x41 is counted
 * at MAILBOX. "wait" at MAILBOX + 4 being 1 on entry, it first arms the timer
 * in deadline mode, MAILBOX + 8 TSC ticks ahead (vector 0x40, counted at
 * MAILBOX + 12).
 */
#include "pvh.h"
#include "long.h"
#include "apic.h"

start:
        ENTER_LONG
        SET_GATE 0x40, on_deadline
        SET_GATE 0x41, on_message
        LAPIC_PUT LAPIC_SPURIOUS, 0x1ff
        cmpl    $1, MAILBOX + 4
        jne     .Lsleep
        LAPIC_PUT LAPIC_TIMER, 0x40 | TIMER_DEADLINE
        rdtsc
        addl    MAILBOX + 8, %eax
        adcl    $0, %edx
        movl    $MSR_DEADLINE, %ecx
        wrmsr
.Lsleep:
        movl    $1, MAILBOX + 16
        sti
        hlt
        jmp     .Lsleep

on_deadline:
        incl    MAILBOX + 12
        jmp     done
on_message:
        incl    MAILBOX
done:   pushq   %rax
        LAPIC_PUT LAPIC_EOI, 0
        popq    %rax
        iretq
