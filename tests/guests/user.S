/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ring 3 in 64-bit mode: a port access that faults without an I/O
 * permission map and works with one, and COUNT calls into ring 0, by int3:
 * not every KVM delivers int n.
 */
#include "pvh.h"
#include "long.h"

#define COUNT      1000
#define BREAKPOINT 3
#define PROTECTION 13

start:
        ENTER_LONG
        SET_TASK
        SET_GATE BREAKPOINT, on_call, 3
        SET_GATE PROTECTION, on_protection
        pushq   $UDATA
        pushq   $user_stack
        pushq   $2                      /* IOPL 0, no interrupts */
        pushq   $UCODE
        pushq   $in_ring_3
        iretq

in_ring_3:
        movl    %cs, %eax
        andl    $3, %eax
        cmpl    $3, %eax
        je      .Lis_user
        hlt                             /* no way to say so: faults */
.Lis_user:
        movl    $text, %esi
        movw    $PORT_SERIAL, %dx
.Lnext: lodsb
        testb   %al, %al
        jz      .Lprinted
        outb    %al, %dx
        jmp     .Lnext
.Lprinted:
        movl    $COUNT, %ebx
.Lcall: movl    %ebx, %eax
        int3
        cmpl    %ebx, %eax
        NEED    e, 1
        decl    %ebx
        jnz     .Lcall
        cmpl    $COUNT, calls
        NEED    e, 2
        cmpl    $1, faults
        NEED    e, 3
        EXIT    0

on_call:
        incl    calls
        iretq

/* Lets the access that was refused be made again, now permitted. */
on_protection:
        addq    $8, %rsp                /* error code */
        incl    faults
        cmpl    $1, faults
        NEED    e, 4
        movw    $TASK_MAP, tss + TASK_MAP_BASE
        iretq

        .section .rodata
text:   .asciz "hello from ring 3\n"

        .section .bss
        .balign 16
        .skip   1024
user_stack:
calls:  .skip   4
faults: .skip   4
