/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counts the bytes that the serial port gives: for each it writes the count,
 * as four hexadecimal digits and a newline, and dirties one more page (at
 * PAGES + 4096 * count). EOT (Ctrl-D) ends it with status 0. It says "ready" first:
 * turning the FIFO on throws away what came before. What a test sees of a
 * machine that goes on elsewhere is the count that goes on.
 */
#include "pvh.h"
#include "long.h"
#include "apic.h"

#define VECTOR 0x30
#define EOT    4
#define PAGES  0x2000000

/* I/O APIC registers of pin 4. */
#define REDIRECTION_LOW  0x18
#define REDIRECTION_HIGH 0x19

#define UART_IER 1
#define UART_FCR 2
#define UART_MCR 4
#define UART_LSR 5

#define LSR_DATA 0x01
#define LSR_THRE 0x20
#define LSR_TEMT 0x40

/* Sends al; changes dx and ah. */
.macro SEND
        movb    %al, %ah
        movw    $PORT_SERIAL + UART_LSR, %dx
.Lfull\@:
        inb     %dx, %al
        testb   $LSR_THRE, %al
        jz      .Lfull\@
        movb    %ah, %al
        movw    $PORT_SERIAL, %dx
        outb    %al, %dx
.endm

start:
        ENTER_LONG
        SET_GATE VECTOR, on_serial
        LAPIC_PUT LAPIC_SPURIOUS, 0x1ff
        IOAPIC_PUT REDIRECTION_HIGH, 0
        IOAPIC_PUT REDIRECTION_LOW, VECTOR
        movw    $PORT_SERIAL + UART_FCR, %dx
        movb    $0x01, %al
        outb    %al, %dx
        movw    $PORT_SERIAL + UART_MCR, %dx
        movb    $0x0b, %al              /* DTR, RTS, OUT2 */
        outb    %al, %dx
        movw    $PORT_SERIAL + UART_IER, %dx
        movb    $0x01, %al              /* received data */
        outb    %al, %dx
        xorl    %ebp, %ebp              /* the count */
        movl    $ready, %esi
.Lready:
        lodsb
        movb    %al, %bl
        SEND
        cmpb    $'\n', %bl
        jne     .Lready
.Lwait:
        sti
        hlt
        jmp     .Lwait

on_serial:
        movw    $PORT_SERIAL + 2, %dx
        inb     %dx, %al                /* IIR */
.Lbyte:
        movw    $PORT_SERIAL + UART_LSR, %dx
        inb     %dx, %al
        testb   $LSR_DATA, %al
        jz      .Lempty
        movw    $PORT_SERIAL, %dx
        inb     %dx, %al
        cmpb    $EOT, %al
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
        SEND
        subl    $4, %ecx
        jns     .Ldigit
        movb    $'\n', %al
        SEND
        jmp     .Lbyte
.Lempty:
        LAPIC_PUT LAPIC_EOI, 0
        iretq
.Lend:
        movw    $PORT_SERIAL + UART_LSR, %dx
.Lsent: inb     %dx, %al
        testb   $LSR_TEMT, %al
        jz      .Lsent
        EXIT    0

        .section .rodata
ready:  .ascii  "ready\n"
digits: .ascii  "0123456789abcdef"
