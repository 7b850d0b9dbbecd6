/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every bare guest starts with: the PVH note, and names for the ports.
 * A guest begins at `start` in 32-bit protected mode, paging off, ebx = the
 * start info, and no stack; stack_top is the linker script's.
 *
 * A guest checks itself: it ends with status 0, or with the number of the
 * step that failed.
 */
#ifndef TESTS_GUESTS_PVH_H
#define TESTS_GUESTS_PVH_H

#define PORT_I8042    0x60
#define PORT_RTC      0x70
#define PORT_EXIT     0xf4
#define PORT_SERIAL   0x3f8
#define PORT_PVPANIC  0x505
#define PORT_SLEEP    0x600
#define PORT_TIMELINE 0x610

#define LAPIC  0xfee00000
#define IOAPIC 0xfec00000

/* Where a guest leaves what a test reads from outside. */
#define MAILBOX 0x40000

        .section .note.pvh, "a", @note
        .balign 4
        .long 4, 4, 18
        .asciz "Xen"
        .long start

/* Ends the VM with status `value`. */
.macro EXIT value
        movb    $\value, %al
        outb    %al, $PORT_EXIT
.Lhalt\@:
        hlt
        jmp     .Lhalt\@
.endm

/* Ends the VM with status `step` unless the flags say `cond`. */
.macro NEED cond, step
        j\cond  .Lgood\@
        EXIT    \step
.Lgood\@:
.endm

/* Writes a NUL-terminated text at label `text` to the serial port. */
.macro PRINT text
        movl    $\text, %esi
        movw    $PORT_SERIAL, %dx
.Lnext\@:
        lodsb
        testb   %al, %al
        jz      .Ldone\@
        outb    %al, %dx
        jmp     .Lnext\@
.Ldone\@:
.endm

        .text
        .code32
        .globl  start

#endif
