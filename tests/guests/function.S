/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The entry of function.c: 64-bit mode, the interrupts of all devices at one
 * vector, and function_main, which sleeps in between.
 */
#include "pvh.h"
#include "long.h"
#include "apic.h"

#define VECTOR    0x31
#define FIRST_PIN 5
#define LAST_PIN  23

start:
        ENTER_LONG
        SET_GATE VECTOR, on_device
        LAPIC_PUT LAPIC_SPURIOUS, 0x1ff
        .set    pin, FIRST_PIN
        .rept   LAST_PIN - FIRST_PIN + 1
        IOAPIC_PUT (0x11 + 2 * pin), 0
        IOAPIC_PUT (0x10 + 2 * pin), VECTOR
        .set    pin, pin + 1
        .endr
        call    function_main
        EXIT    250

on_device:
        pushq   %rax
        LAPIC_PUT LAPIC_EOI, 0
        popq    %rax
        iretq
