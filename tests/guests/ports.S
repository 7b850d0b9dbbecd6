/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads every port in every width, then writes every port in every width but
 * those that end the VM; what nothing answers reads as all ones.
 * Every port below DENSE, where devices are; every STEPth above it.
 */
#include "pvh.h"

#define DENSE 0x700
#define STEP  251

start:
        movl    $stack_top, %esp
        xorl    %ebp, %ebp
read_next:
        movl    %ebp, %edx
        inb     %dx, %al
        inw     %dx, %ax
        inl     %dx, %eax
        call    advance
        jb      read_next

        movl    $0x6000, %edx
        inl     %dx, %eax
        cmpl    $-1, %eax
        NEED    e, 1
        inw     %dx, %ax
        cmpw    $-1, %ax
        NEED    e, 2
        inb     %dx, %al
        cmpb    $-1, %al
        NEED    e, 3

        xorl    %ebp, %ebp
write_next:
        movl    $ending_ports, %esi
.Lending:
        lodsl
        cmpl    $-1, %eax
        je      .Lwrite
        movzwl  %ax, %ecx               /* first port */
        shrl    $16, %eax               /* last port */
        cmpl    %eax, %ebp
        ja      .Lending
        subl    $3, %ecx                /* a wide access reaches in */
        cmpl    %ecx, %ebp
        jb      .Lending
        jmp     .Lskip
.Lwrite:
        movl    %ebp, %edx
        movl    $0xffffffff, %eax
        outb    %al, %dx
        outw    %ax, %dx
        outl    %eax, %dx
        xorl    %eax, %eax
        outb    %al, %dx
        outw    %ax, %dx
        outl    %eax, %dx
.Lskip:
        call    advance
        jb      write_next
        EXIT    0

/* Below: there is a next port in ebp. */
advance:
        incl    %ebp
        cmpl    $DENSE, %ebp
        jb      .Ldense
        addl    $STEP - 1, %ebp
.Ldense:
        cmpl    $0x10000, %ebp
        ret

        .section .rodata
        .balign 4
ending_ports:
        .word   PORT_I8042 + 4, PORT_I8042 + 4
        .word   PORT_EXIT, PORT_EXIT + 3
        .word   PORT_PVPANIC, PORT_PVPANIC
        .word   PORT_SLEEP, PORT_SLEEP + 1
        .long   -1
