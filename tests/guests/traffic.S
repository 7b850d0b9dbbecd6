/* SPDX-License-Identifier: Apache-2.0 */
/* The entry of traffic.c: 64-bit mode, a periodic timer, and traffic_main. */
#include "pvh.h"
#include "long.h"
#include "apic.h"

#define VECTOR 0x40
#define PERIOD 20000000

start:
        ENTER_LONG
        SET_GATE VECTOR, on_tick
        LAPIC_PUT LAPIC_SPURIOUS, 0x1ff
        LAPIC_PUT LAPIC_DIVIDE, 0x0b    /* by 1 */
        LAPIC_PUT LAPIC_TIMER, VECTOR | TIMER_PERIODIC
        LAPIC_PUT LAPIC_INITIAL, PERIOD
        sti
        call    traffic_main
        EXIT    250

on_tick:
        pushq   %rax
        incl    traffic_ticks
        LAPIC_PUT LAPIC_EOI, 0
        popq    %rax
        iretq

        .section .bss
        .balign 4
        .globl  traffic_ticks
traffic_ticks:
        .skip   4
