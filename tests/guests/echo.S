/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends back what the serial port gives, up to and without an EOT (Ctrl-D),
 * at which it ends. It says "ready" first: turning the FIFO on throws away what
 * came before. It never polls for input: it waits in hlt for the
 * interrupt that the I/O APIC's pin 4 sends.
 */
#include "pvh.h"
#include "long.h"
#include "apic.h"

#define VECTOR 0x30
#define EOT    4

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
        movl    $ready, %esi
        movw    $PORT_SERIAL, %dx
.Lready:
        lodsb
        outb    %al, %dx
        cmpb    $'\n', %al
        jne     .Lready
.Lwait:
        sti
        hlt
        jmp     .Lwait

on_serial:
        pushq   %rax
        pushq   %rdx
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
        movb    %al, %ah
        movw    $PORT_SERIAL + UART_LSR, %dx
.Lfull: inb     %dx, %al
        testb   $LSR_THRE, %al
        jz      .Lfull
        movb    %ah, %al
        movw    $PORT_SERIAL, %dx
        outb    %al, %dx
        jmp     .Lbyte
.Lempty:
        LAPIC_PUT LAPIC_EOI, 0
        popq    %rdx
        popq    %rax
        iretq
.Lend:
        movw    $PORT_SERIAL + UART_LSR, %dx
.Lsent: inb     %dx, %al
        testb   $LSR_TEMT, %al
        jz      .Lsent
        EXIT    0

        .section .rodata
ready:  .ascii  "ready\n"
