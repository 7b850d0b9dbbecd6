/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Port and MMIO accesses without end, from which a paused processor's state
 * can be judged. ecx is the number of the round, written to port 0x700 and
 * to 0xd0000000; the answers of port 0x704 and 0xd0000004 go to eax and edi.
 * The addresses behind the four accesses, and that of the round's start, are
 * at MAILBOX.
 */
#include "pvh.h"

#define PORT 0x700
#define MMIO 0xd0000000

start:
        movl    $port_written, MAILBOX
        movl    $port_read, MAILBOX + 4
        movl    $mmio_written, MAILBOX + 8
        movl    $mmio_read, MAILBOX + 12
        movl    $round, MAILBOX + 16
        xorl    %ecx, %ecx
        xorl    %edi, %edi
round:
        incl    %ecx
        movl    %ecx, %eax
        movw    $PORT, %dx
        outl    %eax, %dx
port_written:
        movw    $PORT + 4, %dx
        inl     %dx, %eax
port_read:
        movl    %ecx, MMIO
mmio_written:
        movl    MMIO + 4, %edi
mmio_read:
        jmp     round
