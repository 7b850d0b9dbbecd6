/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rounds, for measurements: writes to the start of each of a number of pages,
 * then to port 0x80, for ever. At MAILBOX: +0 ring to run in, 0 or 3; +4
 * first page; +8 number of pages, read in each round.
 */
#include "pvh.h"
#include "long.h"

start:
        ENTER_LONG
        SET_TASK
        movw    $TASK_MAP, tss + TASK_MAP_BASE
        cmpl    $3, MAILBOX
        jne     round
        pushq   $UDATA
        pushq   $stack_top
        pushq   $2
        pushq   $UCODE
        pushq   $round
        iretq

round:
        movl    MAILBOX + 4, %edi
        shlq    $12, %rdi
        movl    MAILBOX + 8, %ecx
        incl    %ebx
        jecxz   .Lsay
.Lnext: movl    %ebx, (%rdi)
        addq    $4096, %rdi
        decl    %ecx
        jnz     .Lnext
.Lsay:  outb    %al, $0x80
        jmp     round
