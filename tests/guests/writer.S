/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes to pseudo-random pages for ever. What the test says at MAILBOX
 * before it starts the guest:
 *   +0  ring to run in, 0 or 3
 *   +4  first page
 *   +8  number of pages, a power of two; 0: wait
 * Told by the guest, at MAILBOX + 4096: +0 writes so far (32 bits).
 * Each write is 8 bytes at the start of a page, never the same twice. The
 * sequence of pages: x = x * 1664525 + 1013904223, page first + (x >> 8) mod
 * number.
 */
#include "pvh.h"
#include "long.h"

#define TOLD (MAILBOX + 4096)

start:
        ENTER_LONG
        SET_TASK
        movl    $12345, %ebx            /* x */
        xorl    %ebp, %ebp              /* writes */
        cmpl    $3, MAILBOX
        jne     writer
        pushq   $UDATA
        pushq   $user_stack
        pushq   $2
        pushq   $UCODE
        pushq   $writer
        iretq

writer:
        movl    MAILBOX + 8, %ecx
        jecxz   writer
        decl    %ecx
        movl    MAILBOX + 4, %r8d
.Lnext: imull   $1664525, %ebx, %ebx
        addl    $1013904223, %ebx
        movl    %ebx, %eax
        shrl    $8, %eax
        andl    %ecx, %eax
        addl    %r8d, %eax
        shlq    $12, %rax
        incl    %ebp
        movl    %ebp, (%rax)
        movl    %ebx, 4(%rax)
        movl    %ebp, TOLD
        jmp     .Lnext

        .section .bss
        .balign 16
        .skip   1024
user_stack:
