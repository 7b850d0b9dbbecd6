/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory at 4 GiB that is a file of the host: 2 MiB that begin with MAGIC and
 * end with zeroes. "how=N" says what is done with it:
 *
 *   1  read-only: writes from ring 0 are without effect
 *   2  writable: MAGIC's complement goes to the second page, and to the end
 *   3  ring 0 reads the first word without end, counting in the mailbox
 *   4  the same from ring 3
 *   5  ring 3 writes to it without end, counting likewise
 */
#define LONG_GIB 5
#include "pvh.h"
#include "long.h"
#include "cmdline.h"

#define KEY_HOW ('h' | 'o' << 8 | 'w' << 16 | '=' << 24)
#define MAGIC   0x1122334455667788
#define BYTES   0x200000

start:
        FIND_NUMBER KEY_HOW
        movl    %eax, how
        ENTER_LONG
        SET_TASK
        movq    $0x100000000, %rbp
        movq    $MAGIC, %r8
        movq    %r8, %r9
        notq    %r9
        cmpq    %r8, (%rbp)
        NEED    e, 1
        cmpl    $3, how
        je      .Lread
        ja      .Lto_ring_3
        cmpq    $0, BYTES - 8(%rbp)
        NEED    e, 2
        cmpq    $-1, BYTES(%rbp)
        NEED    e, 3
        cmpl    $1, how
        jne     .Lwritable

        movq    %r9, (%rbp)
        movb    $1, 9(%rbp)
        movl    $7, BYTES - 4(%rbp)
        cmpq    %r8, (%rbp)
        NEED    e, 4
        cmpb    $0, 9(%rbp)
        NEED    e, 5
        cmpq    $0, BYTES - 8(%rbp)
        NEED    e, 6
        movl    $64, %ecx
        movq    %rbp, %rdi
        movl    $-1, %eax
        rep stosl
        cmpq    %r8, (%rbp)
        NEED    e, 7
        EXIT    0

.Lwritable:
        movq    %r9, 4096(%rbp)
        movq    %r9, BYTES - 8(%rbp)
        cmpq    %r9, 4096(%rbp)
        NEED    e, 8
        cmpq    %r9, BYTES - 8(%rbp)
        NEED    e, 9
        EXIT    0

.Lread: movq    (%rbp), %rax
        incl    MAILBOX
        jmp     .Lread

.Lto_ring_3:
        pushq   $UDATA
        pushq   $user_stack
        pushq   $2                      /* IOPL 0, no interrupts */
        pushq   $UCODE
        pushq   $in_ring_3
        iretq

in_ring_3:
        cmpl    $4, how
        je      .Lread
.Lwrite:
        movq    %r9, 64(%rbp)
        movb    $3, 72(%rbp)
        incl    MAILBOX
        jmp     .Lwrite

        .section .bss
        .balign 16
        .skip   64
user_stack:
how:    .skip   4
