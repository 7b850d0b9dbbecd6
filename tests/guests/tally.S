/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counts the bytes that the serial port gives: for each it writes the count,
 * as four hexadecimal digits and a newline, and dirties one more page (at
 * PAGES + 4096 * count). EOT (Ctrl-D) ends it with status 0. It says "ready"
 * first. What a test sees of a machine that goes on elsewhere is the count that
 * goes on.
 */
#include "pvh.h"
#include "long.h"
#include "apic.h"
#include "serial.h"

#define PAGES 0x2000000

start:
        ENTER_LONG
        SERIAL_LISTEN on_serial
        xorl    %ebp, %ebp              /* the count */
        PRINT   ready
        SERIAL_SLEEP

on_serial:
        SERIAL_ACKNOWLEDGE
.Lbyte:
        SERIAL_RECEIVE .Lempty
        cmpb    $SERIAL_EOT, %al
        je      .Lend
        incl    %ebp
        movl    %ebp, %edi
        shll    $12, %edi
        movl    %ebp, PAGES(%rdi)
        movl    $12, %ecx
.Ldigit:
        movl    %ebp, %ebx
        shrl    %cl, %ebx
        andl    $15, %ebx
        movb    digits(%rbx), %al
        SERIAL_SEND
        subl    $4, %ecx
        jns     .Ldigit
        movb    $'\n', %al
        SERIAL_SEND
        jmp     .Lbyte
.Lempty:
        LAPIC_PUT LAPIC_EOI, 0
        iretq
.Lend:
        SERIAL_FLUSH
        EXIT    0

        .section .rodata
ready:  .asciz  "ready\n"
digits: .ascii  "0123456789abcdef"
