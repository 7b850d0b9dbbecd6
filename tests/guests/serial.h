/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Input from the serial port by the interrupt that the I/O APIC's pin 4 sends,
 * and never by polling. Needs long.h and apic.h.
 */
#ifndef TESTS_GUESTS_SERIAL_H
#define TESTS_GUESTS_SERIAL_H

#define SERIAL_VECTOR 0x30
#define SERIAL_EOT    4 /* Ctrl-D */

/* I/O APIC registers of pin 4. */
#define REDIRECTION_LOW  0x18
#define REDIRECTION_HIGH 0x19

#define UART_IER 1
#define UART_FCR 2
#define UART_IIR 2
#define UART_MCR 4
#define UART_LSR 5

#define LSR_DATA 0x01
#define LSR_THRE 0x20
#define LSR_TEMT 0x40

/*
 * Has `handler` called for what is received. Turning the FIFO on throws away
 * what came before, so a guest says that it is ready after this. Uses rax, rdx
 * and rdi.
 */
.macro SERIAL_LISTEN handler
        SET_GATE SERIAL_VECTOR, \handler
        LAPIC_PUT LAPIC_SPURIOUS, 0x1ff
        IOAPIC_PUT REDIRECTION_HIGH, 0
        IOAPIC_PUT REDIRECTION_LOW, SERIAL_VECTOR
        movw    $PORT_SERIAL + UART_FCR, %dx
        movb    $0x01, %al
        outb    %al, %dx
        movw    $PORT_SERIAL + UART_MCR, %dx
        movb    $0x0b, %al              /* DTR, RTS, OUT2 */
        outb    %al, %dx
        movw    $PORT_SERIAL + UART_IER, %dx
        movb    $0x01, %al              /* received data */
        outb    %al, %dx
.endm

/* The rest is the handler's. */
.macro SERIAL_SLEEP
.Lsleep\@:
        sti
        hlt
        jmp     .Lsleep\@
.endm

/* What a handler does first. Uses rax and rdx. */
.macro SERIAL_ACKNOWLEDGE
        movw    $PORT_SERIAL + UART_IIR, %dx
        inb     %dx, %al
.endm

/* The next byte to al, or jumps to `empty`. Uses rdx. */
.macro SERIAL_RECEIVE empty
        movw    $PORT_SERIAL + UART_LSR, %dx
        inb     %dx, %al
        testb   $LSR_DATA, %al
        jz      \empty
        movw    $PORT_SERIAL, %dx
        inb     %dx, %al
.endm

/* Sends al once there is room. Uses rdx and ah. */
.macro SERIAL_SEND
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

/* Until all is sent. Uses rax and rdx. */
.macro SERIAL_FLUSH
        movw    $PORT_SERIAL + UART_LSR, %dx
.Lsent\@:
        inb     %dx, %al
        testb   $LSR_TEMT, %al
        jz      .Lsent\@
.endm

#endif
