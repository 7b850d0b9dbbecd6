/* SPDX-License-Identifier: Apache-2.0 */
/*
 * To be looked at by a debugger, in the ring that the test says at MAILBOX, 0
 * or 3. From `stepped` on, instructions of known sizes and effects; where they
 * are is told at MAILBOX + 4096 (stepped), + 8 (the word that is written) and
 * + 16 (the last of them), before a port access that a debugger stops at.
 */
#include "pvh.h"
#include "long.h"

#define TOLD (MAILBOX + 4096)

start:
        ENTER_LONG
        SET_TASK
        movw    $TASK_MAP, tss + TASK_MAP_BASE
        SET_GATE 1, on_step
        SET_GATE 3, on_int3, 3
        movq    $stepped, TOLD
        movq    $word, TOLD + 8
        movq    $last, TOLD + 16
        cmpl    $3, MAILBOX
        jne     ready
        pushq   $UDATA
        pushq   $user_stack
        pushq   $2
        pushq   $UCODE
        pushq   $ready
        iretq

ready:  movb    $'r', %al
        movw    $PORT_SERIAL, %dx
        outb    %al, %dx
stepped:
        movl    $5, %eax
        leaq    (%rax,%rax), %rbx
        pushq   %rbx
        popq    %rcx
        movl    %ecx, word
        movl    $2, %edi
.Lagain:
        incl    %eax
        decl    %edi
        jnz     .Lagain
last:   nop
        EXIT    0

/* A debugger is before them. */
on_step:
        EXIT    1
on_int3:
        EXIT    3

        .section .bss
        .balign 16
word:   .skip   16
        .skip   1024
user_stack:
