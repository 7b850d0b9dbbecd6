/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For measurements of restores by any monitor: writes to each page of 64 MiB,
 * says "ready", and waits, without sleeping and without interrupts, for the
 * serial port to have a byte. Then it sends one and sleeps for ever. Saved
 * while it waits, and restored where a byte is there, its first act is to send.
 */
#include "pvh.h"

#define FIRST 0x02000000
#define LAST  0x06000000
#define LSR   (PORT_SERIAL + 5)

start:
        movl    $FIRST, %edi
.Lpage: movl    %edi, (%edi)
        addl    $4096, %edi
        cmpl    $LAST, %edi
        jne     .Lpage
        PRINT   ready
        movw    $LSR, %dx
.Lwait: inb     %dx, %al
        testb   $1, %al
        jz      .Lwait
        movb    $'!', %al
        movw    $PORT_SERIAL, %dx
        outb    %al, %dx
        cli
.Lhalt: hlt
        jmp     .Lhalt

        .section .rodata
ready:  .asciz  "ready\n"
