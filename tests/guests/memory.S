/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RAM as the memory map gives it: zero at first, keeps what is written, and
 * no two places are the same. Looks at about 1,024 places of each range and
 * at its last 8 bytes; behind the last range there is nothing.
 */
#define LONG_GIB 8
#include "pvh.h"
#include "long.h"

/* Below are the tables of the start state and the command line. */
#define LOW_START 0x21000

start:
        ENTER_LONG
        leaq    zero_place(%rip), %r8
        call    for_all
        leaq    check_place(%rip), %r8
        call    for_all
        cmpq    $-1, (%r11)
        NEED    e, 4
        EXIT    0

/* Calls r8 for each place, its address in rdi. rbx: start info. */
for_all:
        movl    40(%rbx), %esi
        movl    48(%rbx), %ebp
.Lrange:
        movq    (%rsi), %rdi
        movq    8(%rsi), %r11
        addq    %rdi, %r11              /* end */
        cmpl    $1, 16(%rsi)
        jne     .Lnext_range
        testq   %rdi, %rdi
        jnz     .Lnot_low
        movl    $LOW_START, %edi
.Lnot_low:
        cmpq    $0x100000, %rdi
        jne     .Lnot_image
        movl    $image_end + 4095, %edi
        andl    $~4095, %edi
.Lnot_image:
        movq    %r11, %r12
        subq    %rdi, %r12
        shrq    $10, %r12
        andq    $~4095, %r12
        addq    $4096, %r12             /* step */
.Lplace:
        callq   *%r8
        addq    %r12, %rdi
        leaq    -8(%r11), %rax
        cmpq    %rax, %rdi
        jb      .Lplace
        movq    %rax, %rdi
        callq   *%r8
.Lnext_range:
        addl    $24, %esi
        decl    %ebp
        jnz     .Lrange
        ret

zero_place:
        cmpq    $0, (%rdi)
        NEED    e, 1
        movq    %rdi, %rax
        notq    %rax
        movq    %rax, (%rdi)
        ret

check_place:
        movq    %rdi, %rax
        notq    %rax
        cmpq    %rax, (%rdi)
        NEED    e, 2
        movb    $0x5a, 3(%rdi)
        cmpb    $0x5a, 3(%rdi)
        NEED    e, 3
        ret
