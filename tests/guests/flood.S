/* SPDX-License-Identifier: Apache-2.0 */
/* The entry of flood.c: 64-bit mode, interrupts of one vector, flood_main. */
#include "pvh.h"
#include "long.h"
#include "apic.h"
#include "flood.h"

start:
        ENTER_LONG
        SET_GATE FLOOD_VECTOR, on_interrupt
        LAPIC_PUT LAPIC_SPURIOUS, 0x1ff
        movl    %ebx, %edi
        call    flood_main
        EXIT    250

/* It has woken the processor: there is nothing more to it. */
on_interrupt:
        pushq   %rax
        LAPIC_PUT LAPIC_EOI, 0
        popq    %rax
        iretq
