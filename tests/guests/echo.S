/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends back what the serial port gives, up to and without an EOT (Ctrl-D),
 * at which it ends. It says "ready" first.
 */
#include "pvh.h"
#include "long.h"
#include "apic.h"
#include "serial.h"

start:
        ENTER_LONG
        SERIAL_LISTEN on_serial
        PRINT   ready
        SERIAL_SLEEP

on_serial:
        pushq   %rax
        pushq   %rdx
        SERIAL_ACKNOWLEDGE
.Lbyte:
        SERIAL_RECEIVE .Lempty
        cmpb    $SERIAL_EOT, %al
        je      .Lend
        SERIAL_SEND
        jmp     .Lbyte
.Lempty:
        LAPIC_PUT LAPIC_EOI, 0
        popq    %rdx
        popq    %rax
        iretq
.Lend:
        SERIAL_FLUSH
        EXIT    0

        .section .rodata
ready:  .asciz  "ready\n"
